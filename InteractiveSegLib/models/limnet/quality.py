"""LIM-Net's quality network (sections 2.3.2 and 2.3.3): of two masks of the same slice, which one is better?

A ResNet looks at the slice, the previous round's mask and the current one. It knows slices in a batch, no rounds.
Difference from the paper: it sees the part of the slice around both masks instead of all of it, enlarged, because
two rounds differ by little.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ...types import InteractiveSegError
from ...weights import load_strictly, read_state
from .residual import BasicBlock, Bottleneck, chain

VIEW = 96  # pixels; both sides of what the network sees
MARGIN = 1.4  # the view's width over that of the masks' box


@dataclass(frozen=True)
class QualityConfig:
    """The network's shape: a ResNet's width after the first convolution, blocks of its four stages, and their kind."""

    width: int = 64
    depths: tuple[int, int, int, int] = (2, 2, 2, 2)
    bottleneck: bool = False


RESNET18 = QualityConfig()
RESNET50 = QualityConfig(depths=(3, 4, 6, 3), bottleneck=True)


def extents(marked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centre and half width of the marked positions along each row of (B, N), in [-1, 1]; all of it where none is."""
    count = marked.shape[1]
    first = marked.float().argmax(dim=1)
    last = count - 1 - marked.flip(1).float().argmax(dim=1)
    centre, half = (first + last + 1) / count - 1, (last + 1 - first) / count
    none = ~marked.any(dim=1)
    return centre.masked_fill(none, 0), half.masked_fill(none, 1)


def views(image: torch.Tensor, previous: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
    """What the network sees: (B, 3, VIEW, VIEW), a square around the box of both masks, black beyond the slice.

    image: (B, H, W) in [0, 1]; previous, current: (B, H, W) bool.
    """
    height, width = image.shape[1:]
    either = previous | current
    (row, tall), (column, wide) = extents(either.any(dim=2)), extents(either.any(dim=1))
    reach = MARGIN * torch.maximum(tall * height, wide * width)  # pixels, the whole side of the square
    theta = image.new_zeros(len(image), 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = reach / width, column
    theta[:, 1, 1], theta[:, 1, 2] = reach / height, row
    grid = F.affine_grid(theta, [len(image), 3, VIEW, VIEW], align_corners=False)
    stack = torch.stack([image, previous.to(image), current.to(image)], dim=1)
    return F.grid_sample(stack, grid, align_corners=False)


class QualityNetwork(nn.Module):
    """ResNet with one output, torchvision's names: (B, 3, h, w) as `views` gives them -> (B,) logits."""

    def __init__(self, config: QualityConfig = RESNET18) -> None:
        super().__init__()
        self.config = config
        block = Bottleneck if config.bottleneck else BasicBlock
        self.conv1 = nn.Conv2d(3, config.width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.width)
        inputs = config.width
        for stage, depth in enumerate(config.depths):
            width = config.width * 2**stage
            self.add_module(f"layer{stage + 1}", chain(block, inputs, width, depth, stride=1 if stage == 0 else 2))
            inputs = width * block.expansion
        self.fc = nn.Linear(inputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)  # (B, width, h / 4, w / 4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, inputs, h / 32, w / 32)
        return self.fc(x.mean(dim=(2, 3)))[:, 0]

    @torch.inference_mode()
    def previous_better(self, image: torch.Tensor, previous: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
        """Probability (B,) that the previous mask of a slice is better than the current one, see `views`."""
        return self(views(image, previous, current)).sigmoid()


def config_of(state: dict[str, torch.Tensor], path: Path) -> QualityConfig:
    """The shape of the network that a table of tensors belongs to."""
    if "conv1.weight" not in state or state.get("fc.weight", torch.empty(0)).shape[0] != 1:
        raise InteractiveSegError(f"{path.name} holds no quality network: give a ResNet with one output, fc.weight (1, C).")
    depths = tuple(sum(f"layer{stage}.{n}.conv1.weight" in state for n in range(64)) for stage in (1, 2, 3, 4))
    return QualityConfig(state["conv1.weight"].shape[0], depths, "layer1.0.conv3.weight" in state)


def load(path: Path, device: str) -> QualityNetwork:
    """A network from own weights, ready to judge; its shape is read from the tensors."""
    state = read_state(path)
    network = QualityNetwork(config_of(state, path))
    load_strictly(network, state, path)
    return network.to(device).eval()
