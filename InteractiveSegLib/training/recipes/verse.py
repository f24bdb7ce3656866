"""How VerSe is trained, and the automatic U-Net that it is measured against, on the same slices."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ... import robot
from ...device import training_precision
from ...models.verse.decoder import WHOLE, Parts
from ...models.verse.fuser import draw_prompts
from ...models.verse.network import COMPACT, VerSeConfig, build
from ...models.verse.queries import pad_clicks
from ..augment import damaged
from ..bundle import read_bundle
from ..cardiac import SOURCES, TARGETS, HeartBatches, Hearts
from ..teacher import Teacher

MOST_CLICKS = 6  # in one step; several at once let few steps reach the many clicks that a hard structure collects
MOST_EARLIER = 12  # clicks before a late one
CORRECTION_WEIGHT = 0.8  # of a pass after the first (published)

Clicks = list  # of (row, column, positive), in the order in which they were given


def click_in(region: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Where a user clicks in a region: most often its middle, with a shaky hand or not, else anywhere."""
    if rng.random() < 0.7:
        return robot.centre_click(region, rng, jitter=0 if rng.random() < 0.6 else 1.5)
    return robot.random_click(region, rng)


def first_clicks(truth: np.ndarray, strokes: np.ndarray, rng: np.random.Generator) -> Clicks:
    """What is clicked before any mask is seen: the middle of the structure, or points along an expert's scribble."""
    if (strokes == 1).any() and rng.random() < 0.3:
        found = []
        for value, positive in ((1, True), (2, False)):
            points = np.argwhere(strokes == value)
            chosen = points[rng.permutation(len(points))[:rng.integers(1, MOST_CLICKS + 1)]]
            found += [(int(row), int(column), positive) for row, column in chosen]
        return found
    found = [(*click_in(robot.largest_component(truth), rng), True)]
    for _ in range(rng.integers(0, 3) if rng.random() < 0.3 else 0):
        positive = bool(rng.random() < 0.5)
        found.append((*robot.random_click(truth if positive else ~truth, rng), positive))
    return found


def correcting_clicks(truth: np.ndarray, mask: np.ndarray, count: int, rng: np.random.Generator) -> Clicks:
    """A click in each of the `count` largest errors, as they remain when the one before is mended."""
    mask, found = mask.copy(), []
    for _ in range(count):
        region, positive = robot.error_region(truth, mask)
        if not region.any():
            break
        found.append((*click_in(region, rng), positive))
        mask[region] = positive
    return found


def next_clicks(truth: np.ndarray, mask: np.ndarray | None, strokes: np.ndarray, seed: int) -> Clicks:
    """New clicks on a slice, mask None: the first ones. A pure function, for worker processes."""
    rng = np.random.default_rng(seed)
    if mask is None:
        return first_clicks(truth, strokes, rng)
    return correcting_clicks(truth, mask, 1 if rng.random() < 0.5 else rng.integers(2, MOST_CLICKS + 1), rng)


def late_start(truth: np.ndarray, seed: int) -> tuple[np.ndarray, Clicks]:
    """A mask that is nearly right, and the clicks that may have led there. A pure function, for worker processes."""
    rng = np.random.default_rng(seed)
    clicks = [(*click_in(robot.largest_component(truth), rng), True)]
    clicks += correcting_clicks(truth, damaged(truth, rng), rng.integers(2, MOST_EARLIER), rng)
    return damaged(truth, rng, 0.3), clicks


