"""The session on the picture that a plane makes of a volume, kept in step with the volume's labels. Knows no Qt and no MRML."""
from __future__ import annotations

import numpy as np

from InteractiveSegLib import InteractiveSession
from InteractiveSegLib.placement import in_slices
from InteractiveSegLib.reformat import Plane

AWAKE = 4  # planes of a segment whose sessions stay in memory


def starts_anew(labels: np.ndarray, view: Plane | tuple[int, int], before) -> bool:
    """True where a view was not spoken to yet, and prompts in views that cross it made all that it shows of the labels (k, j, i).

    Such masks, seen edge-on, are stripes and no start for a prediction. view: a plane, or (array axis, index) of a slice; before:
    the prompts so far, as Given.
    """
    slices = {(one.axis, n) for one in before if one.plane is None for n in in_slices(one.prompt, labels.shape, one.axis)}
    planes = planes_of(before)
    on_plane = isinstance(view, Plane)
    if any(view.is_same(plane) for plane in planes) if on_plane else view in slices:
        return False
    voxels = view.reaches(labels.shape) if on_plane else _voxels_of_slice(labels.shape, *view)
    shown = voxels[labels.ravel()[voxels] != 0]
    places = np.unravel_index(shown, labels.shape)
    crossed = np.zeros(shown.shape, bool)
    for axis, index in slices:
        crossed |= places[axis] == index
    for plane in planes:
        crossed |= np.isin(shown, plane.reaches(labels.shape))
    return len(shown) > 0 and bool(crossed.all())


def planes_of(given) -> list[Plane]:
    """The planes on which there are prompts, each once."""
    planes = []
    for plane in (one.plane for one in given if one.plane is not None):
        if not any(plane.is_same(other) for other in planes):
            planes.append(plane)
    return planes


def _voxels_of_slice(shape, axis: int, index: int) -> np.ndarray:
    """Numbers of the slice's voxels in the order of the array."""
    places = np.indices([1 if along == axis else n for along, n in enumerate(shape)])
    places[axis] += index
    return np.ravel_multi_index(tuple(places), shape).ravel()


class PlaneSession:
    """make(picture, affine): an InteractiveSession for a volume (1, rows, columns)."""

    def __init__(self, plane: Plane, volume: np.ndarray, affine: np.ndarray, make) -> None:
        self.plane = plane
        self.session: InteractiveSession = make(plane.sample(volume)[None], affine @ plane.to_ijk)
        self._labels, self._prompts = np.zeros(plane.shape, np.uint8), ()

    def bring(self, labels: np.ndarray, prompts: tuple, anew: bool = False) -> None:
        """To the volume's labels (k, j, i) as they are now, and the prompts given on this plane; what it knew more of is kept.

        anew: without any label.
        """
        cut = self.plane.cut(labels) if not anew else np.zeros(self.plane.shape, np.uint8)
        same_prompts = len(prompts) == len(self._prompts) and all(a is b for a, b in zip(prompts, self._prompts))
        if not same_prompts or not np.array_equal(cut, self._labels):
            self.session.restore(cut[None], [(prompt, 0) for prompt in prompts])
            self._labels, self._prompts = cut, tuple(prompts)

    def put(self, labels: np.ndarray, whole: bool) -> np.ndarray:
        """A copy of the volume's labels (k, j, i) with what the session holds now on the voxels that the plane cuts.

        whole: what it holds did not start from these labels.
        """
        changed = self.plane.put(self.session.labels[0], labels, whole)
        self._labels, self._prompts = self.plane.cut(changed), self.session.prompts
        return changed
