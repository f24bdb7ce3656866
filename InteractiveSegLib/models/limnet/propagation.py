"""Carry masks from some slices of a stack to the others, slice by slice, with XMem's networks and memory.

It knows tensors and slice numbers; where slices come from, and what becomes of the masks, is the caller's.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch.nn import functional as F

from ...types import InteractiveSegError
from ..layers.replayed import replayed
from .memory import PUBLISHED, Memory, MemoryConfig
from .xmem import STRIDE, Features, XMem, aggregate

Encode = Callable[[int, Sequence[int]], Features]  # an index, and those that will be asked for next


@dataclass(frozen=True, eq=False)
class Drawn:
    """A slice and what is drawn on it. frame: brightness (H, W); masks: (objects, H, W) in [0, 1]."""

    index: int
    frame: torch.Tensor
    masks: torch.Tensor


class Guide(Protocol):
    """What a slice's brightness, and the slice before, say of masks that were carried to it."""

    def weigh(self, here: Drawn, before: Drawn) -> torch.Tensor:
        """Its probabilities (objects, H, W) in the light of both."""

    def left(self, here: Drawn) -> torch.Tensor:
        """Bool (objects,): which ones are no longer there."""


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels to add left, right, above and below, so that both sides are multiples of STRIDE with the slice in the middle."""
    across, down = -width % STRIDE, -height % STRIDE
    return across // 2, across - across // 2, down // 2, down - down // 2


def crop(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(..., H, W) without its padding: (..., height, width)."""
    left, _, above, _ = padding(height, width)
    return x[..., above:above + height, left:left + width]


def lowered(device: torch.device, precision: torch.dtype | None):
    """Run the networks in that precision where it serves, or in the weights' own."""
    return nullcontext() if precision is None else torch.autocast(device.type, precision)


@torch.inference_mode()
def encode(network: XMem, images: torch.Tensor, precision: torch.dtype | None = None) -> Features:
    """Slices (B, 1 or 3, H, W), or one without B, in [0, 1]: normalised, padded and encoded. They serve every later round."""
    frames = network.normalise(images if images.ndim == 4 else images[None])
    with lowered(frames.device, precision):
        return network.encode_key(F.pad(frames, padding(*images.shape[-2:])))


class EncodedSlices:
    """index -> Features of a stack. Encoded when first asked for and kept, so that a second round only reads and decodes.

    The large maps are kept in half precision, and given so from the start: every round sees the same. Once `limit` bytes
    are kept, further slices are encoded each time: dropping old ones for them would not help, because a run visits the
    slices in order and would drop each one before its turn comes again.
    """

    def __init__(
        self,
        network: XMem,
        image_of: Callable[[int], torch.Tensor],
        limit: int,
        precision: torch.dtype | None = None,
        batch: int = 1,
    ) -> None:
        """image_of: index -> (1 or 3, H, W) in [0, 1]. batch: how many slices are encoded together."""
        self.network, self.image_of, self.limit, self.precision, self.batch = network, image_of, limit, precision, batch
        self.kept: dict[int, Features] = {}
        self.ahead: dict[int, Features] = {}  # encoded together with one that was due, not asked for yet
        self.nbytes = 0

    def __call__(self, index: int, following: Sequence[int] = ()) -> Features:
        """following: the indices that will be asked for next, in their order."""
        if index not in self.kept and index not in self.ahead:
            due = [index, *(i for i in following[:self.batch - 1] if i not in self.kept)]
            features = encode(self.network, torch.stack([self.image_of(i) for i in due]), self.precision)
            self.ahead = dict(zip(due, split(halved(features, self.precision or torch.float16))))
        if index in self.ahead:
            found = self.ahead.pop(index)
            if self.nbytes + found.nbytes > self.limit:
                return self.opened(found)
            self.kept[index] = found
            self.nbytes += found.nbytes
        return self.opened(self.kept[index])

    def opened(self, features: Features) -> Features:
        """As the networks take them: half precision only where they run in it."""
        if self.precision is not None:
            return features
        return Features(*(x.float() for x in maps(features)))


def maps(features: Features) -> list[torch.Tensor]:
    """All of an encoded slice, in the order of its fields."""
    return [getattr(features, field.name) for field in fields(Features)]


def halved(features: Features, dtype: torch.dtype) -> Features:
    """In two bytes a number, but for what is compared, whose squares need more digits."""
    kept = ("key", "shrinkage", "selection")
    names = (f.name for f in fields(Features) if f.name not in kept)
    return replace(features, **{name: getattr(features, name).to(dtype) for name in names})


def split(features: Features) -> list[Features]:
    """A batch as its slices, each with memory of its own."""
    if len(features.key) == 1:
        return [features]
    return [Features(*(x[n:n + 1].clone() for x in maps(features))) for n in range(len(features.key))]


