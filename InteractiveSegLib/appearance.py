"""What a slice says of a mask that was carried to it: by its brightness, object or surroundings; by the slice before, where to.

Knows tensors only. Ours: neither XMem nor LIM-Net looks at the pixels' own brightness, lays a slice over the one before, or has a
rule for where an object ends.
"""
from __future__ import annotations

from collections.abc import Container, Mapping
from functools import lru_cache

import torch
from torch.nn import functional as F

from .models.layers.replayed import replayed
from .models.limnet.propagation import Drawn
from .motion import blurred, displacement, followed

BINS = 24  # of brightness
TAIL = 0.01  # share of the pixels beyond the first and the last bin, either
RARE = 0.01  # added to the share of each bin, so that a brightness never seen decides nothing by itself
RING = 0.3  # width of the surroundings in radii of the object
LIMIT = 2.0  # of a bin's log ratio
WEIGHT = 1.0  # of the pixels' log ratio beside the network's logit
EDGE = 1.5  # pixels that the edge of the mask of the slice before is blurred by
SURE = 0.02  # least doubt of that mask
BLUR = 5  # side of the square that a pixel's log ratio is averaged over
FAINT = 0.002  # least doubt of the network, which may be surer than the slice before
UNLIKE = 0.0  # likeness below which an object is taken to have ended
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


class Ways:
    """How neighbouring slices lie over each other, kept for those that are kept: a second round finds it done.

    owner: what the recorded kernels belong to and live as long as, by default these ways.
    """

    def __init__(self, kept: Container[int] = range(0), owner: object = None) -> None:
        self.kept, self.owner = kept, self if owner is None else owner
        self.known: dict[tuple[int, int], torch.Tensor] = {}

    def between(self, here: Drawn, before: Drawn) -> torch.Tensor:
        """See `motion.displacement`; in half precision from the start, so that every round sees the same."""
        pair = here.index, before.index
        if pair in self.known:
            return self.known[pair].float()
        [way] = replayed(self.owner, "way", lambda *frames: [displacement(*frames).half()], here.frame, before.frame)
        if here.index in self.kept:
            self.known[pair] = way
        return way.float()


class SliceGuide:
    """Judges carried masks, object by object, by the slices whose masks are known and by the slice before."""

    def __init__(self, frames: Mapping[int, torch.Tensor], given: Mapping[int, torch.Tensor], ways: Ways | None = None) -> None:
        """frames: index -> brightness (H, W) as the network sees it; given: index -> (objects, H, W) in [0, 1].

        ways: of earlier rounds through the same slices, kept by the caller.
        """
        self.ways = Ways() if ways is None else ways
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

    def weigh(self, here: Drawn, before: Drawn) -> torch.Tensor:
        """The probabilities (objects, H, W), weighed with the slice before's, moved, and with the slice's own pixels."""
        down, across = (blurring(side, here.frame.device) for side in here.frame.shape)
        evidence = down @ self.ratios(here.frame) @ across.t()
        carried = followed(before.masks.float(), self.ways.between(here, before)) > 0.5
        prior = blurred(carried.float(), EDGE).clamp(SURE, 1 - SURE).logit()
        return (here.masks.float().clamp(FAINT, 1 - FAINT).logit() + prior + WEIGHT * evidence).sigmoid()

    def left(self, here: Drawn) -> torch.Tensor:
        """Bool (objects,): what is drawn looks clearly more like the surroundings of the known masks than like them."""
        seen = zip(self.looks, self.ratios(here.frame), here.masks > 0.5)
        unlike = [look is not None and look.likeness(ratios, mask) < UNLIKE for look, ratios, mask in seen]
        return torch.tensor(unlike, device=here.masks.device)
