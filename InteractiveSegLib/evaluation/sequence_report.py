"""Rows of the two context experiments become tables to read and curves to look at. Runs no model.

Tasks count equally; intervals are 95 %, by bootstrap over subjects: a subject comes with all its images, orders and tasks.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .metrics import mean_interval

BASELINE = "scribbleprompt"
DRAWS = 2000


def saved_share(rows: Sequence[dict], method: str, baseline: str = BASELINE, measure: str = "prompts", seed: int = 0
                ) -> tuple[float, float, float]:
    """1 - mean(method) / mean(baseline) and its interval (share, low, high); both see the same subjects in each draw."""
    rng = np.random.default_rng(seed)
    means, draws = [], []
    for pack in sorted({row["pack"] for row in rows}):
        own = [row for row in rows if row["pack"] == pack and row["method"] in (method, baseline)]
        names = sorted({row["subject"] for row in own})
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
        for task in sorted({row["task"] for row in own}):
            pairs = []
            for which in (method, baseline):
                mine = [row for row in own if row["task"] == task and row["method"] == which]
                who = [names.index(row["subject"]) for row in mine]
                totals = np.bincount(who, [row[measure] for row in mine], len(names))
                amounts = np.bincount(who, minlength=len(names))
                with np.errstate(invalid="ignore", divide="ignore"):
                    pairs.append((totals.sum() / amounts.sum(), (counts @ totals) / (counts @ amounts)))
            means.append([pair[0] for pair in pairs])
            draws.append([pair[1] for pair in pairs])
    ours, theirs = np.mean(means, axis=0)
    drawn = np.nanmean(np.array(draws), axis=0)  # (2, DRAWS)
    low, high = np.nanpercentile(1 - drawn[0] / drawn[1], [2.5, 97.5])
    return float(1 - ours / theirs), float(low), float(high)


def comparable(rows: Sequence[dict], keys: Sequence[str], by: str = "method") -> list[dict]:
    """The rows of what every value of `by` has done: its keys are the same for all."""
    kinds = {row[by] for row in rows}
    seen: dict[tuple, set] = {}
    for row in rows:
        seen.setdefault(tuple(row[key] for key in keys), set()).add(row[by])
    return [row for row in rows if seen[tuple(row[key] for key in keys)] == kinds]


def sequence_rows(rows: Sequence[dict]) -> list[dict]:
    """Without the seed images, which are the same for all, and without sequences that not every method has run."""
    return comparable([row for row in rows if row["position"] > 0], ("task", "order", "position"))


def sequence_table(rows: Sequence[dict]) -> str:
    """Markdown: methods by prompts per image, what they save against ScribblePrompt alone, failures, Dice before any prompt,
    and seconds: for what is done before the first prompt, and for a prompt."""
    rows = sequence_rows(rows)
    unit = "scribbles" if rows and rows[0]["robot"] == "scribbles" else "clicks"
    lines = [f"| method | {unit} per image | total | saved | never reached 0.90 | Dice before any prompt | s before | s/prompt |",
             "|---|---|---|---|---|---|---|---|"]
    for method in _methods(rows):
        own = [row for row in rows if row["method"] == method]
        mean, low, high = _interval(own, "prompts")
        first = _interval(own, "dice_0")[0]
        saved = "-"
        if method != BASELINE and BASELINE in _methods(rows):
            saved = "{:.0%} [{:.0%}, {:.0%}]".format(*saved_share(rows, method))
        failed = sum(not row["reached"] for row in own)
        prompted = [row["seconds_prompt"] for row in own if row["prompts"]]
        lines.append(f"| {method} | {mean:.2f} [{low:.2f}, {high:.2f}] | {sum(row['prompts'] for row in own)} | {saved} | "
                     f"{failed}/{len(own)} | {first:.3f} | {np.mean([row['seconds_start'] for row in own]):.3f} | "
                     f"{np.mean(prompted) if prompted else 0:.3f} |")
    tasks, packs = len({row["task"] for row in rows}), len({(row["pack"], row["subject"]) for row in rows})
    orders = len({row["order"] for row in rows})
    images = len({(row["task"], row["order"], row["position"]) for row in rows})
    lines.append(f"\n{tasks} tasks, {orders} order(s), {images} images of {packs} subjects after the seed images; tasks count "
                 "equally; [95 % interval over subjects].")
    return "\n".join(lines)


def task_table(rows: Sequence[dict]) -> str:
    """Markdown: prompts per image of each task and method."""
    rows = sequence_rows(rows)
    methods = _methods(rows)
    lines = ["| task | images | " + " | ".join(methods) + " |", "|---|---|" + "---|" * len(methods)]
    for task in sorted({row["task"] for row in rows}):
        means = [np.mean([row["prompts"] for row in rows if row["task"] == task and row["method"] == m]) for m in methods]
        images = sum(row["task"] == task and row["method"] == methods[0] for row in rows)
        lines.append(f"| {task} | {images} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    return "\n".join(lines)


def position_table(rows: Sequence[dict]) -> str:
    """Markdown: prompts per image against the number of images accepted before, over the tasks that have so many."""
    rows = sequence_rows(rows)
    methods, positions = _methods(rows), sorted({row["position"] for row in rows})
    lines = ["| accepted before | " + " | ".join(map(str, positions)) + " |", "|---|" + "---|" * len(positions)]
    for method in methods:
        own = [[row for row in rows if row["method"] == method and row["position"] == place] for place in positions]
        lines.append(f"| {method} | " + " | ".join(f"{_interval(some, 'prompts')[0]:.1f}" for some in own) + " |")
    counts = [len({row["task"] for row in rows if row["position"] == place}) for place in positions]
    return "\n".join([*lines, "| tasks | " + " | ".join(map(str, counts)) + " |"])


def context_table(rows: Sequence[dict], by: str = "method") -> str:
    """Markdown: Dice from the context alone, a line per method (or way of choosing) and a column per size."""
    kept = comparable(rows, ("task", "source", "slice", "size"), by)
    kinds, sizes = list(dict.fromkeys(row[by] for row in kept)), sorted({row["size"] for row in kept})
    largest = {row["task"] for row in kept if row["size"] == sizes[-1]}
    lines = ["| examples | tasks | " + " | ".join(str(size) for size in sizes) + " |", "|---|---|" + "---|" * len(sizes)]
    for only, label in ((None, "all that have enough"), (largest, f"the {len(largest)} that have {sizes[-1]}")):
        for kind in kinds:
            cells = []
            for size in sizes:
                own = [row for row in kept if row[by] == kind and row["size"] == size and (only is None or row["task"] in only)]
                mean, low, high = _interval(own, "dice")
                tasks = len({row["task"] for row in own})
                cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]" + (f" ({tasks})" if only is None else ""))
            lines.append(f"| {kind} | {label} | " + " | ".join(cells) + " |")
    lines.append("\nDice without prompts, [95 % interval over subjects], (tasks that have so many examples of other subjects).")
    return "\n".join(lines)


def choice_table(rows: Sequence[dict]) -> str:
    """Markdown: chosen against random examples, the same targets and size, and the difference with its interval."""
    lines = ["| method | examples | random | chosen | difference | targets |", "|---|---|---|---|---|---|"]
    for method in _methods(rows):
        for size in sorted({row["size"] for row in rows}):
            own = comparable([row for row in rows if row["method"] == method and row["size"] == size and row["pool"] > size],
                             ("task", "source", "slice"), "way")
            if not own:
                continue
            targets: dict[tuple, dict[str, list[float]]] = {}
            for row in own:
                place = (row["task"], row["pack"], row["subject"], row["source"], row["slice"])
                targets.setdefault(place, {}).setdefault(row["way"], []).append(row["dice"])
            columns = list(zip(*(place[:3] for place in targets)))
            both = [[float(np.mean(found[way])) for found in targets.values()] for way in ("random", "chosen")]
            means = [mean_interval(values, *columns)[0] for values in both]
            gain = mean_interval(np.subtract(both[1], both[0]), *columns)
            lines.append(f"| {method} | {size} | {means[0]:.3f} | {means[1]:.3f} | {gain[0]:+.3f} [{gain[1]:+.3f}, "
                         f"{gain[2]:+.3f}] | {len(targets)} |")
    return "\n".join(lines)


def plot_sequence(rows: Sequence[dict], path: Path, title: str) -> None:
    """PNG: prompts per image against the number of images done before, per method, with the interval over subjects."""
    rows = sequence_rows(rows)
    _plot(rows, "method", "position", "prompts", path, title, "images accepted before", "prompts to a Dice of 0.90")


def plot_contexts(rows: Sequence[dict], path: Path, title: str, by: str = "method") -> None:
    """PNG: Dice without prompts against the number of examples, over the tasks that have the most."""
    largest = max(row["size"] for row in rows)
    tasks = {row["task"] for row in rows if row["size"] == largest}
    _plot([row for row in rows if row["task"] in tasks], by, "size", "dice", path, title, "examples", "Dice before any prompt",
          log=True)


def _plot(rows: Sequence[dict], by: str, x: str, y: str, path: Path, title: str, x_label: str, y_label: str,
          log: bool = False) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for kind in dict.fromkeys(row[by] for row in rows):
        places, lines = sorted({row[x] for row in rows if row[by] == kind}), []
        for place in places:
            own = [row for row in rows if row[by] == kind and row[x] == place]
            lines.append(_interval(own, y))
        mean, low, high = np.transpose(lines)
        (drawn,) = axes.plot(places, mean, marker="o", markersize=3, label=kind)
        axes.fill_between(places, low, high, alpha=0.15, color=drawn.get_color(), linewidth=0)
    if log:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel=x_label, ylabel=y_label, title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def _interval(rows: Sequence[dict], measure: str) -> tuple[float, float, float]:
    return mean_interval([row[measure] for row in rows], *([row[key] for row in rows] for key in ("task", "pack", "subject")))


def _methods(rows: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))
