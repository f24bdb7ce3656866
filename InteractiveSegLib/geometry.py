"""Slices of volumes, and the square canvas on which a 2D network sees a slice. Numpy only; knows nothing of prompts' meaning."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor
from typing import Optional

import numpy as np

from .types import InteractiveSegError

Window = Optional[tuple[float, float]]
AXIS_NAMES = {"K": 0, "J": 1, "I": 2}
ANATOMICAL_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}  # row of the RAS vector that the slice normal follows
THICK = 1.5  # times as far apart as along any other axis: slices


def stack_axis(shape: tuple[int, ...], spacing: tuple[float, ...]) -> int:
    """Array axis along which an image was scanned slice by slice; both in array order, mm. Where nothing tells: 0.

    It is the one axis with a single slice, or the one whose slices are `THICK` times as far apart as any other's.
    """
    if len(shape) == 2:
        return 0
    single = [axis for axis, count in enumerate(shape) if count == 1]
    *_, second, largest = sorted(spacing)
    thick = spacing.index(largest) if largest >= THICK * second else 0
    return single[0] if len(single) == 1 else thick


def resolve_axis(axis: int | str, ndim: int, affine: np.ndarray) -> int:
    """Array axis 0, 1 or 2 for a number, "K"/"J"/"I", or "axial"/"coronal"/"sagittal" (nearest array axis by the affine)."""
    if ndim == 2:
        return 0
    if isinstance(axis, str):
        if axis.upper() in AXIS_NAMES:
            return AXIS_NAMES[axis.upper()]
        if axis.lower() in ANATOMICAL_AXES:
            directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
            column = int(np.argmax(np.abs(directions[ANATOMICAL_AXES[axis.lower()]])))
            return 2 - column  # columns of the affine are i, j, k; array axes are k, j, i
    elif axis in (0, 1, 2):
        return int(axis)
    names = ", ".join([*AXIS_NAMES, *ANATOMICAL_AXES])
    raise InteractiveSegError(f"Got the axis {axis!r}, but it must be one of {names}, 0, 1 or 2.")


def check_slices(indices: Iterable[int], count: int, axis: int = 0) -> list[int]:
    """Slices along an axis as whole numbers below `count`; or one sentence."""
    try:
        found = [(index, int(index)) for index in indices]
    except (TypeError, ValueError, OverflowError) as error:
        raise InteractiveSegError(f"Got the slices {indices!r}, expected a list of whole numbers: correct it.") from error
    for index, whole in found:
        if whole != index or not 0 <= whole < count:
            raise InteractiveSegError(f"Got slice {index}, but axis {axis} has slices 0 to {count - 1}: choose one of them.")
    return [whole for _, whole in found]


def affine_from_spacing(spacing_kji: tuple[float, ...]) -> np.ndarray:
    """4x4 affine (i, j, k, 1) -> RAS mm of an unrotated grid with its first voxel at the origin."""
    return np.diag([*reversed((1.0,) * (3 - len(spacing_kji)) + tuple(spacing_kji)), 1.0])


def ras_to_position(affine: np.ndarray, ras: tuple[float, float, float], ndim: int) -> tuple[float, ...]:
    """Fractional voxel index in array order, (k, j, i) or (row, column), of a point in RAS millimetres."""
    ijk = np.linalg.solve(affine, np.array([*ras, 1.0]))[:3]
    return tuple(float(v) for v in ijk[::-1][3 - ndim:])


def check_window(window: Window) -> Window:
    """(low, high) in numbers, or None as it came; or one sentence."""
    if window is None:
        return None
    try:
        low, high = (float(value) for value in window)
    except (TypeError, ValueError) as error:
        raise InteractiveSegError(f"Got the window {window!r}, expected two numbers: give (low, high).") from error
    if not high > low:
        raise InteractiveSegError(f"The window {(low, high)} is empty: give (low, high) with low below high.")
    return low, high


def normalise(image: np.ndarray, window: Window = None) -> np.ndarray:
    """Intensities of one slice to float32 in [0, 1].

    The window (low, high) when given, else the 0.5 and 99.5 percentiles, so that a metal implant or a hot pixel does not
    flatten the rest; minimum and maximum when these coincide; zeros for a constant slice.
    """
    image = np.asarray(image, dtype=np.float32)
    low, high = window if window is not None else np.percentile(image, (0.5, 99.5))
    if not high > low:
        low, high = float(image.min()), float(image.max())
    if not high > low:
        return np.zeros(image.shape, np.float32)
    return np.clip((image - np.float32(low)) / np.float32(high - low), 0, 1)


@lru_cache(maxsize=64)
def resample_matrix(n_out: int, n_in: int, origin: float, step: float) -> np.ndarray:
    """(n_out, n_in) float32 weights: output sample o reads the input around the edge coordinate origin + (o + 0.5) * step.

    A triangle as wide as the larger of the two pixels: bilinear when magnifying, without aliasing when shrinking. Rows
    whose centre lies outside the input are zero (padding).
    """
    centre = origin + (np.arange(n_out) + 0.5) * step  # in input pixels, 0 = the input's first edge
    weights = 1 - np.abs(np.arange(n_in)[None] + 0.5 - centre[:, None]) / max(step, 1.0)
    weights = np.clip(weights, 0, None)
    total = weights.sum(axis=1, keepdims=True)
    inside = ((centre >= 0) & (centre <= n_in))[:, None] & (total > 0)
    return np.where(inside, weights / np.where(total > 0, total, 1), 0).astype(np.float32)


@dataclass(frozen=True)
class Canvas:
    """A square grid of size x size pixels laid over a slice, or over a region of it, with the aspect ratio in mm kept.

    shape: (rows, columns) of the slice; spacing: (row, column) in mm. region: half-open box (row0, column0, row1,
    column1) in pixels, the whole slice by default. What lies outside the slice reads as 0.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    size: int
    region: tuple[float, float, float, float] | None = None

    @property
    def step(self) -> tuple[float, float]:
        """Slice pixels per canvas pixel, (rows, columns)."""
        row0, column0, row1, column1 = self.region or (0, 0, *self.shape)
        millimetres = max((row1 - row0) * self.spacing[0], (column1 - column0) * self.spacing[1]) / self.size
        return millimetres / self.spacing[0], millimetres / self.spacing[1]

    @property
    def origin(self) -> tuple[float, float]:
        """Where the canvas begins, in slice pixels from the slice's first edge."""
        row0, column0, row1, column1 = self.region or (0, 0, *self.shape)
        step = self.step
        return (row0 + row1 - self.size * step[0]) / 2, (column0 + column1 - self.size * step[1]) / 2

    @property
    def down(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrices (size, rows) and (columns, size), float32: first @ slice @ second is the canvas."""
        origin, step = self.origin, self.step
        rows, columns = (resample_matrix(self.size, n, o, d) for n, o, d in zip(self.shape, origin, step))
        return rows, columns.T

    @property
    def up(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrices (rows, size) and (size, columns), float32: first @ canvas @ second is the slice."""
        rows, columns = (resample_matrix(n, self.size, -o / d, 1 / d) for n, o, d in zip(self.shape, self.origin, self.step))
        return rows, columns.T

    def shrink(self, image: np.ndarray) -> np.ndarray:
        """Slice (rows, columns) -> canvas (size, size), float32."""
        rows, columns = self.down
        return rows @ np.asarray(image, np.float32) @ columns

    def expand(self, canvas: np.ndarray) -> np.ndarray:
        """Canvas (size, size) -> slice (rows, columns), float32; 0 where the canvas does not reach."""
        rows, columns = self.up
        return rows @ np.asarray(canvas, np.float32) @ columns

    def reach(self, low: tuple[int, int], high: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the slice that hold all pixels to which `expand` brings canvas pixels low to high, half-open."""
        ends = zip(self.shape, self.origin, self.step, low, high)
        return tuple(slice(max(0, floor(o + (a - 1) * d)), max(0, min(n, ceil(o + (b + 1) * d)))) for n, o, d, a, b in ends)

    def covers(self) -> np.ndarray:
        """Bool (rows, columns): the slice pixels whose centre lies on the canvas."""
        inside = [
            (np.arange(n) + 0.5 >= o) & (np.arange(n) + 0.5 <= o + self.size * d)
            for n, o, d in zip(self.shape, self.origin, self.step)
        ]
        return inside[0][:, None] & inside[1][None]

    def locate(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Canvas pixel (row, column) of slice pixel centres, and which of them lie on the canvas."""
        r = np.floor((np.asarray(rows, float) + 0.5 - self.origin[0]) / self.step[0]).astype(int)
        c = np.floor((np.asarray(columns, float) + 0.5 - self.origin[1]) / self.step[1]).astype(int)
        inside = (r >= 0) & (r < self.size) & (c >= 0) & (c < self.size)
        return r, c, inside

    def mark(self, mask: np.ndarray) -> np.ndarray:
        """Bool slice -> float32 canvas, 1 where it is True: thin strokes stay on a coarse canvas, areas filled on a fine one."""
        nearest = [np.floor(o + (np.arange(self.size) + 0.5) * d).astype(int) for o, d in zip(self.origin, self.step)]
        inside = [(index >= 0) & (index < n) for index, n in zip(nearest, self.shape)]
        out = np.zeros((self.size, self.size), np.float32)
        out[np.ix_(*inside)] = mask[np.ix_(*(index[i] for index, i in zip(nearest, inside)))]
        r, c, inside = self.locate(*np.nonzero(mask))
        out[r[inside], c[inside]] = 1
        return out
