"""A volume from examples alone: every slice answered, or key slices that are carried to the others. Makes rows and a table."""
from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..context import ContextSet
from ..key_slices import answer_volume
from ..session import InteractiveSession
from .metrics import dice, mean_interval
from .volumes.items import Volume

CASES = 3  # volumes of other subjects that give the examples, all their slices with true masks
WAYS = {"every slice": True, "key slices, carried": False}
COLUMNS = ("task", "way", "pack", "subject", "source", "slices", "dice", "seconds")


def run_volumes(volumes: Sequence[Volume], targets: int, path: Path, device: str, weights: Path | None) -> Iterator[dict]:
    """One row per volume and way; written to the CSV at `path` as they come, and yielded. `targets` volumes per task."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        for task in dict.fromkeys(volume.task for volume in volumes):
            members = [volume for volume in volumes if volume.task == task]
            for volume in members[:targets]:
                for row in rows_of(volume, [other for other in members if other.subject != volume.subject], device, weights):
                    writer.writerow(row)
                    yield row
                file.flush()


def rows_of(volume: Volume, others: Sequence[Volume], device: str, weights: Path | None) -> Iterator[dict]:
    """Both ways on one volume, with a session of its own each; none where no other subject has examples."""
    given = list({other.subject: other for other in others}.values())[:CASES]
    if not given:
        return
    context = ContextSet()
    for other in given:
        for index in np.flatnonzero(other.truth.any(axis=(1, 2))):
            context.add(other.image[index], other.truth[index], other.spacing[1:])
    for way, every_slice in WAYS.items():
        session = InteractiveSession(volume.image, volume.spacing, model="multiverseg", mode="always", context=context,
                                     axis="K", device=device, weights=weights)
        session.warm_up()
        begin = time.perf_counter()
        for _ in answer_volume(session, every_slice=every_slice):
            pass
        seconds = time.perf_counter() - begin
        yield {"task": volume.task, "way": way, "pack": volume.pack, "subject": volume.subject, "source": volume.source,
               "slices": len(volume.image), "dice": round(float(dice(session.mask, volume.truth)), 4),
               "seconds": round(seconds, 3)}


def volume_table(rows: Sequence[dict]) -> str:
    """Markdown: a line per task and one for their mean; both ways beside each other."""
    lines = ["| task | volumes | slices | " + " | ".join(f"{way}: Dice | s" for way in WAYS) + " |",
             "|---|---:|---:|" + "---|---:|" * len(WAYS)]
    for task in (*dict.fromkeys(row["task"] for row in rows), None):
        cells = []
        for way in WAYS:
            own = [row for row in rows if row["way"] == way and task in (None, row["task"])]
            columns = ([row[name] for row in own] for name in ("task", "pack", "subject"))
            mean, low, high = mean_interval([row["dice"] for row in own], *columns)
            cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}] | {np.mean([row['seconds'] for row in own]):.1f}")
        slices = np.mean([row["slices"] for row in own])
        lines.append(f"| {task or 'mean of tasks'} | {len(own)} | {slices:.0f} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Before any prompt; examples: all slices of {CASES} volumes of other subjects; [95 % interval "
                              "over subjects]; s: mean seconds a volume."])
