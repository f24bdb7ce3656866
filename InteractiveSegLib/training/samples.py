"""An endless stream of training samples for 2D interactive networks: (image, truth) on the canvas, made in worker processes."""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..geometry import normalise
from .augment import relight, sample, sampling_grid
from .synthetic import painted, superpixel_target
from .tasks import MIN_PIXELS, Tasks

SUPERPIXEL_SHARE = 0.12  # of samples
PAINTED_SHARE = 0.15


def draw_sample(tasks: Tasks, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(image float32 in [0, 1], truth bool), both (size, size). The truth holds at least MIN_PIXELS pixels, never all."""
    while True:
        if rng.random() < PAINTED_SHARE:
            image, truth = painted(rng, size)
        else:
            source, target, spacing = tasks.draw(rng)
            grid = sampling_grid(target, spacing, rng, size)
            image, truth = sample(normalise(source), grid), sample(target, grid, nearest=True) > 0.5
            if rng.random() < SUPERPIXEL_SHARE:
                truth = superpixel_target(image, rng)
            inside = (grid.abs().amax(dim=-1)[0] <= 1).numpy()
            image = relight(image, rng) * inside  # the padding stays black, as on the predictor's canvas
        if MIN_PIXELS <= truth.sum() < 0.95 * truth.size:
            return image, truth


class SampleStream(IterableDataset):
    """Samples from all tasks; each worker and each start has its own random numbers."""

    def __init__(self, tasks: Tasks, size: int, seed: int) -> None:
        self.tasks, self.size, self.seed = tasks, size, seed

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        torch.set_num_threads(1)
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            image, truth = draw_sample(self.tasks, rng, self.size)
            yield torch.from_numpy(image), torch.from_numpy(truth)
