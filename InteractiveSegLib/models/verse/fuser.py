"""The pixel decoder of VerSe: encoder maps brought to one width, to which clicks and the previous mask are added."""
from __future__ import annotations

import math

import torch
from torch import nn

GROUPS = 32
DISK = 1  # radius of a click's disk in pixels: a plus of five
TEMPERATURE = 10000.0


def sine_position(width: int, size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Fixed position code (width, H, W): half of the channels for the row, half for the column (DETR's, normalised)."""
    half = width // 2
    pairs = torch.arange(half, device=device) // 2
    periods = TEMPERATURE ** (2 * pairs / half)  # neighbouring channels share a period: one sine, one cosine

    def axis(length: int) -> torch.Tensor:
        place = torch.arange(1, length + 1, device=device) / (length + 1e-6) * 2 * math.pi
        phase = place[:, None] / periods
        return torch.stack([phase[:, 0::2].sin(), phase[:, 1::2].cos()], dim=2).flatten(1).T  # (half, length)

    height, breadth = size
    rows = axis(height)[:, :, None].expand(half, height, breadth)
    columns = axis(breadth)[:, None, :].expand(half, height, breadth)
    return torch.cat([rows, columns])


def draw_prompts(clicks: tuple[torch.Tensor, torch.Tensor], previous: torch.Tensor) -> torch.Tensor:
    """The dense prompt (B, 3, H, W): disks of positive clicks, disks of negative clicks, previous mask.

    clicks: positive and negative, each (B, N, 3) of (row, column, label), label -1 for padding; previous: (B, 1, H, W)
    probabilities, zeros before the first prediction.
    """
    height, width = previous.shape[-2:]
    rows = torch.arange(height, device=previous.device)
    columns = torch.arange(width, device=previous.device)
    maps = []
    for points in clicks:
        row, column, label = points[:, :, :, None].unbind(dim=2)  # (B, N, 1)
        down = torch.where(label >= 0, (rows - row) ** 2, torch.inf)  # (B, N, H): padding is nowhere
        distance = down[:, :, :, None] + (columns - column)[:, :, None, :] ** 2  # (B, N, H, W)
        maps.append(distance.amin(dim=1) <= DISK ** 2)
    return torch.cat([torch.stack(maps, dim=1).to(previous.dtype), previous], dim=1)


class PromptEncoder(nn.Module):
    """Dense prompt (B, 3, H, W) -> maps (B, width, ...) of side H/8, H/4, H/2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = (
            nn.Sequential(nn.Conv2d(inputs, width, 3, stride=2, padding=1), nn.ReLU(), nn.GroupNorm(GROUPS, width))
            for inputs in (3, width, width)
        )

    def forward(self, prompts: torch.Tensor) -> list[torch.Tensor]:
        halves = self.down1(prompts)
        quarters = self.down2(halves)
        return [self.down3(quarters), quarters, halves]


class PixelFuser(nn.Module):
    """Encoder maps and the dense prompt as three maps of one width, from coarse to fine."""

    def __init__(self, inputs: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.width = width
        self.input_proj = nn.ModuleList(nn.Sequential(nn.Conv2d(i, width, 1), nn.GroupNorm(GROUPS, width)) for i in inputs)
        for convolution, _ in self.input_proj:
            nn.init.xavier_uniform_(convolution.weight)
            nn.init.zeros_(convolution.bias)
        self.mask_downsamplelayer = PromptEncoder(width)

    def project(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """The half that no click changes: encoder maps at one width with their position code."""
        projected = [project(x) for project, x in zip(self.input_proj, maps)]
        return [x + sine_position(self.width, x.shape[-2:], x.device).to(x.dtype) for x in projected]

    def forward(self, projected: list[torch.Tensor], prompts: torch.Tensor) -> list[torch.Tensor]:
        """Maps of `project` with batch B or 1, prompts (B, 3, H, W) -> maps with batch B."""
        return [x + prompt for x, prompt in zip(projected, self.mask_downsamplelayer(prompts))]
