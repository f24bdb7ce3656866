"""LIM-Net's defective masks (section 3.2): six ways in which a mask goes wrong, each with its probability.

They know one bool mask (row, column) and random numbers. The paper gives pixels of its 480-pixel slices; here they shrink
and grow with the mask's longer side. Which of the six probabilities belongs to which way is the order of its text.
"""
from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.draw import polygon

SIDE = 480  # pixels; the slices that the paper's numbers are made for


def pixels(mask: np.ndarray, low: float, high: float, rng: np.random.Generator) -> float:
    """A random length between two of the paper's, in this mask's pixels."""
    return rng.uniform(low, high) * max(mask.shape) / SIDE


def random_shape(mask: np.ndarray, centre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rectangle, triangle or polygon around a point; 2 to 40 % as large as the mask. Bool, the mask's shape."""
    radius = np.sqrt(mask.sum() * rng.uniform(0.02, 0.4) / 2)
    corners = (4, 3, int(rng.integers(5, 10)))[rng.integers(3)]
    if corners == 4:
        slant = rng.uniform(np.pi / 8, 3 * np.pi / 8)
        angles = np.array([slant, np.pi - slant, np.pi + slant, -slant]) + rng.uniform(0, 2 * np.pi)
        reach = np.full(4, radius)
    else:
        angles = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.2, 0.2, corners)) / corners + rng.uniform(0, 2 * np.pi)
        reach = radius * rng.uniform(0.6, 1.6, corners)
    shape = np.zeros(mask.shape, bool)
    shape[polygon(centre[0] + reach * np.sin(angles), centre[1] + reach * np.cos(angles), mask.shape)] = True
    return shape


def any_of(region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The (row, column) of one pixel of the region."""
    points = np.argwhere(region)
    return points[rng.integers(len(points))]


def rim(mask: np.ndarray) -> np.ndarray:
    """The mask's outermost pixels."""
    return mask & ~ndimage.binary_erosion(mask)


def add_shapes(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One to three shapes within the mask's box or near it are added."""
    points = np.argwhere(mask)
    low, high = points.min(axis=0), points.max(axis=0)
    near = 0.25 * (high - low + 1)
    for _ in range(rng.integers(1, 4)):
        mask = mask | random_shape(mask, rng.uniform(low - near, high + near), rng)
    return mask


def dilate_or_erode(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dilated by 10 to 30 pixels or eroded by 10, in steps to the four neighbours; an erosion leaves the core at least."""
    if rng.random() < 0.5:
        return ndimage.distance_transform_cdt(~mask, "taxicab") <= pixels(mask, 10, 30, rng)
    inside = ndimage.distance_transform_cdt(mask, "taxicab")
    return inside > min(pixels(mask, 10, 10, rng), inside.max() - 1)


def displace_edge(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every place of the edge moved on its own, by at most 10 to 30 pixels: jagged and irregular."""
    reach = pixels(mask, 10, 30, rng)
    step = max(2, round(reach * rng.uniform(0.3, 1.5)))  # neighbours that move together
    lattice = rng.uniform(-reach, reach, (2, *(side // step + 1 for side in mask.shape)))
    moves = lattice.repeat(step, axis=1).repeat(step, axis=2)[:, :mask.shape[0], :mask.shape[1]]
    return ndimage.map_coordinates(mask.astype(np.uint8), np.indices(mask.shape) + moves, order=0) > 0


def smooth(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blurred and cut again: corners, thin parts and small holes go."""
    blurred = ndimage.gaussian_filter(mask.astype(np.float32), pixels(mask, 6, 20, rng))
    return blurred > min(rng.uniform(0.35, 0.65), 0.9 * blurred.max())


def remove_shapes(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Under-segmentation: one to three shapes are cut out; never all."""
    for _ in range(rng.integers(1, 4)):
        rest = mask & ~random_shape(mask, any_of(mask, rng), rng)
        mask = rest if rest.any() else mask
    return mask


def merge_shapes(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Over-segmentation: one to three shapes that lie across the edge are merged with the mask."""
    for _ in range(rng.integers(1, 4)):
        mask = mask | random_shape(mask, any_of(rim(mask), rng), rng)
    return mask


DEFECTS = {
    add_shapes: 0.1, dilate_or_erode: 0.1, displace_edge: 0.3, smooth: 0.2, remove_shapes: 0.1, merge_shapes: 0.2,
}  # each with its probability


def defective(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask with one of the six defects. An empty mask has nothing to corrupt and comes back empty."""
    if not mask.any():
        return mask
    return list(DEFECTS)[rng.choice(len(DEFECTS), p=list(DEFECTS.values()))](mask, rng)
