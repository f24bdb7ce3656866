"""What the brightness of a slice says of a mask that was carried to it: object, or what surrounds it? Knows tensors only.

Ours: neither XMem nor LIM-Net looks at the pixels' own brightness or has a rule for where an object ends.
"""
from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch.nn import functional as F

BINS = 24  # of brightness
TAIL = 0.01  # share of the pixels beyond the first and the last bin, either
RARE = 0.01  # added to the share of each bin, so that a brightness never seen decides nothing by itself
RING = 0.3  # width of the surroundings in radii of the object
LIMIT = 2.0  # of a bin's log ratio
WEIGHT = 1.0  # of the pixels' log ratio beside the network's logit
BLUR = 5  # side of the square that a pixel's log ratio is averaged over
FAINT = 0.002  # probability below which the network knows better, whatever the pixels look like
UNLIKE = -0.2  # likeness below which an object is taken to have ended
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
        """images: (n, H, W) of any scale; masks: bool (n, H, W), not empty."""
        inside, around = images[masks].float(), images[surroundings(masks)].float()
        both = torch.cat([inside, around]).sort().values
        ends = [int(share * (len(both) - 1)) for share in (TAIL, 1 - TAIL)]
        self.low, self.high = both[ends].tolist()
        shares = [torch.bincount(self.bins(x), minlength=BINS) / max(1, len(x)) + RARE for x in (inside, around)]
        self.ratio = (shares[0] / shares[1]).log().clamp(-LIMIT, LIMIT)  # of each bin
        self.own = float(self.ratio[self.bins(inside)].mean())
        chance = BINS * (1 / len(inside) + 1 / max(1, len(around)))  # twice what as many pixels of one kind would give
        self.telling = self.own > TELLING + chance

    def bins(self, brightness: torch.Tensor) -> torch.Tensor:
        width = max(self.high - self.low, 1e-6) / BINS
        return (brightness * (1 / width)).sub_(self.low / width).clamp_(0, BINS - 1).long()

    def ratios(self, image: torch.Tensor) -> torch.Tensor:
        """The log ratio of each pixel of an image (H, W); 0 where object and surroundings are equally bright."""
        return self.ratio[self.bins(image)] if self.telling else torch.zeros_like(image)

    def likeness(self, ratios: torch.Tensor, mask: torch.Tensor) -> float:
        """The mean of `ratios` (H, W) of an image in a mask (H, W), that of the object's own being 1.

        Below 0 they look more like the surroundings than like the object. 1 where nothing can be told, or the mask is empty.
        """
        count = int(mask.sum())
        return float((ratios * mask).sum()) / count / self.own if self.telling and count else 1.0


@lru_cache(maxsize=8)
def blurring(side: int, device: torch.device) -> torch.Tensor:
    """Matrix (side, side) that averages BLUR neighbours, those that there are."""
    places = torch.arange(side, device=device)
    near = ((places[:, None] - places).abs() <= BLUR // 2).float()
    return near / near.sum(dim=1, keepdim=True)


class AppearanceGuide:
    """Judges carried masks by the slices whose masks are known, object by object."""

    def __init__(self, frames: Mapping[int, torch.Tensor], given: Mapping[int, torch.Tensor]) -> None:
        """frames: index -> brightness (H, W) as the network sees it; given: index -> (objects, H, W) in [0, 1]."""
        self.looks: list[Appearance | None] = []
        for n in range(len(next(iter(given.values())))):
            known = {index: masks[n] > 0.5 for index, masks in given.items() if (masks[n] > 0.5).any()}
            images = [frames[index] for index in known]
            self.looks.append(Appearance(torch.stack(images), torch.stack(list(known.values()))) if known else None)
        self._frame: torch.Tensor | None = None  # the one that was asked about last
        self._ratios = torch.zeros(0)

    def ratios(self, frame: torch.Tensor) -> torch.Tensor:
        """What each pixel's brightness says of each object, (objects, H, W)."""
        if frame is not self._frame:
            none = torch.zeros_like(frame)
            self._frame, self._ratios = frame, torch.stack([none if look is None else look.ratios(frame) for look in self.looks])
        return self._ratios

    def weigh(self, frame: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        """The probabilities (objects, H, W) in the light of the slice's pixels: of each place's own and those around it."""
        down, across = (blurring(side, frame.device) for side in frame.shape)
        evidence = down @ self.ratios(frame) @ across.t()
        weighed = (found.float().clamp(FAINT, 1 - FAINT).logit() + WEIGHT * evidence).sigmoid()
        return torch.where(found > FAINT, weighed, found.float())

    def left(self, frame: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        """Bool (objects,): what is drawn looks clearly more like the surroundings of the known masks than like them."""
        seen = zip(self.looks, self.ratios(frame), found > 0.5)
        unlike = [look is not None and look.likeness(ratios, mask) < UNLIKE for look, ratios, mask in seen]
        return torch.tensor(unlike, device=found.device)
