"""What a Slicer user has today for volumes: Fill between slices, and Grow from seeds in 3D. No networks."""
from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable

import numpy as np

from ...geometry import normalise
from ..peers import BACKGROUND, OBJECT

SEED_RADIUS = 2  # pixels of a click's ball, within its slice; as the 2D peers


def has_slicer() -> bool:
    """Whether the optional package slicer-core is there."""
    return importlib.util.find_spec("slicer") is not None


def image_data(array_kji: np.ndarray):
    """The array as vtkImageData with i fastest."""
    import vtk.util.numpy_support

    data = vtk.vtkImageData()
    data.SetDimensions(array_kji.shape[::-1])
    data.GetPointData().SetScalars(vtk.util.numpy_support.numpy_to_vtk(array_kji.ravel(), deep=True))
    return data


def array_of(data, shape: tuple[int, ...]) -> np.ndarray:
    """The scalars of vtkImageData as an array (k, j, i) of its own."""
    import vtk.util.numpy_support

    return vtk.util.numpy_support.vtk_to_numpy(data.GetPointData().GetScalars()).reshape(shape).copy()


def fill_between(mask: np.ndarray) -> np.ndarray:
    """Slicer's Fill between slices (ITK's morphological contour interpolation) along k; bool (k, j, i)."""
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_THREADER", "Platform")  # ITK's pool of threads crashes when Python ends
    import slicer

    shown = np.flatnonzero(mask.any(axis=(1, 2)))
    if len(shown) < 2:
        return mask.copy()
    interpolator = slicer.vtkITKMorphologicalContourInterpolator()
    interpolator.SetInputData(image_data(np.ascontiguousarray(mask, np.uint8)))
    interpolator.SetAxis(2)  # VTK's z is k
    interpolator.Update()
    return (array_of(interpolator.GetOutput(), mask.shape) > 0) | mask


def grow_from_seeds(image: np.ndarray, clicks: Iterable[tuple[tuple[int, int, int], bool]]) -> np.ndarray:
    """Slicer's Grow from seeds on the whole volume; bool (k, j, i). clicks: voxel and whether it is inside.

    As for the 2D peers, a click is a disk and the border of every slice is background where nothing else was said.
    """
    import slicer

    seeds = np.zeros(image.shape, np.uint8)
    seeds[:, [0, -1], :] = seeds[:, :, [0, -1]] = BACKGROUND
    rows, columns = np.ogrid[:image.shape[1], :image.shape[2]]
    for (k, row, column), positive in clicks:
        seeds[k][(rows - row) ** 2 + (columns - column) ** 2 <= SEED_RADIUS**2] = OBJECT if positive else BACKGROUND
    levels = np.pad((normalise(image) * 1000).astype(np.int16), 1, mode="edge")  # the outermost voxels' seeds are ignored
    grow = slicer.vtkImageGrowCutSegment()
    grow.SetDistancePenalty(0.0)
    grow.SetIntensityVolume(image_data(levels))
    grow.SetSeedLabelVolume(image_data(np.pad(seeds, 1)))
    grow.Update()
    return array_of(grow.GetOutput(), levels.shape)[1:-1, 1:-1, 1:-1] == OBJECT
