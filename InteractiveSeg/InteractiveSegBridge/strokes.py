"""What the mouse draws or drags in a slice view, as voxels of a grid. Knows no Qt, no effect and no session."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from InteractiveSegLib import Box, Click, Scribble

from .mrml import Grid, array_from_matrix, is_inside, nearest_voxel, working_axis, xy_to_kji


def path_in_slice(slice_node, grid: Grid, path_xy) -> tuple[int, int, np.ndarray]:
    """(array axis, index of the slice, real-valued (n, 3) kji on that slice) under a path in pixels of the view.

    In a view that is tilted to the grid: the slice under the middle of the path.
    """
    axis, _ = working_axis(slice_node, grid)
    path = np.array([[x, y, 0.0, 1.0] for x, y in path_xy])
    ras = path @ array_from_matrix(slice_node.GetXYToRAS()).T
    points_kji = (ras @ np.linalg.inv(grid.to_ras).T)[:, 2::-1]
    index = nearest_voxel((points_kji.min(axis=0) + points_kji.max(axis=0)) / 2)[axis]
    points_kji[:, axis] = index
    return axis, index, points_kji


def lasso_points(slice_node, grid: Grid, path_xy) -> tuple[tuple[int, ...], ...]:
    """The vertices (k, j, i) of a closed path, each voxel once in a row, cut at the border; () when it lies outside."""
    axis, index, points_kji = path_in_slice(slice_node, grid, path_xy)
    shape = grid.shape
    if not 0 <= index < shape[axis] or not _touches(points_kji, shape):
        return ()
    voxels = [tuple(min(max(v, 0), n - 1) for v, n in zip(nearest_voxel(point), shape)) for point in points_kji]
    return tuple(voxel for voxel, before in zip(voxels, [None, *voxels]) if voxel != before)


def stroke_mask(slice_node, grid: Grid, path_xy, width_px: float) -> tuple[tuple[int, ...], np.ndarray] | None:
    """(first voxel, bool mask) of a stroke of this width in the view, one voxel thick; None when it misses the grid.

    Every voxel whose centre lies under the brush, and every voxel that the path itself passes through.
    """
    axis, index, points_kji = path_in_slice(slice_node, grid, path_xy)
    shape = grid.shape
    if not 0 <= index < shape[axis]:
        return None
    across = [other for other in range(3) if other != axis]
    spacing = np.linalg.norm(grid.to_ras[:3, :3], axis=0)[::-1][across]
    radius_mm = width_px / 2 * np.linalg.norm(array_from_matrix(slice_node.GetXYToRAS())[:3, 0])
    reach = np.ceil(radius_mm / spacing).astype(int) + 1
    points = points_kji[:, across]
    low = np.maximum(np.floor(points.min(axis=0)).astype(int) - reach, 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + reach + 1, np.array(shape)[across])
    if (high <= low).any():
        return None
    plane = _painted(points - low, spacing, radius_mm, high - low)
    if not plane.any():
        return None
    origin = [int(index)] * 3
    origin[across[0]], origin[across[1]] = (int(v) for v in low)
    return tuple(origin), np.expand_dims(plane, axis)


def _painted(points: np.ndarray, spacing: np.ndarray, radius_mm: float, size) -> np.ndarray:
    """Bool plane of this size: within the radius of the path through the points (n, 2), which count pixels of the plane."""
    plane = np.zeros(size, bool)
    reach = radius_mm / spacing + 1
    for one, two in zip(points, [*points[1:], points[-1]]):
        low = np.maximum(np.floor(np.minimum(one, two) - reach), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(one, two) + reach) + 1, size).astype(int)
        if (high <= low).any():
            continue
        part = plane[low[0] : high[0], low[1] : high[1]]
        centres = np.moveaxis(np.indices(part.shape), 0, -1) + low
        part |= _distance_mm(centres * spacing, one * spacing, two * spacing) <= radius_mm
        steps = int(np.ceil(2 * np.abs(two - one).max())) + 1
        passed = np.floor(np.linspace(one, two, steps) + 0.5).astype(int)
        passed = passed[((passed >= 0) & (passed < size)).all(axis=1)]
        plane[passed[:, 0], passed[:, 1]] = True
    return plane


def _distance_mm(centres: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Distance of each centre (..., 2) from the line between two points."""
    along = two - one
    length = along @ along
    share = np.clip((centres - one) @ along / length, 0, 1) if length else np.zeros(centres.shape[:-1])
    return np.linalg.norm(centres - one - share[..., None] * along, axis=-1)


def _touches(points_kji: np.ndarray, shape) -> bool:
    """True when the points' box and the grid overlap."""
    return bool(((points_kji.max(axis=0) > -0.5) & (points_kji.min(axis=0) < np.array(shape) - 0.5)).all())


def moved(prompt, slice_node, grid: Grid, from_xy, to_xy):
    """The prompt, shifted within its slice by whole voxels as the mouse went; None when it would leave the grid."""
    axis, _ = working_axis(slice_node, grid)
    way_kji = xy_to_kji(slice_node, grid, to_xy) - xy_to_kji(slice_node, grid, from_xy)
    shift = [0 if along == axis else nearest_voxel(way_kji)[along] for along in range(3)]

    def shifted(position):
        return tuple(int(a) + b for a, b in zip(position, shift))

    if isinstance(prompt, Click):
        instead = replace(prompt, position=shifted(prompt.position))
        corners = [instead.position]
    elif isinstance(prompt, Box):
        instead = replace(prompt, start=shifted(prompt.start), stop=shifted(prompt.stop))
        corners = [instead.start, tuple(v - 1 for v in instead.stop)]
    elif isinstance(prompt, Scribble):
        instead = replace(prompt, origin=shifted(prompt.origin))
        corners = [instead.origin, tuple(o + n - 1 for o, n in zip(instead.origin, prompt.mask.shape))]
    else:
        instead = replace(prompt, points=tuple(map(shifted, prompt.points)))
        corners = instead.points
    return instead if all(is_inside(corner, grid) for corner in corners) else None
