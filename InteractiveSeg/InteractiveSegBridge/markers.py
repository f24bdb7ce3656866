"""Prompts drawn in one slice view: a plus or a minus at each, with the outline of what was drawn. Knows no effect, no session."""
from __future__ import annotations

import numpy as np
import vtk

from InteractiveSegLib import Box, Click, Lasso, Scribble

from .mrml import Grid, grid_of, kji_to_xy, shown_slice

ARM_PIXELS = 6
GREEN, RED = (0.1, 0.9, 0.2), (1.0, 0.25, 0.2)


class PromptMarkers:
    """Actors for what adds, for what removes, and for what is still being drawn; told apart by sign as well as by colour."""

    def __init__(self) -> None:
        self._lines = {positive: _LineActor(GREEN if positive else RED) for positive in (True, False)}
        self._draft = _LineActor(GREEN)
        self._handles_xy = []  # one (x, y) for each prompt, None for those that are not in the slice shown

    @property
    def actors(self) -> tuple:
        """The vtkActor2D objects to put into the view's renderer."""
        return (*(lines.actor for lines in self._lines.values()), self._draft.actor)

    def show(self, slice_node, volume, given) -> None:
        """Draw the prompts that lie in the slice shown. given: Given objects."""
        segments_xy = {True: [], False: []}
        self._handles_xy = []
        for prompt, _, plane, *_ in given:
            positive = getattr(prompt, "positive", True)
            outline, handle = _drawing(slice_node, grid_of(volume, plane), prompt)
            self._handles_xy.append(handle)
            segments_xy[positive] += outline + (_sign(handle, positive) if handle is not None else [])
        for positive, lines in self._lines.items():
            lines.set(segments_xy[positive])

    def show_draft(self, path_xy, closed: bool = False, positive: bool = True) -> None:
        """A path that the mouse is still drawing; () when there is none."""
        path_xy = [tuple(point) for point in path_xy]
        self._draft.actor.GetProperty().SetColor(*(GREEN if positive else RED))
        self._draft.set(_closed(path_xy) if closed else list(zip(path_xy, path_xy[1:])))

    def hit(self, xy) -> int | None:
        """The number of the prompt whose plus or minus lies under a pixel of the view, the latest of several."""
        found = [
            number
            for number, handle in enumerate(self._handles_xy)
            if handle is not None and max(abs(a - b) for a, b in zip(handle, xy)) <= ARM_PIXELS
        ]
        return found[-1] if found else None


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


def _drawing(slice_node, grid: Grid, prompt) -> tuple[list, tuple[float, float] | None]:
    """(outline, place of the sign) of a prompt where the shown slice cuts it; ([], None) where it does not."""
    if isinstance(prompt, Click):
        points_xy, shown = kji_to_xy(slice_node, grid, [prompt.position])
        return ([], tuple(points_xy[0])) if shown[0] else ([], None)
    if isinstance(prompt, Lasso):
        points_xy, shown = kji_to_xy(slice_node, grid, prompt.points)
        corners = [tuple(point) for point in points_xy]
        return (_closed(corners), corners[0]) if shown.all() else ([], None)
    edges_kji = _box_edges(slice_node, grid, prompt) if isinstance(prompt, Box) else _rim(slice_node, grid, prompt)
    if len(edges_kji) == 0:
        return [], None
    points_xy, shown = kji_to_xy(slice_node, grid, edges_kji.reshape(-1, 3))
    segments = [tuple(map(tuple, pair)) for pair in points_xy.reshape(-1, 2, 2)[shown.reshape(-1, 2).all(axis=1)]]
    return segments, segments[0][0] if segments else None


def _box_edges(slice_node, grid: Grid, box: Box) -> np.ndarray:
    """(4, 2, 3) kji: the sides of the box in the shown slice, along the voxel grid."""
    axis, index = shown_slice(slice_node, grid)
    if not box.start[axis] <= index < box.stop[axis]:
        return np.zeros((0, 2, 3))
    low, high = np.array(box.start) - 0.5, np.array(box.stop) - 0.5  # a voxel reaches half an index to either side
    low[axis] = high[axis] = index
    one, two = (other for other in range(3) if other != axis)
    corners = np.repeat(low[None], 4, axis=0)
    corners[1:3, one] = high[one]
    corners[2:4, two] = high[two]
    return np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)


def _rim(slice_node, grid: Grid, scribble: Scribble) -> np.ndarray:
    """(n, 2, 3) kji: the border of the painted voxels in the shown slice."""
    axis, index = shown_slice(slice_node, grid)
    if not 0 <= index - scribble.origin[axis] < scribble.mask.shape[axis]:
        return np.zeros((0, 2, 3))
    plane = np.pad(np.take(scribble.mask, index - scribble.origin[axis], axis=axis), 1)
    edges = []
    for along in (0, 1):
        crossings = np.argwhere(np.diff(plane.astype(np.int8), axis=along)) - 0.5  # between pixel n - 1 and n of the crop
        crossings[:, 1 - along] -= 0.5
        ends = np.repeat(crossings[:, None], 2, axis=1)
        ends[:, :, 1 - along] += (-0.5, 0.5)
        edges.append(ends)
    ends = np.concatenate(edges)
    return np.insert(ends + np.delete(scribble.origin, axis), axis, index, axis=2)


def _sign(at_xy, positive: bool) -> list:
    x, y = at_xy
    bars = [((x - ARM_PIXELS, y), (x + ARM_PIXELS, y))]
    return bars + [((x, y - ARM_PIXELS), (x, y + ARM_PIXELS))] if positive else bars


def _closed(corners_xy) -> list:
    return list(zip(corners_xy, corners_xy[1:] + corners_xy[:1]))
