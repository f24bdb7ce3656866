"""The session on the picture that a plane makes of a volume, kept in step with the volume's labels. Knows no Qt and no MRML."""
from __future__ import annotations

import numpy as np

from InteractiveSegLib import InteractiveSession
from InteractiveSegLib.reformat import Plane


class PlaneSession:
    """make(picture, affine): an InteractiveSession for a volume (1, rows, columns)."""

    def __init__(self, plane: Plane, volume: np.ndarray, affine: np.ndarray, make) -> None:
        self.plane = plane
        self.session: InteractiveSession = make(plane.sample(volume)[None], affine @ plane.to_ijk)
        self._labels, self._prompts = np.zeros(plane.shape, np.uint8), ()

    def bring(self, labels: np.ndarray, prompts: tuple) -> None:
        """To the volume's labels (k, j, i) as they are now, and the prompts given on this plane; what it knew more of is kept."""
        cut = self.plane.cut(labels)
        same_prompts = len(prompts) == len(self._prompts) and all(a is b for a, b in zip(prompts, self._prompts))
        if not same_prompts or not np.array_equal(cut, self._labels):
            self.session.restore(cut[None], [(prompt, 0) for prompt in prompts])
            self._labels, self._prompts = cut, tuple(prompts)

    def put(self, labels: np.ndarray) -> np.ndarray:
        """A copy of the volume's labels (k, j, i) with what the session holds now on the voxels that the plane cuts."""
        changed = self.plane.put(self.session.labels[0], labels)
        self._labels, self._prompts = self.plane.cut(changed), self.session.prompts
        return changed
