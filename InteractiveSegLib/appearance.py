"""Whether a mask that was carried to a slice still lies on the object, or on what surrounds it. Knows tensors only.

Ours: neither XMem nor LIM-Net has a rule for where an object ends, and a memory that has seen no empty slice goes on drawing.
"""
from __future__ import annotations

import torch
from torch.nn import functional as F

BINS = 24  # of brightness
TAIL = 0.01  # share of the pixels beyond the first and the last bin, either
RARE = 0.01  # added to the share of each bin, so that a brightness never seen decides nothing by itself
RING = 0.3  # width of the surroundings in radii of the object
TELLING = 0.1  # mean log ratio of the object's own pixels below which it looks like its surroundings, for endless pixels


def surroundings(masks: torch.Tensor) -> torch.Tensor:
    """Bool (n, H, W): a ring around each mask, bool (n, H, W)."""
    area = masks.flatten(1).sum(dim=1).float().max()
    width = max(2, round(RING * float((area / torch.pi).sqrt())))
    grown = masks[:, None].float()
    for kernel in ((2 * width + 1, 1), (1, 2 * width + 1)):
        grown = F.max_pool2d(grown, kernel, 1, (kernel[0] // 2, kernel[1] // 2))
    return (grown[:, 0] > 0) & ~masks


class Appearance:
    """How bright an object is, and what surrounds it, on the slices that are known to show it."""

    def __init__(self, images: torch.Tensor, masks: torch.Tensor) -> None:
        """images: (n, H, W) in [0, 1]; masks: bool (n, H, W), not empty."""
        inside, around = images[masks].float(), images[surroundings(masks)].float()
        both = torch.cat([inside, around]).sort().values
        ends = [int(share * (len(both) - 1)) for share in (TAIL, 1 - TAIL)]
        self.low, self.high = both[ends].tolist()
        shares = [torch.bincount(self.bins(x), minlength=BINS) / max(1, len(x)) + RARE for x in (inside, around)]
        self.ratio = (shares[0] / shares[1]).log()  # of each bin
        self.own = float(self.ratio[self.bins(inside)].mean())
        chance = BINS * (1 / len(inside) + 1 / max(1, len(around)))  # twice what as many pixels of one kind would give
        self.telling = self.own > TELLING + chance

    def bins(self, brightness: torch.Tensor) -> torch.Tensor:
        return ((brightness - self.low) / max(self.high - self.low, 1e-6) * BINS).long().clamp(0, BINS - 1)

    def likeness(self, image: torch.Tensor, mask: torch.Tensor) -> float:
        """The mean log ratio of the pixels in a mask (H, W) of an image (H, W), that of the object's own being 1.

        Below 0 they look more like the surroundings than like the object. 1 where nothing can be told: an empty mask, or an
        object as bright as what surrounds it.
        """
        if not self.telling or not mask.any():
            return 1.0
        return float(self.ratio[self.bins(image[mask])].mean()) / self.own
