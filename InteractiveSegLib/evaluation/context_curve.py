"""The paper's second experiment and the choice of examples: Dice from a context alone, without prompts. Makes rows, no tables."""
from __future__ import annotations

import csv
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..context import ContextEntry, ContextSet
from ..context.selection import choose_described, describe
from .metrics import dice
from .tasks import Item, by_task, subjects_in_turn

SIZES = (1, 2, 4, 8, 16, 32, 64)
WAYS = ("random", "chosen")
COLUMNS = ("method", "task", "way", "size", "draw", "pack", "subject", "source", "slice", "pool", "dice", "seconds")


class Automatic(Protocol):
    """Segments a slice from examples alone; see annotators.MultiverSeg and annotators.UniverSeg."""

    name: str

    def predict(self, examples: Sequence[ContextEntry], image: np.ndarray,
                spacing: tuple[float, float] | None = None) -> np.ndarray: ...


def run_contexts(methods: Sequence[Automatic], items: Sequence[Item], sizes: Sequence[int], ways: Sequence[str], targets: int,
                 draws: int, path: Path, seed: int = 0) -> Iterator[dict]:
    """One row per method, target, size, way and draw; written to the CSV at `path` as they come, and yielded.

    Examples are slices of other subjects with their true masks; the random ones of a draw come in one order, so that a larger
    context holds the smaller ones. `targets` slices per task, of different subjects as far as there are. A size that has not
    enough examples is left out for that task; a choice ("chosen") is made once, from all of them.
    """
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        for members in by_task(items).values():
            entries = examples_of(members)
            vectors = np.array([describe(item.image) for item in members])
            rng = np.random.default_rng([seed, zlib.crc32(members[0].task.encode())])
            for n in subjects_in_turn(members, rng)[:targets]:
                pool = [i for i, other in enumerate(members) if other.subject != members[n].subject]
                for way, draw, order in _orders(members[n], pool, vectors, n, ways, draws, max(sizes), seed):
                    for row in _rows(methods, members[n], entries, pool, sizes, way, draw, order):
                        writer.writerow(row)
                        yield row
                file.flush()


def examples_of(items: Sequence[Item]) -> list[ContextEntry]:
    """The items as context entries with their true masks, in their order."""
    context = ContextSet()
    for item in items:
        context.add(item.image, item.truth, item.spacing or (1.0, 1.0))
    return context.enabled()


def _orders(item: Item, pool: list[int], vectors: np.ndarray, n: int, ways: Sequence[str], draws: int, most: int,
            seed: int) -> Iterator[tuple[str, int, list[int]]]:
    """(way, draw, the pool's items in the order in which they are taken)."""
    if "random" in ways:
        for draw in range(draws):
            rng = np.random.default_rng([seed, draw, zlib.crc32(f"{item.task}/{item.source}/{item.slice_index}".encode())])
            yield "random", draw, [pool[i] for i in rng.permutation(len(pool))[:most]]
    if "chosen" in ways and pool:
        yield "chosen", 0, [pool[i] for i in choose_described(vectors[pool], vectors[n], most)]


def _rows(methods: Sequence[Automatic], item: Item, entries: Sequence[ContextEntry], pool: list[int], sizes: Sequence[int],
          way: str, draw: int, order: list[int]) -> Iterator[dict]:
    for size in sizes:
        if size > len(order):
            continue
        for method in methods:
            begin = time.perf_counter()
            found = method.predict([entries[i] for i in order[:size]], item.image, item.spacing)
            yield {"method": method.name, "task": item.task, "way": way, "size": size, "draw": draw, "pack": item.pack,
                   "subject": item.subject, "source": item.source, "slice": item.slice_index, "pool": len(pool),
                   "dice": round(dice(found, item.truth), 4), "seconds": round(time.perf_counter() - begin, 4)}
