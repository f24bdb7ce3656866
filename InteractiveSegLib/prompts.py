"""What a person tells the network: clicks, boxes, scribbles, lassos. Immutable; they know nothing of models or sessions.

Each has a `label`: the name of the target it speaks of, None where there is only one, or "background".
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Union

import numpy as np

from .types import InteractiveSegError


@dataclass(frozen=True)
class Click:
    """One point, inside the object (positive) or outside of it (negative).

    position: voxel index in array order, (k, j, i) or (row, column); fractions are rounded to the nearest voxel.
    position_ras: instead of position, millimetres in RAS; the session turns it into a voxel with the image's affine.
    """

    position: tuple[float, ...] | None = None
    positive: bool = True
    position_ras: tuple[float, float, float] | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if (self.position is None) == (self.position_ras is None):
            raise InteractiveSegError("A click needs either position=(k, j, i) or position_ras=(R, A, S): give exactly one.")


@dataclass(frozen=True)
class Box:
    """A box around the object: start inside, stop outside, both in array order, in voxels.

    In a volume a box that is several slices thick speaks to each of those slices.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    label: str | None = None

    def __post_init__(self) -> None:
        if not all(hasattr(corner, "__len__") for corner in (self.start, self.stop)):
            raise InteractiveSegError(f"Got a box from {self.start!r} to {self.stop!r}, expected two positions in array order.")
        if len(self.start) != len(self.stop) or any(b <= a for a, b in zip(self.start, self.stop)):
            raise InteractiveSegError(
                f"The box from {tuple(self.start)} to {tuple(self.stop)} is empty: stop is exclusive and must be larger "
                "than start on every axis."
            )


@dataclass(frozen=True, eq=False)
class Scribble:
    """A stroke: bool array, True where the user drew.

    mask: of the image's shape; or, with origin, of a smaller box whose first voxel lies at that index (array order).
    """

    mask: np.ndarray
    positive: bool = True
    origin: tuple[int, ...] | None = None
    label: str | None = None


@dataclass(frozen=True)
class Lasso:
    """A closed curve drawn in one slice: its inside holds the object (positive) or is free of it (negative).

    points: at least three vertices in array order; in a volume all of them lie on one slice of the working axis.
    """

    points: tuple[tuple[float, ...], ...]
    positive: bool = True
    label: str | None = None

    def __post_init__(self) -> None:
        if len(self.points) < 3:
            raise InteractiveSegError(f"A lasso needs at least 3 points and got {len(self.points)}: draw around the object.")


Prompt = Union[Click, Box, Scribble, Lasso]
