"""Measures of a mask and of a run of prompts, with intervals over subjects. Arrays and numbers only."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..types import InteractiveSegError, bounding_box

TARGETS = (0.80, 0.85, 0.90, 0.95)
TOLERANCE = 2.0  # pixels of the image, of the boundary's Dice; a pixel of a 128 canvas is four of a 512 slice
WORSE_TOLERANCE = 0.001  # a larger fall of Dice is harm; this much is about one pixel of a 500-pixel object


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Dice overlap of two bool arrays of one shape, 0 to 1; two empty masks agree (1)."""
    _check_shapes(mask, truth)
    total = int(np.count_nonzero(mask)) + int(np.count_nonzero(truth))
    return 2.0 * int(np.count_nonzero(mask & truth)) / total if total else 1.0


def hd95(mask: np.ndarray, truth: np.ndarray, spacing: Sequence[float] | None = None) -> float:
    """95th percentile Hausdorff distance between the borders of two bool arrays: the larger of the two directions.

    spacing: mm in array order; without it the distance is in pixels. Border pixels are those with a background
    neighbour along an axis, and the image's edge counts as background, as in MONAI's `compute_hausdorff_distance`.
    Two empty masks are 0 apart; if one alone is empty the answer is the image's diagonal, the worst a mask can do.
    """
    _check_shapes(mask, truth)
    step = np.ones(mask.ndim) if spacing is None else np.asarray(spacing, float)
    if not mask.any() and not truth.any():
        return 0.0
    if not mask.any() or not truth.any():
        return float(np.linalg.norm(step * mask.shape))
    to_truth, to_mask = _border_distances(mask, truth, step)
    return float(max(np.percentile(to_truth, 95), np.percentile(to_mask, 95)))


def boundary_dice(mask: np.ndarray, truth: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Share of both borders' pixels that lie within `tolerance` pixels of the other border, 0 to 1; two bool arrays.

    The surface Dice of Nikolov et al. 2018 on border pixels, as MONAI's `compute_surface_dice` counts them. Borders are
    those of `hd95`. Two empty masks agree (1).
    """
    _check_shapes(mask, truth)
    if not mask.any() or not truth.any():
        return float(mask.any() == truth.any())
    distances = np.concatenate(_border_distances(mask, truth, np.ones(mask.ndim)))
    return float((distances <= tolerance).mean())


def filled_curve(curve: Sequence[float], cap: int) -> np.ndarray:
    """Dice after 1, 2, ... cap prompts, float (cap,). A run stops early when all is right: its last value holds."""
    return np.array([curve[min(n, len(curve)) - 1] for n in range(1, cap + 1)])


def noc(curve: Sequence[float], target: float, cap: int) -> tuple[int, bool]:
    """Number of prompts to reach a Dice of `target`, and whether it failed to; a failure counts as `cap` prompts."""
    reached = np.flatnonzero(np.asarray(curve[:cap]) >= target)
    return (int(reached[0]) + 1, False) if reached.size else (cap, True)


def got_worse(curve: Sequence[float], tolerance: float = WORSE_TOLERANCE) -> tuple[int, int]:
    """(harmful, all) corrective prompts of a run: every prompt after the first is one, and harms if Dice falls by more
    than `tolerance`."""
    steps = np.diff(np.asarray(curve, float))
    return int(np.count_nonzero(steps < -tolerance)), int(steps.size)


def mean_interval(
    values: Sequence[float],
    tasks: Sequence[str],
    packs: Sequence[str],
    subjects: Sequence[str],
    weights: Sequence[float] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean and its 95 % interval (mean, low, high), by bootstrap over subjects.

    One entry per image. Within a task the mean is over images (or sum of values by sum of weights); tasks then count
    equally. Each draw takes as many subjects as a pack has, with replacement, and a subject comes with all its images
    in all tasks of the pack: slices of one patient do not count as independent. NaN where there is nothing to average, and
    as the interval of one subject alone.
    """
    values, tasks, packs, subjects = (np.asarray(column) for column in (values, tasks, packs, subjects))
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    rng = np.random.default_rng(seed)
    means, samples = [], []
    for pack in np.unique(packs):
        names, who = np.unique(subjects[packs == pack], return_inverse=True)
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
        for task in np.unique(tasks[packs == pack]):
            rows = tasks[packs == pack] == task
            value, weight = values[packs == pack][rows].astype(float), weights[packs == pack][rows]
            total = np.bincount(who[rows], value, len(names))
            amount = np.bincount(who[rows], weight, len(names))
            with np.errstate(invalid="ignore", divide="ignore"):
                means.append(total.sum() / amount.sum())
                samples.append((counts @ total) / (counts @ amount))
    mean, low, high = _mean_and_range(means, samples)
    return (mean, low, high) if len(set(zip(packs, subjects))) > 1 else (mean, float("nan"), float("nan"))


def _mean_and_range(means: list[float], samples: list[np.ndarray]) -> tuple[float, float, float]:
    """Average over tasks; a task that has no subject in one draw is left out of that draw."""
    known = np.isfinite(np.array(means))
    if not known.any():
        return (float("nan"),) * 3
    drawn = np.stack([sample for sample, use in zip(samples, known) if use])
    drawn = np.nanmean(drawn[:, np.isfinite(drawn).any(axis=0)], axis=0)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(np.mean(np.array(means)[known])), float(low), float(high)


def _border_distances(mask: np.ndarray, truth: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each border pixel of the mask is from the truth's border, and the other way round; neither is empty."""
    start, stop = bounding_box(mask | truth)
    box = tuple(slice(a, b) for a, b in zip(start, stop))
    mask_border, truth_border = _border(mask[box]), _border(truth[box])
    to_truth = ndimage.distance_transform_edt(~truth_border, sampling=step)[mask_border]
    to_mask = ndimage.distance_transform_edt(~mask_border, sampling=step)[truth_border]
    return to_truth, to_mask


def _border(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _check_shapes(mask: np.ndarray, truth: np.ndarray) -> None:
    if mask.shape != truth.shape or mask.dtype != bool or truth.dtype != bool:
        raise InteractiveSegError(
            f"Masks of shape {mask.shape} ({mask.dtype}) and {truth.shape} ({truth.dtype}) cannot be compared: "
            "give two bool arrays of one shape."
        )
