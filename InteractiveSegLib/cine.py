"""A beating heart: which time point is end-diastole and which end-systole, and what volumes and mass follow from masks.

Arrays in, numbers out; knows no files and no networks.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .types import InteractiveSegError

MYOCARDIUM_DENSITY = 1.05  # g per ml
PLAUSIBLE = {"LV end-diastolic volume": (30, 450), "LV ejection fraction": (5, 85), "LV myocardial mass": (30, 400)}  # ml, %, g
MIDDLE_SHARE = 0.5  # of the slices that show the cavity, around the middle: their areas make the curve


@dataclass(frozen=True)
class Function:
    """Left-ventricular volumes in ml, ejection fraction in percent, mass in g; the right ventricle's where it is segmented."""

    ed: int
    es: int
    lv_edv: float
    lv_esv: float
    mass: float
    rv_edv: float
    rv_esv: float

    @property
    def lv_ef(self) -> float:
        return ejection_fraction(self.lv_edv, self.lv_esv)

    @property
    def rv_ef(self) -> float:
        return ejection_fraction(self.rv_edv, self.rv_esv)

    @property
    def stroke_volume(self) -> float:
        """ml"""
        return self.lv_edv - self.lv_esv


def implausible(function: Function) -> list[str]:
    """Which figures no adult heart has, so that the masks behind them must be wrong; NaN, for nothing found, is one of them."""
    values = (function.lv_edv, function.lv_ef, function.mass)
    return [name for (name, (low, high)), value in zip(PLAUSIBLE.items(), values) if not low <= value <= high]


def doubts(function: Function) -> str:
    """What is wrong with the figures, in a sentence or two; "" where nothing is."""
    names, words = implausible(function), []
    if function.lv_esv > function.lv_edv:
        names = [name for name in names if "fraction" not in name]
        words.append(f"The left ventricle is larger at end-systole (time point {function.es}) than at end-diastole "
                     f"({function.ed}): are the phases swapped?")
    if names:
        words.append(f"{', '.join(names)}: no heart is like that, so the contours are wrong.")
    return " ".join(words)


def empty_frames(frames: np.ndarray) -> list[int]:
    """Time points of frames (t, k, j, i) that show nothing: constant, or without a finite value."""
    finite = (frame[np.isfinite(frame)] for frame in frames)
    return [t for t, values in enumerate(finite) if not values.size or values.min() == values.max()]


def millilitres(mask: np.ndarray, spacing: Sequence[float]) -> float:
    """Volume of a bool mask (k, j, i) whose voxels are `spacing` mm apart."""
    return float(np.count_nonzero(mask) * np.prod(spacing) / 1000)


def ejection_fraction(edv: float, esv: float) -> float:
    """Percent; NaN where there is no volume."""
    return 100 * (edv - esv) / edv if edv > 0 else float("nan")


def middle_slices(count: int) -> list[int]:
    """Indices of the middle slices of a stack, where the cavity shows in every phase: half of them, at least one."""
    size = max(1, round(MIDDLE_SHARE * count))
    first = (count - size) // 2
    return list(range(first, first + size))


def area_curve(masks: Sequence[np.ndarray], spacing: Sequence[float]) -> np.ndarray:
    """Cavity area per time point in cm2, summed over the middle slices. masks: bool (k, j, i) or the middle slices alone."""
    return np.array([np.count_nonzero(mask) for mask in masks]) * spacing[1] * spacing[2] / 100


def find_phases(areas: np.ndarray) -> tuple[int, int]:
    """(end-diastole, end-systole): where the curve, smoothed over three neighbours of the closed cycle, is largest and least.

    Time points without any cavity (0 or NaN) are left out of it. Raises InteractiveSegError when fewer than two are left.
    """
    areas = np.asarray(areas, float)
    seen = np.flatnonzero(areas > 0)
    if seen.size < 2:
        raise InteractiveSegError(
            f"The left ventricle was found in {seen.size} of {len(areas)} time points, expected at least 2: give --ed and --es."
        )
    found = areas[seen]
    smooth = found if seen.size < 5 else (np.roll(found, 1) + 2 * found + np.roll(found, -1)) / 4
    return int(seen[smooth.argmax()]), int(seen[smooth.argmin()])


def measure(phases: tuple[int, int], diastole: dict[str, np.ndarray], systole: dict[str, np.ndarray],
            spacing: Sequence[float]) -> Function:
    """Volumes and mass from the masks (k, j, i) of both phases, per target; mass is of the end-diastolic myocardium."""
    def volume(masks: dict[str, np.ndarray], target: str) -> float:
        return millilitres(masks[target], spacing) if target in masks else float("nan")

    return Function(*phases, volume(diastole, "LV"), volume(systole, "LV"), MYOCARDIUM_DENSITY * volume(diastole, "myocardium"),
                    volume(diastole, "RV"), volume(systole, "RV"))
