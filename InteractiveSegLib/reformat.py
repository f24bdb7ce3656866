"""A plane through a volume that follows none of its axes: the picture there, and labels made on it put back into the voxels.

Numpy only; knows nothing of prompts, networks and windows.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

MOST_PIXELS = 2048  # along a side; a larger plane gets coarser pixels
TOUCHES = 1e-6  # of a voxel: a plane that reaches less far into one does not cut it
FARTHEST = 64  # pixels to one that is shown, in the pointed corner of a volume
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

    def put(self, picture: np.ndarray, labels: np.ndarray, whole: bool = False) -> np.ndarray:
        """A copy of `labels` (k, j, i) in which each voxel that the plane cuts has the label of most of its pixels.

        picture: whole numbers (rows, columns). A voxel under the centre of no pixel follows the voxel shown where the plane cuts
        it: always when the picture is the whole truth about the plane, else when that one has changed. So the inverse of `cut`
        leaves as it is what was not changed on the picture.
        """
        cut = _voxels_cut(self, labels.shape)
        kinds = int(picture.max(initial=0)) + 1
        votes = np.bincount(cut.which * kinds + picture[cut.pixels >= 0], minlength=len(cut.shown) * kinds)
        changed, before = labels.copy(), labels.ravel()
        after = changed.reshape(-1)
        after[cut.shown] = votes.reshape(-1, kinds).argmax(axis=1)
        follows = np.full(len(cut.hidden), True) if whole else after[cut.beside] != before[cut.beside]
        after[cut.hidden[follows]] = after[cut.beside[follows]]
        return changed

    def voxels(self, shape: tuple[int, ...]) -> np.ndarray:
        """(rows, columns): number of the voxel, in the order of the array, that each pixel lies in; -1 outside of the volume."""
        return _voxels_cut(self, shape).pixels

    def reaches(self, shape: tuple[int, ...]) -> np.ndarray:
        """(n,): numbers of all the voxels that the plane cuts, those under the centre of no pixel included."""
        cut = _voxels_cut(self, shape)
        return np.concatenate([cut.shown, cut.hidden])

    def _kji(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(3, ...): where these places of the picture, in pixels, lie in the volume."""
        return np.stack([self.to_ijk[row, 0] * columns + self.to_ijk[row, 1] * rows + self.to_ijk[row, 3] for row in (2, 1, 0)])


class VoxelsCut(NamedTuple):
    """The voxels of a volume that a plane cuts, as numbers in the order of the array.

    pixels: (rows, columns), the voxel that each pixel's centre lies in, -1 outside. shown: these voxels, each once. which: for
    each pixel inside, its voxel's place in `shown`. hidden: the voxels under no centre. beside: for each of these the one that is
    shown where the plane cuts it.
    """

    pixels: np.ndarray
    shown: np.ndarray
    which: np.ndarray
    hidden: np.ndarray
    beside: np.ndarray


def _voxels_cut(plane: Plane, shape: tuple[int, ...]) -> VoxelsCut:
    return _voxels_cut_by(plane.shape, np.asarray(plane.to_ijk, float).tobytes(), tuple(shape))


@lru_cache(maxsize=4)  # by value: a view makes a new plane at each look
def _voxels_cut_by(size: tuple[int, int], to_ijk: bytes, shape: tuple[int, ...]) -> VoxelsCut:
    plane = Plane(size, np.frombuffer(to_ijk).reshape(4, 4))
    nearest = np.floor(plane._kji(*np.indices(size)) + 0.5).astype(int)
    inside = np.all([(index >= 0) & (index < n) for index, n in zip(nearest, shape)], axis=0)
    pixels = np.where(inside, np.ravel_multi_index(np.where(inside, nearest, 0), shape), -1)
    shown, which = np.unique(pixels[inside], return_inverse=True)
    hidden, rows, columns = _where_cut(plane, shape, shown)
    known, beside = pixels, pixels[rows, columns]
    for _ in range(FARTHEST):  # where a pixel's centre is outside, the nearest one that is not
        if (beside >= 0).all():
            break
        known = _grown(known)
        beside = known[rows, columns]
    return VoxelsCut(pixels, shown, which.ravel(), hidden[beside >= 0], beside[beside >= 0])


def _where_cut(plane: Plane, shape: tuple[int, ...], shown: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(numbers, rows, columns): the voxels cut by the plane that are not shown, and the pixels where it meets their diagonals.

    The plane cuts a voxel when its centre is nearer than half of the voxel's thickness along the normal, and then it meets the
    diagonal from the centre to the corner beyond the plane.
    """
    to_plane = np.linalg.inv(plane.to_ijk)[:, [2, 1, 0, 3]]  # (k, j, i, 1) -> (column, row, depth, 1)
    normal, offset = to_plane[2, :3], to_plane[2, 3]
    along = int(np.argmax(np.abs(normal)))
    half = np.abs(normal).sum() / 2
    columns_kji = list(np.indices([1 if axis == along else n for axis, n in enumerate(shape)]).reshape(3, -1))
    middle = -(offset + sum(n * index for n, index in zip(normal, columns_kji))) / normal[along]
    first = np.ceil(middle - half / abs(normal[along])).astype(int)
    found = []
    for step in range(4):  # the plane cuts at most three voxels of a column: no axis crosses it more steeply than `along`
        index = first + step
        cut = (np.abs(index - middle) < half / abs(normal[along]) - TOUCHES) & (index >= 0) & (index < shape[along])
        found.append(np.stack([(index if axis == along else columns_kji[axis])[cut] for axis in range(3)]))
    voxels = np.concatenate(found, axis=1)
    numbers = np.ravel_multi_index(voxels, shape)
    hidden = ~np.isin(numbers, shown)
    voxels, numbers = voxels[:, hidden], numbers[hidden]
    depths = normal @ voxels + offset
    places = voxels - depths / (2 * half) * np.sign(normal)[:, None]
    pixels = np.floor(to_plane[:2, :3] @ places + to_plane[:2, 3:] + 0.5).astype(int)
    sides = np.array(plane.shape[::-1])[:, None]
    on_picture = ((pixels >= -1) & (pixels <= sides)).all(axis=0)  # one beyond, for rounding; others are of another volume
    columns, rows = np.clip(pixels, 0, sides - 1)[:, on_picture]
    return numbers[on_picture], rows, columns


def _grown(numbers: np.ndarray) -> np.ndarray:
    """A copy in which negative numbers took one of their neighbours' in a picture (rows, columns)."""
    padded, grown = np.pad(numbers, 1, constant_values=-1), numbers.copy()
    for down, right in ((0, 1), (1, 0), (1, 2), (2, 1), (0, 0), (0, 2), (2, 0), (2, 2)):
        beside = padded[down : down + numbers.shape[0], right : right + numbers.shape[1]]
        grown = np.where(grown < 0, beside, grown)
    return grown


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
