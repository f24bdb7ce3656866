"""The decoder's layers: post-norm attention and feed-forward of the queries, the pixels' own feed-forward, the mask head."""
from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F


class CrossAttention(nn.Module):
    """Queries (B, Q, C) look at a memory (B, K, C). Position codes are added to queries and keys, not to values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: torch.Tensor, memory: torch.Tensor, query_place: torch.Tensor, memory_place: torch.Tensor,
                ignored: torch.Tensor | None = None) -> torch.Tensor:
        """ignored: (B, K) bool, the part of the memory that no query may see."""
        found, _ = self.multihead_attn(queries + query_place, memory + memory_place, memory, key_padding_mask=ignored,
                                       need_weights=False)
        return self.norm(queries + found)


class SelfAttention(nn.Module):
    """Queries (B, Q, C) look at each other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        placed = queries + place
        found, _ = self.self_attn(placed, placed, queries, need_weights=False)
        return self.norm(queries + found)


class FeedForward(nn.Module):
    """Two linear layers with a shortcut."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))


class ChannelAttention(nn.Module):
    """Two convolutions whose result is weighted per channel by its mean and its neighbours' means (ECA), with a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        reach = int((math.log2(width) + 1) // 2)
        size = reach if reach % 2 else reach + 1
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv2(F.relu(self.conv1(F.relu(x))))
        means = y.mean(dim=(2, 3))[:, None]  # (B, 1, C)
        return y * self.conv(means).sigmoid()[:, 0, :, None, None] + x


class PixelFeedForward(nn.Module):
    """The feed-forward of a map (B, C, H, W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = ChannelAttention(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Twice the side, learned."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(width, width, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.upsample(x)


class Downsample(nn.Module):
    """A quarter of the side, learned: from the finest level back to the coarsest."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.downsample = nn.Conv2d(width, width, 4, stride=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.downsample(x)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, ReLU after each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + x)


class MaskHead(nn.Module):
    """A level's map (B, C, H, W) -> logits (B, 1, H, W)."""

    HIDDEN = 32

    def __init__(self, width: int) -> None:
        super().__init__()
        self.initial_conv = nn.Conv2d(width, self.HIDDEN, 3, padding=1)
        self.res_blocks = nn.Sequential(ResidualBlock(self.HIDDEN), ResidualBlock(self.HIDDEN))
        self.final_conv = nn.Conv2d(self.HIDDEN, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.final_conv(self.res_blocks(F.relu(self.initial_conv(x))))
