"""Correcting a 3D label map of several classes with clicks: the protocol of TIS's Table 1 and Figure 2, and its table.

Knows sessions and the robot, no network. Every method starts from the same label map and is clicked by the same rules.
"""
from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..prompts import Click
from ..robot_volume import BAD_STARTS, bad_start, disturbance, next_click
from ..session import InteractiveSession
from ..targets import BACKGROUND
from ..types import InteractiveSegError
from .metrics import dice, mean_interval

AUTOMATIC = "automatic"
STARTS = (AUTOMATIC, *BAD_STARTS)
SHOWN = (1, 3, 5, 10)  # clicks per class
CARRIED = 2  # slices on either side that a peer with a memory carries a corrected slice to
Make = Callable[["Case", Sequence[str]], InteractiveSession]


@dataclass(frozen=True, eq=False)
class Case:
    """One labelled volume. image, truth: (k, j, i), truth n for the n-th name; spacing: mm in array order."""

    source: str
    subject: str
    image: np.ndarray
    truth: np.ndarray
    spacing: tuple[float, ...]


def load_cases(path: Path, most: int | None = None) -> tuple[tuple[str, ...], list[Case]]:
    """(names of the labels 1, 2, ..., cases) of a pack of volumes; most: so many of them, evenly."""
    try:
        pack = np.load(path, allow_pickle=False)
        entries, names = json.loads(str(pack["index"])), json.loads(str(pack["labels"]))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InteractiveSegError(f"{path} is no pack of labelled volumes ({error}): give a .npz file.") from error
    with pack:
        count = min(most or len(entries), len(entries))
        chosen = [entries[n] for n in np.unique(np.linspace(0, len(entries) - 1, count).round().astype(int))]
        cases = [Case(e["key"], e["subject"], pack[f"img_{e['key']}"], pack[f"lab_{e['key']}"],
                      tuple(float(s) for s in e["spacing_zyx_mm"])) for e in chosen]
    return tuple(names[str(n)] for n in sorted(int(n) for n in names)), cases


def start_labels(kind: str, automatic: np.ndarray, case: Case, classes: int) -> np.ndarray:
    """The automatic label map, or it damaged in one of the ways of BAD_STARTS, alike for every method."""
    if kind == AUTOMATIC:
        return automatic
    return bad_start(kind, automatic, random_numbers(case, kind), classes)


