"""The only door between MRML and numpy: voxels, matrices, positions in a slice view. Knows no Qt, no effect and no model.

Frames: `xy` pixels of a slice view, `ras` world millimetres, `ijk` voxel index as VTK counts it, `kji` the same index in
array order. Index 0 is the centre of the first voxel, so a voxel reaches half an index to either side.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import slicer
import vtk

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.reformat import Plane, plane_through


class Grid(NamedTuple):
    """Where voxels lie. shape: (k, j, i). to_ras: 4x4, (i, j, k, 1) to world millimetres."""

    shape: tuple[int, int, int]
    to_ras: np.ndarray


def array_from_matrix(matrix) -> np.ndarray:
    """(4, 4) float array of a vtkMatrix4x4."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrix_from_array(array: np.ndarray):
    """vtkMatrix4x4 of a (4, 4) array."""
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(array[row, column]))
    return matrix


def node_to_ras(node) -> np.ndarray:
    """(4, 4): the node's own frame to world, through all its parent transforms; a warping transform is refused."""
    transform = node.GetParentTransformNode()
    if transform is None:
        return np.eye(4)
    if not transform.IsTransformToWorldLinear():
        raise InteractiveSegError(
            f"'{node.GetName()}' is under the non-linear transform '{transform.GetName()}', where slices have no voxel "
            "grid: harden the transform (module Transforms) or take the node out of it."
        )
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    return array_from_matrix(matrix)


def ijk_to_ras(volume) -> np.ndarray:
    """(4, 4): voxel index (i, j, k, 1) to world millimetres, parent transforms included."""
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return node_to_ras(volume) @ array_from_matrix(matrix)


def ijk_to_segmentation(volume, segmentation) -> np.ndarray:
    """(4, 4): the volume's voxel index to the frame in which the segmentation keeps its labelmaps."""
    if volume.GetParentTransformNode() is segmentation.GetParentTransformNode():
        matrix = vtk.vtkMatrix4x4()  # exactly the volume's own matrix: no rounding, Slicer sees the same grid
        volume.GetIJKToRASMatrix(matrix)
        return array_from_matrix(matrix)
    return np.linalg.inv(node_to_ras(segmentation)) @ ijk_to_ras(volume)


def place_of(volume, segmentation) -> tuple[bytes, bytes] | None:
    """Another value wherever the volume was moved in the world, or against the segmentation; None under a warp."""
    try:
        return ijk_to_ras(volume).tobytes(), ijk_to_segmentation(volume, segmentation).tobytes()
    except InteractiveSegError:
        return None


def volume_array(volume) -> np.ndarray:
    """The voxels (k, j, i) of a scalar volume, without a copy."""
    if volume.GetImageData() is None:
        raise InteractiveSegError(f"The volume '{volume.GetName()}' holds no voxels: choose another source volume.")
    components = volume.GetImageData().GetNumberOfScalarComponents()
    if components != 1:
        raise InteractiveSegError(
            f"The volume '{volume.GetName()}' has {components} components per voxel and one is needed: convert it with "
            "the module Vector to Scalar Volume."
        )
    return slicer.util.arrayFromVolume(volume)


def volume_shape(volume) -> tuple[int, int, int]:
    """Number of voxels along (k, j, i)."""
    return tuple(reversed(volume.GetImageData().GetDimensions()))


def plane_shown(slice_node, volume) -> Plane | None:
    """The plane of a slice view where it follows none of the volume's slices; None where it shows one of them, or nothing."""
    to_ras = array_from_matrix(slice_node.GetSliceToRAS())
    return plane_through(volume_shape(volume), ijk_to_ras(volume), to_ras[:3, 3], to_ras[:3, 0], -to_ras[:3, 1])


def grid_of(volume, plane: Plane | None = None) -> Grid:
    """The volume's own grid; or that of a plane through it, as of a volume with one slice."""
    if plane is None:
        return Grid(volume_shape(volume), ijk_to_ras(volume))
    return Grid((1, *plane.shape), ijk_to_ras(volume) @ plane.to_ijk)


