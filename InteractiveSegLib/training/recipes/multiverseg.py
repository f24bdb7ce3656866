"""How MultiverSeg is trained."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from ...device import training_precision
from ...models import load
from ...models.multiverseg import MultiverSegConfig, MultiverSegNet
from ...weights import is_shipped
from ..simulate import batch_maps
from .in_context import WHOLE, ContextRecipe, mean_dice
from .scribbleprompt import LOGIT_LIMIT


@dataclass(frozen=True)
class MultiverSegRecipe(ContextRecipe):
    """The first target of a batch is answered three times (section 4), with an optimiser step after each.

    Most of these are first answered from the context alone and then corrected; the others open with prompts. Wherever there
    are prompts, ScribblePrompt answers first and its logits are the previous prediction, to which the network adds what the
    examples say: little training then never costs what ScribblePrompt has learnt. The batch's other targets are answered from the
    context alone, which is what this network is asked for in use. Ours: where UniverSeg is shipped, which learnt nothing else and
    answers better, such answers learn from its answers as from the truth.
    """

    name: str = "multiverseg"
    answers: int = 3
    silent_share: float = 0.6  # of first targets: no prompt before the first answer

    def build(self) -> nn.Module:
        return MultiverSegNet(MultiverSegConfig(tuple(self.features), self.size, refines=True))

    def losses(
        self, model: nn.Module, batch: list[torch.Tensor], progress: float
    ) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        for turn, (image, truth, support) in enumerate(self.in_turn(*self.prepare(batch, progress))):
            if turn == 0:
                yield from self.dialogue(model, image, truth, support)
                continue
            logits = answered(model, with_previous(image, torch.zeros_like(image).expand(-1, 3, -1, -1), torch.zeros_like(image)),
                              support)
            loss = self.taught(logits, truth, image, support, np.ones(len(image), bool))
            yield loss, {"loss": loss.item(), "Dice from context": mean_dice(logits.detach(), truth)}

    def dialogue(
        self, model: nn.Module, image: torch.Tensor, truth: torch.Tensor, support: torch.Tensor
    ) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        """Answer after answer to a simulated user."""
        rng = np.random.default_rng(int(image.sum() * 1e3) % 2**32)
        wanted = truth[:, 0].bool().cpu().numpy()
        spoken = rng.random(len(wanted)) >= self.silent_share
        maps = np.zeros((len(wanted), 3, *wanted.shape[1:]), np.float32)
        if spoken.any():
            maps[spoken] = batch_maps(wanted[spoken], [None] * int(spoken.sum()), rng, self.pool)
        logits = torch.zeros_like(image)
        for answer in range(self.answers):
            if answer:
                maps = np.maximum(maps, batch_maps(wanted, list((logits > 0)[:, 0].cpu().numpy()), rng, self.pool))
            prompts = torch.from_numpy(maps).to(image.device)
            prompted = prompts.flatten(1).any(dim=1)
            if prompted.any():
                logits[prompted] = draft(image[prompted], prompts[prompted], logits[prompted])
            logits = answered(model, with_previous(image, prompts, logits), support)
            loss = self.taught(logits, truth, image, support, ~spoken & (answer == 0))
            logits = logits.detach()
            figures = {"loss": loss.item(), f"Dice after correction {answer}": mean_dice(logits, truth)}
            if answer == 0:
                silent = torch.from_numpy(~spoken).to(image.device)
                figures = {"loss": loss.item()}
                if not spoken.all():
                    figures["Dice from context"] = mean_dice(logits[silent], truth[silent])
            yield loss, figures


    @cached_property
    def has_teacher(self) -> bool:
        return is_shipped("universeg")

    def taught(self, logits: torch.Tensor, truth: torch.Tensor, image: torch.Tensor, support: torch.Tensor,
               silent: np.ndarray) -> torch.Tensor:
        """The loss, and for the samples of which nothing was said (silent, bool (B,)) the one to UniverSeg's probabilities."""
        loss = self.loss(logits, truth)
        if not (silent.any() and self.has_teacher):
            return loss
        alone = torch.from_numpy(silent).to(image.device)
        return loss + alone.float().mean() * self.loss(logits[alone], from_examples(image[alone], support[alone]))


def answered(model: nn.Module, target: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Logits (B, 1, H, W) float32."""
    with training_precision(target.device):
        return model(target, support, plan=WHOLE).float()


def with_previous(image: torch.Tensor, prompts: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """(B, 5, H, W): the channels of ScribblePrompt and of MultiverSeg's target."""
    x = torch.cat([image, prompts, logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)], dim=1)
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def draft(image: torch.Tensor, prompts: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The shipped ScribblePrompt's logits (B, 1, H, W)."""
    network = load("scribbleprompt", None, str(image.device)).network
    with training_precision(image.device):
        return network(with_previous(image, prompts, logits)).float()


@torch.no_grad()
def from_examples(image: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """The shipped UniverSeg's probabilities (B, 1, H, W)."""
    network = load("universeg", None, str(image.device))
    with training_precision(image.device):
        return network(image.contiguous(memory_format=torch.channels_last), support, plan=WHOLE).float().sigmoid()
