"""Click queries of VerSe: where a click lies (sparse) and what the features there look like (semantic). Clicks are tensors."""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from ...types import InteractiveSegError

PADDED = 24  # clicks of one sign in the paper (N1)
DUMMY = (-10.0, -10.0, -1.0)  # row, column, label of a click that is none
CELLS = {"floor": torch.floor, "round": torch.round}


def pad_clicks(clicks: Sequence[Sequence[tuple[float, float]]], positive: bool) -> torch.Tensor:
    """Clicks of one sign, (row, column) lists per image -> (B, N, 3) of (row, column, label), filled up with dummies.

    label: 1 positive, 0 negative, -1 dummy. N is 24, or the longest list where that is longer.
    """
    length = max([PADDED, *map(len, clicks)])
    rows = [[(row, column, float(positive)) for row, column in points] + [DUMMY] * (length - len(points)) for points in clicks]
    return torch.tensor(rows, dtype=torch.float32)


class SparseQuery(nn.Module):
    """(B, N, 3) clicks -> (B, N, width): a Fourier code of the place plus a vector for the label; a dummy has the vector alone.

    The published code draws both anew at every call. Here they are kept, and the vectors are trained.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, width // 2))
        self.labels = nn.Parameter(torch.randn(3, width))  # dummy, negative, positive

    def forward(self, clicks: torch.Tensor, side: int) -> torch.Tensor:
        """side: of the image in pixels."""
        label = clicks[:, :, 2].long()
        place = 2 * (clicks[:, :, :2] + 0.5) / side - 1  # the pixel's centre, -1 to 1
        phase = 2 * math.pi * (place @ self.frequencies)
        code = torch.cat([phase.sin(), phase.cos()], dim=-1)
        return torch.where((label < 0)[:, :, None], 0.0, code) + self.labels[label + 1]


class SemanticQuery(nn.Module):
    """The features around each click, averaged and passed through an MLP (paper, eq. 1-3).

    rounding: how a click finds its cell, "floor" (eq. 1), or "round" (the published code), which loses clicks at the far
    border. A click outside the map, as every dummy, has zero features. The published MLP is drawn anew at every call; here
    it is trained.
    """

    def __init__(self, width: int, rounding: str) -> None:
        super().__init__()
        if rounding not in CELLS:
            raise InteractiveSegError(f"There is no rounding {rounding!r}: choose one of {', '.join(CELLS)}.")
        self.cell = CELLS[rounding]
        self.mlp = nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width))

    def forward(self, features: torch.Tensor, clicks: torch.Tensor, scale: int, radius: int) -> torch.Tensor:
        """features: (B, C, H, W), `scale` times smaller than the image; the window has side 2 radius + 1. -> (B, N, C)."""
        height, width = features.shape[-2:]
        cells = self.cell(clicks[:, :, :2] / scale).long()
        steps = torch.arange(-radius, radius + 1, device=clicks.device)
        rows = (cells[:, :, :1] + steps)[:, :, :, None]  # (B, N, 2 radius + 1, 1)
        columns = (cells[:, :, 1:] + steps)[:, :, None, :]
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        centre = inside[:, :, radius, radius][:, :, None, None]
        weights = (inside & centre).to(features.dtype)[..., None]  # (B, N, 2 radius + 1, 2 radius + 1, 1)
        batch = torch.arange(len(clicks), device=clicks.device)[:, None, None, None]
        window = features.permute(0, 2, 3, 1)[batch, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
        mean = (window * weights).sum(dim=(2, 3)) / weights.sum(dim=(2, 3)).clamp(min=1)  # (B, N, C)
        return self.mlp(mean)
