"""The examples of a context for the page: their pictures, and which of them disagree with the others. Slow: worker's thread."""
from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from InteractiveSegLib import InteractiveSegError

Progress = Callable[[int, int], None]


def draw_pictures(context, ids: list[str], progress: Progress) -> dict[str, Path]:
    """Id -> PNG with the slice and its mask's outline, in a new folder that the caller removes; none where no example is left."""
    from InteractiveSegLib.context.sheet import draw_tile  # needs matplotlib

    folder = Path(tempfile.mkdtemp(prefix="InteractiveSeg"))
    paths = {}
    for number, entry in enumerate(context.whole(ids), start=1):
        paths[entry.info.id] = folder / f"{number}.png"
        draw_tile(entry).save(paths[entry.info.id])
        progress(number, len(ids))
    return paths


def find_outliers(context, model: str, progress: Progress) -> dict[str, str]:
    """Id -> what is odd about the example, worst first: the others predict it badly."""
    from InteractiveSegLib.context import outliers

    entries, ask = context.enabled(), outliers.asking(model)
    cases = outliers.count_cases(entry.info for entry in entries)
    if cases < outliers.FEWEST:
        raise InteractiveSegError(
            f"Examples of {cases} cases are in use, which is too few to tell which one is odd: accept until there are "
            f"{outliers.FEWEST}."
        )
    asked = []

    def predict(*args):
        asked.append(1)
        progress(len(asked), len(entries))
        return ask(*args)

    found = outliers.find_outliers(entries, predict)
    return {one.id: f"disagrees with the others: Dice {one.dice:.2f}, usual {one.usual:.2f}" for one in found}
