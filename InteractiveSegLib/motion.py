"""How a structure moves from one slice to the next: two neighbouring slices laid over each other. Knows tensors only.

Ours, not XMem's or LIM-Net's: demons (Thirion, Medical Image Analysis 1998; symmetric forces as in Vercauteren et al., 2009), on
two levels and with few iterations, because neighbours differ little.
"""
from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn import functional as F

SIDES = (28, 56)  # pixels of a slice's shorter side on each level, about
STEPS = 5  # on each
SMOOTH = 2.5  # sigma of the displacement, pixels of the level
BLUR = 1.0  # sigma of the slices, pixels of the level
FLAT = 1e-3  # added to the squared gradient, so that flat regions stay


@lru_cache(maxsize=8)
def bell(sigma: float, device: torch.device) -> torch.Tensor:
    """A Gaussian's weights, up to three sigma to either side."""
    places = torch.arange(-round(3 * sigma), round(3 * sigma) + 1, device=device)
    weights = torch.exp(-places**2 / (2 * sigma**2))
    return weights / weights.sum()


def blurred(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """(n, H, W) smoothed by a Gaussian, sigma in pixels; the border goes on beyond itself."""
    weights = bell(sigma, x.device)
    reach = len(weights) // 2
    down = F.conv2d(F.pad(x[:, None], (0, 0, reach, reach), mode="replicate"), weights[None, None, :, None])
    return F.conv2d(F.pad(down, (reach, reach, 0, 0), mode="replicate"), weights[None, None, None, :])[:, 0]


def slopes(x: torch.Tensor) -> torch.Tensor:
    """(H, W) -> its change per pixel along rows and columns, (2, H, W)."""
    wide = F.pad(x[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    return torch.stack([wide[2:, 1:-1] - wide[:-2, 1:-1], wide[1:-1, 2:] - wide[1:-1, :-2]]) / 2


def moved(x: torch.Tensor, displacement: torch.Tensor) -> torch.Tensor:
    """(n, H, W) read at each place plus its displacement (2, H, W), in pixels along rows and columns; n maps at once."""
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device)[:, None] + displacement[0]
    columns = torch.arange(width, device=x.device) + displacement[1]
    places = torch.stack([(columns + 0.5) * (2 / width) - 1, (rows + 0.5) * (2 / height) - 1], dim=-1)
    return F.grid_sample(x[None], places[None], padding_mode="border", align_corners=False)[0]


def levels(x: torch.Tensor) -> tuple[int, ...]:
    """For maps (..., H, W): how many of their pixels are one of a level's."""
    return tuple(max(1, round(min(x.shape[-2:]) / side)) for side in SIDES)


def displacement(frame: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Where each place of a slice was on the one before, in pixels of the last level: (2, h, w), see `followed`.

    frame, before: brightness (H, W), of any scale.
    """
    found, last = None, 1
    for level in levels(frame):
        pair = blurred(F.avg_pool2d(torch.stack([frame, before]), level, ceil_mode=True), BLUR)
        pair = pair / (pair[0].std() + 1e-6)
        if found is None:
            found = pair.new_zeros(2, *pair.shape[-2:])
        else:
            found = F.interpolate(found[None], pair.shape[-2:], mode="bilinear", align_corners=False)[0] * (last / level)
        slope = slopes(pair[0])
        for _ in range(STEPS):
            there = moved(pair[1:], found)[0]
            wrong = there - pair[0]
            force = (slopes(there) + slope) / 2
            push = -wrong * force / (force.square().sum(dim=0) + wrong.square() / 2 + FLAT)
            found = blurred(found + push.clamp(-1, 1), SMOOTH)
        last = level
    return found


def followed(masks: torch.Tensor, way: torch.Tensor) -> torch.Tensor:
    """(n, H, W) of the slice before, read where `displacement` says that each place was."""
    return moved(masks, F.interpolate(way[None], masks.shape[-2:], mode="bilinear", align_corners=False)[0] * levels(masks)[-1])
