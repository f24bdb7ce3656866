"""What nnU-Net plans from spacing and sizes: working spacing, patch, strides, kernels, widths. Numbers only, no torch.

Source: Isensee et al., nnU-Net (2021), the 3d_fullres configuration. The estimate of GPU memory is replaced by a cap on the
patch's voxels, and a compact plan has thinner stages.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_SIDE = 4  # of the deepest map, voxels
MAX_FEATURES = 320
ANISOTROPY = 3  # an axis this much coarser than the others, in spacing and in size, is resampled to a finer spacing


@dataclass(frozen=True)
class Plan:
    """Everything in array order (k, j, i). strides and kernels: one per stage, the first stride is (1, 1, 1)."""

    spacing: tuple[float, ...]  # mm
    patch: tuple[int, ...]  # voxels
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]


def make_plan(
    spacings: Sequence[Sequence[float]], shapes: Sequence[Sequence[int]], base: int = 32, max_voxels: int = 128**3,
    max_stages: int = 6, patch: Sequence[int] = (),
) -> Plan:
    """The plan for a data set, from each case's spacing (mm) and shape (voxels).

    base: features of the first stage. patch: instead of the planned one, voxels.
    """
    spacing = target_spacing(np.asarray(spacings, float), np.asarray(shapes, float))
    sizes = np.median(np.asarray(shapes) * np.asarray(spacings) / spacing, axis=0)
    strides, kernels, padded = stages(spacing, np.array(patch) if patch else first_patch(spacing, sizes), max_stages)
    while not patch and math.prod(padded) > max_voxels:
        divisor = np.prod(strides, axis=0)
        axis = int(np.argmax(np.where(padded > divisor * MIN_SIDE // 2, padded / sizes, -1)))
        padded[axis] -= divisor[axis]
        strides, kernels, padded = stages(spacing, padded, max_stages)
    features = tuple(min(base * 2**stage, MAX_FEATURES) for stage in range(len(strides)))
    return Plan(tuple(round(float(s), 4) for s in spacing), tuple(int(p) for p in padded), strides, kernels, features)


def target_spacing(spacings: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Median spacing (mm); along an axis that is much coarser than the others, the 10th percentile where that is finer."""
    spacing, size = np.median(spacings, axis=0), np.median(shapes, axis=0)
    worst = int(spacing.argmax())
    others = [a for a in range(len(spacing)) if a != worst]
    if spacing[worst] > ANISOTROPY * spacing[others].max() and ANISOTROPY * size[worst] < size[others].min():
        spacing[worst] = max(np.percentile(spacings[:, worst], 10), spacing[others].max() + 1e-5)
    return spacing


def first_patch(spacing: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """A cube in millimetres of 256**3 voxels, cut to the median size."""
    cube = 1 / spacing
    cube *= (256**3 / cube.prod()) ** (1 / len(cube))
    return np.maximum(np.minimum(cube, sizes).round().astype(int), 1)


def stages(
    spacing: np.ndarray, patch: np.ndarray, max_stages: int
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...], np.ndarray]:
    """(strides, kernels, patch padded to what the strides divide).

    Each stage halves the axes whose spacing is within a factor of two of the finest one that can still be halved; a kernel
    is 1 along an axis until its spacing is within a factor of two of the finest, and 3 from then on.
    """
    spacing, size = spacing.astype(float).copy(), patch.astype(int).copy()
    axes = len(spacing)
    kernel, strides, kernels = np.ones(axes, int), [(1,) * axes], []
    while len(strides) < max_stages:
        can = size >= 2 * MIN_SIDE
        if not can.any():
            break
        halved = can & (spacing / spacing[can].min() < 2)
        if halved.sum() == 1 and size[halved][0] < 3 * MIN_SIDE:
            break
        kernel[spacing / spacing.min() < 2] = 3
        kernels.append(tuple(kernel.tolist()))
        strides.append(tuple(np.where(halved, 2, 1).tolist()))
        spacing[halved] *= 2
        size[halved] = -(-size[halved] // 2)
    kernels.append((3,) * axes)
    divisor = np.prod(strides, axis=0)
    return tuple(strides), tuple(kernels), -(-patch // divisor) * divisor
