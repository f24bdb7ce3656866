"""A volume with one bright ellipsoid and a second, darker one beside it: where things are is known exactly."""
from __future__ import annotations

import numpy as np

SHAPE = (16, 64, 72)  # (k, j, i)
CENTRE_KJI, RADII_KJI = (8, 30, 28), (5, 16, 13)
NEIGHBOUR_KJI, NEIGHBOUR_RADII_KJI = (8, 30, 54), (4, 10, 9)
INSIDE, NEIGHBOUR, OUTSIDE = 200, 130, 20


def ellipsoid(centre_kji, radii_kji) -> np.ndarray:
    """Bool array of SHAPE."""
    grid = np.indices(SHAPE)
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre_kji, radii_kji)) < 1


def phantom_array() -> np.ndarray:
    """int16 (k, j, i) with a little texture, the same at every call."""
    texture = np.random.default_rng(7).normal(0, 3, SHAPE)
    image = np.where(ellipsoid(CENTRE_KJI, RADII_KJI), INSIDE, OUTSIDE)
    image = np.where(ellipsoid(NEIGHBOUR_KJI, NEIGHBOUR_RADII_KJI), NEIGHBOUR, image)
    return (image + texture).astype(np.int16)


def oblique_ijk_to_ras(degrees=(17.0, 8.0), spacing_ijk=(0.7, 0.8, 2.5), flip_i=True) -> np.ndarray:
    """(4, 4): anisotropic voxels, turned about S and then about R, the first axis running the other way."""
    about_s, about_r = np.deg2rad(degrees)
    turn = np.array([[np.cos(about_s), -np.sin(about_s), 0], [np.sin(about_s), np.cos(about_s), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(about_r), -np.sin(about_r)], [0, np.sin(about_r), np.cos(about_r)]])
    matrix = np.eye(4)
    matrix[:3, :3] = tilt @ turn * np.array(spacing_ijk) * ([-1, 1, 1] if flip_i else [1, 1, 1])
    matrix[:3, 3] = (12.0, -34.0, 56.0)
    return matrix
