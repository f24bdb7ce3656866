"""A context set in memory; the store's sets behave the same."""
from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from ..types import InteractiveSegError
from .entry import ContextEntry, EntryInfo, Provenance, make_entry


class ContextSet:
    """Examples of one task, in the order in which they were accepted."""

    def __init__(self) -> None:
        self.salt = secrets.token_bytes(16)
        self.kept: dict[str, ContextEntry] = {}
        self.numbers: dict[tuple[str, str], float] = {}

    def digest(self, text: str) -> str:
        """A hash for a case's name or path, 32 hexadecimal digits. It is keyed with this set's secret: who has an exported file
        cannot check guesses of names, but who has a store has its key and can."""
        return hashlib.sha256(self.salt + text.encode("utf8")).hexdigest()[:32]

    def add(self, image: np.ndarray, mask: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0),
            affine: np.ndarray | None = None, provenance: Provenance | None = None) -> EntryInfo:
        """Keep a slice and its mask. image: (rows, columns) numeric; mask: the same shape, bool or probabilities (cut at 0.5).

        spacing: (row, column) in mm. affine: 4x4 of the volume, (i, j, k, 1) -> RAS mm.
        """
        entry = make_entry(image, mask, spacing, affine, provenance)
        self.put([entry])
        return entry.info

    def enabled(self) -> list[ContextEntry]:
        """The entries that a prediction uses."""
        return list(self.whole(info.id for info in self.infos() if info.enabled))

    def __len__(self) -> int:
        return len(self.infos())

    def put(self, entries: Iterable[ContextEntry]) -> None:
        """Add whole entries, all of them or none."""
        self.kept.update({entry.info.id: entry for entry in entries})

    def ids(self) -> tuple[str, ...]:
        """Of every entry, damaged ones too."""
        return tuple(self.kept)

    def infos(self) -> tuple[EntryInfo, ...]:
        """Every entry but for the pixels. Damaged ones are left out, with a warning that says how to remove them."""
        return tuple(entry.info for entry in self.kept.values())

    def whole(self, ids: Iterable[str]) -> Iterator[ContextEntry]:
        """Those of some entries that are still there, one after the other. Damaged ones are left out in the same way."""
        return (self.kept[entry_id] for entry_id in ids if entry_id in self.kept)

    def read(self, entry_id: str) -> ContextEntry:
        """One entry with its pixels."""
        if entry_id not in self.kept:
            raise unknown(entry_id)
        return self.kept[entry_id]

    def set_enabled(self, entry_id: str, enabled: bool) -> None:
        """Let predictions use an entry, or not."""
        entry = self.read(entry_id)
        self.kept[entry_id] = replace(entry, info=replace(entry.info, enabled=enabled))

    def remove(self, *entry_ids: str) -> None:
        """Forget entries, all of them or none."""
        for entry_id in entry_ids:
            self.read(entry_id)
        for entry_id in entry_ids:
            self.kept.pop(entry_id, None)

    def recall(self, entry_id: str, key: str) -> float | None:
        """What was remembered of an entry under a key; None where nothing was."""
        return self.numbers.get((entry_id, key))

    def remember(self, entry_id: str, key: str, number: float) -> None:
        """Keep a number beside an entry for as long as the entry is there."""
        self.numbers[entry_id, key] = number


def unknown(entry_id: str) -> InteractiveSegError:
    return InteractiveSegError(f"The context holds no entry {entry_id!r}: list the entries and choose one of them.")
