"""XMem's memory: cells with a key, a value and a record of their use; read by similarity, compressed when full.

It knows tensors of one run through one stack and no network. A cell is one place (16 x 16 pixels) of a remembered slice,
or a prototype that stands for many.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch.nn import functional as F

from ...types import InteractiveSegError


@dataclass(frozen=True)
class MemoryConfig:
    """How much is remembered. Published: these values (LIM-Net uses the same).

    every: slices from one remembered slice to the next. t_min, t_max: slices in the working memory after and before it is
    compressed, one prompted slice among them; further prompted ones come on top. prototypes: cells that a compression
    leaves. long_limit: cells in the long-term memory. top_k: cells that answer a query.
    """

    every: int = 5
    t_min: int = 5
    t_max: int = 10
    prototypes: int = 128
    long_limit: int = 10000
    top_k: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.t_min < self.t_max or min(self.every, self.prototypes, self.top_k) < 1:
            raise InteractiveSegError(f"A memory needs 1 <= t_min < t_max and at least one of all else, not {self}.")
        if self.long_limit <= self.prototypes:
            raise InteractiveSegError(f"A long-term memory of {self.long_limit} cells cannot take {self.prototypes} prototypes.")


PUBLISHED = MemoryConfig()


@dataclass
class Cells:
    """N memory cells, the last axis of every tensor. An object is a row of `value`."""

    key: torch.Tensor  # (C, N)
    shrinkage: torch.Tensor  # (1, N)
    selection: torch.Tensor  # (C, N)
    value: torch.Tensor  # (objects, D, N)
    use: torch.Tensor  # (N,), the weights that queries gave to the cell, summed
    life: torch.Tensor  # (N,), how many times the memory was read since the cell is in it

    def __len__(self) -> int:
        return self.key.shape[-1]

    @property
    def usage(self) -> torch.Tensor:
        """Use per reading, (N,)."""
        return self.use / self.life

    def take(self, index: torch.Tensor | slice) -> Cells:
        """The cells at those positions, or where a mask is set."""
        return Cells(*(getattr(self, field.name)[..., index] for field in fields(self)))


def joined(*groups: Cells | None) -> Cells:
    """The cells of all groups there are, one group after the other."""
    present = [group for group in groups if group is not None]
    if len(present) == 1:
        return present[0]
    return Cells(*(torch.cat([getattr(group, field.name) for group in present], dim=-1) for field in fields(Cells)))


def fresh(key: torch.Tensor, shrinkage: torch.Tensor, selection: torch.Tensor, value: torch.Tensor) -> Cells:
    """Cells that nobody has read yet."""
    unused = torch.zeros_like(shrinkage[0])
    return Cells(key, shrinkage, selection, value, use=unused, life=unused + 1e-7)


def remembered(key: torch.Tensor, shrinkage: torch.Tensor) -> torch.Tensor:
    """The memory's side of `similarity`, (2C + 1, N), from key (C, N) and shrinkage (1, N)."""
    return torch.cat([key**2, key, torch.ones_like(shrinkage)]) * (shrinkage / math.sqrt(len(key)))


def asked(query: torch.Tensor, selection: torch.Tensor) -> torch.Tensor:
    """A slice's side of `similarity`, (Q, 2C + 1), from query and selection (C, Q)."""
    wanted = selection * query
    return torch.cat([-selection, 2 * wanted, -(wanted * query).sum(dim=0, keepdim=True)]).t()


def similarity(key: torch.Tensor, shrinkage: torch.Tensor, query: torch.Tensor, selection: torch.Tensor) -> torch.Tensor:
    """Anisotropic L2 (XMem, eq. 2), at most 0: (Q, N).

    key (C, N) and shrinkage (1, N) of the memory; query and selection (C, Q). The square is expanded, so that one product
    of matrices is all: -s sum(e (k - q)^2) = s (-e k^2 + 2 e q k - e q^2).
    """
    return asked(query, selection) @ remembered(key, shrinkage)


@dataclass(frozen=True)
class Ready:
    """All cells in the order of `Memory.groups` as a reading takes them, from one writing to the next."""

    keys: torch.Tensor  # (2C + 1, N), see `remembered`
    values: torch.Tensor  # (N, objects D)


