"""How far a mask is carried: an object's widest slice is given as it is, and followed both ways. Makes rows and a table."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...session import InteractiveSession
from ..metrics import dice
from .items import Volume

GOOD = 0.7  # Dice of a slice that counts as reached
DISTANCES = (1, 2, 4, 8)  # slices from the given one
METHODS = ("LIM-Net", "the mask copied")


def widest(truth: np.ndarray) -> int:
    """The slice (k) that shows most of an object, bool (k, j, i)."""
    return int(truth.sum(axis=(1, 2)).argmax())


def carried(volume: Volume, memory: Path | None = None, device: str = "auto") -> np.ndarray:
    """The widest slice's true mask carried through the volume by a session; bool (k, j, i). memory: a file of XMem's weights."""
    session = InteractiveSession(volume.image, spacing=volume.spacing, axis=0, device=device)
    given = np.zeros(volume.truth.shape, bool)
    given[widest(volume.truth)] = volume.truth[widest(volume.truth)]
    session.set_mask(given)
    for _ in session.propagate(fuse=False, weights=memory):
        pass
    return np.asarray(session.mask)


def copied(volume: Volume) -> np.ndarray:
    """The same mask on every slice: what costs nothing."""
    return np.broadcast_to(volume.truth[widest(volume.truth)], volume.truth.shape)


def measure(volume: Volume, mask: np.ndarray) -> dict[str, float]:
    """What of the object's other slices was reached.

    reached: slices one after another, both ways together, whose Dice is GOOD or better; of: how many there are; dice: mean of
    them all; dice_N: mean of the slices N away that show the object, NaN where none does.
    """
    start, shown = widest(volume.truth), set(np.flatnonzero(volume.truth.any(axis=(1, 2))).tolist())
    found = {index: dice(mask[index], volume.truth[index]) for index in shown - {start}}
    reached = 0
    for step in (-1, 1):
        index = start + step
        while found.get(index, 0) >= GOOD:
            reached, index = reached + 1, index + step
    near = {n: [found[index] for index in (start - n, start + n) if index in found] for n in DISTANCES}
    curve = {f"dice_{n}": mean(values) for n, values in near.items()}
    return {"reached": reached, "of": len(found), "dice": mean(list(found.values())), **curve}


def evaluate(volumes: Sequence[Volume], memory: Path | None = None, device: str = "auto") -> Iterator[dict]:
    """One row per volume and method, as soon as it is known."""
    for volume in volumes:
        for method, mask in zip(METHODS, (carried(volume, memory, device), copied(volume))):
            about = {"task": volume.task, "subject": volume.subject, "source": volume.source, "method": method}
            yield {**about, **{key: round(value, 4) for key, value in measure(volume, mask).items()}}


def mean(values: Sequence[float]) -> float:
    """NaN of nothing, without a warning."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def table(rows: Sequence[dict]) -> str:
    """Markdown: per task and method the mean of the volumes."""
    head = ["task", "n", "method", f"slices reached (Dice {GOOD})", "of", *(f"Dice {n} away" for n in DISTANCES), "Dice, all"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for task in sorted({row["task"] for row in rows}):
        for method in dict.fromkeys(row["method"] for row in rows):
            own = [row for row in rows if row["task"] == task and row["method"] == method]
            cells = [f"{mean([row[key] for row in own]):.1f}" for key in ("reached", "of")]
            cells += [f"{mean([row[key] for row in own]):.2f}" for key in (*(f"dice_{n}" for n in DISTANCES), "dice")]
            lines.append("| " + " | ".join([task, str(len(own)), method, *(c.replace("nan", "-") for c in cells)]) + " |")
    return "\n".join(lines)
