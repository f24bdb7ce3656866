"""How LIM-Net's quality network is trained: pairs of wrong masks of one slice, and which of them is better."""
from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ... import models
from ...models.limnet.quality import QualityConfig, QualityNetwork, views
from ..augment import damaged
from ..bundle import read_bundle
from ..clips import Clips, ClipStream, start_mask
from ..defects import defective
from ..simulate import next_maps
from .limnet_memory import follow

TELLING = 0.05  # a difference in Dice that counts in full; smaller ones count less


def dice(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Dice of bool masks (..., H, W) with the truth, slice by slice; two empty masks agree."""
    both = (masks & truth).sum(axis=(-2, -1))
    return (2 * both + 1) / (masks.sum(axis=(-2, -1)) + truth.sum(axis=(-2, -1)) + 1)


@dataclass(frozen=True)
class LIMNetFusionRecipe:
    """For each slice of a clip two masks out of several, in random order.

    There are two propagations by this project's memory network, from the first slice and, where the object is still there,
    from the last, both from masks with damage; one prediction by its 2D network from the clicks of the robot; and one
    defect of the truth. Loss: cross entropy, weighted by how much the two masks differ in Dice.
    """

    bundle: Path
    width: int = 16
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    bottleneck: bool = False
    size: int = 128  # the 2D network's
    length: int = 5
    name: str = "limnet-fusion"
    batch: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    warmup_steps: int = 100
    ema_decay: float = 0.995
    pool: ProcessPoolExecutor | None = field(default=None, compare=False)

    def build(self) -> nn.Module:
        return QualityNetwork(QualityConfig(self.width, self.depths, self.bottleneck))

    def batches(self, seed: int, workers: int) -> Iterator[list[torch.Tensor]]:
        stream = ClipStream(Clips(read_bundle(self.bundle)), self.size, self.length, seed)
        return iter(DataLoader(stream, self.batch, num_workers=workers, persistent_workers=workers > 0))

    def losses(
        self, model: nn.Module, batch: list[torch.Tensor], progress: float
    ) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        images, truth = batch[0][:, 1:-1], batch[1][:, 1:-1].cpu().numpy()  # (B, T - 2, H, W): the slices that nobody marked
        rng = np.random.default_rng(int(images.sum() * 1e3) % 2**32)
        candidates = self.candidates(*batch, rng)  # (kinds, B, T - 2, H, W)
        pair = np.argsort(rng.random(candidates.shape[:3]), axis=0)[:2]  # (2, B, T - 2): of each slice two kinds
        previous, current = np.take_along_axis(candidates, pair[..., None, None], axis=0)
        gain = (dice(previous, truth) - dice(current, truth)).ravel()
        seen = gain != 0
        gain = torch.from_numpy(gain[seen]).to(images)
        masks = [torch.from_numpy(m.reshape(-1, *m.shape[2:])[seen]).to(images.device) for m in (previous, current)]
        flat = images.flatten(0, 1)[torch.from_numpy(seen).to(images.device)]
        with torch.autocast(images.device.type, torch.bfloat16):
            logits = model(views(flat, *masks).contiguous(memory_format=torch.channels_last)).float()
        weight = (gain.abs() / TELLING).clamp(max=1)
        wrong = F.binary_cross_entropy_with_logits(logits, (gain > 0).float(), reduction="none")
        right = ((logits > 0) == (gain > 0)).float()
        loss = (weight * wrong).sum() / weight.sum()
        yield loss, {"loss": loss.item(), "right": ((weight * right).sum() / weight.sum()).item()}

    def candidates(
        self, images: torch.Tensor, masks: torch.Tensor, start: torch.Tensor, rng: np.random.Generator
    ) -> np.ndarray:
        """Masks of all slices but the first and the last, bool (kinds, B, T - 2, H, W)."""
        truth = masks.cpu().numpy()
        ends = np.stack([start_mask(clip[-1], rng) if clip[-1].any() else clip[-1] for clip in truth])
        forth = self.propagated(images, start)
        back = self.propagated(images.flip(1), torch.from_numpy(ends).to(start.device))[:, ::-1]
        back = np.where(ends.any(axis=(1, 2))[:, None, None, None], back, forth)  # nothing to start from
        inner = truth[:, 1:-1]
        slices = inner.reshape(-1, *inner.shape[2:])
        spoilt = [(defective if rng.random() < 0.6 else damaged)(m, rng) if m.any() else m for m in slices]
        drawn = self.drawn(images[:, 1:-1].flatten(0, 1), slices, rng)
        return np.stack([forth, back, np.reshape(spoilt, inner.shape), drawn.reshape(inner.shape)])

    def propagated(self, images: torch.Tensor, start: torch.Tensor) -> np.ndarray:
        """What the memory network makes of the slices between the first, whose mask is given, and the last."""
        network = models.load("limnet-memory", None, str(images.device))
        with torch.no_grad():
            logits = follow(network, images, start[:, None].float())
        return (logits[:, :-1, 1] > logits[:, :-1, 0]).cpu().numpy()

    @staticmethod
    def drawn(images: torch.Tensor, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What the 2D network makes of a first round of prompts on each slice; the truth where the object is not there."""
        network = models.load("scribbleprompt", None, str(images.device))
        there = truth.any(axis=(1, 2))
        if not there.any():
            return truth
        prompts = np.stack([next_maps(t, None, int(rng.integers(2**31))) for t in truth[there]])
        found = truth.copy()
        seen = images.cpu().numpy()[there]
        found[there] = network.predict(seen, prompts, np.zeros_like(seen)) > 0
        return found
