"""What was computed of a context's entries, kept for the next case: arrays in the process, numbers in the set too. No network."""
from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from .entry import EntryInfo
from .memory import ContextSet
from .selection import describe

LIMIT = 256 * 2**20  # bytes of all that is kept in the process
SMALL = 512  # bytes that a number takes with its key, about


class Kept:
    """Values by key, those that were not used for the longest forgotten first. limit: bytes. Threads may share it."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.held = limit, 0
        self._values: OrderedDict[tuple, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple, make: Callable[[], Any]) -> Any:
        """The value of this key, made where it is not there: a number, an array, or a tuple of them, not to be written to."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self.held += size_of(value)
            while self.held > self.limit:
                self.held -= size_of(self._values.popitem(last=False)[1])
        return value


def size_of(value: Any) -> int:
    """Bytes, about."""
    parts = value if isinstance(value, tuple) else (value,)
    return SMALL + sum(part.nbytes for part in parts if isinstance(part, np.ndarray))


kept = Kept()  # of the process


def description_of(context: ContextSet, info: EntryInfo) -> np.ndarray | None:
    """The vector that an entry is chosen by; None where its pixels are damaged, of which the context warns."""
    return kept.get(("description", info.id, info.sha256),
                    lambda: next((describe(entry.image) for entry in context.whole([info.id])), None))


def number_of(context: ContextSet, entry_id: str, key: str, make: Callable[[], float]) -> float:
    """A number that took a network to find, so that the next process does not look for it again.

    key: all that it depends on besides the entry, shortened to a hash.
    """

    def find() -> float:
        number = context.recall(entry_id, key)
        if number is None:
            number = float(make())
            context.remember(entry_id, key, number)
        return number

    return kept.get((entry_id, key), find)
