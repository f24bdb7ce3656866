"""Ways a volume can lie in the scanner, and transforms to put it under."""
from __future__ import annotations

import numpy as np
import slicer
import vtk
from InteractiveSegBridge import mrml
from InteractiveSegSelfTest.phantom import oblique_ijk_to_ras

GEOMETRIES = {
    "axis-aligned": np.diag([1.0, 1.0, 1.0, 1.0]),
    "as DICOM": np.array([[-0.8, 0, 0, 40], [0, -0.8, 0, 30], [0, 0, 2.5, -20], [0, 0, 0, 1.0]]),
    "oblique, anisotropic, flipped": oblique_ijk_to_ras(),
    "sagittal acquisition": np.array([[0, 0, 3.0, 5], [0.9, 0, 0, 6], [0, -0.9, 0, 7], [0, 0, 0, 1.0]]),
}


def put_under_transform(*nodes):
    """Turn and shift the nodes by a parent transform."""
    matrix = oblique_ijk_to_ras(degrees=(-30.0, 12.0), spacing_ijk=(1, 1, 1), flip_i=False)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turn")
    transform.SetMatrixTransformToParent(mrml.matrix_from_array(matrix))
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    return matrix


def put_under_warp(node):
    """Put the node under a transform that is not linear."""
    points, warp = vtk.vtkPoints(), vtk.vtkThinPlateSplineTransform()
    for point in ((0, 0, 0), (10, 0, 0), (0, 10, 0), (0, 0, 10)):
        points.InsertNextPoint(point)
    warp.SetSourceLandmarks(points)
    warp.SetTargetLandmarks(points)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Warp")
    transform.SetAndObserveTransformToParent(warp)
    node.SetAndObserveTransformNodeID(transform.GetID())
