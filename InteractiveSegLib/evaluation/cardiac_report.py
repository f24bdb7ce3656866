"""Rows about hearts become the tables of VerSe's paper and a Bland-Altman plot. Runs no model."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .cardiac import CAP, PUBLISHED
from .metrics import mean_interval, noc

MEAN, SMALL_SLICES = "mean", "mean, small slices"
NOC_TARGETS = (0.85, 0.90, 0.95)


def grouped(rows: Sequence[dict]) -> Iterable[tuple[str, str, list[dict]]]:
    """(method, target, rows) per method and target, and with the target `mean` where there are several targets."""
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        targets = list(dict.fromkeys(row["target"] for row in own))
        for target in targets:
            yield method, target, [row for row in own if row["target"] == target]
        if len(targets) > 1:
            yield method, MEAN, own


def mean_of(rows: Sequence[dict], key: str) -> float:
    """Mean of the targets' means."""
    targets = dict.fromkeys(row["target"] for row in rows)
    return float(np.mean([np.mean([row[key] for row in rows if row["target"] == target]) for target in targets]))


def with_interval(rows: Sequence[dict], key: str, digits: int) -> str:
    """The same mean with its 95 % interval over subjects, of the rows that have the figure; a dash where none has."""
    known = [row for row in rows if not np.isnan(row[key])]
    if not known:
        return "-"
    columns = ([row["target"] for row in known], [""] * len(known), [row["subject"] for row in known])
    mean, low, high = mean_interval([row[key] for row in known], *columns)
    return f"{mean:.{digits}f}" + ("" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]")


def table_head(words: Sequence[str], numbers: Sequence[str]) -> list[str]:
    """The first two lines of a Markdown table whose last columns are numbers."""
    return [table_row(*words, *numbers), table_row(*["---"] * len(words), *["---:"] * len(numbers))]


def table_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def automatic_table(rows: Sequence[dict]) -> str:
    """Markdown: Mode-1, what absent structures cost."""
    figures = ("volumes", "Dice", "Dice, small slices", "Dice, 3D", "Dice, all slices", "slices without it",
               "drawn there, ml a volume")
    lines = table_head(("method", "structure"), figures)
    for method, target, own in grouped(rows):
        cells = [with_interval(own, key, 3) for key in ("dice", "dice_small")]
        cells += [f"{mean_of(own, key):.3f}" for key in ("dice_3d", "dice_all")]
        last = (f"{sum(row['absent'] for row in own)}", f"{mean_of(own, 'extra_ml'):.2f}")
        lines.append(table_row(method, target, str(len({row["key"] for row in own})), *cells, *last))
    return "\n".join(lines)


def counts(row: dict, target: float, named: bool) -> int:
    """Clicks to that Dice; 0 where an automatic result has it already; a failure counts as CAP."""
    curve = [row[f"dice_{n}"] for n in range(1, CAP + 1)]
    return 0 if named and row["dice_0"] >= target else noc(curve, target, CAP)[0]


def click_table(rows: Sequence[dict], pack: str) -> str:
    """Markdown: Modes 2 and 3 and peers, once more on small slices, then the paper's own numbers for that data set."""
    head = ["Dice(0)", "Dice(1)", "Dice(20)", *(f"NoC{t * 100:.0f}" for t in NOC_TARGETS)]
    lines = table_head(("method", "structure"), ("slices", "subjects", *head))
    groups = list(grouped(rows))
    for method in dict.fromkeys(row["method"] for row in rows):
        small = [row for row in rows if row["method"] == method and row["small"]]
        groups += [(method, SMALL_SLICES, small)] if small else []
    for method, target, own in groups:
        named = any(row["dice_0"] > 0 for row in own)
        filled = [{**row, **{f"noc_{t}": counts(row, t, named) for t in NOC_TARGETS}} for row in own]
        cells = [with_interval(own, "dice_0", 3) if named else "-"]
        cells += [f"{mean_of(own, key):.3f}" for key in ("dice_1", f"dice_{CAP}")]
        cells += [with_interval(filled, f"noc_{t}", 2) for t in NOC_TARGETS]
        lines.append(table_row(method, target, str(len(own)), str(len({row["subject"] for row in own})), *cells))
    for method, figures in next((table for name, table in PUBLISHED.items() if name in pack), {}).items():
        automatic = len(figures) == 1
        shares = [f"{figure / 100:.3f}" for figure in figures[:2]]
        cells = [*shares, *["-"] * (len(head) - 1)] if automatic else ["-", *shares, *(f"{f:.2f}" for f in figures[2:])]
        lines.append(table_row(f"{method}, as published", MEAN, "-", "-", *cells))
    return "\n".join(lines)


def scribble_table(rows: Sequence[dict]) -> str:
    """Markdown: the expert's scribble of the structure beside the robot's centreline, each as the only prompt."""
    lines = table_head(("structure",), ("slices", "Dice, expert's scribble", "Dice, robot's scribble"))
    for _, target, own in grouped([{"method": "", **row} for row in rows]):
        lines.append(table_row(target, str(len(own)), *(f"{mean_of(own, hand):.3f}" for hand in ("expert", "robot"))))
    return "\n".join(lines)


def agreement(fractions: Sequence[dict]) -> tuple[float, float, float]:
    """Mean difference ours - true in percentage points and the 95 % limits of agreement."""
    difference = np.array([f["ours"] - f["true"] for f in fractions])
    spread = 1.96 * difference.std(ddof=1) if len(difference) > 1 else float("nan")
    return float(difference.mean()), float(difference.mean() - spread), float(difference.mean() + spread)


def plot_agreement(fractions: Sequence[dict], path: Path) -> None:
    """Bland-Altman plot of the ejection fraction."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    true, ours = (np.array([f[key] for f in fractions]) for key in ("true", "ours"))
    mean, low, high = agreement(fractions)
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.scatter((true + ours) / 2, ours - true)
    for level, style in ((mean, "-"), (low, "--"), (high, "--")):
        axes.axhline(level, linestyle=style, color="gray", label=f"{level:+.1f}")
    axes.set(xlabel="mean of automatic and reference, %", ylabel="automatic - reference, percentage points",
             title=f"LV ejection fraction, {len(fractions)} subjects")
    axes.legend(loc="upper right")
    figure.savefig(path, dpi=120)
