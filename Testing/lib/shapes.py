"""Shapes and places that tests are made of, and how alike two masks are."""
import numpy as np
from scipy.spatial.transform import Rotation


def ellipsoid(shape, centre, radii):
    """Bool array: the inside of an axis-parallel ellipsoid, all in voxels and array order."""
    grid = np.indices(shape, dtype=float)
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii)) <= 1


def overlap(a, b):
    """Dice of two bool arrays."""
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def affine_of(turns, spacing_ijk, flip=(1, 1, 1), origin=(-31.5, 12.25, 88.0)):
    """4x4, (i, j, k, 1) to RAS mm, of a grid turned by degrees about R, A, S; flip: 1 or -1 for i, j, k."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turns, degrees=True).as_matrix() * flip * np.array(spacing_ijk)
    affine[:3, 3] = origin
    return affine
