"""How UniverSeg is trained, the baseline that reads examples and no prompts."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ...device import training_precision
from ...models.universeg import UniverSegConfig, UniverSegNet
from .in_context import WHOLE, ContextRecipe, mean_dice


@dataclass(frozen=True)
class UniverSegRecipe(ContextRecipe):
    """The data and the budget of MultiverSeg."""

    name: str = "universeg"

    def build(self) -> nn.Module:
        return UniverSegNet(UniverSegConfig(tuple(self.features), self.size))

    def losses(
        self, model: nn.Module, batch: list[torch.Tensor], progress: float
    ) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        for image, truth, support in self.in_turn(*self.prepare(batch, progress)):
            with training_precision(image.device):
                logits = model(image.contiguous(memory_format=torch.channels_last), support, plan=WHOLE)
            logits = logits.float()
            loss = self.loss(logits, truth)
            yield loss, {"loss": loss.item(), "Dice from context": mean_dice(logits.detach(), truth)}
