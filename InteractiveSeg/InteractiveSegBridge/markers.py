"""Prompts drawn in one slice view: a plus or a minus in each click, an outline for a box. Knows no effect and no session."""
from __future__ import annotations

import numpy as np
import vtk

from InteractiveSegLib import Box, Click

from .mrml import kji_to_xy, nearest_voxel, working_axis, xy_to_kji

ARM_PIXELS = 6
GREEN, RED = (0.1, 0.9, 0.2), (1.0, 0.25, 0.2)


class PromptMarkers:
    """Two actors, one for what adds and one for what removes; told apart by sign as well as by colour."""

    def __init__(self) -> None:
        self._lines = {positive: _LineActor(GREEN if positive else RED) for positive in (True, False)}

    @property
    def actors(self) -> tuple:
        """The vtkActor2D objects to put into the view's renderer."""
        return tuple(lines.actor for lines in self._lines.values())

    def show(self, slice_node, volume, prompts, rubber_band_xy=None) -> None:
        """Draw the prompts that lie in the slice shown; `rubber_band_xy` is a rectangle still being dragged."""
        segments_xy = {True: [], False: []}
        for prompt in prompts:
            if isinstance(prompt, Click) and prompt.position is not None:
                segments_xy[prompt.positive] += _sign(slice_node, volume, prompt)
            elif isinstance(prompt, Box):
                segments_xy[True] += _outline(slice_node, volume, prompt)
        if rubber_band_xy is not None:
            (x0, y0), (x1, y1) = rubber_band_xy
            segments_xy[True] += _closed([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        for positive, lines in self._lines.items():
            lines.set(segments_xy[positive])


class _LineActor:
    """A vtkActor2D that draws straight segments given in pixels."""

    def __init__(self, color) -> None:
        self._data = vtk.vtkPolyData()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self._data)
        self.actor = vtk.vtkActor2D()
        self.actor.SetMapper(mapper)
        self.actor.GetProperty().SetColor(*color)
        self.actor.GetProperty().SetLineWidth(2)

    def set(self, segments_xy) -> None:
        points, cells = vtk.vtkPoints(), vtk.vtkCellArray()
        for ends in segments_xy:
            cells.InsertNextCell(2)
            for x, y in ends:
                cells.InsertCellPoint(points.InsertNextPoint(float(x), float(y), 0.0))
        self._data.SetPoints(points)
        self._data.SetLines(cells)
        self._data.Modified()


def _sign(slice_node, volume, click: Click) -> list:
    points_xy, shown = kji_to_xy(slice_node, volume, [click.position])
    if not shown[0]:
        return []
    x, y = points_xy[0]
    bars = [((x - ARM_PIXELS, y), (x + ARM_PIXELS, y))]
    return bars + [((x, y - ARM_PIXELS), (x, y + ARM_PIXELS))] if click.positive else bars


def _outline(slice_node, volume, box: Box) -> list:
    """The box where the shown slice cuts it, as a rectangle along the voxel grid."""
    axis, _ = working_axis(slice_node, volume)
    width, height = slice_node.GetDimensions()[:2]
    index = nearest_voxel(xy_to_kji(slice_node, volume, (width / 2, height / 2)))[axis]
    if not box.start[axis] <= index < box.stop[axis]:
        return []
    low, high = np.array(box.start) - 0.5, np.array(box.stop) - 0.5  # a voxel reaches half an index to either side
    low[axis] = high[axis] = index
    one, two = (other for other in range(3) if other != axis)
    corners = np.repeat(low[None], 4, axis=0)
    corners[1:3, one] = high[one]
    corners[2:4, two] = high[two]
    points_xy, _ = kji_to_xy(slice_node, volume, corners)
    return _closed([tuple(point) for point in points_xy])


def _closed(corners_xy) -> list:
    return list(zip(corners_xy, corners_xy[1:] + corners_xy[:1]))
