"""What the recipes of networks with examples share: settings, batches, canvas size, loss."""
from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from monai.losses import DiceCELoss
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ...models.layers.cross_conv import MemoryPlan
from ..bundle import read_bundle
from ..context_samples import ContextStream, ContextTasks

WHOLE = MemoryPlan(chunk=256)  # all examples at once: the gradient keeps their features anyway


@dataclass(frozen=True)
class ContextRecipe:
    """Images of one task, the first of them the target. Loss: soft Dice + cross entropy, as for ScribblePrompt."""

    bundle: Path
    features: tuple[int, ...] = (16, 32, 64, 96, 96)
    size: int = 128
    entries: int = 32  # images in a batch, targets and examples together
    turns: int = 3  # images of a batch's task that are the target in turn, all others its examples
    largest_context: int = 64
    damaged_share: float = 0.1  # of examples have a mask that is not exact
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 200
    ema_decay: float = 0.998
    quarter_size_until: float = 0.2  # share of a cycle on canvases of a quarter of the size, sixteen times as fast
    half_size_until: float = 0.7
    pool: ProcessPoolExecutor | None = field(default=None, compare=False)

    def batches(self, seed: int, workers: int) -> Iterator[list[torch.Tensor]]:
        stream = ContextStream(ContextTasks(read_bundle(self.bundle), self.size), seed, self.entries,
                               self.largest_context, self.damaged_share)
        return iter(DataLoader(stream, batch_size=None, num_workers=workers, persistent_workers=workers > 0))

    def prepare(self, batch: list[torch.Tensor], progress: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images, truths and masks (B, 1 + S, H, W) float32 on the canvas of this part of the cycle.

        Without the samples whose first target is too small for it, which may be all.
        """
        images, truths, masks = batch[0], batch[1].float(), batch[2].float()
        if progress < self.half_size_until:
            factor = 4 if progress < self.quarter_size_until else 2
            images = F.avg_pool2d(images, factor)
            truths, masks = ((F.avg_pool2d(maps, factor) >= 0.5).float() for maps in (truths, masks))
            keep = truths[:, 0].flatten(1).sum(dim=1) >= 4
            images, truths, masks = images[keep], truths[keep], masks[keep]
        return images, truths, masks

    def in_turn(self, images: torch.Tensor, truths: torch.Tensor, masks: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        """Target, truth (B, 1, H, W) and support (B, S, 2, H, W), several times; not at all where nothing is left.

        The first target is never empty.
        """
        for turn in range(min(self.turns, images.shape[1]) if len(images) else 0):
            others = [n for n in range(images.shape[1]) if n != turn]
            yield images[:, turn:turn + 1], truths[:, turn:turn + 1], pairs(images[:, others], masks[:, others])

    @staticmethod
    def loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return DiceCELoss(sigmoid=True)(logits, truth)


def pairs(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """(B, S, H, W) twice -> support (B, S, 2, H, W) whose maps lie in memory as the convolutions like them."""
    flat = torch.stack([images, masks], dim=2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return flat.unflatten(0, images.shape[:2])


def mean_dice(logits: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean over a batch (B, 1, H, W)."""
    predicted = (logits > 0).flatten(1)
    overlap = (predicted & truth.flatten(1).bool()).sum(dim=1)
    return (2 * overlap / (predicted.sum(dim=1) + truth.flatten(1).sum(dim=1)).clamp(min=1)).mean().item()
