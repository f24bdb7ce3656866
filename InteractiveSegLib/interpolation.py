"""What the masks of two slices say of those between them, from their shape alone. Arrays in, arrays out."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import ndimage


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Pixels to the edge of a bool array, positive inside; the array may be neither empty nor full."""
    return (ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)).astype(np.float32)


class Between:
    """Shape-based interpolation (Raya and Udupa, 1990) of known masks: the signed distances of two, weighted by nearness."""

    def __init__(self, known: Mapping[int, np.ndarray]) -> None:
        """known: slice -> bool (objects, rows, columns)."""
        self.known, self._distances = known, {}

    def distances(self, index: int) -> np.ndarray | None:
        """(objects, rows, columns), pixels to the edge and positive inside; 0 for an object that one of the two does not show.

        None where the slice is not between two known ones.
        """
        below = max((i for i in self.known if i < index), default=None)
        above = min((i for i in self.known if i > index), default=None)
        if below is None or above is None:
            return None
        shape = self.known[below].shape
        found = np.zeros(shape, np.float32)
        share = (above - index) / (above - below)
        for n in range(shape[0]):
            if all(0 < self.known[i][n].sum() < self.known[i][n].size for i in (below, above)):
                found[n] = share * self._distance(below, n) + (1 - share) * self._distance(above, n)
        return found

    def _distance(self, index: int, n: int) -> np.ndarray:
        if (index, n) not in self._distances:
            self._distances[index, n] = signed_distance(self.known[index][n])
        return self._distances[index, n]
