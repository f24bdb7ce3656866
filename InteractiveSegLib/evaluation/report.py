"""Rows of the protocol become a summary with intervals, a table to read and a curve to look at. Runs no model."""
from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .metrics import TARGETS, mean_interval, noc
from .protocol import SHOWN

ALL_TASKS = "mean of tasks"
SUBSETS = ("small", "thin", "ring", "multi-part", "end-slice")


def write_rows(rows: Iterable[dict], path: Path) -> list[dict]:
    """Write rows to a CSV as they come, so that an interrupted run leaves what it has; returns them all."""
    kept: list[dict] = []
    with path.open("w", newline="") as file:
        for row in rows:
            if not kept:
                writer = csv.DictWriter(file, fieldnames=list(row))
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            kept.append(row)
    return kept


def summarise(rows: Sequence[dict]) -> list[dict]:
    """Per group (each task, the mean of tasks, each hard subset) and method: measure, measure_low, measure_high.

    A hard subset pools its images over all tasks, as some tasks have only one of them.
    Also group, method, images, subjects, unit of HD95, and failed_80.. (images that never reached the target).
    """
    groups = {task: [row for row in rows if row["task"] == task] for task in sorted({row["task"] for row in rows})}
    if len(groups) > 1:
        groups[ALL_TASKS] = list(rows)
    for subset in SUBSETS:
        members = [row for row in rows if subset in row["subsets"].split()]
        if members:
            groups[f"hard: {subset}"] = [
                {**row, "task": subset, "pack": subset, "subject": f"{row['pack']}/{row['subject']}"} for row in members
            ]
    return [
        _summarise_group(group, method, [row for row in members if row["method"] == method])
        for group, members in groups.items()
        for method in _methods(rows)
    ]


def _summarise_group(group: str, method: str, rows: list[dict]) -> dict:
    tasks, packs, subjects = ([row[key] for row in rows] for key in ("task", "pack", "subject"))
    curves = np.array([_curve(row) for row in rows])
    cap = curves.shape[1]
    values: dict[str, list[float]] = {f"dice_{n}": curves[:, n - 1] for n in SHOWN if n <= cap}
    summary = {
        "group": group,
        "method": method,
        "images": len(rows),
        "subjects": len(set(zip(packs, subjects))),
        "unit": "/".join(sorted({row["unit"] for row in rows})),
    }
    for target in TARGETS:
        counts = [noc(curve, target, cap) for curve in curves]
        values[f"noc_{target * 100:.0f}"] = [count for count, _ in counts]
        summary[f"failed_{target * 100:.0f}"] = sum(failed for _, failed in counts)
    for name in (f"{measure}_{n}" for measure in ("boundary", "hd95") for n in SHOWN if n <= cap):
        values[name] = [row[name] for row in rows]
    values["seconds"] = [row["seconds"] for row in rows]
    weights = dict.fromkeys(values)
    values["worse"], weights["worse"] = ([row[key] for row in rows] for key in ("worse", "corrections"))
    for name, value in values.items():
        interval = mean_interval(value, tasks, packs, subjects, weights[name])
        summary.update(zip((name, f"{name}_low", f"{name}_high"), interval))
    return summary


def markdown_table(summary: Sequence[dict]) -> str:
    """The summary as one markdown table. [95 % interval over subjects], (images that failed)."""
    shown = [n for n in SHOWN if f"dice_{n}" in summary[0]]
    ends = dict.fromkeys((max(n for n in shown if n <= 5), shown[-1]))
    targets = [f"{target * 100:.0f}" for target in TARGETS]
    head = ["task", "method", "images/subjects", *(f"Dice({n})" for n in shown), *(f"NoC{t} (failed)" for t in targets)]
    head += [*(f"boundary({n})" for n in ends), *(f"HD95({n})" for n in ends), "got worse", "s/prompt"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for entry in summary:
        cells = [entry["group"], entry["method"], f"{entry['images']}/{entry['subjects']}"]
        cells += [_with_interval(entry, f"dice_{n}", ".3f") for n in shown]
        for target in targets:
            mean = _with_interval(entry, "noc_90", ".1f") if target == "90" else f"{entry[f'noc_{target}']:.1f}"
            cells.append(f"{mean} ({entry[f'failed_{target}']})")
        mixed = "/" in entry["unit"]
        cells += [f"{entry[f'boundary_{n}']:.3f}" for n in ends]
        cells += ["mixed units" if mixed else f"{entry[f'hd95_{n}']:.1f} {entry['unit']}" for n in ends]
        cells += ["-" if np.isnan(entry["worse"]) else f"{entry['worse']:.1%}", f"{entry['seconds']:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def comparison_table(summary: Sequence[dict], ours: str) -> str:
    """Per group: our NoC90 beside that of the best peer in the same run, and their ratio; empty without us or peers.

    A sentence after the table counts the tasks.
    """
    lines = [f"| task | {ours} NoC90 | best peer | its NoC90 | ratio |", "|---|---|---|---|---|"]
    pairs = []
    for group in dict.fromkeys(entry["group"] for entry in summary):
        found = {entry["method"]: entry for entry in summary if entry["group"] == group}
        peers = [entry for method, entry in found.items() if method != ours]
        if ours not in found or not peers:
            return ""
        our, best = found[ours], min(peers, key=lambda entry: entry["noc_90"])
        all_failed = our["failed_90"] == our["images"] and best["failed_90"] == best["images"]
        ratio = "all failed" if all_failed else f"{our['noc_90'] / best['noc_90']:.2f}"
        lines.append(f"| {group} | {our['noc_90']:.1f} | {best['method']} | {best['noc_90']:.1f} | {ratio} |")
        if group != ALL_TASKS and not group.startswith("hard: "):
            pairs.append((our["noc_90"], best["noc_90"]))
    fewer, half, more = (sum(holds) for holds in zip(*((a < b, a <= b / 2, a > b) for a, b in pairs)))
    lines.append(
        f"\nFewer prompts than the best peer on {fewer} of {len(pairs)} tasks (at most half as many on {half}), "
        f"as many on {len(pairs) - fewer - more}, more on {more}."
    )
    return "\n".join(lines)


def write_summary(summary: Sequence[dict], path: Path) -> None:
    """The whole summary, all measures with their intervals, as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(summary[0]))
        writer.writeheader()
        writer.writerows(summary)


def plot_curves(rows: Sequence[dict], path: Path, title: str) -> None:
    """PNG: mean Dice of the tasks against the number of prompts per method, with the 95 % interval over subjects."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for method in _methods(rows):
        own = [row for row in rows if row["method"] == method]
        tasks, packs, subjects = ([row[key] for row in own] for key in ("task", "pack", "subject"))
        curves = np.array([_curve(row) for row in own])
        prompts = np.arange(1, curves.shape[1] + 1)
        mean, low, high = np.transpose([mean_interval(column, tasks, packs, subjects) for column in curves.T])
        (line,) = axes.plot(prompts, mean, marker="o", markersize=3, label=method)
        axes.fill_between(prompts, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="prompts", ylabel="Dice, mean of tasks", ylim=(0, 1), title=title)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def _methods(rows: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))


def _curve(row: dict) -> list[float]:
    return [row[key] for key in row if key.startswith("dice_")]


def _with_interval(entry: dict, name: str, form: str) -> str:
    low, high = entry[f"{name}_low"], entry[f"{name}_high"]
    return f"{entry[name]:{form}}" + ("" if np.isnan(low) else f" [{low:{form}}, {high:{form}}]")
