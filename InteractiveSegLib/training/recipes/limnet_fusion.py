"""How LIM-Net's quality network is trained: pairs of wrong masks of one slice, and which of them is better."""
from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ...device import training_precision
from ...models.limnet.quality import QualityConfig, QualityNetwork
from ..bundle import read_bundle
from ..round_pairs import TELLING, PairStream


@dataclass(frozen=True)
class LIMNetFusionRecipe:
    """Masks of two rounds that the robot user reached with this project's own networks, and defects (paper, section 3.2).

    Loss: cross entropy, weighted by how much the two masks differ in Dice.
    """

    bundle: Path
    width: int = 16
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    bottleneck: bool = False
    name: str = "limnet-fusion"
    batch: int = 48
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 100
    ema_decay: float = 0.995
    pool: ProcessPoolExecutor | None = field(default=None, compare=False)

    def build(self) -> nn.Module:
        return QualityNetwork(QualityConfig(self.width, self.depths, self.bottleneck))

    def batches(self, seed: int, workers: int) -> Iterator[list[torch.Tensor]]:
        stream = PairStream(read_bundle(self.bundle), self.batch, seed)
        return iter(DataLoader(stream, None, num_workers=workers, persistent_workers=workers > 0))

    def losses(
        self, model: nn.Module, batch: list[torch.Tensor], progress: float
    ) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        seen, gain = batch
        with training_precision(seen.device):
            logits = model(seen.contiguous(memory_format=torch.channels_last)).float()
        weight = (gain.abs() / TELLING).clamp(max=1)
        wrong = F.binary_cross_entropy_with_logits(logits, (gain > 0).float(), reduction="none")
        right = ((logits > 0) == (gain > 0)).float()
        newer = (gain <= 0).float()
        loss = (weight * wrong).sum() / weight.sum()
        yield loss, {"loss": loss.item(), "right": ((weight * right).sum() / weight.sum()).item(),
                     "newer is better": ((weight * newer).sum() / weight.sum()).item()}
