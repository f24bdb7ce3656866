"""The robot user in a volume of several classes: where it clicks next, and bad starts for it to mend. Arrays (k, j, i).

Source: Liu et al. 2022, section 4.1: the centre of the largest mis-segmented region, moved by a small disturbance; where that
is not in the region, any point of it that is not on its border.
"""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from .types import bounding_box

DISTURBANCE = 10  # voxels in plane at the most
OF_EXTENT = 0.1  # and at the most this share of the object's extent in plane
FACES = ndimage.generate_binary_structure(3, 1)
BAD_STARTS = ("eroded", "shifted", "lobe missing", "class swapped")


def class_errors(truth: np.ndarray, labels: np.ndarray, of: int) -> np.ndarray:
    """Bool: where a class is missing or is where it should not be."""
    return (truth == of) != (labels == of)


def largest_region(error: np.ndarray, rank: int = 0) -> np.ndarray:
    """The largest component of a bool array, or the next one by rank, as far as there are; all False when it is empty."""
    regions, count = ndimage.label(error, structure=FACES)
    if count == 0:
        return error
    sizes = np.bincount(regions.ravel())[1:]
    return regions == 1 + np.argsort(-sizes, kind="stable")[min(rank, count - 1)]


def disturbance(truth: np.ndarray) -> float:
    """How far the hand misses in plane, voxels: ten, or less for a small object."""
    start, stop = bounding_box(truth > 0)
    return min(DISTURBANCE, OF_EXTENT * float(np.mean(np.subtract(stop, start)[1:])))


def click_in(region: np.ndarray, reach: float, rng: np.random.Generator) -> tuple[int, int, int]:
    """The region's centre, missed by up to `reach` voxels in plane, or a point of the region off its border."""
    points = np.argwhere(region)
    place = np.rint(points.mean(axis=0) + np.array([0, *rng.uniform(-reach, reach, 2)])).astype(int)
    place = np.clip(place, 0, np.array(region.shape) - 1)
    if not region[tuple(place)]:
        inner = np.argwhere(ndimage.binary_erosion(region, FACES))
        choice = inner if len(inner) else points
        place = choice[rng.integers(len(choice))]
    return tuple(int(p) for p in place)


def next_click(
    truth: np.ndarray, labels: np.ndarray, of: int, rng: np.random.Generator, reach: float, rank: int = 0
) -> tuple[tuple[int, int, int], int] | None:
    """(position, true label there) for one class: in its largest error, or the next one by rank; None when it is right.

    A part where one class is missing is another one's surplus: an error is split by what is true there.
    """
    error = class_errors(truth, labels, of)
    missing, surplus = error & (truth == of), error & (truth != of)
    regions = [largest_region(part, rank) for part in (missing, surplus)]
    region = max(regions, key=np.count_nonzero)
    if not region.any():
        return None
    place = click_in(region, reach, rng)
    return place, int(truth[place])


def bad_start(kind: str, labels: np.ndarray, rng: np.random.Generator, classes: int) -> np.ndarray:
    """The label map, badly damaged in one of the ways of BAD_STARTS. classes: how many there are but the background."""
    damage = {"eroded": eroded, "shifted": shifted, "lobe missing": without_lobe, "class swapped": swapped}[kind]
    return damage(labels, rng, classes)


def eroded(labels: np.ndarray, rng: np.random.Generator, classes: int) -> np.ndarray:
    """Thinner from outside, in plane, until a fifth to two fifths of the object are gone."""
    keep, share = labels > 0, rng.uniform(0.6, 0.8)
    goal = share * keep.sum()
    depth = ndimage.distance_transform_edt(np.pad(keep, 1), sampling=(1e3, 1, 1))[1:-1, 1:-1, 1:-1]
    level = np.quantile(depth[keep], 1 - goal / max(1, keep.sum())) if keep.any() else 0
    return np.where(depth > level, labels, 0).astype(labels.dtype)


def shifted(labels: np.ndarray, rng: np.random.Generator, classes: int) -> np.ndarray:
    """Moved in plane by an eighth of its extent."""
    start, stop = bounding_box(labels > 0)
    angle = rng.uniform(0, 2 * np.pi)
    step = np.subtract(stop, start)[1:] / 8 * (np.sin(angle), np.cos(angle))
    return ndimage.shift(labels, (0, *np.rint(step)), order=0)


def without_lobe(labels: np.ndarray, rng: np.random.Generator, classes: int) -> np.ndarray:
    """Cut by a plane: a quarter of the object is missing on one side."""
    side = side_of(labels, rng, rng.uniform(0.2, 0.3))
    return np.where(side, 0, labels).astype(labels.dtype)


def swapped(labels: np.ndarray, rng: np.random.Generator, classes: int) -> np.ndarray:
    """On one side of a plane each class is called the next one; a single class is called background there."""
    side = side_of(labels, rng, rng.uniform(0.2, 0.35))
    wrong = labels % classes + 1 if classes > 1 else np.zeros_like(labels)
    return np.where(side & (labels > 0), wrong, labels).astype(labels.dtype)


def side_of(labels: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """Bool: beyond a plane of random direction, placed so that this share of the object lies there."""
    points = np.argwhere(labels > 0)
    if not len(points):
        return np.zeros(labels.shape, bool)
    extent = np.maximum(np.ptp(points, axis=0), 1)
    normal = rng.normal(size=3) / extent
    height = np.tensordot(normal, np.indices(labels.shape), axes=1)
    return height > np.quantile(height[labels > 0], 1 - share)
