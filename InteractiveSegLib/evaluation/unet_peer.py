"""The automatic U-Net (MONAI) that VerSe is measured against: same views in training, same two looks at a slice."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..models.verse.network import COMPACT, VerSeConfig
from ..plan import PLANS
from ..predictors.slices import Request
from ..predictors.verse import AUTO, VerSePredictor
from ..terminology import HEART, UNSEEN
from ..training.recipes.verse import UNetPeerRecipe
from ..weights import load_strictly, read_state
from .cardiac import Heart


class ByChannel(nn.Module):
    """The U-Net with VerSe's two steps, so that the same code looks at slices: all targets at once, then the one asked for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.config: VerSeConfig = COMPACT
        self.queries, self.unseen = tuple(HEART), UNSEEN

    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [self.network(images)]

    def decode(self, features: list[torch.Tensor], _prompts: torch.Tensor, targets: torch.Tensor,
               _clicks: None) -> list[torch.Tensor]:
        return [features[0][torch.arange(len(targets)), targets][:, None]]


@dataclass
class UNetPeer:
    """Segments hearts by name with the weights of a `train unet-peer` run."""

    weights: Path
    device: str = "cpu"

    def __post_init__(self) -> None:
        network = UNetPeerRecipe(self.weights).build()
        load_strictly(network, read_state(self.weights), self.weights)
        self.network = ByChannel(network.to(self.device).eval())

    def segment(self, heart: Heart) -> dict[str, np.ndarray]:
        """Bool (k, j, i) per target; where two claim a voxel the larger logit has it."""
        predictor = VerSePredictor(self.network, heart.spacing[1:], None, AUTO, PLANS[self.device.split(":")[0]])
        requests = [Request(image, (), None, target, (0, k)) for k, image in enumerate(heart.image) for target in heart.truth]
        logits = np.stack(predictor.predict(requests)).reshape(len(heart.image), len(heart.truth), *heart.image.shape[1:])
        best = logits.argmax(axis=1)
        return {target: (logits[:, n] > 0) & (best == n) for n, target in enumerate(heart.truth)}
