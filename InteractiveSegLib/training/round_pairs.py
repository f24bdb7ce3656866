"""Two masks of a slice and how much better one is: what LIM-Net's quality network learns from.

The robot user works on labelled volumes with this project's own 2D and 3D networks; a slice whose mask differs between two
rounds is a pair, and so is a mask beside a defect of the truth. Volumes in, small views out.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..models.limnet.quality import views
from ..robot_rounds import play
from ..session import InteractiveSession
from .augment import damaged, relight
from .bundle import Case, DataSet
from .defects import defective

ROUNDS = 6
MOST_SLICES = 24  # of a volume: the object and what is around it
AROUND = 3  # slices before and after the object
THICK = 2.0  # slices this many times as thick as wide are shown as they were taken, others along any axis
TELLING = 0.05  # a difference in Dice that counts in full; smaller ones count less
MODELS = ("scribbleprompt", "limnet")  # who answers the clicks
FEWEST = 200  # pairs before the first batch
MOST = 6000  # pairs that are kept
SPOILT_SHARE = 0.3  # of a slice's pairs show a defect
REACH = 2  # rounds between the two masks at the most


@dataclass(frozen=True, eq=False)
class Pair:
    """seen: uint8 (3, VIEW, VIEW), slice, previous and current mask, see quality.views. gain: Dice of the previous mask minus
    that of the current one."""

    seen: np.ndarray
    gain: float


def dice(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice of bool masks (..., H, W) with the truth, slice by slice; two empty masks agree."""
    both = (masks & truth).sum(axis=(-2, -1))
    return (2 * both + 1) / (masks.sum(axis=(-2, -1)) + truth.sum(axis=(-2, -1)) + 1)


def slab(case: Case, label: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """(image, truth, spacing) of at most MOST_SLICES slices along the first axis, around a part of the object."""
    axis = 0 if max(case.spacing) > THICK * min(case.spacing) else int(rng.integers(3))
    image, truth = np.moveaxis(case.image, axis, 0), np.moveaxis(case.labels == label, axis, 0)
    spacing = (case.spacing[axis], *(s for a, s in enumerate(case.spacing) if a != axis))
    shown = np.flatnonzero(truth.any(axis=(1, 2)))
    first, last = max(0, shown[0] - AROUND), min(len(truth), shown[-1] + 1 + AROUND)
    if last - first > MOST_SLICES:
        first = int(rng.integers(first, last - MOST_SLICES + 1))
        last = first + MOST_SLICES
    return image[first:last], truth[first:last], spacing


class RoundPairs:
    """Pairs from a bundle's volumes, one more round at each call of `more`."""

    def __init__(self, datasets: list[DataSet], rng: np.random.Generator) -> None:
        volumes = [[(case, int(label)) for case in d.cases for label in np.unique(case.labels) if label]
                   for d in datasets if d.is_3d]
        self.volumes = [tasks for tasks in volumes if tasks]
        self.rng = rng
        self.rounds = self.endless()

    def more(self) -> list[Pair]:
        return next(self.rounds)

    def endless(self) -> Iterator[list[Pair]]:
        while True:
            tasks = self.volumes[self.rng.integers(len(self.volumes))]
            image, truth, spacing = slab(*tasks[self.rng.integers(len(tasks))], self.rng)
            if not truth.any():
                continue
            model = MODELS[self.rng.integers(len(MODELS))]
            session = InteractiveSession(image, spacing=spacing, model=model, device="cpu", axis="K")
            before: list[np.ndarray] = []
            for mask, _ in zip(play(session, truth, fuse=False, seed=int(self.rng.integers(2**31))), range(ROUNDS)):
                if before:
                    earlier = before[-int(self.rng.integers(1, min(REACH, len(before)) + 1))]
                    yield self.pairs(image, truth, earlier, mask)
                before.append(mask)

    def pairs(self, image: np.ndarray, truth: np.ndarray, previous: np.ndarray, current: np.ndarray) -> list[Pair]:
        """Of every slice that differs. At times one of the two is spoilt instead."""
        found = []
        low, high = np.percentile(image, (0.5, 99.5))
        for index in np.flatnonzero((previous != current).any(axis=(1, 2))):
            old, new, right = previous[index], current[index], truth[index]
            if right.any() and self.rng.random() < SPOILT_SHARE:
                spoilt = (defective if self.rng.random() < 0.5 else damaged)(right, self.rng)
                old, new = (spoilt, new) if self.rng.random() < 0.5 else (old, spoilt)
            gain = float(dice(old, right) - dice(new, right))
            if gain:
                light = np.clip((image[index].astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
                seen = views(*(torch.from_numpy(x)[None] for x in (light, old, new)))
                found.append(Pair((255 * seen[0]).round().byte().numpy(), gain))
        return found


class PairStream(IterableDataset):
    """Endless batches: float32 (B, 3, VIEW, VIEW) and gains (B,). After each batch one more round is played."""

    def __init__(self, datasets: list[DataSet], batch: int, seed: int) -> None:
        self.datasets, self.batch, self.seed = datasets, batch, seed

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        worker = get_worker_info()
        torch.set_num_threads(1)
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        source, kept = RoundPairs(self.datasets, rng), []
        while True:
            kept += source.more()
            while len(kept) > MOST:
                kept.pop(int(rng.integers(len(kept))))
            if len(kept) >= FEWEST:
                drawn = [varied(kept[n], rng) for n in rng.integers(len(kept), size=self.batch)]
                yield [torch.from_numpy(np.stack([pair.seen for pair in drawn]).astype(np.float32) / 255),
                       torch.tensor([pair.gain for pair in drawn])]


def varied(pair: Pair, rng: np.random.Generator) -> Pair:
    """The pair turned and flipped, its slice in another light."""
    seen = np.rot90(pair.seen, int(rng.integers(4)), (1, 2))
    seen = seen[:, ::-1] if rng.random() < 0.5 else seen
    light = 255 * relight(seen[0].astype(np.float32) / 255, rng)
    return Pair(np.concatenate([light[None], seen[1:]]), pair.gain)
