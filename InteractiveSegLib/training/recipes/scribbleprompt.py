"""How ScribblePrompt-UNet is trained."""
from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ...device import training_precision
from ...models import scribbleprompt
from ...rasterise import mask_to_logits
from ..augment import carried, damaged
from ..bundle import read_bundle
from ..samples import SampleStream
from ..simulate import batch_maps
from ..tasks import Tasks

LOGIT_LIMIT = 20.0  # the previous prediction enters clipped to +-this


@dataclass(frozen=True)
class ScribblePromptRecipe:
    """Four simulated interactions a sample, each followed by an optimiser step (ScribblePrompt section 3.4).

    Loss: soft Dice + cross entropy instead of Dice + focal with gamma 20, which learns slowly from few images.
    """

    bundle: Path
    features: tuple[int, ...] = scribbleprompt.COMPACT.features
    size: int = scribbleprompt.COMPACT.size
    name: str = "scribbleprompt"
    batch: int = 16
    interactions: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 300
    ema_decay: float = 0.9985
    half_size_until: float = 0.5  # share of a cycle on canvases of half the size: four times as many samples
    edited_share: float = 0.12  # of samples start from a damaged mask, as after an edit by hand
    carried_share: float = 0.2  # of samples start from a mask of another slice, as after a propagation
    pool: ProcessPoolExecutor | None = field(default=None, compare=False)

    def build(self) -> nn.Module:
        return scribbleprompt.build(self.features, self.size)

    def batches(self, seed: int, workers: int) -> Iterator[list[torch.Tensor]]:
        stream = SampleStream(Tasks(read_bundle(self.bundle)), self.size, seed)
        return iter(DataLoader(stream, self.batch, num_workers=workers, persistent_workers=workers > 0))

    def losses(
        self, model: nn.Module, batch: list[torch.Tensor], progress: float
    ) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        image, truth = batch[0][:, None], batch[1][:, None].float()  # (B, 1, H, W)
        if progress < self.half_size_until:
            image, truth = F.avg_pool2d(image, 2), (F.avg_pool2d(truth, 2) >= 0.5).float()
            keep = truth.flatten(1).sum(dim=1) >= 4
            image, truth = image[keep], truth[keep]
        rng = np.random.default_rng(int(image.sum() * 1e3) % 2**32)
        truths = truth[:, 0].bool().cpu().numpy()
        masks, logits = self.starts(truths, rng)
        logits = torch.from_numpy(logits)[:, None].to(image.device)
        maps = np.zeros((len(truths), 3, *truths.shape[1:]), np.float32)
        for interaction in range(1, self.interactions + 1):
            maps = np.maximum(maps, batch_maps(truths, masks, rng, self.pool))
            prompts = torch.from_numpy(maps).to(image.device)
            x = torch.cat([image, prompts, logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)], dim=1)
            x = x.contiguous(memory_format=torch.channels_last)
            with training_precision(image.device):
                logits = model(x)
            logits = logits.float()
            loss = self.loss(logits, truth)
            logits = logits.detach()
            predicted = logits > 0
            dice = 2 * (predicted & truth.bool()).flatten(1).sum(1) / (predicted.flatten(1).sum(1) + truth.flatten(1).sum(1))
            yield loss, {"loss": loss.item(), f"Dice({interaction})": dice.mean().item()}
            masks = list(predicted[:, 0].cpu().numpy())

    def starts(self, truths: np.ndarray, rng: np.random.Generator) -> tuple[list[np.ndarray | None], np.ndarray]:
        """What is there before the first prompt: nothing (None and zero logits), or a wrong mask and its logits."""
        masks: list[np.ndarray | None] = [None] * len(truths)
        logits = np.zeros(truths.shape, np.float32)
        for i, truth in enumerate(truths):
            chance = rng.random()
            if chance < self.edited_share + self.carried_share:
                masks[i] = damaged(truth, rng) if chance < self.edited_share else carried(truth, rng)
                logits[i] = mask_to_logits(masks[i])
        return masks, logits

    @staticmethod
    def loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return DiceCELoss(sigmoid=True)(logits, truth)
