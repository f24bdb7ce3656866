"""What the effects ask of a segment's session, each one task of the worker. Knows no Qt."""
from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Callable

import numpy as np

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.key_slices import answer_volume

from .records import Given
from .segment import intensity_range_works, read_labels, write_updates
from .sessions import SegmentSession
from .states import Choice
from .worker import Task

logger = logging.getLogger(__name__)

RANGE_REFUSED = (
    "Slicer can keep to an editable intensity range only where segmentation and source volume have the same grid, and these have "
    "not: switch the range off under 'Masking', or set the segmentation's geometry to this volume (button beside it)."
)


class Cancelled(Exception):
    """Raised in the worker's thread to leave a long action that the user gave up."""


class SegmentAction(Task):
    """One user action on the segments of a session: `act` in the worker, then one undoable write.

    choice: what answers. effect: hears of the end through actionFinished, actionDropped or actionFailed.
    """

    given = None  # a prompt that is drawn while it waits for its answer

    def __init__(self, segment: SegmentSession, choice: Choice, effect) -> None:
        self.segment, self.choice, self.effect = segment, choice, effect
        self.seconds = 0.0
        self._seen = None

    def act(self, segment: SegmentSession, seen) -> dict:
        """What the worker asks: segment id -> the update to write. seen: the voxels now, where they are not as before."""
        raise NotImplementedError

    def prepare(self) -> bool:
        if not self._writable():
            return False
        editor = self.effect.scriptedEffect.parameterSetNode()
        if not intensity_range_works(editor, self.segment.segmentation, self.segment.volume):
            self.effect.actionFailed(InteractiveSegError(RANGE_REFUSED))
            return False
        self._seen = self.segment.look(self.choice)
        return True

    def run(self) -> dict:
        begin = time.perf_counter()
        updates = self.act(self.segment, self._seen)
        self.seconds = time.perf_counter() - begin
        return updates

    def finish(self, updates: dict) -> None:
        if not self._writable():
            self.segment.take_back()
            return
        write_updates(self.effect.scriptedEffect, self.segment.segmentation, self.segment.volume, updates)
        self.segment.wrote()
        self.effect.actionFinished(self)

    def fail(self, error: BaseException) -> None:
        if not isinstance(error, InteractiveSegError):
            logger.error("The prediction failed", exc_info=error)
        self.effect.actionFailed(error)

    def undo(self) -> None:
        self.segment.take_back()

    def _writable(self) -> bool:
        """Undo states belong to the segmentation in the editor, so nothing is written into another one."""
        editor = self.effect.scriptedEffect.parameterSetNode()
        if self.segment.alive and editor is not None and editor.GetSegmentationNode() is self.segment.segmentation:
            return True
        self.effect.actionDropped()
        return False


class Prompting(SegmentAction):
    """A prompt to a segment."""

    def __init__(self, segment: SegmentSession, choice: Choice, effect, given: Given) -> None:
        super().__init__(segment, choice, effect)
        self.given = given

    def act(self, segment, seen) -> dict:
        return segment.add(self.choice, self.given, seen)


class PromptChange(SegmentAction):
    """Another prompt in a prompt's place, or none: moved or deleted by the user."""

    def __init__(self, segment: SegmentSession, choice: Choice, effect, changed: Given, instead=None) -> None:
        super().__init__(segment, choice, effect)
        self._changed, self._instead = changed, instead

    def act(self, segment, seen) -> dict:
        return segment.change(self.choice, self._changed, self._instead, seen)


class StartOver(SegmentAction):
    """The chosen segment without prompts and voxels."""

    def __init__(self, segment: SegmentSession, choice: Choice, effect, segment_id: str) -> None:
        super().__init__(segment, choice, effect)
        self._segment_id = segment_id

    def act(self, segment, seen) -> dict:
        return segment.start_over(self.choice, self._segment_id, seen)


class PlanePrediction(SegmentAction):
    """What the model says of a tilted view, before any prompt."""

    def __init__(self, segment: SegmentSession, choice: Choice, effect, plane) -> None:
        super().__init__(segment, choice, effect)
        self._plane = plane

    def act(self, segment, seen) -> dict:
        return segment.predict_plane(self.choice, self._plane, seen)


class LongAction(SegmentAction):
    """An action on many slices, with progress, that the user may give up: then nothing of it stays."""

    def __init__(self, segment: SegmentSession, choice: Choice, effect, axis: int, extent: tuple[int, int]) -> None:
        """axis: array axis; extent: [first, stop) of its slices."""
        super().__init__(segment, choice, effect)
        self._axis, self._extent, self._given_up = axis, extent, False

    def act(self, segment, seen) -> dict:
        return segment.act(self.choice, self._steps, seen)

    def cancel(self) -> None:
        self._given_up = True

    def _steps(self, session) -> Iterator[None]:
        """Yields after each step of the session."""
        raise NotImplementedError

    def _reached(self, done: int, total: int) -> None:
        self.progress = (done, total)
        if self._given_up:
            raise Cancelled


