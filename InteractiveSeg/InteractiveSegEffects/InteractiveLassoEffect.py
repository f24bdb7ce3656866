"""A closed curve drawn in a slice view is one prompt: the object lies in it, or with Ctrl nothing of it does."""
from __future__ import annotations

from InteractiveSegBridge import strokes

from InteractiveSegLib import Lasso

from .AbstractDrawingEffect import AbstractDrawingEffect

FEWEST_POINTS = 3


class InteractiveLassoEffect(AbstractDrawingEffect):
    """Draw around the object with the left button; releasing it closes the curve."""

    NAME = "InteractiveLasso"
    TITLE = "Interactive lasso"
    HELP = (
        "<html><b>Draw around the object</b> with the left button and release it: the curve closes, and the object is found "
        "in the slice you look at.<br>With Ctrl (Cmd on macOS) the curve encloses what is not the object.</html>"
    )

    def draft(self, path_xy) -> tuple:
        return path_xy, True

    def pathDrawn(self, path_xy, positive, viewWidget) -> None:
        points = strokes.lasso_points(viewWidget.mrmlSliceNode(), self.shown(viewWidget)[0], path_xy)
        if len(set(points)) < FEWEST_POINTS:
            self.say(f"The curve encloses nothing of the volume '{self.volume.GetName()}': draw around the object.")
            return
        self.submit(Lasso(points, positive), viewWidget)
