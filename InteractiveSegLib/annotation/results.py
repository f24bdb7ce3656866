"""What a study leaves for its user besides the masks: the table, and the curve of prompts per case."""
from __future__ import annotations

import contextlib
import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..files import check_path
from ..types import InteractiveSegError
from .actions import replace_bytes
from .state import ACCEPTED, EDITED, CaseRecord

TABLE, PROMPTS = "cases.csv", "prompts.json"
HEADER = ("order", "case", "status", "prompts", "seconds", "volume_ml", "voxels", "dice", "note")
OLD = 3600  # seconds
WINDOW = 5  # cases over which the curve's line is averaged


def make_folder(folder: Path) -> None:
    """Make the folder with those above it, or say in one sentence why not."""
    check_path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InteractiveSegError(f"The folder {folder} cannot be made ({error.strerror}): choose another place.") from error


def sweep(folder: Path) -> None:
    """Remove what killed processes left half written, some time ago: a living one may be at it now."""
    for part in folder.rglob(".partial-*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > OLD:
                part.unlink()


def keep_outputs(output: Path, mark: str) -> None:
    """Rename what a study has told of its tasks, when its file is lost, so that nothing emptier is written over it."""
    for name in (TABLE, PROMPTS):
        for path in output.glob(f"*/{name}"):
            path.rename(marked(path, mark))


def marked(path: Path, mark: str) -> Path:
    return path.with_name(f"{path.stem}.{mark}{path.suffix}")


def in_order(cases: Sequence[CaseRecord]) -> list[CaseRecord]:
    """The accepted cases as they were accepted."""
    return sorted((case for case in cases if case.status == ACCEPTED), key=lambda case: case.rank)


def write_table(path: Path, cases: Sequence[CaseRecord]) -> None:
    """CSV: the accepted cases in their order, then the others by name."""
    done = in_order(cases)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    for order, case in enumerate(done, start=1):
        dice = "" if case.dice is None else f"{case.dice:.4f}"
        volume = "" if case.volume_ml is None else f"{case.volume_ml:.4f}"
        table.writerow((order, case.name, case.status, case.prompts, f"{case.seconds:.1f}", volume, case.voxels, dice, case.note))
    for case in cases:
        if case.status != ACCEPTED:
            table.writerow(("", case.name, case.status, case.prompts, f"{case.seconds:.1f}", "", "", "", case.note))
    replace_bytes(path, text.getvalue().encode())


def draw_curve(path: Path, cases: Sequence[CaseRecord], task: str) -> None:
    """PNG: prompts of each accepted case in the order of acceptance, and their running mean. Nothing before the first one.

    Cases that were drawn by hand, too, are pale and left out of the mean: their prompts do not tell what they took.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    done = in_order(cases)
    if not done:
        return
    prompts, by_hand = np.array([(case.prompts, case.by_hand) for case in done], float).T
    order, counted = np.arange(1, prompts.size + 1), by_hand == 0
    mean = [prompts[counted][max(0, n - WINDOW):n].mean() for n in range(1, np.count_nonzero(counted) + 1)]
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(order[counted], prompts[counted], width=0.6, color="#bcd4e6")
    if not counted.all():
        axes.bar(order[~counted], np.maximum(prompts[~counted], 0.1), width=0.6, color="#eeeeee", edgecolor="#777777", hatch="//",
                 label=EDITED)
    axes.plot(order[counted], mean, color="#c25e00", linewidth=2, label=f"mean of the last {WINDOW} cases")
    axes.set(xlabel="case, in the order of acceptance", ylabel="prompts", title=f"Prompts per case: {task}",
             xlim=(0.4, max(prompts.size, 5) + 0.6), ylim=(0, max(prompts.max() * 1.25, 1)))
    for which in (axes.xaxis, axes.yaxis):
        which.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    replace_bytes(path, picture.getvalue())
