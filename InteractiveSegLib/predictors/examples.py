"""The examples of a context as a network reads them: whole slices, or the surroundings of the object. Knows no prompts."""
from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..context import ContextEntry, ContextSet, EntryInfo
from ..context.kept import description_of, kept
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
    """The entries of a context that may be used. Each is read when it is needed; what was made of it is kept for the next case.

    network: models.multiverseg.ContextNetwork. budget: the most examples that one prediction uses; where there are more, those
    that are most useful for its slice. window: intensities (low, high), or None for each slice's percentiles.
    """

    def __init__(self, network, context: ContextSet | None, budget: int, plan: MemoryPlan = DEFAULT_PLAN,
                 window: Window = None) -> None:
        self.network, self.context, self.budget, self.plan, self.window = network, context, budget, plan, window
        self._infos: dict[str, EntryInfo] = {}
        self._encoded: OrderedDict[tuple[Ids, float | None], NetworkWithContext] = OrderedDict()

    def ids(self) -> Ids:
        """Of the entries that may be used, oldest first."""
        if self.context is None:
            return ()
        self._infos = {info.id: info for info in self.context.infos()
                       if info.enabled and description_of(self.context, info) is not None}
        return tuple(self._infos)

    def side(self, ids: Ids) -> float:
        """How large the object usually is, mm."""
        return float(np.median([self._kept(entry_id, object_side) for entry_id in ids]))

    def cases(self, ids: Ids) -> list[Ids]:
        """The same, the slices of a case together; cases in the order of their first slices."""
        grouped: dict[str, list[str]] = {}
        for entry_id in ids:
            grouped.setdefault(self._infos[entry_id].provenance.case or entry_id, []).append(entry_id)
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
        descriptions = np.stack([description_of(self.context, self._infos[entry_id]) for entry_id in ids])
        return tuple(ids[n] for n in sorted(choose_described(descriptions, describe(image), self.budget)))

    def _with(self, ids: Ids, side: float | None) -> NetworkWithContext:
        """Encoded once for all slices that use the same."""
        if (ids, side) not in self._encoded:
            shown = [self._cropped(entry_id, side) for entry_id in ids]
            encoded = self.network.encode(*(np.stack(maps) for maps in zip(*shown)))
            self._encoded[ids, side] = NetworkWithContext(self.network, encoded, self.plan)
            while len(self._encoded) > 1 and sum(one.encoded.nbytes for one in self._encoded.values()) > KEPT:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end((ids, side))
        return self._encoded[ids, side]

    def _cropped(self, entry_id: str, side: float | None) -> tuple[np.ndarray, np.ndarray]:
        return self._kept(entry_id, self._shown, side)

    def _kept(self, entry_id: str, make, *more: Any) -> Any:
        """What `make(entry, *more)` gives, of whichever session asked first."""
        info, size = self._infos[entry_id], self.network.size
        key = (make.__name__, info.id, info.sha256, info.shape, info.spacing, size, self.window, *more)
        return kept.get(key, lambda: make(self.context.read(entry_id), *more))

    def _shown(self, entry: ContextEntry, side: float | None) -> tuple[np.ndarray, np.ndarray]:
        """The entry on the network's canvas, by the same path as the slice that it is an example for."""
        shape, spacing = entry.image.shape, entry.info.spacing
        if side == WHOLE:
            canvas = Canvas(shape, spacing, self.network.size)
        else:
            canvas = surroundings(shape, spacing, self.network.size, middle_of(entry), side or object_side(entry))
        return canvas.shrink(normalise(entry.image, self.window)), canvas.shrink(entry.mask.astype(np.float32)) > 0.5


def surroundings(shape: tuple[int, int], spacing: tuple[float, float], size: int, middle: tuple[float, float],
                 side: float) -> Canvas:
    """A canvas around (row, column) for an object of so many mm, never finer than the slice's own pixels."""
    reach = max(side * AROUND, size * min(spacing)) / 2 / np.array(spacing)  # pixels
    return Canvas(shape, spacing, size, (*(middle - reach), *(middle + reach)))


def object_side(entry: ContextEntry) -> float:
    """The longer side of the largest part of an entry's mask, mm."""
    return side_of(*bounding_box(largest_part(entry.mask)[1]), entry.info.spacing)


def middle_of(entry: ContextEntry) -> tuple[float, float]:
    """(row, column) of the slice, deepest in the largest part of the mask."""
    corner, part = largest_part(entry.mask)
    row, column = np.unravel_index(int(depth(part).argmax()), part.shape)
    return corner[0] + row + 0.5, corner[1] + column + 0.5


def largest_part(mask: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Where the mask's box begins, and the mask's largest component in that box: what lies outside needs no looking at."""
    start, stop = bounding_box(mask)
    if start == stop:
        return start, np.zeros((1, 1), bool)
    return start, largest_component(mask[tuple(slice(a, b) for a, b in zip(start, stop))])


def side_of(start: tuple[int, ...], stop: tuple[int, ...], spacing: tuple[float, float]) -> float:
    """The longer side of a half-open box of pixels, mm."""
    return float(max((b - a) * step for a, b, step in zip(start, stop, spacing)))