class Propagation(LongAction):
    """The masks of the slices that the user spoke to, carried through the others. rounds: how often that was done now."""

    rounds = 0

    def __init__(self, segment: SegmentSession, choice: Choice, effect, axis: int, extent: tuple[int, int], fuse: bool) -> None:
        """fuse: where the round before was better its mask stays."""
        super().__init__(segment, choice, effect, axis, extent)
        self._fuse = fuse

    def _steps(self, session) -> Iterator[None]:
        for reached in session.propagate(axis=self._axis, extent=self._extent, fuse=self._fuse):
            self._reached(reached.done, reached.total)
        self.rounds = session.rounds.count
        yield


class Prediction(LongAction):
    """The model's own answer for many slices, before any prompt; see key_slices."""

    def _steps(self, session) -> Iterator[None]:
        taken = []  # steps that the session took and that are not told yet

        def predict(slices):
            taken.append(session.predict(slices))

        def propagate(**options):
            taken.append((yield from session.propagate(**options)))

        session.set_slice(self._axis, self._extent[0])
        for reached in answer_volume(session, self._extent, predict=predict, propagate=propagate):
            yield from [None] * len(taken)
            taken.clear()
            self._reached(reached.done, reached.total)
        yield from [None] * len(taken)


class Acceptance(SegmentAction):
    """The segment's predicted slices and tilted views become examples of the context; the segment itself stays as it is."""

    examples = 0

    def prepare(self) -> bool:
        self._held = read_labels(self.segment.segmentation, self.segment.segment_ids, self.segment.volume)
        return super().prepare()

    def run(self) -> int:
        accepted, refused = [], None
        with ExitStack() as afterwards:
            for number, session in enumerate(self.segment.answering(self.choice, self._seen)):
                if number == 0 and self._hold(session):
                    afterwards.callback(session.undo)
                try:
                    accepted += session.accept(self.segment.volume.GetID())
                except InteractiveSegError as error:  # nothing was predicted in the volume's own slices, perhaps on a plane
                    refused = error
        if not accepted:
            raise refused
        return len(accepted)

    def _hold(self, session) -> bool:
        """Put into the volume's session what the segments hold, where masking kept part of its answers out of them."""
        labels = np.zeros(session.labels.shape, np.uint8)
        labels[self._held.slices] = self._held.labels
        masked = not np.array_equal(labels, session.labels)
        if masked:
            session.set_labels(labels)
        return masked

    def finish(self, count: int) -> None:
        self.examples = count
        self.effect.actionFinished(self)

    def undo(self) -> None:
        """Examples stay: the context's own page removes them."""


class Job(Task):
    """Anything that is no action on a segment: work in the worker's thread, then told(result) or failed(error) in the window's.

    work(progress) gives the result; progress(done, total) may be called meanwhile, and raises when the user gives up.
    """

    given = segment = None

    def __init__(self, work: Callable, told: Callable, failed: Callable[[BaseException], None], stays: bool = False) -> None:
        self._work, self._told, self._failed, self._given_up = work, told, failed, False
        self.stays = stays

    def run(self):
        return self._work(self._reached)

    def finish(self, result) -> None:
        self._told(result)

    def fail(self, error: BaseException) -> None:
        self._failed(error)

    def cancel(self) -> None:
        self._given_up = True

    def _reached(self, done: int, total: int) -> None:
        self.progress = (done, total)
        if self._given_up:
            raise Cancelled


class WarmUp(Task):
    """Loads the network while the user still looks for the first place to click; silent, for the click will tell.

    told: called in the window's thread with one line about memory and device.
    """

    given = None

    def __init__(self, segment: SegmentSession, choice: Choice, told: Callable[[str], None]) -> None:
        self.segment, self.choice, self._told = segment, choice, told
        self._seen = None

    def prepare(self) -> bool:
        if not self.segment.alive:
            return False
        self._seen = self.segment.look(self.choice)
        return True

    def run(self) -> str:
        return self.segment.warm_up(self.choice, self._seen)

    def finish(self, line: str) -> None:
        self._told(line)

    def fail(self, error: BaseException) -> None:
        logger.info("The network could not be loaded ahead of the first prompt: %s", error)
        self._told(str(error) if isinstance(error, InteractiveSegError) else "")
