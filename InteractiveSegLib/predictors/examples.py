"""The examples of a context as a network reads them: whole slices, or the surroundings of the object. Knows no prompts."""
from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from ..context import ContextEntry, ContextSet
from ..context.selection import choose_described, describe
from ..geometry import Canvas, Window, normalise
from ..models.layers.cross_conv import DEFAULT_PLAN, MemoryPlan
from ..models.multiverseg import EncodedContext
from ..robot import depth, largest_component
from ..types import bounding_box

KEPT = 2**28  # bytes of encoded sets of examples; the set that is used now is kept whatever its size
AROUND = 2.6  # sides of the object that its surroundings are wide; the networks learn from 1.3 to 3.5
WHOLE = -1.0  # a side that stands for the whole slice

Ids = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Example:
    """An entry as the network sees it. image: float32, mask: bool, both (size, size). description: the vector it is chosen by.

    middle: (row, column) of the slice, deepest in the largest part of the mask; side: of that part's box, mm. case: the hash of
    its case, or its own id.
    """

    image: np.ndarray
    mask: np.ndarray
    description: np.ndarray
    middle: tuple[float, float]
    side: float
    case: str


@dataclass(frozen=True, eq=False)
class NetworkWithContext:
    """A ContextNetwork with its examples already read, in the place of a network that needs none."""

    network: object
    encoded: EncodedContext
    plan: MemoryPlan

    @property
    def size(self) -> int:
        return self.network.size

    @property
    def refines(self) -> bool:
        return self.network.refines

    def predict(self, images: np.ndarray, prompts: np.ndarray, previous: np.ndarray) -> np.ndarray:
        return self.network.predict(images, prompts, previous, self.encoded, self.plan)


class Examples:
    """The entries of a context that may be used, read once each.

    network: models.multiverseg.ContextNetwork. budget: the most examples that one prediction uses; where there are more, those
    that are most useful for its slice. window: intensities (low, high), or None for each slice's percentiles.
    """

    def __init__(self, network, context: ContextSet | None, budget: int, plan: MemoryPlan = DEFAULT_PLAN,
                 window: Window = None) -> None:
        self.network, self.context, self.budget, self.plan, self.window = network, context, budget, plan, window
        self._read: dict[str, Example] = {}
        self._encoded: OrderedDict[tuple[Ids, float | None], NetworkWithContext] = OrderedDict()

    def ids(self) -> Ids:
        """Of the entries that may be used, oldest first."""
        if self.context is None:
            return ()
        enabled = tuple(info.id for info in self.context.infos() if info.enabled)
        for gone in self._read.keys() - set(enabled):
            del self._read[gone]
        for fresh in (entry_id for entry_id in enabled if entry_id not in self._read):
            self._read[fresh] = example_of(self.context.read(fresh), self.network.size, self.window)
        return enabled

    def side(self, ids: Ids) -> float:
        """How large the object usually is, mm."""
        return float(np.median([self._read[entry_id].side for entry_id in ids]))

    def cases(self, ids: Ids) -> list[Ids]:
        """The same, the slices of a case together; cases in the order of their first slices."""
        grouped: dict[str, list[str]] = {}
        for entry_id in ids:
            grouped.setdefault(self._read[entry_id].case, []).append(entry_id)
        return [tuple(own) for own in grouped.values()]

    def whole(self, ids: Ids, image: np.ndarray) -> NetworkWithContext:
        """The network with those of these examples that are used for a slice (rows, columns), on their whole slices."""
        return self._with(self._chosen(ids, image), WHOLE)

    def around(self, ids: Ids, image: np.ndarray, side: float | None) -> NetworkWithContext:
        """The same with each example's surroundings, of an object of so many mm, or of its own size."""
        return self._with(self._chosen(ids, image), side)

    def _chosen(self, ids: Ids, image: np.ndarray) -> Ids:
        if len(ids) <= self.budget:
            return ids
        descriptions = np.stack([self._read[entry_id].description for entry_id in ids])
        return tuple(ids[n] for n in sorted(choose_described(descriptions, describe(image), self.budget)))

    def _with(self, ids: Ids, side: float | None) -> NetworkWithContext:
        """Encoded once for all slices that use the same."""
        if (ids, side) not in self._encoded:
            shown = [self._cropped(entry_id, side) for entry_id in ids]
            encoded = self.network.encode(*(np.stack(maps) for maps in zip(*shown)))
            self._encoded[ids, side] = NetworkWithContext(self.network, encoded, self.plan)
            while len(self._encoded) > 1 and sum(kept.encoded.nbytes for kept in self._encoded.values()) > KEPT:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end((ids, side))
        return self._encoded[ids, side]

    def _cropped(self, entry_id: str, side: float | None) -> tuple[np.ndarray, np.ndarray]:
        example = self._read[entry_id]
        if side == WHOLE:
            return example.image, example.mask
        entry = self.context.read(entry_id)
        canvas = surroundings(entry.image.shape, entry.info.spacing, self.network.size, example.middle, side or example.side)
        return canvas.shrink(normalise(entry.image, self.window)), canvas.shrink(entry.mask.astype(np.float32)) > 0.5


def surroundings(shape: tuple[int, int], spacing: tuple[float, float], size: int, middle: tuple[float, float],
                 side: float) -> Canvas:
    """A canvas around (row, column) for an object of so many mm, never finer than the slice's own pixels."""
    reach = max(side * AROUND, size * min(spacing)) / 2 / np.array(spacing)  # pixels
    return Canvas(shape, spacing, size, (*(middle - reach), *(middle + reach)))


def example_of(entry: ContextEntry, size: int, window: Window) -> Example:
    """The entry on the network's canvas, by the same path as the slice that it is an example for."""
    spacing = entry.info.spacing
    canvas = Canvas(entry.image.shape, spacing, size)
    part = largest_component(entry.mask)
    start, stop = bounding_box(part)
    middle = np.unravel_index(int(depth(part).argmax()), part.shape)
    return Example(canvas.shrink(normalise(entry.image, window)), canvas.shrink(entry.mask.astype(np.float32)) > 0.5,
                   describe(entry.image), (middle[0] + 0.5, middle[1] + 0.5), side_of(start, stop, spacing),
                   entry.info.provenance.case or entry.info.id)


def side_of(start: tuple[int, ...], stop: tuple[int, ...], spacing: tuple[float, float]) -> float:
    """The longer side of a half-open box of pixels, mm."""
    return float(max((b - a) * step for a, b, step in zip(start, stop, spacing)))
