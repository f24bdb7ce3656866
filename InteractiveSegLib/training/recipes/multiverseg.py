"""How MultiverSeg is trained."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ...models import load
from ...models.multiverseg import MultiverSegConfig, MultiverSegNet
from ..simulate import batch_maps
from .in_context import WHOLE, ContextRecipe, mean_dice, pairs
from .scribbleprompt import LOGIT_LIMIT


@dataclass(frozen=True)
class MultiverSegRecipe(ContextRecipe):
    """Two answers a sample, each followed by an optimiser step; the paper has three (MultiverSeg, section 4).

    Most samples are first answered from the context alone and then corrected; the others open with prompts. Where there are
    prompts, ScribblePrompt's answer to them is most often the previous prediction, as in `predictors.context`: the network
    learns what the examples add to it.
    """

    name: str = "multiverseg"
    answers: int = 2
    silent_share: float = 0.7  # of samples: no prompt before the first answer
    draft_share: float = 0.75  # of samples: ScribblePrompt goes first where there are prompts

    def build(self) -> nn.Module:
        return MultiverSegNet(MultiverSegConfig(tuple(self.features), self.size))

    def losses(
        self, model: nn.Module, batch: list[torch.Tensor], progress: float
    ) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        images, truths, masks = self.prepare(batch, progress)
        image, truth, support = images[:, :1], truths[:, :1], pairs(images[:, 1:], masks[:, 1:])
        rng = np.random.default_rng(int(image.sum() * 1e3) % 2**32)
        wanted = truth[:, 0].bool().cpu().numpy()
        spoken = rng.random(len(wanted)) >= self.silent_share
        drafted = torch.from_numpy(rng.random(len(wanted)) < self.draft_share).to(image.device)
        maps = np.zeros((len(wanted), 3, *wanted.shape[1:]), np.float32)
        if spoken.any():
            maps[spoken] = batch_maps(wanted[spoken], [None] * int(spoken.sum()), rng, self.pool)
        logits = torch.zeros_like(image)
        for answer in range(self.answers):
            if answer:
                maps = np.maximum(maps, batch_maps(wanted, list((logits > 0)[:, 0].cpu().numpy()), rng, self.pool))
            prompts = torch.from_numpy(maps).to(image.device)
            chosen = drafted & prompts.flatten(1).any(dim=1)
            if chosen.any():
                logits[chosen] = draft(image[chosen], prompts[chosen], logits[chosen])
            target = with_previous(image, prompts, logits)
            with torch.autocast(image.device.type, torch.bfloat16):
                logits = model(target, support, plan=WHOLE)
            logits = logits.float()
            loss = self.loss(logits, truth)
            logits = logits.detach()
            figures = {"loss": loss.item(), f"Dice after correction {answer}": mean_dice(logits, truth)}
            if answer == 0:
                silent = torch.from_numpy(~spoken).to(image.device)
                figures = {"loss": loss.item()}
                if not spoken.all():
                    figures["Dice from context"] = mean_dice(logits[silent], truth[silent])
            yield loss, figures


def with_previous(image: torch.Tensor, prompts: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """(B, 5, H, W): the channels of ScribblePrompt and of MultiverSeg's target."""
    x = torch.cat([image, prompts, logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)], dim=1)
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def draft(image: torch.Tensor, prompts: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The shipped ScribblePrompt's logits (B, 1, H, W)."""
    network = load("scribbleprompt", None, str(image.device)).network
    with torch.autocast(image.device.type, torch.bfloat16):
        return network(with_previous(image, prompts, logits)).float()
