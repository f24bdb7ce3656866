"""RITM (Sofiiuk et al., 2021), LIM-Net's 2D network: one slice, its clicks and the previous mask in, logits out.

With RITM_H32, _H18 and _H18S the names and shapes of all tensors are the published ones. Difference from the published
code: a grey slice is given once and repeated here.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ...types import InteractiveSegError
from ...weights import load_strictly, read_state
from .hrnet import HRNet, resize
from .ocr import DistributeContext, gather
from .residual import Normalise

PUBLISHED_SIZE = 400
COMPACT_SIZE = 224


@dataclass(frozen=True)
class RITMConfig:
    """The network's shape. Published: H32 on COCO and LVIS.

    width: channels of the finest of the four scales. context: half the channels of the object context. modules: fusions in
    stages 2, 3 and 4. depth: blocks in a row. stem: channels before the scales part. radius: of a click's disk, pixels.
    """

    width: int = 32
    context: int = 128
    modules: tuple[int, int, int] = (1, 4, 3)
    depth: int = 4
    stem: int = 64
    radius: int = 5

    @property
    def size(self) -> int:
        """Side of the square canvas that networks of this width are used on, pixels."""
        return PUBLISHED_SIZE if self.width >= 18 else COMPACT_SIZE


RITM_H32 = RITMConfig()
RITM_H18 = RITMConfig(width=18, context=64)
RITM_H18S = RITMConfig(width=18, context=48, modules=(1, 3, 2), depth=2)


def click_maps(points: torch.Tensor, height: int, width: int, radius: int) -> torch.Tensor:
    """Disks around the clicks, 0 or 1: (B, 2, height, width), positive then negative.

    points: (B, 2N, 3), N positive then N negative rows (row, column, order); a row of -1 is padding.
    """
    batch, count = points.shape[0], points.shape[1] // 2
    rows = torch.arange(height, dtype=points.dtype, device=points.device)
    columns = torch.arange(width, dtype=points.dtype, device=points.device)
    row, column = points.reshape(batch, 2, count, 3)[..., :2].unbind(dim=-1)  # (B, 2, N) each
    off_row = (rows - row[..., None]) ** 2  # (B, 2, N, height)
    off_column = (columns - column[..., None]) ** 2  # (B, 2, N, width)
    inside = off_row[..., :, None] + off_column[..., None, :] <= radius**2  # (B, 2, N, height, width)
    clicked = (row >= 0) & (column >= 0)
    return (inside & clicked[..., None, None]).any(dim=2).to(points.dtype)


class ScaleMap(nn.Module):
    """Times one learned number, so that untrained clicks disturb a pretrained backbone little."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 0.05))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale.abs()


class HRNetOCR(HRNet):
    """HRNet with object context: image, clicks -> (logits, auxiliary logits), (B, 1, H / 4, W / 4) each."""

    def __init__(self, config: RITMConfig) -> None:
        super().__init__(config.width, config.modules, config.depth, config.stem)
        inner = 2 * config.context
        self.aux_head = nn.Sequential(
            nn.Conv2d(self.width, self.width, 1), nn.BatchNorm2d(self.width), nn.ReLU(inplace=True), nn.Conv2d(self.width, 1, 1)
        )
        self.conv3x3_ocr = nn.Sequential(
            nn.Conv2d(self.width, inner, 3, padding=1), nn.BatchNorm2d(inner), nn.ReLU(inplace=True)
        )
        self.ocr_distri_head = DistributeContext(inner, config.context)
        self.cls_head = nn.Conv2d(inner, 1, 1)

    def forward(self, image: torch.Tensor, clicks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.pyramid(image, clicks)  # (B, 15 width, H / 4, W / 4)
        first = self.aux_head(maps)  # (B, 1, H / 4, W / 4)
        features = self.conv3x3_ocr(maps)  # (B, 2 context, H / 4, W / 4)
        return self.cls_head(self.ocr_distri_head(features, gather(features, first))), first


class RITM(nn.Module):
    """Clicks on one slice -> logits of the object."""

    def __init__(self, config: RITMConfig = RITM_H32) -> None:
        super().__init__()
        self.config = config
        self.maps_transform = nn.Sequential(
            nn.Conv2d(3, 16, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, config.stem, 3, stride=2, padding=1), ScaleMap()
        )
        self.feature_extractor = HRNetOCR(config)
        self.normalise = Normalise()

    def forward(
        self, image: torch.Tensor, points: torch.Tensor, previous: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits, auxiliary logits), (B, 1, H, W) each; the auxiliary ones are for training.

        image: (B, 1 or 3, H, W) in [0, 1]; points: see `click_maps`; previous: (B, 1, H, W) probabilities, zeros at first.
        """
        clicks = click_maps(points.to(image.dtype), *image.shape[2:], self.config.radius)
        encoded = self.maps_transform(torch.cat([previous, clicks], dim=1))  # (B, stem, H / 2, W / 2)
        logits, first = self.feature_extractor(self.normalise(image), encoded)
        return resize(logits, like=image), resize(first, like=image)


def config_of(state: dict[str, torch.Tensor], path: Path) -> RITMConfig:
    """The shape of the network that a table of tensors belongs to."""
    prefix = "feature_extractor."
    key = f"{prefix}transition1.0.0.weight"
    if key not in state:
        raise InteractiveSegError(f"{path.name} holds no RITM network with HRNet, no tensor is named {key}.")

    def count(name: str, last: str) -> int:
        return sum(f"{prefix}{name}.{number}.{last}" in state for number in range(64))

    return RITMConfig(
        width=state[key].shape[0],
        context=state[f"{prefix}ocr_distri_head.object_context_block.f_down.0.weight"].shape[0],
        modules=tuple(count(f"stage{stage}", "branches.0.0.conv1.weight") for stage in (2, 3, 4)),
        depth=count("layer1", "conv1.weight"),
        stem=state[f"{prefix}conv1.weight"].shape[0],
    )


def load(path: Path, device: str) -> RITM:
    """A network from published or own weights, ready to predict; its shape is read from the tensors."""
    state = read_state(path)
    network = RITM(config_of(state, path))
    load_strictly(network, state, path)
    return network.to(device).eval()