def xy_to_kji(slice_node, grid: Grid, xy) -> np.ndarray:
    """Real-valued voxel index (k, j, i) of a pixel of a slice view; whole numbers are voxel centres."""
    ras = array_from_matrix(slice_node.GetXYToRAS()) @ [xy[0], xy[1], 0.0, 1.0]
    return (np.linalg.inv(grid.to_ras) @ ras)[2::-1]


def nearest_voxel(kji) -> tuple[int, int, int]:
    """The voxel a real-valued index lies in. Slicer's own xyToIjk truncates toward zero and pulls outside points inside."""
    return tuple(math.floor(value + 0.5) for value in kji)


def is_inside(voxel_kji, grid: Grid) -> bool:
    """True when the grid has this voxel."""
    return all(0 <= index < size for index, size in zip(voxel_kji, grid.shape))


def working_axis(slice_node, grid: Grid) -> tuple[int, float]:
    """Array axis (0 = k, 1 = j, 2 = i) nearest to the view's normal, and the angle between the two in degrees."""
    normal_ras = array_from_matrix(slice_node.GetSliceToRAS())[:3, 2]
    directions_ras = grid.to_ras[:3, :3]
    cosines = np.abs(normal_ras @ (directions_ras / np.linalg.norm(directions_ras, axis=0)))
    ijk_axis = int(np.argmax(cosines))
    cosine = min(1.0, cosines[ijk_axis] / np.linalg.norm(normal_ras))
    return 2 - ijk_axis, math.degrees(math.acos(cosine))


def shown_slice(slice_node, grid: Grid) -> tuple[int, int]:
    """(array axis, index) of the grid's slice nearest to what the view shows in its middle."""
    axis, _ = working_axis(slice_node, grid)
    width, height = slice_node.GetDimensions()[:2]
    return axis, nearest_voxel(xy_to_kji(slice_node, grid, (width / 2, height / 2)))[axis]


def box_between(slice_node, grid: Grid, xy_one, xy_two) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Half-open box (start, stop) in kji under a rectangle of the view, one voxel thick along the working axis.

    The rectangle may reach out of the grid; None when nothing of it lies inside.
    """
    axis, _ = working_axis(slice_node, grid)
    corners_xy = [(x, y) for x in (xy_one[0], xy_two[0]) for y in (xy_one[1], xy_two[1])]
    corners_kji = np.array([xy_to_kji(slice_node, grid, xy) for xy in corners_xy])
    corners_kji[:, axis] = corners_kji[:, axis].mean()  # a view tilted to the grid: the slice under the middle
    shape = grid.shape
    start = tuple(max(low, 0) for low in nearest_voxel(corners_kji.min(axis=0)))
    stop = tuple(min(high + 1, size) for high, size in zip(nearest_voxel(corners_kji.max(axis=0)), shape))
    return (start, stop) if all(a < b for a, b in zip(start, stop)) else None


def kji_to_xy(slice_node, grid: Grid, points_kji) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 2) of points (n, 3), and a bool (n,) that is True for those in the slice that the view shows."""
    points_ijk = np.c_[np.asarray(points_kji, dtype=float)[:, ::-1], np.ones(len(points_kji))]
    points_ras = points_ijk @ grid.to_ras.T
    points_xy = points_ras @ np.linalg.inv(array_from_matrix(slice_node.GetXYToRAS())).T
    slice_to_ras = array_from_matrix(slice_node.GetSliceToRAS())
    normal_ras = slice_to_ras[:3, 2]
    half_voxel_mm = 0.5 * np.abs(normal_ras @ grid.to_ras[:3, :3]).sum()
    distances_mm = np.abs((points_ras[:, :3] - slice_to_ras[:3, 3]) @ normal_ras)
    return points_xy[:, :2], distances_mm <= half_voxel_mm
