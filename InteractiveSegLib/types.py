"""Words that every other file of the library uses: axis order, boxes, updates, errors. Imports numpy only.

Axis order, stated once:
  * arrays are indexed (k, j, i) in a volume and (row, column) in a 2D image; a *position* is such an index tuple;
  * an *affine* is the 4x4 matrix from the column vector (i, j, k, 1) to millimetres in RAS (NIfTI's, Slicer's IJKToRAS);
  * *spacing* is in millimetres and in array order: (k, j, i), or (row, column);
  * boxes are half-open: start is inside, stop is outside.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class InteractiveSegError(ValueError):
    """Something the user can mend. The message is one sentence: what was got, what was expected, what to do."""


@dataclass(frozen=True, eq=False)
class MaskUpdate:
    """What one action changed of one object: write `mask` back into [start, stop) and nothing else.

    start, stop: half-open box in array order, as long as the image has dimensions. Equal when nothing changed.
    mask: bool array of shape stop - start, the new mask inside that box.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    mask: np.ndarray

    @property
    def empty(self) -> bool:
        """True when nothing changed."""
        return self.mask.size == 0

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index: `volume[update.slices] = update.mask`."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop))


@dataclass(frozen=True, eq=False)
class LabelUpdate:
    """What one action changed of a session's label map: write `labels` back into [start, stop) and nothing else.

    start, stop: half-open box in array order, equal when nothing changed. before, labels: uint8 arrays of shape stop - start,
    0 outside of every target, n for targets[n - 1].
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    before: np.ndarray
    labels: np.ndarray
    targets: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """True when nothing changed."""
        return self.labels.size == 0

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index: `volume[update.slices] = update.labels`."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop))

    @property
    def mask(self) -> np.ndarray:
        """Bool of shape stop - start: what lies in any target now."""
        return self.labels != 0

    @property
    def per_target(self) -> dict[str, MaskUpdate]:
        """What changed of each target that did change, by its name."""
        updates = {}
        for label, name in enumerate(self.targets, start=1):
            now = self.labels == label
            start, stop = bounding_box(now != (self.before == label))
            if start != stop:
                crop = now[tuple(slice(a, b) for a, b in zip(start, stop))].copy()
                low, high = (tuple(o + v for o, v in zip(self.start, corner)) for corner in (start, stop))
                updates[name] = MaskUpdate(low, high, crop)
        return updates


def counted(number: int, thing: str) -> str:
    """Such as "1 prompt" or "2 prompts"."""
    return f"{number} {thing}" + "s" * (number != 1)


def bounding_box(mask: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Half-open box (start, stop) around the True voxels of a bool array; zeros and zeros when there are none."""
    start, stop = [], []
    for axis in range(mask.ndim):
        hits = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if hits.size == 0:
            return (0,) * mask.ndim, (0,) * mask.ndim
        start.append(int(hits[0]))
        stop.append(int(hits[-1]) + 1)
    return tuple(start), tuple(stop)
