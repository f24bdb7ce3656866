"""How LIM-Net's click network, RITM, is trained: clicks that correct its own masks, and defective masks to start from."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from scipy import ndimage
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ... import robot
from ...device import training_precision
from ...models.limnet.ritm import RITM, RITMConfig
from ..bundle import read_bundle
from ..defects import defective
from ..samples import SampleStream
from ..tasks import Tasks

Clicks = list[tuple[int, int, bool]]  # row, column, positive
AUXILIARY = 0.4  # weight of the auxiliary logits' loss, as published


def click_in(region: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """The region's centre, where users click, or any place at least half as deep, as in RITM's training."""
    inside = robot.depth(region)
    place = np.unravel_index(int(inside.argmax()), region.shape) if rng.random() < 0.5 else robot.random_click(
        inside >= inside.max() / 2, rng)
    return int(place[0]), int(place[1])


def first_clicks(truth: np.ndarray, rng: np.random.Generator) -> Clicks:
    """One click in the middle of the largest part, or up to four in the object and two beside it."""
    clicks: Clicks = [(*click_in(robot.largest_component(truth), rng), True)]
    if rng.random() < 0.6:
        return clicks
    clicks += [(*robot.random_click(truth, rng), True) for _ in range(rng.integers(0, 4))]
    beside = ~truth & (ndimage.distance_transform_edt(~truth) < 0.2 * len(truth))
    if beside.any():
        clicks += [(*robot.random_click(beside, rng), False) for _ in range(rng.integers(0, 3))]
    return clicks


def next_clicks(truth: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Clicks:
    """One click in the largest error, or up to six, each in an error of its own. None when nothing is wrong."""
    parts, sizes = [], []
    for positive, error in ((True, truth & ~mask), (False, mask & ~truth)):
        labels, count = ndimage.label(error, np.ones((3, 3), bool))
        parts += [(labels, n + 1, positive) for n in range(count)]
        sizes += np.bincount(labels.ravel(), minlength=count + 1)[1:].tolist()
    if not parts:
        return []
    weights = np.array(sizes, float)
    chosen = [int(weights.argmax())]
    if rng.random() < 0.5:
        count = min(int(rng.integers(1, 7)), len(parts))
        chosen = rng.choice(len(parts), count, replace=False, p=weights / weights.sum()).tolist()
    return [(*click_in(parts[n][0] == parts[n][1], rng), parts[n][2]) for n in chosen]


def simulated(truth: np.ndarray, mask: np.ndarray | None, seed: int) -> Clicks:
    """A user's next clicks on seeing a mask, or the first ones; a pure function, for worker processes."""
    rng = np.random.default_rng(seed)
    return first_clicks(truth, rng) if mask is None else next_clicks(truth, mask, rng)


def as_points(clicks: list[Clicks]) -> torch.Tensor:
    """(B, 2N, 3) for `click_maps`: N positive rows, then N negative ones, padded with -1."""
    count = max(1, *(sum(c[2] is positive for c in own) for own in clicks for positive in (True, False)))
    points = np.full((len(clicks), 2, count, 3), -1, np.float32)
    for table, own in zip(points, clicks):
        for half, positive in enumerate((True, False)):
            rows = [(row, column, order) for order, (row, column, sign) in enumerate(own) if sign is positive]
            table[half, :len(rows)] = np.array(rows, np.float32).reshape(-1, 3)
    return torch.from_numpy(points.reshape(len(clicks), 2 * count, 3))


@dataclass(frozen=True)
class LIMNetClickRecipe:
    """RITM's iterative training with the paper's defective masks as some of the first previous masks.

    Each of a sample's rounds of clicks is followed by an optimiser step, not only the last one. Loss: soft Dice + cross
    entropy, which learn faster from few images than the normalised focal loss; the auxiliary logits have 0.4 of a weight.
    """

    bundle: Path
    width: int = 12
    context: int = 24
    modules: tuple[int, int, int] = (1, 2, 1)
    depth: int = 2
    stem: int = 32
    size: int = 224
    small: int = 96
    small_until: float = 0.85  # share of a cycle on the small size: five times as many samples
    name: str = "limnet-click"
    batch: int = 16
    rounds: int = 4
    most_clicks: int = 24  # of each sign
    defective_share: float = 0.25  # of samples start from a defective mask
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    ema_decay: float = 0.998
    pool: ProcessPoolExecutor | None = field(default=None, compare=False)

    def build(self) -> nn.Module:
        network = RITM(RITMConfig(self.width, self.context, self.modules, self.depth, self.stem))
        # The published start, 0.05, spares a pretrained backbone; a fresh one would not see the clicks for a long time.
        nn.init.ones_(network.maps_transform[-1].scale.data)
        return network

    def batches(self, seed: int, workers: int) -> Iterator[list[torch.Tensor]]:
        named = [d for d in read_bundle(self.bundle) if 0 not in d.labels]
        stream = SampleStream(Tasks(named), self.size, seed)
        return iter(DataLoader(stream, self.batch, num_workers=workers, persistent_workers=workers > 0))

    def losses(
        self, model: nn.Module, batch: list[torch.Tensor], progress: float
    ) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        image, truth = batch[0][:, None], batch[1][:, None].float()  # (B, 1, H, W)
        if progress < self.small_until:
            image, truth = (F.interpolate(x, (self.small,) * 2, mode="area") for x in (image, truth))
            keep = (truth >= 0.5).flatten(1).sum(dim=1) >= 4
            image, truth = image[keep], (truth[keep] >= 0.5).float()
        rng = np.random.default_rng(int(image.sum() * 1e3) % 2**32)
        truths = truth[:, 0].bool().cpu().numpy()
        masks = [defective(t, rng) if rng.random() < self.defective_share else None for t in truths]
        clicks = self.simulate(truths, masks, rng)
        begun = np.stack([np.zeros_like(t) if m is None else m for t, m in zip(truths, masks)])
        previous = torch.from_numpy(begun)[:, None].to(image)
        for number in range(1, self.rounds + 1):
            points = as_points(clicks).to(image.device)
            with training_precision(image.device):
                logits, auxiliary = model(image.contiguous(memory_format=torch.channels_last), points, previous)
            logits, auxiliary = logits.float(), auxiliary.float()
            loss = DiceCELoss(sigmoid=True)(logits, truth)
            loss = loss + AUXILIARY * F.binary_cross_entropy_with_logits(auxiliary, truth)
            previous = logits.detach().sigmoid()
            found = previous > 0.5
            dice = 2 * (found & truth.bool()).flatten(1).sum(1) / (found.flatten(1).sum(1) + truth.flatten(1).sum(1))
            yield loss, {"loss": loss.item(), f"Dice({number})": dice.mean().item()}
            new = self.simulate(truths, found[:, 0].cpu().numpy(), rng)
            clicks = [(old + more)[-self.most_clicks:] for old, more in zip(clicks, new)]

    def simulate(self, truths: np.ndarray, masks: Iterable[np.ndarray | None], rng: np.random.Generator) -> list[Clicks]:
        """The next clicks on each sample; in worker processes when there is a pool."""
        run = map if self.pool is None else partial(self.pool.map, chunksize=4)
        return list(run(simulated, truths, masks, rng.integers(2**31, size=len(truths)).tolist()))
