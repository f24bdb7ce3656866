"""A made slice and clicks on it, to time prompts with."""
from __future__ import annotations

import numpy as np

from ..prompts import Click


def made_slice(size: int) -> tuple[np.ndarray, list[Click]]:
    """A noisy bright ellipse (size, size) float32, and clicks in and around it, positive and negative by turns."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    inside = (rows / 0.3) ** 2 + (columns / 0.2) ** 2 < 1
    image = (inside + 0.3 * rows + rng.normal(0, 0.2, inside.shape)).astype(np.float32)
    pools = (np.argwhere(inside), np.argwhere(~inside))
    clicks = [Click((size // 2, size // 2))]
    for n in range(1, 64):
        row, column = rng.choice(pools[n % 2])
        clicks.append(Click((int(row), int(column)), positive=n % 2 == 0))
    return image, clicks
