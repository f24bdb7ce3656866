"""How UniverSeg is trained, the baseline that reads examples and no prompts."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ...models.universeg import UniverSegConfig, UniverSegNet
from .in_context import WHOLE, ContextRecipe, mean_dice, pairs


@dataclass(frozen=True)
class UniverSegRecipe(ContextRecipe):
    """The data and the budget of MultiverSeg. Up to three images of a batch's task are the target in turn."""

    name: str = "universeg"
    turns: int = 3

    def build(self) -> nn.Module:
        return UniverSegNet(UniverSegConfig(tuple(self.features), self.size))

    def losses(
        self, model: nn.Module, batch: list[torch.Tensor], progress: float
    ) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        images, truths, masks = self.prepare(batch, progress)
        for turn in range(min(self.turns, images.shape[1])):
            others = [n for n in range(images.shape[1]) if n != turn]
            image, truth = images[:, turn:turn + 1], truths[:, turn:turn + 1]
            with torch.autocast(image.device.type, torch.bfloat16):
                logits = model(image.contiguous(memory_format=torch.channels_last),
                               pairs(images[:, others], masks[:, others]), plan=WHOLE)
            logits = logits.float()
            loss = self.loss(logits, truth)
            yield loss, {"loss": loss.item(), "Dice from context": mean_dice(logits.detach(), truth)}
