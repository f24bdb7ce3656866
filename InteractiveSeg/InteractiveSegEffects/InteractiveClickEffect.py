"""One click in a slice view is one prompt: inside the object, or with Ctrl outside of it."""
from __future__ import annotations

import vtk
from InteractiveSegBridge import mrml
from InteractiveSegBridge.workbench import workbench

from InteractiveSegLib import Click

from .AbstractInteractiveEffect import PRESSES, AbstractInteractiveEffect


class InteractiveClickEffect(AbstractInteractiveEffect):
    """Left click adds, Ctrl + left click removes."""

    DRAG_MOVES = True
    NAME = "InteractiveClick"
    TITLE = "Interactive click"
    HELP = (
        "<html>Click into the object: it is found in the slice you look at.<br>"
        "<b>Left click</b> adds what you point at, <b>Ctrl + left click</b> (Cmd on macOS) removes it; the key "
        "<b>x</b> swaps the two. Every further click corrects the result.</html>"
    )

    def handleMouse(self, eventId, xy, interactor, viewWidget) -> bool:
        if eventId == vtk.vtkCommand.LeftButtonReleaseEvent:
            return True  # the press was ours too
        if eventId not in PRESSES:
            return False
        if self.volume is None:
            self.say("No source volume is chosen: choose one at the top of the Segment Editor.")
            return True
        slice_node = viewWidget.mrmlSliceNode()
        if not mrml.is_inside(self._voxel(slice_node, mrml.grid_of(self.volume), xy), mrml.grid_of(self.volume)):
            self.say(f"The click is outside the volume '{self.volume.GetName()}': click inside the image.")
            return True
        grid, _ = self.shown(viewWidget)
        click = Click(self._voxel(slice_node, grid, xy), not self.removes(interactor))
        if click.positive and workbench().new_segment_per_click:
            workbench().add_segment(self.scriptedEffect.parameterSetNode())
        self.submit(click, viewWidget)
        return True

    def _voxel(self, slice_node, grid, xy) -> tuple:
        return mrml.nearest_voxel(mrml.xy_to_kji(slice_node, grid, xy))
