"""Rows of the volumes' protocol become a table and a curve. Runs no model."""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..metrics import mean_interval

MEAN = "mean of tasks"


def curves(rows: Sequence[dict]) -> np.ndarray:
    """Dice (rows, rounds)."""
    count = sum(key.startswith("dice_") for key in rows[0])
    return np.array([[float(row[f"dice_{n}"]) for n in range(1, count + 1)] for row in rows])


def table(rows: Sequence[dict]) -> str:
    """Markdown: per task and method that knows it the mean Dice after each round, and the last's 95 % interval over subjects."""
    tasks = sorted({row["task"] for row in rows})
    methods = list(dict.fromkeys(row["method"] for row in rows))
    rounds = curves(rows[:1]).shape[1]
    head = ["task", "n", "method", *(f"Dice({n})" for n in range(1, rounds + 1)), "rounds worse", "s/round"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for group in [*tasks, *[MEAN] * (len(tasks) > 1)]:
        for method in methods:
            own = [row for row in rows if row["method"] == method and group in (row["task"], MEAN)]
            if own:
                lines.append("| " + " | ".join([group, str(len(own)), method, *cells(own)]) + " |")
    return "\n".join(lines)


def cells(rows: Sequence[dict]) -> list[str]:
    """The figures of one row of the table."""
    values = curves(rows)
    where = tuple([row[key] for row in rows] for key in ("task", "pack", "subject"))
    means = [mean_interval(column, *where) for column in values.T]
    shown = [f"{mean:.3f}" for mean, _, _ in means]
    _, low, high = means[-1]
    shown[-1] += "" if np.isnan(low) else f" [{low:.3f}, {high:.3f}]"
    steps = sum(int(row["worse"]) for row in rows), len(rows) * (values.shape[1] - 1)
    seconds = np.mean([float(row["seconds"]) for row in rows])
    return [*shown, f"{steps[0]}/{steps[1]}", f"{seconds:.2f}"]


def plot(rows: Sequence[dict], path: Path, title: str) -> None:
    """PNG: mean Dice of the tasks after each round, per method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        where = tuple([row[key] for row in own] for key in ("task", "pack", "subject"))
        means = [mean_interval(column, *where)[0] for column in curves(own).T]
        axes.plot(np.arange(1, len(means) + 1), means, marker="o", markersize=3, label=method)
    axes.set(xlabel="rounds", ylabel="Dice, mean of tasks", ylim=(0, 1), title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)
