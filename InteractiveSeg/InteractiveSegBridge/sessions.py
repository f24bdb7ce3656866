"""One InteractiveSession per segment, kept in step with what the Segment Editor shows. Knows no Qt and no effect."""
from __future__ import annotations

import inspect
from functools import partial
from typing import Callable, NamedTuple

import numpy as np

from InteractiveSegLib import InteractiveSegError, InteractiveSession, MaskUpdate
from InteractiveSegLib.device import set_threads
from InteractiveSegLib.placement import in_slices
from InteractiveSegLib.types import bounding_box

from . import records
from .mrml import ijk_to_ras, volume_array
from .records import Given
from .segment import EMPTY, read_segment, segment_digest, segment_stamp


class Choice(NamedTuple):
    """What answers the prompts. target: one of the names that the model knows, or None; context: a ContextSet, or None."""

    model: str
    device: str = "auto"
    target: str | None = None
    context: object | None = None


class State(NamedTuple):
    """What a segment held after one step, the prompts behind it, and where the session that made it was then.

    engine, depth: the InteractiveSession and the number of steps it had made; None where no session was asked.
    """

    digest: bytes
    given: tuple[Given, ...]
    engine: InteractiveSession | None = None
    depth: int = 0


class SegmentSession:
    """The prompts on (segmentation, segment, source volume), and the session that answers them.

    The segment is the truth: other effects, undo and redo may change it at any time. `look` (window's thread) notices,
    the actions (worker's thread) bring the session there first, so that Slicer's undo takes the prompt back as well.
    """

    def __init__(self, segmentation, segment_id: str, volume) -> None:
        self.segmentation, self.segment_id, self.volume = segmentation, segment_id, volume
        self.choice = None  # what answers, where that is not the user's to choose
        self._image, self._affine = volume_array(volume), ijk_to_ras(volume)
        self._voxels_stamp = volume.GetImageData().GetMTime()
        self._engine, self._depth, self._choice = None, 0, None
        self._before = (None, 0)  # engine and depth before the last action
        self._given = ()  # behind the last action, until it is in the segment
        self._stamp = None  # of the segment when it last held what the states say
        given = records.kept(segmentation, segment_id, volume)
        now = segment_digest(read_segment(segmentation, segment_id, volume))
        self._states = [State(segment_digest(EMPTY), ())]
        if now == self._states[0].digest:
            self._states[0] = State(now, given)
        else:
            self._states.append(State(now, given))
        self._step = len(self._states) - 1

    @property
    def prompts(self) -> tuple:
        """The prompts behind what the segment holds now, oldest first: without those that Slicer's undo took back."""
        return tuple(given.prompt for given in self._given_now())

    @property
    def alive(self) -> bool:
        """False once a node or the segment is gone, or the volume has other voxels than the session was made for."""
        return self.has_nodes and bool(
            self.volume.GetImageData() is not None and self.volume.GetImageData().GetMTime() == self._voxels_stamp
        )

    @property
    def has_nodes(self) -> bool:
        """False once a node or the segment is gone."""
        nodes_in_scene = self.segmentation.GetScene() is not None and self.volume.GetScene() is not None
        return bool(nodes_in_scene and self.segmentation.GetSegmentation().GetSegment(self.segment_id) is not None)

    @property
    def name(self) -> str:
        """The segment's, as the user reads it."""
        return self.segmentation.GetSegmentation().GetSegment(self.segment_id).GetName()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (k, j, i)."""
        return self._image.shape

    def is_for(self, segmentation, segment_id: str, volume) -> bool:
        """True when this session is the one for these."""
        return self.segment_id == segment_id and self.segmentation is segmentation and self.volume is volume

    # In the window's thread

    def look(self, choice: Choice) -> MaskUpdate | None:
        """The segment's voxels when they are not what the session of this choice knows, else None."""
        changed = self._look()
        if changed is None and choice != self._choice:
            return read_segment(self.segmentation, self.segment_id, self.volume)
        return changed

    def wrote(self) -> None:
        """The session made one step and its update is in the segment."""
        self._stamp = segment_stamp(self.segmentation, self.segment_id)
        # Read back, not assumed: masking may have kept part of the update out.
        digest = segment_digest(read_segment(self.segmentation, self.segment_id, self.volume))
        states = [s if s.engine is self._engine else s._replace(engine=None) for s in self._states[: self._step + 1]]
        self._states = [*states, State(digest, self._given, self._engine, self._depth)]
        self._step += 1
        self._before = (self._engine, self._depth)
        self.keep()

    def keep(self) -> None:
        """Write the prompts behind what the segment holds now into the scene."""
        records.keep(self.segmentation, self.segment_id, self.volume, self._given_now())

    def forget(self) -> None:
        """Take the prompts out of the scene: the volume they were given for is no more."""
        records.keep(self.segmentation, self.segment_id, self.volume, ())

    def rest(self) -> None:
        """Let go of the session's memory; the next action makes another one. Only while the worker is not at this segment."""
        self._engine, self._depth, self._choice, self._before = None, 0, None, (None, 0)
        self._states = [state._replace(engine=None) for state in self._states]

    # In the worker's thread

    def act(self, choice: Choice, action: Callable, seen: MaskUpdate | None) -> MaskUpdate:
        """One action from the voxels that `look` returned: the update to write. All of it happens, or nothing.

        action(session): makes one step and returns its update; or is a generator that yields after each of several steps.
        """
        before = self._open(choice, seen)
        heard, finished = len(self._engine.prompts), False
        try:
            update = self._followed(action(self._engine))
            finished = True
        finally:
            if not finished:
                self.take_back()
        fresh = tuple(Given(prompt, self._engine.axis) for prompt in self._engine.prompts[heard:])
        self._given = before + fresh if self._engine.prompts or not heard else ()
        return update

    def change(self, choice: Choice, prompt, instead, seen: MaskUpdate | None) -> MaskUpdate:
        """Put another prompt in a prompt's place, or None; the slices of both are asked again, from the prompts that remain."""
        before = self._open(choice, seen)
        number = next((n for n, given in enumerate(before) if given.prompt is prompt), None)
        if number is None:
            raise InteractiveSegError("This prompt is no longer there: it was taken back in the meantime.")
        axis = before[number].axis
        after = before[:number] + ((Given(instead, axis),) if instead is not None else ()) + before[number + 1 :]
        old = self._engine.mask.copy()
        slices = {index for one in (prompt, instead) if one is not None for index in in_slices(one, old.shape, axis)}
        self._engine, self._depth = self._asked_again(choice, old, after, axis, sorted(slices))
        self._given = after
        return difference(old, self._engine.mask)

    def ask(self, choice: Choice, question: Callable[[InteractiveSession], object], seen: MaskUpdate | None):
        """What a question to the session gives that changes nothing in it."""
        self._open(choice, seen)
        return question(self._engine)

    def warm_up(self, choice: Choice, seen: MaskUpdate | None) -> None:
        """Load the network, so that the first prompt is as quick as the next."""
        self._open(choice, seen)
        self._engine.warm_up()

    def take_back(self) -> None:
        """Undo an action whose update never reached the segment."""
        engine, depth = self._before
        if engine is self._engine:
            for _ in range(depth, self._depth):
                engine.undo()
        self._engine, self._depth = engine, depth

    def _followed(self, action) -> MaskUpdate:
        """The update of an action, its steps counted."""
        if not inspect.isgenerator(action):
            self._depth += 1
            return action
        before = self._engine.mask.copy()
        for _ in action:
            self._depth += 1
        return difference(before, self._engine.mask)

    def _look(self) -> MaskUpdate | None:
        stamp = segment_stamp(self.segmentation, self.segment_id)
        if stamp == self._stamp:
            return None
        seen = read_segment(self.segmentation, self.segment_id, self.volume)
        if segment_digest(seen) != self._states[self._step].digest:
            return seen
        self._stamp = stamp
        return None

    def _given_now(self) -> tuple[Given, ...]:
        seen = self._look()
        step = self._nearest_step(segment_digest(seen)) if seen is not None else self._step
        return self._states[self._step if step is None else step].given

    def _open(self, choice: Choice, seen: MaskUpdate | None) -> tuple[Given, ...]:
        """Bring the choice's session to where the segment is, and return the prompts behind that."""
        if seen is not None:
            digest = segment_digest(seen)
            step = self._nearest_step(digest)
            if step is None:  # an edit by other means: the prompts stay
                self._states[self._step + 1 :] = [State(digest, self._states[self._step].given)]
                step = self._step + 1
            self._step = step
        if choice != self._choice:
            self._engine, self._depth, self._choice = self._new_engine(choice), 0, choice
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
        set_threads()  # here, because OpenMP keeps the number per thread and this is the one that predicts
        targets = (choice.target,) if choice.target else None
        return InteractiveSession(
            self._image, affine=self._affine, model=choice.model, device=choice.device, targets=targets, context=choice.context
        )

    def _restore(self, engine: InteractiveSession, labels: np.ndarray, given: tuple[Given, ...]) -> int:
        """Put labels and prompts into a session, those that its model understands; the number of steps that took."""
        heard = [(prompt, axis) for prompt, axis in given if type(prompt).__name__ in engine.family.prompts]
        if not heard and not labels.any() and not engine.labels.any() and not engine.prompts:
            return 0
        engine.restore(labels, heard)
        return 1

    def _asked_again(self, choice, old: np.ndarray, given, axis: int, slices: list[int]) -> tuple[InteractiveSession, int]:
        """A new session that has these prompts, with slices along `axis` emptied and asked again; the number of its steps."""
        engine = self._new_engine(choice)
        depth = self._depth if engine is self._engine else 0
        if engine.family.volumetric:
            heard = [prompt for prompt, _ in given if type(prompt).__name__ in engine.family.prompts]
            for step in (engine.predict, *(partial(engine.add, prompt) for prompt in heard)):
                step()
            return engine, depth + 1 + len(heard)
        labels = old.astype(np.uint8)
        np.moveaxis(labels, axis, 0)[slices] = 0
        depth += self._restore(engine, labels, given)
        touched = {index for prompt, along in given if along == axis for index in in_slices(prompt, old.shape, axis)}
        prompted = [index for index in slices if index in touched]
        if prompted:
            engine.set_slice(axis, prompted[0])
            engine.predict(prompted)
        return engine, depth + bool(prompted)

    def _labels(self, seen: MaskUpdate) -> np.ndarray:
        labels = np.zeros(self._image.shape, np.uint8)
        labels[seen.slices] = seen.mask
        return labels

    def _nearest_step(self, digest: bytes) -> int | None:
        steps = [step for step, state in enumerate(self._states) if state.digest == digest]
        return min(steps, key=lambda step: abs(step - self._step), default=None)


def difference(before: np.ndarray, after: np.ndarray) -> MaskUpdate:
    """What changed between two masks."""
    start, stop = bounding_box(before != after)
    return MaskUpdate(start, stop, after[tuple(slice(a, b) for a, b in zip(start, stop))].copy())
