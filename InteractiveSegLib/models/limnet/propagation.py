"""Carry masks from some slices of a stack to the others, slice by slice, with XMem's networks and memory.

It knows tensors and slice numbers; where slices come from, and what becomes of the masks, is the caller's.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch.nn import functional as F

from ...types import InteractiveSegError
from .memory import PUBLISHED, Memory, MemoryConfig
from .xmem import STRIDE, Features, XMem, aggregate

Encode = Callable[[int], Features]


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels to add left, right, above and below, so that both sides are multiples of STRIDE with the slice in the middle."""
    across, down = -width % STRIDE, -height % STRIDE
    return across // 2, across - across // 2, down // 2, down - down // 2


def crop(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(..., H, W) without its padding: (..., height, width)."""
    left, _, above, _ = padding(height, width)
    return x[..., above:above + height, left:left + width]


@torch.inference_mode()
def encode(network: XMem, image: torch.Tensor) -> Features:
    """A slice (1 or 3, H, W) in [0, 1], normalised, padded and encoded. Keep it: it serves every later round."""
    frame = network.normalise(image[None])
    return network.encode_key(F.pad(frame, padding(*image.shape[-2:])))


class EncodedSlices:
    """index -> Features of a stack. Encoded when first asked for and kept, so that a second round only reads and decodes.

    Once `limit` bytes are kept, further slices are encoded each time: dropping old ones for them would not help, because a
    run visits the slices in order and would drop each one before its turn comes again.
    """

    def __init__(self, network: XMem, image_of: Callable[[int], torch.Tensor], limit: int) -> None:
        """image_of: index -> (1 or 3, H, W) in [0, 1]."""
        self.network, self.image_of, self.limit = network, image_of, limit
        self.kept: dict[int, Features] = {}
        self.nbytes = 0

    def __call__(self, index: int) -> Features:
        if index in self.kept:
            return self.kept[index]
        features = encode(self.network, self.image_of(index))
        if self.nbytes + features.nbytes <= self.limit:
            self.kept[index] = features
            self.nbytes += features.nbytes
        return features


class Tracker:
    """One run through a stack in one direction: the memory, the hidden state, and how long ago a slice was remembered."""

    def __init__(self, network: XMem, config: MemoryConfig, size: tuple[int, int]) -> None:
        """size: height and width of the slices before padding."""
        self.network, self.config, self.size = network, config, size
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
        logits, self.hidden = self.network.segment(features, readout, self.hidden, update)
        return logits[0]

    def accept(self, features: Features, masks: torch.Tensor) -> torch.Tensor:
        """Logits of background and objects as the caller gave them."""
        if self.hidden is None:
            shape = (1, len(masks), self.network.config.hidden, *features.key.shape[2:])
            self.hidden = features.key.new_zeros(shape)
        elif len(masks) != self.hidden.shape[1]:
            raise InteractiveSegError(f"A slice shows {len(masks)} objects, those before {self.hidden.shape[1]}: give them all.")
        return aggregate(F.pad(masks.to(features.key), padding(*self.size)))

    def remember(self, features: Features, objects: torch.Tensor, prompted: bool) -> None:
        """Write the slice with its masks (1, objects, H, W) to the memory, and refresh the hidden state by it."""
        value, self.hidden = self.network.encode_value(features, self.hidden, objects)
        self.memory.write(features.key[0], features.shrinkage[0], features.selection[0], value[0], prompted)
        self.since = 0


def sweep(
    tracker: Tracker, encode_slice: Encode, masks: Mapping[int, torch.Tensor], indices: range, patience: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """(index, probabilities (objects, H, W)) along `indices`, of which the first has a mask; every mask met is taken in.

    Ends early after `patience` slices in a row that show nothing, if no mask is ahead.
    """
    ahead = set(indices) & set(masks)
    nothing = 0
    for index in indices:
        found = tracker.step(encode_slice(index), masks.get(index), last=index == indices[-1])
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
) -> Iterator[tuple[int, torch.Tensor]]:
    """Masks of some slices carried through `extent`: (index, probabilities (objects, H, W)), a slice at a time.

    Up from the lowest slice with a mask, then down from the highest with a fresh memory. A slice between two with masks is
    yielded twice; the second time both runs are fused, each weighted by how near its mask is. The slices with masks come
    as they were given. Beyond the outermost masks a run ends after `patience` slices in a row that show nothing; slices
    that are never yielded hold nothing. The caller may stop at any slice.

    encode_slice: index -> Features, see `EncodedSlices`. masks: index -> (objects, H, W) in [0, 1], all of one size.
    extent: consecutive indices, rising.
    """
    given = sorted(masks)
    if not given or given[0] not in extent or given[-1] not in extent:
        reach = f"slices {extent.start} to {extent.stop - 1}"
        raise InteractiveSegError(f"A propagation through {reach} needs masks on some of them and nowhere else, not on {given}.")
    size = tuple(masks[given[0]].shape[-2:])
    upward, downward = range(given[0], extent.stop), range(given[-1], extent.start - 1, -1)
    rising: dict[int, torch.Tensor] = {}
    for index, found in sweep(Tracker(network, config, size), encode_slice, masks, upward, patience):
        if index < given[-1]:
            rising[index] = found
        yield index, masks[index].to(found) if index in masks else found
    for index, found in sweep(Tracker(network, config, size), encode_slice, masks, downward, patience):
        if index in masks:
            continue
        if index > given[0]:
            below = max(i for i in given if i < index)
            above = min(i for i in given if i > index)
            share = (above - index) / (above - below)
            found = share * rising[index] + (1 - share) * found
        yield index, found
