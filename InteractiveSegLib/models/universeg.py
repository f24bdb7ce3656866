"""UniverSeg (Butoi et al., ICCV 2023): a slice and a set of examples with masks in, logits out. It knows no prompts."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..weights import load_strictly, read_state
from .layers.cross_conv import CrossUNet, read_features


@dataclass(frozen=True)
class UniverSegConfig:
    """The network's shape. Published: four levels of 64 features, trained on 128 x 128 slices with 64 examples."""

    features: tuple[int, ...] = (64, 64, 64, 64)
    size: int = 128  # side of the canvas it was trained on, pixels


class UniverSegNet(CrossUNet):
    """Target (B, 1, H, W) and support (B, S, 2, H, W), image and mask in [0, 1], S >= 1 -> logits (B, 1, H, W)."""

    def __init__(self, config: UniverSegConfig) -> None:
        super().__init__(1, 2, config.features, activation=False, norm=False)
        self.config = config


def load(path: Path, device: str) -> UniverSegNet:
    """The network from published or own weights; the widths are read from the tensors."""
    state = read_state(path)
    network = UniverSegNet(UniverSegConfig(read_features(state, path)))
    load_strictly(network, state, path)
    return network.to(device).eval()
