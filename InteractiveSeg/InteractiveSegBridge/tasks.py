"""What the effects ask of a segment's session, each one task of the worker. Knows no Qt."""
from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Callable

from InteractiveSegLib import InteractiveSegError, MaskUpdate

from .advice import check_memory
from .segment import write_update
from .sessions import Choice, SegmentSession
from .worker import Task

logger = logging.getLogger(__name__)

SLICES_AT_ONCE = 8  # between two signs of progress


class Cancelled(Exception):
    """Raised in the worker's thread to leave a long action that the user gave up."""


class SegmentAction(Task):
    """One user action on one segment: `action(session) -> MaskUpdate` in the worker, then one undoable write.

    choice: what answers. effect: hears of the end through actionFinished, actionDropped or actionFailed. prompt: to be drawn
    while it waits for its answer.
    """

    def __init__(self, segment: SegmentSession, choice: Choice, action: Callable, effect, prompt=None) -> None:
        self.segment, self.choice, self.action, self.effect, self.prompt = segment, choice, action, effect, prompt
        self.seconds = 0.0
        self._seen = None

    def prepare(self) -> bool:
        if not self._writable():
            return False
        self._seen = self.segment.look(self.choice)
        return True

    def run(self) -> MaskUpdate:
        begin = time.perf_counter()
        update = self.segment.act(self.choice, self.action, self._seen)
        self.seconds = time.perf_counter() - begin
        return update

    def finish(self, update: MaskUpdate) -> None:
        if not self._writable():
            self.segment.take_back()
            return
        write_update(
            self.effect.scriptedEffect, self.segment.segmentation, self.segment.segment_id, self.segment.volume, update
        )
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


class PromptChange(SegmentAction):
    """Another prompt in a prompt's place, or none: moved or deleted by the user."""

    def __init__(self, segment: SegmentSession, choice: Choice, effect, prompt, instead=None) -> None:
        super().__init__(segment, choice, None, effect)
        self._prompt, self._instead = prompt, instead

    def run(self) -> MaskUpdate:
        return self.segment.change(self.choice, self._prompt, self._instead, self._seen)


class LongAction(SegmentAction):
    """An action on many slices, with progress, that the user may give up: then nothing of it stays."""

    def __init__(self, segment: SegmentSession, choice: Choice, effect, axis: int, extent: tuple[int, int]) -> None:
        """axis: array axis; extent: [first, stop) of its slices."""
        super().__init__(segment, choice, self._steps, effect)
        self._axis, self._extent, self._given_up = axis, extent, False

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

    def _steps(self, session) -> Iterator[None]:
        for reached in session.propagate(axis=self._axis, extent=self._extent):
            self._reached(reached.done, reached.total)
        self.rounds = session.rounds.count
        yield


class Prediction(LongAction):
    """The model's own answer for many slices, before any prompt."""

    def _steps(self, session) -> Iterator[None]:
        if session.family.volumetric:
            session.predict()
            yield
            return
        first, stop = self._extent
        session.set_slice(self._axis, first)
        for index in range(first, stop, SLICES_AT_ONCE):
            session.predict(range(index, min(index + SLICES_AT_ONCE, stop)))
            yield
            self._reached(min(index + SLICES_AT_ONCE, stop) - first, stop - first)


class Acceptance(SegmentAction):
    """The segment's predicted slices become examples of the context; the segment itself stays as it is."""

    def __init__(self, segment: SegmentSession, choice: Choice, effect) -> None:
        super().__init__(segment, choice, None, effect)
        self.examples = 0

    def run(self) -> int:
        return len(self.segment.ask(self.choice, lambda session: session.accept(self.segment.volume.GetID()), self._seen))

    def finish(self, count: int) -> None:
        self.examples = count
        self.effect.actionFinished(self)

    def undo(self) -> None:
        """Examples stay: the context's own page removes them."""


class WarmUp(Task):
    """Loads the network while the user still looks for the first place to click; silent, for the click will tell.

    told: called in the window's thread with one line about memory and device.
    """

    prompt = None

    def __init__(self, segment: SegmentSession, choice: Choice, told: Callable[[str], None]) -> None:
        self.segment, self.choice, self._told = segment, choice, told
        self._seen = None

    def prepare(self) -> bool:
        if not self.segment.alive:
            return False
        self._seen = self.segment.look(self.choice)
        return True

    def run(self) -> str:
        line = check_memory(self.choice, self.segment.shape)
        self.segment.warm_up(self.choice, self._seen)
        return line

    def finish(self, line: str) -> None:
        self._told(line)

    def fail(self, error: BaseException) -> None:
        logger.info("The network could not be loaded ahead of the first prompt: %s", error)
        self._told(str(error) if isinstance(error, InteractiveSegError) else "")
