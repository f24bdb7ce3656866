"""What VerSe costs on this machine: a slice's first click (of the one shown at load, of another), the second, and every slice of
a heart by name. A made volume."""
from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..prompts import Click
from ..session import InteractiveSession

SLICES, SIDE, SPACING = 10, 256, (8.0, 1.4, 1.4)
TARGETS = ("LV", "myocardium", "RV")
REPEATS = 5


def made_heart() -> np.ndarray:
    """Bright cavity, dark ring, noise: float32 (k, j, i)."""
    rows, columns = np.ogrid[:SIDE, :SIDE]
    distance = np.hypot(rows - 130, columns - 120)
    slice_ = 90 + 110 * (distance < 22) - 60 * ((distance >= 22) & (distance < 32))
    return (slice_ + np.random.default_rng(0).normal(0, 8, (SLICES, SIDE, SIDE))).astype(np.float32)


def heart_rows(weights: Path | None, device: str) -> list[tuple[str, float, float]]:
    """(what, median wall seconds, median processor seconds); each time a new session on a loaded and warm network."""
    image = made_heart()

    def session(mode: str, targets: tuple[str, ...]) -> InteractiveSession:
        fresh = InteractiveSession(image, SPACING, model="verse", mode=mode, targets=targets, weights=weights, device=device)
        fresh.warm_up()
        return fresh

    samples: dict[str, list[tuple[float, float]]] = {}
    for _ in range(REPEATS):
        for mode, words in (("click", ""), ("auto+click", " by name")):
            clicked = session(mode, ("LV",))
            steps = (("first click in the slice shown", (SLICES // 2, 130, 120)), ("first click in another slice", (1, 130, 120)),
                     ("second click", (1, 140, 128)))
            for step, place in steps:
                samples.setdefault(step + words, []).append(timed(clicked.add, Click(place)))
        whole = f"automatic, {SLICES} slices, {len(TARGETS)} structures"
        samples.setdefault(whole, []).append(timed(session("auto", TARGETS).predict))
    return [(what, *np.median(times, axis=0)) for what, times in samples.items()]


def timed(action: Callable, *arguments: Click) -> tuple[float, float]:
    """Wall seconds and processor seconds of one call."""
    begin, used = time.perf_counter(), time.process_time()
    action(*arguments)
    return time.perf_counter() - begin, time.process_time() - used
