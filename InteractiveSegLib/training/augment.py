"""The same slice, seen differently: placed on the canvas, bent, and re-lit. Arrays in, arrays out."""
from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

ZOOM_SHARE = 0.5  # of samples look closely at the target, as the second look of the predictor does


def smooth_noise(rng: np.random.Generator, size: int, grid: int, channels: int = 1) -> np.ndarray:
    """(channels, size, size) float32: standard normal numbers on a grid x grid lattice, interpolated."""
    lattice = torch.from_numpy(rng.standard_normal((1, channels, grid, grid)).astype(np.float32))
    return F.interpolate(lattice, size=(size, size), mode="bicubic", align_corners=True)[0].numpy()


def sampling_grid(target: np.ndarray, spacing: tuple[float, float], rng: np.random.Generator, size: int) -> torch.Tensor:
    """(1, size, size, 2) positions (x, y) in grid_sample's [-1, 1] frame: random zoom, turn, flip, stretch and bend."""
    extent = np.array(target.shape) * spacing / 2  # half size in mm, (row, column)
    reach = extent.max()
    centre = np.zeros(2)
    if rng.random() < ZOOM_SHARE:
        points = np.argwhere(target)
        focus = (points[rng.integers(len(points))] + 0.5) * spacing - extent
        zoom = np.exp(rng.uniform(0, np.log(4)))
        centre = focus + rng.uniform(-0.5, 0.5, 2) * reach / zoom
    else:
        zoom = np.exp(rng.uniform(np.log(0.75), np.log(1.15)))
        centre = rng.uniform(-0.1, 0.1, 2) * reach
    angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.25 else rng.normal(0, 0.2)
    stretch = np.exp(rng.normal(0, 0.12, 2)) * np.where(rng.random(2) < 0.5, -1, 1)
    matrix = turn(angle) @ np.diag(stretch) * reach / zoom
    bend = smooth_noise(rng, size, int(rng.integers(3, 8)), 2) * rng.uniform(0.01, 0.08) if rng.random() < 0.4 else None
    return lay_grid(extent, centre, matrix, size, bend)


def turn(angle: float) -> np.ndarray:
    """2x2 rotation, radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def lay_grid(extent: np.ndarray, centre: np.ndarray, matrix: np.ndarray, size: int, bend: np.ndarray | None) -> torch.Tensor:
    """(1, size, size, 2) positions (x, y) in grid_sample's [-1, 1] frame.

    extent: half of the image's size; centre: of the canvas, from the image's; both (row, column) in mm. matrix: 2x2, the
    canvas's [-1, 1] square to mm. bend: (2, size, size) displacement in that square.
    """
    ticks = (np.arange(size) + 0.5) * 2 / size - 1
    unit = np.stack(np.meshgrid(ticks, ticks, indexing="ij")).astype(np.float32)  # (2, size, size): row, column
    if bend is not None:
        unit = unit + bend
    place = np.einsum("ab,bhw->ahw", matrix, unit) + centre[:, None, None]
    place = place / extent[:, None, None]
    return torch.from_numpy(np.ascontiguousarray(place[::-1].transpose(1, 2, 0), np.float32))[None]


def sample(array: np.ndarray, grid: torch.Tensor, nearest: bool = False) -> np.ndarray:
    """The array (row, column) read at the grid's positions, float32 (size, size); zero outside."""
    source = torch.from_numpy(np.ascontiguousarray(array, np.float32))[None, None]
    step = float((grid[0, 1, 0] - grid[0, 0, 0]).abs().max()) * max(array.shape) / 2
    if step > 1.5 and not nearest:  # shrinking: average first, as the canvas does
        source = F.avg_pool2d(source, 2)
    return F.grid_sample(source, grid, "nearest" if nearest else "bilinear", align_corners=False)[0, 0].numpy()


def relight(image: np.ndarray, rng: np.random.Generator, inverted_share: float = 0.12) -> np.ndarray:
    """Another scanner: gamma, contrast, inversion, bias field, blur, noise. float32 in [0, 1] in and out."""
    if rng.random() < 0.5:
        image = image ** np.exp(rng.normal(0, 0.4))
    if rng.random() < 0.5:
        image = (image - 0.5) * np.exp(rng.normal(0, 0.3)) + 0.5 + rng.normal(0, 0.1)
    if rng.random() < inverted_share:
        image = 1 - image
    if rng.random() < 0.25:
        image = image * np.exp(smooth_noise(rng, image.shape[0], 4)[0] * rng.uniform(0.1, 0.4))
    if rng.random() < 0.2:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.5))
    if rng.random() < 0.35:
        image = image + rng.standard_normal(image.shape, np.float32) * rng.uniform(0.005, 0.12)
    return np.clip(image, 0, 1).astype(np.float32)


def damaged(target: np.ndarray, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """A mask as another tool might have left it: edge moved in and out, parts missing or added. Bool, same shape.

    strength: how far the edge moves, a third of the usual leaves the mask nearly right.
    """
    inside = ndimage.distance_transform_edt(target) - ndimage.distance_transform_edt(~target)
    size = np.sqrt(target.sum())
    rows, columns = target.shape
    noise = smooth_noise(rng, max(rows, columns), int(rng.integers(3, 9)))[0, :rows, :columns]
    wobble = noise * rng.uniform(0.02, 0.25)
    return inside + (wobble + rng.normal(0, 0.08)) * size * strength > 0


def carried(target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask as it looked on another slice: larger or smaller, moved, stretched, its edge damaged. Bool, same shape."""
    middle = np.argwhere(target).mean(axis=0)
    scale = np.exp(np.clip(rng.normal(0, 0.35), -0.8, 0.8) + rng.normal(0, 0.08, 2))
    shift = rng.normal(0, 0.2, 2) * np.sqrt(target.sum() / np.pi)
    matrix = np.diag(1 / scale)
    moved = ndimage.affine_transform(target.astype(np.float32), matrix, middle - matrix @ (middle + shift), order=1) > 0.5
    return damaged(moved if moved.any() else target, rng)