class Tracker:
    """One run through a stack in one direction: the memory, the hidden state, and how long ago a slice was remembered."""

    def __init__(
        self, network: XMem, config: MemoryConfig, size: tuple[int, int], precision: torch.dtype | None = None
    ) -> None:
        """size: height and width of the slices before padding."""
        self.network, self.config, self.size, self.precision = network, config, size, precision
        self.memory = Memory(config)
        self.hidden: torch.Tensor | None = None  # (1, objects, C, h, w)
        self.since = 0

    @torch.inference_mode()
    def step(self, features: Features, masks: torch.Tensor | None = None, last: bool = False) -> torch.Tensor:
        """Probabilities (objects, H, W) of the next slice.

        masks: (objects, H, W) in [0, 1], what the slice is known to show, or None to predict it. last: nothing follows, so
        that nothing need be remembered.
        """
        self.since += 1
        remember = not last and (masks is not None or self.since >= self.config.every)
        if masks is None:
            logits = self.predict(features, update=not remember and not last)
        else:
            logits = self.accept(features, masks)
        objects = logits.softmax(dim=0)[1:]  # without the background: (objects, H, W), padded
        if remember:
            self.remember(features, objects[None], prompted=masks is not None)
        return crop(objects, *self.size)

    def predict(self, features: Features, update: bool) -> torch.Tensor:
        """Logits of background and objects, read from the memory."""
        if self.hidden is None:
            raise InteractiveSegError("A propagation starts at a slice with a mask: give one with the first slice.")
        readout = self.memory.read(features.key[0], features.selection[0])[None]
        network, precision = self.network, self.precision

        def segment(*inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with lowered(inputs[0].device, precision):
                logits, hidden = network.segment(Features(*inputs[:-2]), *inputs[-2:], update)
            return logits, hidden.float()

        inputs = [*maps(features), readout, self.hidden]
        logits, self.hidden = replayed(network, ("segment", precision, update), segment, *inputs)
        return logits[0]

    def accept(self, features: Features, masks: torch.Tensor) -> torch.Tensor:
        """Logits of background and objects as the caller gave them.

        The hidden state begins anew, as on a run's first slice: refreshing what it was again and again, as the published
        code does where masks follow each other, made the slices after it worse the more masks were given.
        """
        if self.hidden is not None and len(masks) != self.hidden.shape[1]:
            raise InteractiveSegError(f"A slice shows {len(masks)} objects, those before {self.hidden.shape[1]}: give them all.")
        self.hidden = features.key.new_zeros(1, len(masks), self.network.config.hidden, *features.key.shape[2:])
        return aggregate(F.pad(masks.to(features.key), padding(*self.size)))

    def remember(self, features: Features, objects: torch.Tensor, prompted: bool) -> None:
        """Write the slice with its masks (1, objects, H, W) to the memory, and refresh the hidden state by it."""
        network, precision = self.network, self.precision

        def encode_value(*inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with lowered(inputs[0].device, precision):
                value, hidden = network.encode_value(Features(*inputs[:-2]), *inputs[-2:])
            return value.float(), hidden.float()

        inputs = [*maps(features), self.hidden, objects]
        value, self.hidden = replayed(network, ("value", precision), encode_value, *inputs)
        self.memory.write(features.key[0], features.shrinkage[0], features.selection[0], value[0], prompted)
        self.since = 0


def sweep(
    tracker: Tracker, encode_slice: Encode, masks: Mapping[int, torch.Tensor], indices: range, patience: int, guide: Guide | None
) -> Iterator[tuple[int, torch.Tensor]]:
    """(index, probabilities (objects, H, W)) along `indices`, of which the first has a mask; every mask met is taken in.

    When no mask is ahead, an object that the guide finds left stays away, and the run ends after `patience` slices in a row that
    show nothing. The memory keeps the network's own masks: weighed ones drifted away.
    """
    ahead = set(indices) & set(masks)
    nothing, there, before = 0, 1.0, None
    for n, index in enumerate(indices):
        features = encode_slice(index, indices[n + 1:])
        found = tracker.step(features, masks.get(index), last=index == indices[-1])
        here = Drawn(index, crop(features.frame[0, 0], *tracker.size).float(), found)
        if guide is not None and index not in masks:
            here = replace(here, masks=guide.weigh(here, before))
            if not ahead:
                there = there * ~guide.left(here)[:, None, None]
            here = replace(here, masks=here.masks * there)
        found, before = here.masks, here
        yield index, found
        ahead.discard(index)
        nothing = 0 if (found > 0.5).any() else nothing + 1
        if nothing >= patience and not ahead:
            return


def propagate(
    network: XMem,
    encode_slice: Encode,
    masks: Mapping[int, torch.Tensor],
    extent: range,
    config: MemoryConfig = PUBLISHED,
    patience: int = 3,
    precision: torch.dtype | None = None,
    guide: Guide | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Masks of some slices carried through `extent`: (index, probabilities (objects, H, W)), a slice at a time.

    Up from the lowest slice with a mask, then down from the highest with a fresh memory. A slice between two with masks is
    yielded twice; the second time both runs are fused, each weighted by how near its mask is. The slices with masks come
    as they were given. Beyond the outermost masks a run ends after `patience` slices in a row that show nothing; slices that are
    never yielded hold nothing. The caller may stop at any slice.

    encode_slice: see `EncodedSlices`. masks: index -> (objects, H, W) in [0, 1], all of one size. extent: consecutive
    indices, rising. precision: of the networks, see `lowered`.
    """
    given = sorted(masks)
    if not given or given[0] not in extent or given[-1] not in extent:
        reach = f"slices {extent.start} to {extent.stop - 1}"
        raise InteractiveSegError(f"A propagation through {reach} needs masks on some of them and nowhere else, not on {given}.")
    size = tuple(masks[given[0]].shape[-2:])
    upward, downward = range(given[0], extent.stop), range(given[-1], extent.start - 1, -1)
    rising: dict[int, torch.Tensor] = {}
    for index, found in sweep(Tracker(network, config, size, precision), encode_slice, masks, upward, patience, guide):
        if index < given[-1]:
            rising[index] = found
        yield index, masks[index].to(found) if index in masks else found
    for index, found in sweep(Tracker(network, config, size, precision), encode_slice, masks, downward, patience, guide):
        if index in masks:
            continue
        if index > given[0]:
            below = max(i for i in given if i < index)
            above = min(i for i in given if i > index)
            share = (above - index) / (above - below)
            found = share * rising[index] + (1 - share) * found
        yield index, found
