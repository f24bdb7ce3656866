"""Which round of propagation each slice came from, in words. Knows no Qt and no session."""
from __future__ import annotations

import numpy as np

AXES = "KJI"


def rounds_line(rounds) -> str:
    """One line of an InteractiveSegLib Rounds; "" for None."""
    if rounds is None:
        return ""
    known = np.zeros(rounds.source.shape[1], bool)
    for indices in rounds.known:
        known[sorted(indices)] = True
    newest = np.where(known, 0, rounds.source.max(axis=0))
    parts = [f"yours {_ranges(np.flatnonzero(known))}"] if known.any() else []
    parts += [f"round {n} {_ranges(np.flatnonzero(newest == n))}" for n in range(1, rounds.count + 1) if (newest == n).any()]
    return f"Slices {AXES[rounds.axis]}: {'; '.join(parts)}."


def _ranges(indices) -> str:
    """Such as 3, 5-9."""
    parts = np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)