class Memory:
    """What one run remembers: prompted slices for good, predicted ones until they are compressed, prototypes until useless."""

    def __init__(self, config: MemoryConfig) -> None:
        self.config = config
        self.prompted: Cells | None = None
        self.working: Cells | None = None
        self.long: Cells | None = None
        self.ready: Ready | None = None

    @property
    def groups(self) -> list[Cells]:
        """What there is of the three, in the order in which they are read."""
        return [cells for cells in (self.long, self.prompted, self.working) if cells is not None]

    def write(
        self, key: torch.Tensor, shrinkage: torch.Tensor, selection: torch.Tensor, value: torch.Tensor, prompted: bool
    ) -> None:
        """Remember a slice: key and selection (C, h, w), shrinkage (1, h, w), value (objects, D, h, w)."""
        self.ready = None
        new = fresh(*(x.flatten(-2) for x in (key, shrinkage, selection, value)))
        if prompted:
            self.prompted = joined(self.prompted, new)
            return
        self.working = joined(self.working, new)
        if len(self.working) >= (self.config.t_max - 1) * len(new):
            self.consolidate(len(new))

    def read(self, query: torch.Tensor, selection: torch.Tensor) -> torch.Tensor:
        """What the memory holds for each place of a slice: (objects, D, h, w). query and selection: (C, h, w)."""
        if self.prompted is None:
            raise InteractiveSegError("The memory is empty: write a prompted slice before reading.")
        objects = len(self.prompted.value)
        if self.ready is None:
            cells = joined(*self.groups)
            self.ready = Ready(remembered(cells.key, cells.shrinkage), cells.value.flatten(0, 1).t().contiguous())
        keys, values = self.ready.keys, self.ready.values
        scores = asked(query.flatten(1), selection.flatten(1)) @ keys  # (h w, N)
        count = min(self.config.top_k, len(values))  # small crops have fewer cells
        best, index = scores.topk(count, dim=1, sorted=False)  # (h w, k)
        weights = best.softmax(dim=1)
        self.count(index, weights)
        # A weighted sum of k rows for each place, without a matrix of mostly zeros.
        readout = F.embedding_bag(index, values, mode="sum", per_sample_weights=weights)  # (h w, objects D)
        return readout.t().unflatten(0, (objects, -1)).unflatten(2, query.shape[1:])

    def count(self, index: torch.Tensor, weights: torch.Tensor) -> None:
        """Record which cells answered. index, weights: (h w, k), in the order of `groups`."""
        lengths = [len(cells) for cells in self.groups]
        use = weights.new_zeros(sum(lengths)).index_add_(0, index.flatten(), weights.flatten())
        for cells, share in zip(self.groups, use.split(lengths)):
            cells.use += share
            cells.life += 1

    def consolidate(self, size: int) -> None:
        """Move all but the newest t_min - 1 predicted slices to the long-term memory, as prototypes. size: cells a slice."""
        end = len(self.working) - (self.config.t_min - 1) * size
        candidates, self.working = self.working.take(slice(end)), self.working.take(slice(end, None))
        chosen = candidates.usage.topk(min(self.config.prototypes, len(candidates))).indices
        prototypes = candidates.take(chosen)
        scores = similarity(candidates.key, candidates.shrinkage, prototypes.key, prototypes.selection)
        weights = scores.softmax(dim=1).t()  # (candidates, prototypes): a prototype's value is that of all that are like it
        shrinkage, value = candidates.shrinkage @ weights, candidates.value @ weights
        prototypes = fresh(prototypes.key, shrinkage, prototypes.selection, value)
        self.forget(self.config.long_limit - self.config.prototypes)
        self.long = joined(self.long, prototypes)

    def forget(self, limit: int) -> None:
        """Drop the least used long-term cells until `limit` are left; cells that are equally useless go together."""
        if self.long is None or len(self.long) <= limit:
            return
        worst = self.long.usage.kthvalue(len(self.long) - limit).values
        self.long = self.long.take(self.long.usage > worst)
