"""A second head that only training has: it names every pixel of a slice, so that each slice teaches all of its structures."""
from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

GROUPS = 8


class Teacher(nn.Module):
    """Encoder maps of one width, coarse first -> logits (B, targets, h, h) at each map's size (a feature pyramid).

    A network that has it as `teacher` is saved, exported and started without it.
    """

    def __init__(self, width: int, targets: int, levels: int = 3) -> None:
        super().__init__()
        self.joins = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, width), nn.ReLU())
            for _ in range(levels))
        self.heads = nn.ModuleList(nn.Conv2d(width, targets, 1) for _ in range(levels))

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        found, x = [], None
        for feature, join, head in zip(features, self.joins, self.heads):
            x = feature if x is None else feature + F.interpolate(x, feature.shape[-2:], mode="bilinear", align_corners=False)
            x = join(x)
            found.append(head(x))
        return found
