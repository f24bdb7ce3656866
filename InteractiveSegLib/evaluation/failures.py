"""Where a method fails, in words and as a plot: the rows of any experiment here, one dot for each object. Runs no model."""
from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..types import InteractiveSegError

GOAL = 0.9  # Dice
MOST = 15  # structures that are named
KINDS = ("task", "target", "class")  # the column that names a row's structure, in the order of preference
NUMBERED = re.compile(r"dice_(\d+)$")


def read(paths: Sequence[Path], method: str | None = None) -> list[dict]:
    """The rows of one method in CSV files that our commands wrote, by default the first method of each file."""
    found = []
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            known = [(structure(row), final(row)) for row in rows if "method" in row]
        except (OSError, ValueError, TypeError) as error:
            raise InteractiveSegError(f"{path} cannot be read ({error}): give a CSV of rows that a command wrote.") from error
        if not known or any(None in pair for pair in known):
            raise InteractiveSegError(f"{path} has no rows with a method, a structure and a Dice: give a CSV of rows that "
                                      "evaluate, hearts, volumes, refine or experiment wrote.")
        chosen = [row for row in rows if row["method"] == (method or rows[0]["method"])]
        if not chosen:
            names = ", ".join(dict.fromkeys(row["method"] for row in rows))
            raise InteractiveSegError(f"{path} has no method {method!r}: choose one of {names}.")
        found += chosen
    return found


def structure(row: dict) -> str | None:
    """What the row is about: "pack/label", or a label."""
    return next((row[key] for key in KINDS if row.get(key)), None)


def final(row: dict) -> float | None:
    """Dice after the last prompt, or of the only answer."""
    numbered = {int(match[1]): name for name in row if (match := NUMBERED.match(name))}
    name = "dice_end" if "dice_end" in row else numbered[max(numbered)] if max(numbered, default=0) > 0 else "dice"
    return float(row[name]) if name in row else None


def by_structure(rows: Sequence[dict]) -> dict[str, list[float]]:
    """The final Dice of every object, the structure with the lowest mean first."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(structure(row), []).append(final(row))
    return dict(sorted(groups.items(), key=lambda item: np.mean(item[1])))


def describe(rows: Sequence[dict], goal: float = GOAL) -> str:
    """Two or three sentences: how many objects stay below the goal, of which structures and of which hard kinds."""
    groups, values = by_structure(rows), [final(row) for row in rows]
    low = [share(name, dices, goal) for name, dices in groups.items() if min(dices) < goal]
    more = [f"{len(low) - MOST} structures more"] if len(low) > MOST else []
    text = f"{sum(value < goal for value in values)} of {len(values)} objects end below a Dice of {goal:g}"
    text += f": {'; '.join(low[:MOST] + more)}." if low else "."
    fine = [name for name, dices in groups.items() if min(dices) >= goal]
    if fine and low:
        text += f" None of {', '.join(fine)}."
    kinds = {kind for row in rows for kind in row.get("subsets", "").split()}
    hard = [[final(row) for row in rows if kind in row["subsets"].split()] for kind in sorted(kinds)]
    if hard:
        text += f" By kind: {'; '.join(share(kind, dices, goal) for kind, dices in zip(sorted(kinds), hard))}."
    return text


def share(name: str, dices: Sequence[float], goal: float) -> str:
    """"vessel 5 of 5 (mean 0.41, lowest 0.33)"."""
    return f"{name} {sum(d < goal for d in dices)} of {len(dices)} (mean {np.mean(dices):.2f}, lowest {min(dices):.2f})"


def plot(rows: Sequence[dict], path: Path, title: str, goal: float = GOAL) -> None:
    """PNG: one line per structure, one dot per object at its final Dice; those below the goal stand out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = by_structure(rows)
    figure = Figure(figsize=(7, 1.1 + 0.24 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for line, dices in enumerate(groups.values()):
        axes.scatter(dices, np.full(len(dices), line), s=14, alpha=0.6, linewidth=0,
                     color=["tab:red" if dice < goal else "tab:blue" for dice in dices])
        axes.plot([np.mean(dices)], [line], marker="|", markersize=11, color="black")
    axes.axvline(goal, color="gray", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(groups)), list(groups), fontsize=7)
    axes.invert_yaxis()
    axes.set(xlim=(-0.02, 1.02), xlabel="Dice in the end (a bar: the mean)")
    figure.suptitle(title, fontsize=10)
    axes.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=90)