def random_numbers(case: Case, kind: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{case.source}/{kind}".encode()))


@dataclass
class Course:
    """What clicks did. dice: (rounds + 1, classes), before the first round and after each; seconds: of each click; harmed:
    clicks after which a class that the click neither names nor lies on lost Dice."""

    dice: np.ndarray
    seconds: list[float]
    harmed: int


def carry(session: InteractiveSession, index: int) -> None:
    """A corrected slice's masks, if it has any, become those of its neighbours."""
    if session.labels.take(index, session.axis).any():
        extent = max(0, index - CARRIED), min(session.shape[session.axis], index + CARRIED + 1)
        for _ in session.propagate(from_slice=index, extent=extent):
            pass


def correct(session: InteractiveSession, truth: np.ndarray, start: np.ndarray, names: Sequence[str], rounds: int,
            rng: np.random.Generator) -> Course:
    """In every round one click for each class that is not right yet, in its largest error, on what it is there.

    LIM-Net's memory carries each corrected slice on; other 2D families correct the slice alone.
    """
    session.set_labels(start)
    reach, curve, seconds, harmed = disturbance(truth), [scores(start, truth, len(names))], [], 0
    for _ in range(rounds):
        for of in range(1, len(names) + 1):
            found = next_click(truth, session.labels, of, rng, reach)
            if found is None:
                continue
            place, label = found
            concerned, before = {label, int(session.labels[place])}, scores(session.labels, truth, len(names))
            begin = time.perf_counter()
            session.add(Click(place, label=names[label - 1] if label else BACKGROUND))
            if session.family.name == "limnet":
                carry(session, place[session.axis])
            seconds.append(time.perf_counter() - begin)
            worse = scores(session.labels, truth, len(names)) < before - 1e-9
            harmed += any(worse[n - 1] for n in range(1, len(names) + 1) if n not in concerned)
        curve.append(scores(session.labels, truth, len(names)))
    return Course(np.array(curve), seconds, harmed)


def scores(labels: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Dice of every class."""
    return np.array([dice(labels == n, truth == n) for n in range(1, classes + 1)])


def evaluate(
    cases: Sequence[Case], names: Sequence[str], automatic: Make, methods: dict[str, Make], starts: Sequence[str], rounds: int
) -> Iterator[dict]:
    """One row per case, start, method and class. automatic: the session whose prediction is the start for all."""
    for case in cases:
        source = automatic(case, names)
        source.predict()
        for kind in starts:
            start = start_labels(kind, source.labels.copy(), case, len(names))
            for method, make in methods.items():
                session = make(case, names)
                course = correct(session, case.truth, start, names, rounds, random_numbers(case, kind))
                for n, name in enumerate(names):
                    row = {"source": case.source, "subject": case.subject, "start": kind, "method": method, "class": name,
                           "seconds": float(np.median(course.seconds or [0.0])), "clicks": len(course.seconds),
                           "harmed": course.harmed}
                    yield {**row, **{f"dice_{r}": float(v) for r, v in enumerate(course.dice[:, n])}}


def table(rows: Sequence[dict]) -> str:
    """Markdown: per start, class and method the mean Dice before and after clicks, and the share of the error removed."""
    rounds = max(int(key[5:]) for key in rows[0] if key.startswith("dice_"))
    shown = [n for n in SHOWN if n <= rounds]
    lines = ["| start | class | method | n | before | " + " | ".join(f"Dice({n})" for n in shown) +
             f" | error removed by {shown[-1]} | s per click |", "| --- | --- | --- | ---: |" + " --- |" * (len(shown) + 3)]
    groups = dict.fromkeys((row["start"], row["class"], row["method"]) for row in rows)
    for group in groups:
        mine = [row for row in rows if (row["start"], row["class"], row["method"]) == group]
        before, after = (np.mean([row[f"dice_{n}"] for row in mine]) for n in (0, shown[-1]))
        removed = (after - before) / max(1 - before, 1e-9)
        dices = [interval(mine, n) for n in (0, *shown)]
        seconds = np.median([row["seconds"] for row in mine])
        lines.append(f"| {' | '.join(group)} | {len(mine)} | {' | '.join(dices)} | {removed:.0%} | {seconds:.2f} |")
    return "\n".join(lines)


def interval(rows: Sequence[dict], n: int) -> str:
    """Mean Dice after n clicks of every class; before and at the end with its 95 % interval over subjects."""
    values, subjects = [row[f"dice_{n}"] for row in rows], [row["subject"] for row in rows]
    mean, low, high = mean_interval(values, ["all"] * len(rows), ["all"] * len(rows), subjects)
    ends = n == 0 or n == SHOWN[-1]
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]" if ends and np.isfinite(low) else f"{mean:.3f}"


def harm(rows: Sequence[dict], method: str) -> str:
    """One sentence: how often a class lost while another one was edited."""
    mine = {(row["source"], row["start"]): row for row in rows if row["method"] == method}.values()
    clicks, harmed = sum(row["clicks"] for row in mine), sum(row["harmed"] for row in mine)
    return f"{method}: {harmed} of {clicks} clicks lowered the Dice of a class that they neither named nor lay on."


def plot(rows: Iterable[dict], path: Path) -> None:
    """PNG: mean Dice of the classes against clicks per class, one panel per start, one line per method."""
    from matplotlib.figure import Figure

    rows = list(rows)
    starts, methods = (list(dict.fromkeys(row[key] for row in rows)) for key in ("start", "method"))
    figure = Figure(figsize=(3.2 * len(starts), 3.4), layout="constrained")
    for axes, kind in zip(np.atleast_1d(figure.subplots(1, len(starts), sharey=True)), starts):
        for method in methods:
            mine = [row for row in rows if row["start"] == kind and row["method"] == method]
            curve = np.mean([[row[k] for k in row if k.startswith("dice_")] for row in mine], axis=0)
            axes.plot(range(len(curve)), curve, marker=".", label=method)
        axes.set(title=kind, xlabel="clicks per class")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("mean Dice of the classes")
    figure.axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