def click_tensors(clicks: Sequence[Clicks], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Positive and negative clicks of a batch as the network takes them, each (B, N, 3)."""
    return tuple(pad_clicks([[c[:2] for c in of if c[2] == sign] for of in clicks], sign).to(device) for sign in (True, False))


@dataclass(frozen=True)
class VerSeRecipe:
    """The paper's section 2.5: 5 BCE + 5 Dice on every layer's mask; by name then clicks, or clicks alone, drawn at random.

    Two passes a batch instead of three, the second with several clicks at once, and most of a stage on canvases of half the
    side: on a CPU the number of samples decides. For the same reason a cycle begins with the encoder alone, which learns all
    structures of a slice at once from a head that only training has, and goes on learning so in the second stage.
    """

    bundle: Path
    base: int = COMPACT.base
    width: int = COMPACT.width
    feedforward: int = COMPACT.feedforward
    rounds: int = COMPACT.rounds
    size: int = COMPACT.size
    parts: Parts = WHOLE
    name: str = "verse"
    batch: int = 8
    learning_rate: float = 8e-4
    weight_decay: float = 0.05
    warmup_steps: int = 200
    ema_decay: float = 0.998
    half_size_until: float = 0.4  # share of a stage
    named_share: float = 0.6  # of batches go by name
    late_share: float = 0.25  # of second passes start from a mask that is nearly right after many clicks
    encoder_share: float = 0.4  # of a cycle teaches the encoder alone
    pool: ProcessPoolExecutor | None = field(default=None, compare=False)
    sets = tuple(SOURCES)

    @property
    def stages(self) -> tuple[float, ...]:
        return (self.encoder_share,)

    def build(self) -> nn.Module:
        network = build(VerSeConfig(self.base, self.width, self.feedforward, self.rounds, len(TARGETS), size=self.size,
                                    dropout=COMPACT.dropout, parts=self.parts, by_batch=COMPACT.by_batch))
        network.teacher = Teacher(self.width, len(TARGETS))
        return network

    def batches(self, seed: int, workers: int) -> Iterator[list[torch.Tensor]]:
        return heart_batches(self, seed, workers)

    def run(self, function: Callable, *arguments: Iterable) -> list:
        """`map`, in worker processes when there is a pool."""
        return list(map(function, *arguments) if self.pool is None else self.pool.map(function, *arguments, chunksize=4))

    def losses(self, model: nn.Module, batch: list[torch.Tensor],
               progress: float) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        first_stage = progress < self.encoder_share
        begin, end = (0, self.encoder_share) if first_stage else (self.encoder_share, 1)
        if (progress - begin) / (end - begin) < self.half_size_until:
            batch = halved(batch)
        yield from self.encoder_losses(model, batch) if first_stage else self.answer_losses(model, batch)

    def encoder_losses(self, model: nn.Module, batch: list[torch.Tensor]) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        with training_precision(batch[0].device):
            features = model.encode(batch[0][:, None].contiguous(memory_format=torch.channels_last))
            found = model.teacher(features)
        loss = teacher_loss(found, batch)
        yield loss, {"loss, encoder": loss.item()}

    def begin_late(self, truths: np.ndarray, clicks: list[Clicks], previous: torch.Tensor, rng: np.random.Generator) -> None:
        """Put a late start in place of what some samples were answered: their clicks, and the mask before, with a soft edge."""
        late = [n for n, truth in enumerate(truths) if truth.any() and rng.random() < self.late_share]
        starts = self.run(late_start, [truths[n] for n in late], rng.integers(2**31, size=len(late)).tolist())
        for n, (mask, earlier) in zip(late, starts):
            clicks[n] = earlier
            previous[n, 0] = torch.from_numpy(ndimage.uniform_filter(mask.astype(np.float32), 3))

    def answer_losses(self, model: nn.Module, batch: list[torch.Tensor]) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        """Two passes: by name and then with clicks, or with clicks and then with more."""
        by_name = bool((batch[2] >= 0).all())
        if not by_name:  # an absent structure cannot be clicked
            batch = [t[batch[1].flatten(1).any(dim=1)] for t in batch]
        if not len(batch[0]):
            return
        image, truth, target, strokes = batch[0][:, None], batch[1][:, None].float(), batch[2], batch[3]
        rng = np.random.default_rng(int(image.sum() * 1e3) % 2**32)
        truths, drawn = truth[:, 0].bool().cpu().numpy(), strokes.cpu().numpy()
        clicks, previous = [[] for _ in truths], torch.zeros_like(truth)
        for step in range(2):
            if step == 1:
                self.begin_late(truths, clicks, previous, rng)
            if step == 1 or not by_name:
                masks = [None] * len(truths) if step == 0 else list((previous[:, 0] > 0.5).cpu().numpy())
                seeds = rng.integers(2**31, size=len(truths)).tolist()
                new = self.run(next_clicks, truths, masks, drawn, seeds)
                clicks = [before + after for before, after in zip(clicks, new)]
            points = click_tensors(clicks, image.device)
            prompts = draw_prompts(points, previous)
            points = None if by_name and step == 0 else points
            with training_precision(image.device):
                features = model.encode(image.contiguous(memory_format=torch.channels_last))
                outputs = model.decode(features, prompts, target if by_name else None, points)
                named = model.teacher(features)
            logits = [F.interpolate(o.float(), truth.shape[-2:], mode="bilinear", align_corners=False) for o in outputs]
            loss = sum(mask_loss(x, truth) for x in logits) / len(logits)
            previous = logits[-1].detach().sigmoid()
            figure = f"Dice, {('name', 'name then clicks')[step]}" if by_name else f"Dice, clicks {step + 1}"
            figures = {"loss": loss.item(), figure: dice(previous, truth)}
            yield (loss + teacher_loss(named, batch)) * (1 if step == 0 else CORRECTION_WEIGHT), figures


@dataclass(frozen=True)
class WithoutSemanticQueries(VerSeRecipe):
    """Table 4, A1: a click is its place alone."""

    ablation: ClassVar[bool] = True
    name: str = "verse-a1"
    parts: Parts = field(default=Parts(semantic=False))


@dataclass(frozen=True)
class WithoutBackgroundBranch(VerSeRecipe):
    """Table 4, A2: clicks of both signs go through one branch, whose mask is the foreground."""

    ablation: ClassVar[bool] = True
    name: str = "verse-a2"
    parts: Parts = field(default=Parts(background=False))


@dataclass(frozen=True)
class WithoutResidual(VerSeRecipe):
    """Table 4, A3: no level adds to the next."""

    ablation: ClassVar[bool] = True
    name: str = "verse-a3"
    parts: Parts = field(default=Parts(residual=False))


@dataclass(frozen=True)
class UNetPeerRecipe:
    """A plain automatic U-Net (MONAI): same slices, same views, one channel per target."""

    bundle: Path
    channels: Sequence[int] = (24, 48, 96, 192)
    size: int = COMPACT.size
    name: str = "unet-peer"
    batch: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    ema_decay: float = 0.998
    half_size_until: float = 0.5
    named_share: float = 1.0
    pool: ProcessPoolExecutor | None = field(default=None, compare=False)

    def build(self) -> nn.Module:
        from monai.networks.nets import UNet

        return UNet(2, 1, len(TARGETS), self.channels, (2,) * (len(self.channels) - 1), num_res_units=2)

    def batches(self, seed: int, workers: int) -> Iterator[list[torch.Tensor]]:
        return heart_batches(self, seed, workers)

    def losses(self, model: nn.Module, batch: list[torch.Tensor],
               progress: float) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        if progress < self.half_size_until:
            batch = halved(batch)
        image, known = batch[0][:, None], batch[5]
        with training_precision(image.device):
            logits = model(image.contiguous(memory_format=torch.channels_last)).float()
        logits, truth = logits[known][:, None], named_masks(batch)[known][:, None]
        loss = mask_loss(logits, truth)
        yield loss, {"loss": loss.item(), "Dice": dice(logits.sigmoid(), truth)}


def heart_batches(recipe: VerSeRecipe | UNetPeerRecipe, seed: int, workers: int) -> Iterator[list[torch.Tensor]]:
    stream = HeartBatches(Hearts(read_bundle(recipe.bundle)), recipe.size, recipe.batch, recipe.named_share, seed)
    return iter(DataLoader(stream, None, num_workers=workers, persistent_workers=workers > 0))


def halved(batch: list[torch.Tensor]) -> list[torch.Tensor]:
    """A batch of `HeartBatches` on canvases of half the side."""
    image, truth, target, strokes, labels, known = batch
    return [F.avg_pool2d(image, 2), F.avg_pool2d(truth.float(), 2) >= 0.5, target,
            F.max_pool2d(strokes.float(), 2).to(strokes.dtype), labels[:, ::2, ::2], known]


def named_masks(batch: list[torch.Tensor]) -> torch.Tensor:
    """(B, targets, H, W), 1 where the slice shows the target."""
    masks = torch.stack([batch[4] == n + 1 for n in range(len(TARGETS))], dim=1).float()
    masks[:, TARGETS.index("myocardium")] += masks[:, TARGETS.index("scar")]  # a scar is part of the myocardium
    return masks


def teacher_loss(found: Sequence[torch.Tensor], batch: list[torch.Tensor]) -> torch.Tensor:
    """`mask_loss` of every target that the slice's data set marks, mean over the levels."""
    known, truth = batch[5], named_masks(batch)
    if not known.any():
        return sum(x.float().sum() for x in found) * 0
    large = [F.interpolate(x.float(), truth.shape[-2:], mode="bilinear", align_corners=False) for x in found]
    return sum(mask_loss(x[known][:, None], truth[known][:, None]) for x in large) / len(large)


def mask_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """5 BCE + 5 Dice (smoothed by 1), both (B, 1, H, W)."""
    probability = logits.sigmoid().flatten(1)
    overlap = (probability * truth.flatten(1)).sum(dim=1)
    soft_dice = (2 * overlap + 1) / (probability.sum(dim=1) + truth.flatten(1).sum(dim=1) + 1)
    return 5 * F.binary_cross_entropy_with_logits(logits, truth) + 5 * (1 - soft_dice).mean()


def dice(probability: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean Dice of the batch's masks; 1 where both are empty."""
    mask, truth = (probability > 0.5).flatten(1), truth.flatten(1).bool()
    total = mask.sum(dim=1) + truth.sum(dim=1)
    return torch.where(total > 0, 2 * (mask & truth).sum(dim=1) / total.clamp(min=1), 1.0).mean().item()
