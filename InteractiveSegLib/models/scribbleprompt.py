"""ScribblePrompt-UNet (Wong et al., ECCV 2024): one slice, its prompts and the previous logits in, logits out.

Differences from the published network: the width of each level is a parameter. With features (192, 192, 192, 192) the
names and shapes of all 29 tensors are the published ones.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..device import send
from ..types import InteractiveSegError
from ..weights import load_strictly, read_state

CHANNELS = ("image", "box", "positive", "negative", "previous logits")


@dataclass(frozen=True)
class ScribblePromptConfig:
    """The network's shape. Published: four levels of 192 features, trained on 128 x 128 slices."""

    features: tuple[int, ...] = (192, 192, 192, 192)
    size: int = 128  # side of the canvas it was trained on, pixels


COMPACT = ScribblePromptConfig(features=(24, 48, 96, 192))  # thin where the map is large: a fifteenth of the published cost


class Stage(nn.Module):
    """3x3 convolution and PReLU with one slope. No norm, no second convolution (the released code)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.PReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Head(nn.Module):
    """1x1 convolution to one logit."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(inputs, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class ScribblePromptUNet(nn.Module):
    """U-Net over the five channels of CHANNELS. (B, 5, H, W) -> logits (B, 1, H, W); H and W multiples of 2**levels."""

    def __init__(self, config: ScribblePromptConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.features
        self.downs = nn.ModuleList(Stage(i, o) for i, o in zip((len(CHANNELS), *widths[:-1]), widths))
        self.bottleneck = Stage(widths[-1], widths[-1])
        below = (widths[-1], *reversed(widths[1:]))
        self.ups = nn.ModuleList()
        for width, deeper in zip(reversed(widths), below):
            # The published names count the up-sampling as a module of its own: ups.0, ups.2, ... hold no tensor.
            self.ups.extend([nn.UpsamplingBilinear2d(scale_factor=2), Stage(width + deeper, width)])
        self.final_conv = Head(widths[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for down in self.downs:
            x = down(x)  # (B, width, H / 2**level, W / 2**level)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for upsample, up in zip(self.ups[0::2], self.ups[1::2]):
            x = up(torch.cat([skips.pop(), upsample(x)], dim=1))
        return self.final_conv(x)


def build(features: tuple[int, ...] = COMPACT.features, size: int = COMPACT.size) -> ScribblePromptUNet:
    """A network with fresh weights."""
    return ScribblePromptUNet(ScribblePromptConfig(tuple(features), size))


class SliceNetwork:
    """A network behind arrays: (B, 3) slices and prompts in, logits out. No gradients, one device."""

    def __init__(self, network: ScribblePromptUNet, device: str) -> None:
        self.size = network.config.size
        self.device = torch.device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def predict(self, images: np.ndarray, prompts: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Logits (B, size, size) float32.

        images: (B, size, size) in [0, 1]; prompts: (B, 3, size, size), see `rasterise`; previous: (B, size, size) logits,
        zeros before the first prediction.
        """
        x = np.concatenate([images[:, None], prompts, previous[:, None]], axis=1).astype(np.float32)
        tensor = send(x, self.device).to(memory_format=torch.channels_last)
        return self.network(tensor)[:, 0].float().cpu().numpy()


def load(path: Path, device: str) -> SliceNetwork:
    """A network from shipped or published weights; the widths are read from the tensors."""
    state = read_state(path)
    levels = sum(key.startswith("downs.") and key.endswith(".conv.0.weight") for key in state)
    if levels == 0:
        raise InteractiveSegError(f"{path.name} holds no ScribblePrompt-UNet, no tensor is named downs.0.conv.0.weight.")
    network = build(tuple(state[f"downs.{level}.conv.0.weight"].shape[0] for level in range(levels)))
    load_strictly(network, state, path)
    return SliceNetwork(network, device)
