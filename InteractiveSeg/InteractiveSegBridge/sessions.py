"""One InteractiveSession for the segments that are predicted together, kept in step with what the Segment Editor shows.

Knows no Qt and no effect.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Callable

import numpy as np

from InteractiveSegLib import InteractiveSegError, InteractiveSession, MaskUpdate
from InteractiveSegLib.device import set_threads
from InteractiveSegLib.placement import in_slices
from InteractiveSegLib.reformat import Plane
from InteractiveSegLib.types import LabelUpdate, bounding_box

from . import records
from .mrml import ijk_to_ras, place_of, volume_array
from .planes import AWAKE, PlaneSession, planes_of, starts_anew
from .preload import preload_torch
from .records import Given
from .segment import NOTHING, LabelCrop, Seen, digest, read_labels, segments_stamp
from .states import Choice, State


class SegmentSession:
    """The prompts on (segmentation, segments, source volume), and the session that answers them.

    The segments are the truth: other effects, undo and redo may change them at any time. `look` (window's thread) notices,
    the actions (worker's thread) bring the session there first, so that Slicer's undo takes the prompt back as well.
    """

    def __init__(self, segmentation, segment_ids: tuple[str, ...], volume) -> None:
        self.segmentation, self.segment_ids, self.volume = segmentation, tuple(segment_ids), volume
        self.choice = None  # what answers, where that is not the user's to choose
        self._image, self._affine = volume_array(volume), ijk_to_ras(volume)
        self._voxels_stamp = volume.GetImageData().GetMTime()
        self._place = place_of(volume, segmentation)
        self._engine, self._depth, self._choice = None, 0, None
        self._planes = []  # a PlaneSession for each of the planes that were spoken to last
        self._before = (None, 0)  # engine and depth before the last action
        self._given = ()  # behind the last action, until it is in the segment
        self._stamp = None  # of the segments when they last held what the states say
        self._seen = None  # what they hold instead
        given = records.kept(segmentation, self.segment_ids, volume)
        now, nothing = digest(read_labels(segmentation, self.segment_ids, volume)), digest(NOTHING)
        self._states = [State(now, given)] if now == nothing else [State(nothing, ()), State(now, given)]
        self._step = len(self._states) - 1

    @property
    def given(self) -> tuple[Given, ...]:
        """The prompts behind what the segments hold now, oldest first: without those that Slicer's undo took back."""
        step = self._nearest_step(self._seen.digest) if self._look() is not None else self._step
        return self._states[self._step if step is None else step].given

    @property
    def alive(self) -> bool:
        """False once a node or a segment is gone, or the volume has other voxels or another place than when this was made."""
        return self.has_nodes and self.has_voxels and place_of(self.volume, self.segmentation) == self._place

    @property
    def has_nodes(self) -> bool:
        """False once a node or a segment is gone."""
        if self.segmentation.GetScene() is None or self.volume.GetScene() is None:
            return False
        segments = self.segmentation.GetSegmentation()
        return all(segments.GetSegment(segment_id) is not None for segment_id in self.segment_ids)

    @property
    def has_voxels(self) -> bool:
        """False once the volume has other voxels."""
        return self.volume.GetImageData() is not None and self.volume.GetImageData().GetMTime() == self._voxels_stamp

    @property
    def name(self) -> str:
        """The first segment's, as the user reads it."""
        return self.segmentation.GetSegmentation().GetSegment(self.segment_ids[0]).GetName()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (k, j, i)."""
        return self._image.shape

    @property
    def plan(self) -> str:
        """On which device the model runs and what memory it takes, in one line; "" before it was asked."""
        return self._engine.plan.sentence if self._engine is not None else ""

    @property
    def notice(self) -> str:
        """How the last answer used the examples, in one sentence; "" where there is nothing to say."""
        return self._engine.notice if self._engine is not None else ""

    @property
    def rounds(self):
        """Which round of propagation each slice came from, of what the segments hold now; None where that is not known."""
        state = self._states[self._step]
        is_now = state.engine is not None and state.engine is self._engine and state.depth == self._depth
        return self._engine.rounds if is_now and self._look() is None else None

    def is_for(self, segmentation, segment_ids, volume) -> bool:
        """True when this session is the one for these."""
        return self.segment_ids == tuple(segment_ids) and self.segmentation is segmentation and self.volume is volume

    def shares(self, segmentation, segment_ids, volume) -> bool:
        """True when this session is for one of these segments."""
        return self.segmentation is segmentation and self.volume is volume and bool(set(self.segment_ids) & set(segment_ids))

    # In the window's thread

    def look(self, choice: Choice) -> LabelCrop | None:
        """The segments' voxels when they are not what the session of this choice knows, else None."""
        changed = self._look()
        if changed is None and choice != self._choice:
            return read_labels(self.segmentation, self.segment_ids, self.volume)
        return changed

    def wrote(self) -> LabelCrop:
        """The session made one step and its update is in the segments, which hold what comes back."""
        self._stamp = segments_stamp(self.segmentation, self.segment_ids)
        # Read back, not assumed: masking may have kept part of the update out.
        held = read_labels(self.segmentation, self.segment_ids, self.volume)
        states = [s if s.engine is self._engine else s._replace(engine=None) for s in self._states[: self._step + 1]]
        self._states = [*states, State(digest(held), self._given, self._engine, self._depth)]
        self._step += 1
        self._before = (self._engine, self._depth)
        self.keep()
        return held

    def keep(self) -> None:
        """Write the prompts behind what the segments hold now into the scene."""
        records.keep(self.segmentation, self.segment_ids, self.volume, self.given)

    def forget(self) -> None:
        """Take the prompts out of the scene: the volume they were given for is no more."""
        records.keep(self.segmentation, self.segment_ids, self.volume, ())

    def rest(self) -> None:
        """Let go of the session's memory; the next action makes another one. Only while the worker is not at these segments."""
        self._engine, self._depth, self._choice, self._before, self._planes, self._seen = None, 0, None, (None, 0), [], None
        self._states = [state._replace(engine=None) for state in self._states]

    # In the worker's thread

    def act(self, choice: Choice, steps: Callable, seen: LabelCrop | None) -> dict[str, MaskUpdate]:
        """Several steps from the voxels that `look` returned: segment id -> the update to write. All of them happen, or none.

        steps(session): a generator that yields after each step of the session.
        """
        self._given = self._open(choice, seen)
        old = self._engine.labels.copy()
        with self._whole():
            for _ in steps(self._engine):
                self._depth += 1
        return self._updates(self._difference(old))

    def add(self, choice: Choice, given: Given, seen: LabelCrop | None) -> dict[str, MaskUpdate]:
        """Give a prompt."""
        before = self._open(choice, seen)
        old = self._engine.labels.copy()
        with self._whole():
            if given.plane is None:
                said = self._add_in_slice(given, before)
            else:
                said = self._add_on_plane(choice, given, before)
        self._given = (*before, given._replace(prompt=said if said.label is None else replace(said, label=None)))
        return self._updates(self._difference(old))

    def _add_in_slice(self, given: Given, before: tuple[Given, ...]):
        """The prompt as the session heard it."""
        indices = list(in_slices(given.prompt, self.shape, given.axis)) if not self._engine.family.volumetric else ()
        if len(indices) == 1 and starts_anew(self._engine.labels, (given.axis, indices[0]), before):
            labels = self._engine.labels.copy()
            np.moveaxis(labels, given.axis, 0)[indices[0]] = 0
            self._engine.set_labels(labels)
            self._depth += 1
        self._engine.set_slice(given.axis, 0)
        self._engine.add(self._labelled(given))
        self._depth += 1
        return self._engine.prompts[-1]

    def _add_on_plane(self, choice: Choice, given: Given, before: tuple[Given, ...]):
        """The same, on a plane."""
        anew = starts_anew(self._engine.labels, given.plane, before)
        on_plane = self._on_plane(choice, given.plane, before, anew)
        on_plane.session.add(self._labelled(given))
        self._answer_on_plane(on_plane.put(self._engine.labels, anew))
        self._depth += 1
        return on_plane.session.prompts[-1]

    def _answer_on_plane(self, labels: np.ndarray) -> None:
        """One step of the session: what a prompt on a plane has given."""
        self._engine.set_labels(labels)

    def predict_plane(self, choice: Choice, plane: Plane, seen: LabelCrop | None) -> dict[str, MaskUpdate]:
        """What the model says of a plane before any prompt."""
        before = self._open(choice, seen)
        on_plane = self._on_plane(choice, plane, before)
        on_plane.session.predict([0])
        self._given = before
        update = self._engine.set_labels(on_plane.put(self._engine.labels, whole=True))
        self._depth += 1
        return self._updates(update)

    def change(self, choice: Choice, changed: Given, instead, seen: LabelCrop | None) -> dict[str, MaskUpdate]:
        """Put another prompt in a prompt's place, or None. The slices of both are asked again, with what remains there."""
        before = self._open(choice, seen)
        number = next((n for n, given in enumerate(before) if given.prompt is changed.prompt), None)
        if number is None:
            raise InteractiveSegError("This prompt is no longer there: it was taken back in the meantime.")
        after = (*before[:number], *([changed._replace(prompt=instead)] if instead is not None else []), *before[number + 1 :])
        old = self._engine.labels.copy()
        with self._whole():
            if changed.plane is not None:
                self._change_plane(choice, changed.plane, after)
            else:
                both = [prompt for prompt in (changed.prompt, instead) if prompt is not None]
                slices = {index for prompt in both for index in in_slices(prompt, old.shape, changed.axis)}
                self._change_slices(choice, changed.axis, slices, after)
        self._given = after
        return self._updates(self._difference(old))

    def start_over(self, choice: Choice, segment_id: str, seen: LabelCrop | None) -> dict[str, MaskUpdate]:
        """Forget the prompts of one segment and what they made."""
        before = self._open(choice, seen)
        self._given = tuple(given for given in before if given.segment_id != segment_id)
        old = self._engine.labels.copy()
        if len(self.segment_ids) == 1:
            self._engine.reset()
            self._depth += 1
        else:
            rest = np.where(old == self.segment_ids.index(segment_id) + 1, np.uint8(0), old)
            self._depth += self._restore(self._engine, rest, self._given)
        return self._updates(self._difference(old))

    def catch_up(self, choice: Choice, seen: LabelCrop | None) -> None:
        """Bring the session to what the segments hold, such as an edit by hand."""
        self._open(choice, seen)

    def answering(self, choice: Choice, seen: LabelCrop | None) -> Iterator[InteractiveSession]:
        """The session on the volume, then that of each tilted plane that was spoken to, as the segments are now."""
        given = self._open(choice, seen)
        yield self._engine
        for plane in planes_of(given):
            yield self._on_plane(choice, plane, given).session

    def warm_up(self, choice: Choice, seen: LabelCrop | None) -> str:
        """Load the network, so that the first prompt is as quick as the next: one line about its memory and device."""
        self._open(choice, seen)
        self._engine.warm_up()
        return self.plan

    def release(self) -> None:
        """Give the memory of the model back; the next action loads it again."""
        for session in filter(None, (self._engine, *(on_plane.session for on_plane in self._planes))):
            session.release()

    def take_back(self) -> None:
        """Undo an action whose update never reached the segments."""
        engine, depth = self._before
        if engine is self._engine and engine is not None:
            for _ in range(depth, self._depth):
                engine.undo()
        self._engine, self._depth = engine, depth

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """What raises within leaves nothing behind."""
        with ExitStack() as otherwise:
            otherwise.callback(self.take_back)
            yield
            otherwise.pop_all()

    def _difference(self, before: np.ndarray) -> LabelUpdate:
        """From these labels to those of the session now."""
        after = self._engine.labels
        start, stop = bounding_box(before != after)
        box = tuple(slice(a, b) for a, b in zip(start, stop))
        return LabelUpdate(start, stop, before[box].copy(), after[box].copy(), self._engine.targets)

    def _updates(self, update: LabelUpdate) -> dict[str, MaskUpdate]:
        if len(self.segment_ids) == 1:
            return {self.segment_ids[0]: MaskUpdate(update.start, update.stop, update.mask)}
        ids = dict(zip(update.targets, self.segment_ids))
        return {ids[name]: part for name, part in update.per_target.items()}

    def _look(self) -> LabelCrop | None:
        stamp = segments_stamp(self.segmentation, self.segment_ids)
        if stamp == self._stamp:
            return None
        if self._seen is None or self._seen.stamp != stamp:
            crop = read_labels(self.segmentation, self.segment_ids, self.volume)
            self._seen = Seen(stamp, crop, digest(crop))
        if self._seen.digest != self._states[self._step].digest:
            return self._seen.crop
        self._stamp, self._seen = stamp, None
        return None

    def _open(self, choice: Choice, seen: LabelCrop | None) -> tuple[Given, ...]:
        """Bring the choice's session to where the segments are, and return the prompts behind that."""
        preload_torch()
        set_threads()  # here, because OpenMP keeps the number per thread and this is the one that predicts
        if seen is not None:
            now = digest(seen)
            step = self._nearest_step(now)
            if step is None:  # an edit by other means: the prompts stay
                self._states[self._step + 1 :] = [State(now, self._states[self._step].given)]
                step = self._step + 1
            self._step = step
        if choice != self._choice:
            self._engine, self._depth, self._choice, self._planes = self._new_engine(choice), 0, choice, []
        state = self._states[self._step]
        if state.engine is self._engine:
            for _ in range(state.depth, self._depth):
                self._engine.undo()
            for _ in range(self._depth, state.depth):
                self._engine.redo()
            self._depth = state.depth
        else:
            self._depth += self._restore(self._engine, self._labels(seen), state.given)
            self._states[self._step] = state._replace(engine=self._engine, depth=self._depth)
        self._before = (self._engine, self._depth)
        # What could be redone before the coming action can be no more in the session; Slicer may still redo it.
        self._states[self._step + 1 :] = [later._replace(engine=None) for later in self._states[self._step + 1 :]]
        return state.given

    def _new_engine(self, choice: Choice) -> InteractiveSession:
        return self._make(choice, self._image, self._affine)

    def _make(self, choice: Choice, image: np.ndarray, affine: np.ndarray) -> InteractiveSession:
        return InteractiveSession(
            image, affine=affine, model=choice.model, device=choice.device, targets=choice.targets, context=choice.context
        )

    def _labelled(self, given: Given):
        """The prompt as the session is to hear it, with the name of its segment where there are several."""
        if len(self.segment_ids) == 1:
            return given.prompt
        return replace(given.prompt, label=self._choice.targets[self.segment_ids.index(given.segment_id)])

    def _heard(self, given: tuple[Given, ...], plane: Plane | None = None) -> list[Given]:
        """Of these prompts those in the volume, or on a plane, that the model understands."""
        words = self._engine.family.prompts
        here = [one for one in given if (one.plane is None if plane is None else plane.is_same(one.plane))]
        return [one for one in here if type(one.prompt).__name__ in words]

    def _restore(self, engine: InteractiveSession, labels: np.ndarray, given: tuple[Given, ...]) -> int:
        """Put labels and prompts into a session, those that its model understands; the number of steps that took."""
        heard = [(self._labelled(one), one.axis) for one in self._heard(given)]
        if not heard and not labels.any() and not engine.labels.any() and not engine.prompts:
            return 0
        engine.restore(labels, heard)
        return 1

    def _on_plane(self, choice: Choice, plane: Plane, given: tuple[Given, ...], anew: bool = False) -> PlaneSession:
        """The session on a plane's picture, with the labels and the prompts as they are now; anew: without the labels."""
        known = next((one for one in self._planes if plane.is_same(one.plane)), None)
        if known is None:
            known = PlaneSession(plane, self._image, self._affine, lambda image, affine: self._make(choice, image, affine))
            self._planes = [*self._planes, known][-AWAKE:]
        known.bring(self._engine.labels, tuple(self._labelled(one) for one in self._heard(given, plane)), anew)
        return known

    def _change_slices(self, choice: Choice, axis: int, slices: set[int], after: tuple[Given, ...]) -> None:
        """A new session that has these prompts; slices along `axis` are emptied, and what speaks to them is said again."""
        labels, engine = self._engine.labels.copy(), self._new_engine(choice)
        self._engine, self._depth = engine, self._depth if engine is self._engine else 0
        again = self._heard(after)
        if engine.family.volumetric:
            engine.predict()
            self._depth += 1
        else:
            again = [one for one in again if one.axis == axis and slices & set(in_slices(one.prompt, labels.shape, axis))]
            np.moveaxis(labels, axis, 0)[sorted(slices)] = 0
            self._depth += self._restore(engine, labels, tuple(one for one in after if not any(one is a for a in again)))
        for one in again:
            engine.set_slice(one.axis, 0)
            engine.add(self._labelled(one))
            self._depth += 1

    def _change_plane(self, choice: Choice, plane: Plane, after: tuple[Given, ...]) -> None:
        """Empty what the plane shows, and say again what speaks to it."""
        on_plane = self._on_plane(choice, plane, ())
        on_plane.session.reset()
        for one in self._heard(after, plane):
            on_plane.session.add(self._labelled(one))
        self._engine.set_labels(on_plane.put(self._engine.labels, whole=True))
        self._depth += 1

    def _labels(self, seen: LabelCrop) -> np.ndarray:
        labels = np.zeros(self._image.shape, np.uint8)
        labels[seen.slices] = seen.labels
        return labels

    def _nearest_step(self, now: bytes) -> int | None:
        steps = [step for step, state in enumerate(self._states) if state.digest == now]
        return min(steps, key=lambda step: abs(step - self._step), default=None)
