"""One InteractiveSession per segment, kept in step with what the Segment Editor shows. Knows no Qt and no effect."""
from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from InteractiveSegLib import InteractiveSession, MaskUpdate
from InteractiveSegLib.device import set_threads

from .mrml import ijk_to_ras, volume_array
from .segment import EMPTY, read_segment, segment_digest, segment_stamp


class State(NamedTuple):
    """What a segment held after one step of its session, and the prompts that had led there."""

    digest: bytes
    prompts: tuple


class SegmentSession:
    """The prompts and the network's state for (segmentation, segment, source volume, model, device).

    The segment is the truth: other effects, undo and redo may change it at any time. `look` (window's thread) notices,
    `act` (worker's thread) brings the session there first, so that Slicer's undo takes the prompt back as well.
    """

    def __init__(self, segmentation, segment_id: str, volume, model: str, device: str) -> None:
        self.segmentation, self.segment_id, self.volume = segmentation, segment_id, volume
        self.model, self.device = model, device
        self._image, self._affine = volume_array(volume), ijk_to_ras(volume)
        self._voxels_stamp = volume.GetImageData().GetMTime()
        self._session = None
        self._stamp = None  # of the segment when it last held what the session knows
        self._states = [State(segment_digest(EMPTY), ())]  # one more than the session has steps
        self._step = 0

    @property
    def prompts(self) -> tuple:
        """The prompts behind what the segment holds now, oldest first: without those that Slicer's undo took back."""
        seen = self.look()
        step = self._nearest_step(segment_digest(seen)) if seen is not None else self._step
        return self._states[self._step if step is None else step].prompts

    @property
    def alive(self) -> bool:
        """False once a node or the segment is gone, or the volume has other voxels than the session was made for."""
        nodes_in_scene = self.segmentation.GetScene() is not None and self.volume.GetScene() is not None
        return bool(
            nodes_in_scene
            and self.segmentation.GetSegmentation().GetSegment(self.segment_id) is not None
            and self.volume.GetImageData() is not None
            and self.volume.GetImageData().GetMTime() == self._voxels_stamp
        )

    def is_for(self, segmentation, segment_id: str, volume, model: str, device: str) -> bool:
        """True when this session is the one for these."""
        return (
            (self.segment_id, self.model, self.device) == (segment_id, model, device)
            and self.segmentation is segmentation
            and self.volume is volume
        )

    def look(self) -> MaskUpdate | None:
        """The segment's voxels when they are not what the session knows, else None. Window's thread."""
        stamp = segment_stamp(self.segmentation, self.segment_id)
        if stamp == self._stamp:
            return None
        seen = read_segment(self.segmentation, self.segment_id, self.volume)
        if segment_digest(seen) != self._states[self._step].digest:
            return seen
        self._stamp = stamp
        return None

    def act(self, action: Callable[[InteractiveSession], MaskUpdate], seen: MaskUpdate | None) -> MaskUpdate:
        """One step of the session, from the voxels that `look` returned. Worker's thread."""
        session = self._opened()
        if seen is not None and not self._walk_to(segment_digest(seen)):
            mask = np.zeros(self._image.shape, bool)
            mask[seen.slices] = seen.mask
            session.set_mask(mask)
            self._append(segment_digest(seen))
        update = action(session)
        del self._states[self._step + 1 :]  # what could be redone before this step no longer can
        return update

    def warm_up(self) -> None:
        """Load the network, so that the first prompt is as quick as the next. Worker's thread."""
        self._opened().warm_up()

    def wrote(self) -> None:
        """The session made one step and its update is in the segment. Window's thread."""
        self._stamp = segment_stamp(self.segmentation, self.segment_id)
        # Read back, not assumed: masking may have kept part of the update out.
        self._append(segment_digest(read_segment(self.segmentation, self.segment_id, self.volume)))

    def take_back(self) -> None:
        """Undo a step whose update never reached the segment."""
        self._session.undo()

    def _opened(self) -> InteractiveSession:
        if self._session is None:
            set_threads()  # here, because OpenMP keeps the number per thread and this is the one that predicts
            self._session = InteractiveSession(self._image, affine=self._affine, model=self.model, device=self.device)
        return self._session

    def _append(self, digest: bytes) -> None:
        self._states[self._step + 1 :] = [State(digest, self._session.prompts)]
        self._step += 1

    def _walk_to(self, digest: bytes) -> bool:
        """Undo or redo to the nearest step after which the segment held these voxels."""
        target = self._nearest_step(digest)
        if target is None:
            return False
        for _ in range(target, self._step):
            self._session.undo()
        for _ in range(self._step, target):
            self._session.redo()
        self._step = target
        return True

    def _nearest_step(self, digest: bytes) -> int | None:
        steps = [step for step, state in enumerate(self._states) if state.digest == digest]
        return min(steps, key=lambda step: abs(step - self._step), default=None)
