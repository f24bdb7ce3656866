"""A rectangle dragged in a slice view is one prompt: the object fills it."""
from __future__ import annotations

import vtk
from InteractiveSegBridge import mrml

from InteractiveSegLib import Box

from .AbstractInteractiveEffect import AbstractInteractiveEffect

SHORTEST_DRAG_PIXELS = 4


class InteractiveBoxEffect(AbstractInteractiveEffect):
    """Drag with the left button around the object."""

    NAME = "InteractiveBox"
    TITLE = "Interactive box"
    HELP = (
        "<html><b>Drag a box</b> with the left button around the object: it is found in the slice you look at.<br>"
        "Correct the result with further boxes or with Interactive click.</html>"
    )

    def __init__(self, scriptedEffect) -> None:
        super().__init__(scriptedEffect)
        self._drag = None  # (view, first corner, last corner) in pixels, while the button is down

    def deactivate(self) -> None:
        self._drag = None
        super().deactivate()

    def handleMouse(self, eventId, xy, interactor, viewWidget) -> bool:
        if eventId in (vtk.vtkCommand.LeftButtonPressEvent, vtk.vtkCommand.LeftButtonDoubleClickEvent):
            self._drag = (viewWidget, xy, xy)
            return True
        if self._drag is None or self._drag[0] != viewWidget:
            return False
        if eventId == vtk.vtkCommand.MouseMoveEvent:
            self._drag = (viewWidget, self._drag[1], xy)
            self.refresh()
            return True
        if eventId != vtk.vtkCommand.LeftButtonReleaseEvent:
            return False
        first_xy, self._drag = self._drag[1], None
        self._boxDrawn(first_xy, xy, viewWidget)
        self.refresh()
        return True

    def rubberBand(self, viewWidget):
        return self._drag[1:] if self._drag is not None and self._drag[0] == viewWidget else None

    def _boxDrawn(self, first_xy, last_xy, viewWidget) -> None:
        if max(abs(a - b) for a, b in zip(first_xy, last_xy)) < SHORTEST_DRAG_PIXELS:
            self.say("A box needs two corners: press at one, drag to the other and release.")
            return
        if self.volume is None:
            self.say("No source volume is chosen: choose one at the top of the Segment Editor.")
            return
        slice_node = viewWidget.mrmlSliceNode()
        corners_kji = mrml.box_between(slice_node, self.volume, first_xy, last_xy)
        if corners_kji is None:
            self.say(f"The box is outside the volume '{self.volume.GetName()}': draw it over the image.")
            return
        axis, _ = mrml.working_axis(slice_node, self.volume)
        start, stop = corners_kji
        self.submit(Box(start=start, stop=stop), axis, start[axis], viewWidget)
