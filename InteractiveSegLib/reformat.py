"""A plane through a volume that follows none of its axes: the picture there, and labels made on it put back into the voxels.

Numpy only; knows nothing of prompts, networks and windows.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

MOST_PIXELS = 2048  # along a side; a larger plane gets coarser pixels, and no longer reaches every voxel that it cuts
SLIVER = 0.45  # of a pixel beside its centre, where voxels are looked for that no centre hits
FOLLOWS = 0.5  # of a voxel: a plane that strays less from one slice over the whole volume is that slice


@dataclass(frozen=True, eq=False)
class Plane:
    """A grid of pixels on a plane, large enough for all of the volume that the plane cuts.

    shape: (rows, columns). to_ijk: 4x4, (column, row, depth, 1) -> (i, j, k, 1) of the volume, in fractions of voxels; depth 0 is
    the plane, a step of depth is as long as one of a column.
    """

    shape: tuple[int, int]
    to_ijk: np.ndarray

    def is_same(self, other: Plane | None) -> bool:
        """True for the same pixels, to a thousandth of a voxel."""
        return other is not None and self.shape == other.shape and np.allclose(self.to_ijk, other.to_ijk, rtol=0, atol=1e-3)

    def sample(self, volume: np.ndarray) -> np.ndarray:
        """The picture: float32 (rows, columns) of a volume (k, j, i), linear between voxel centres; outside its lowest value."""
        places = self._kji(*np.indices(self.shape))
        inside = self.voxels(volume.shape) >= 0
        low = [np.clip(np.floor(place).astype(int), 0, max(n - 2, 0)) for place, n in zip(places, volume.shape)]
        parts = [np.clip(place - first, 0, 1) if n > 1 else 0 * place for place, first, n in zip(places, low, volume.shape)]
        picture = np.zeros(self.shape, np.float32)
        for step in product((0, 1), repeat=3):
            weight = np.prod([part if s else 1 - part for part, s in zip(parts, step)], axis=0)
            index = tuple(np.minimum(first + s, n - 1) for first, s, n in zip(low, step, volume.shape))
            picture += (weight * volume[index]).astype(np.float32)
        picture[~inside] = picture[inside].min() if inside.any() else 0
        return picture

    def cut(self, labels: np.ndarray) -> np.ndarray:
        """Labels (k, j, i) as the plane shows them: each pixel has that of the voxel it lies in, 0 outside. Same type."""
        voxels = self.voxels(labels.shape)
        return np.where(voxels >= 0, labels.ravel()[voxels], labels.dtype.type(0))

    def put(self, picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """A copy of `labels` (k, j, i) in which each voxel that the plane cuts has the label of most of its pixels.

        picture: whole numbers (rows, columns). The inverse of `cut`: what was not changed on the picture stays as it is. A voxel
        that is cut by a sliver, under the centre of no pixel, follows a pixel beside it that was changed.
        """
        voxels = self.voxels(labels.shape)
        inside = voxels >= 0
        hit, which = np.unique(voxels[inside], return_inverse=True)
        kinds = int(picture.max(initial=0)) + 1
        votes = np.bincount(which.ravel() * kinds + picture[inside], minlength=len(hit) * kinds).reshape(len(hit), kinds)
        changed = labels.copy()
        changed.ravel()[hit] = votes.argmax(axis=1)
        rows, columns = np.nonzero(picture != self.cut(labels))
        for down, right in product((-SLIVER, 0, SLIVER), repeat=2):
            beside = _numbers(self._kji(rows + down, columns + right), labels.shape)
            sliver = (beside >= 0) & ~np.isin(beside, hit)
            changed.ravel()[beside[sliver]] = picture[rows, columns][sliver]
        return changed

    def _kji(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(3, ...): where these places of the picture, in pixels, lie in the volume."""
        return np.stack([self.to_ijk[row, 0] * columns + self.to_ijk[row, 1] * rows + self.to_ijk[row, 3] for row in (2, 1, 0)])

    def voxels(self, shape: tuple[int, ...]) -> np.ndarray:
        """(rows, columns): number of the voxel, in the order of the array, that each pixel lies in; -1 outside of the volume."""
        return _voxels_under(self, tuple(shape))


@lru_cache(maxsize=8)
def _voxels_under(plane: Plane, shape: tuple[int, ...]) -> np.ndarray:
    """See Plane.voxels."""
    return _numbers(plane._kji(*np.indices(plane.shape)), shape)


def _numbers(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Number of the voxel that each place (3, ...) kji lies in, -1 outside of the volume."""
    nearest = np.floor(places + 0.5).astype(int)
    inside = np.all([(index >= 0) & (index < n) for index, n in zip(nearest, shape)], axis=0)
    return np.where(inside, np.ravel_multi_index(np.where(inside, nearest, 0), shape), -1)


def plane_through(shape: tuple[int, int, int], affine: np.ndarray, point, right, down) -> Plane | None:
    """The plane through a point that the eye sees with `right` and `down` as directions; None where no plane is needed.

    shape: of the volume (k, j, i). affine: 4x4, (i, j, k, 1) -> mm. point, right, down: in the same millimetres. Pixels are as
    large as the volume's smallest voxel side. None when the plane misses the volume, or is one of its slices.
    """
    right, down = (np.asarray(v, float) / np.linalg.norm(v) for v in (right, down))
    normal = np.cross(right, down)
    corners_ijk = _cross_section(shape, affine, point, normal)
    if len(corners_ijk) == 0:
        return None
    steps = affine[:3, :3]
    sides = np.linalg.norm(steps, axis=0)
    along = int(np.argmax(np.abs(normal @ (steps / sides))))
    if np.ptp(corners_ijk[:, along]) <= FOLLOWS:
        return None
    corners = corners_ijk @ steps.T + affine[:3, 3]
    low, high = [np.array([f(corners @ v) for v in (right, down)]) for f in (np.min, np.max)]
    side = max(sides.min(), (high - low).max() / MOST_PIXELS)
    columns, rows = (max(1, int(np.ceil(length / side - 1e-3))) for length in high - low)
    origin = right * (low[0] + side / 2) + down * (low[1] + side / 2) + normal * (np.asarray(point, float) @ normal)
    to_mm = np.eye(4)
    to_mm[:3] = np.c_[right * side, down * side, normal * side, origin]
    return Plane((rows, columns), np.linalg.inv(affine) @ to_mm)


def _cross_section(shape, affine: np.ndarray, point, normal: np.ndarray) -> np.ndarray:
    """(n, 3) ijk: where the plane meets the edges of the volume's box, which reaches half a voxel beyond the voxel centres."""
    corners = np.array(list(product(*((-0.5, n - 0.5) for n in reversed(shape)))))
    heights = (corners @ affine[:3, :3].T + affine[:3, 3] - np.asarray(point, float)) @ normal
    found = []
    for one, two in product(range(8), repeat=2):
        is_edge = one < two and (corners[one] != corners[two]).sum() == 1
        if is_edge and heights[one] != heights[two] and heights[one] * heights[two] <= 0:
            share = heights[one] / (heights[one] - heights[two])
            found.append(corners[one] + share * (corners[two] - corners[one]))
    return np.array(found).reshape(-1, 3)
