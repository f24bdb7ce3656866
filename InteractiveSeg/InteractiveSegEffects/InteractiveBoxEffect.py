"""A rectangle dragged in a slice view is one prompt: the object fills it."""
from __future__ import annotations

from InteractiveSegBridge import mrml

from InteractiveSegLib import Box

from .AbstractDrawingEffect import AbstractDrawingEffect

SHORTEST_DRAG_PIXELS = 4


class InteractiveBoxEffect(AbstractDrawingEffect):
    """Drag with the left button around the object."""

    NAME = "InteractiveBox"
    TITLE = "Interactive box"
    HELP = (
        "<html><b>Drag a box</b> with the left button around the object: it is found in the slice you look at.<br>"
        "Correct the result with further boxes or with the other interactive effects.</html>"
    )

    def draft(self, path_xy) -> tuple:
        (x0, y0), (x1, y1) = path_xy[0], path_xy[-1]
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], True

    def removes(self, interactor) -> bool:
        return False  # a box says where the object is

    def pathDrawn(self, path_xy, positive, viewWidget) -> None:
        first_xy, last_xy = path_xy[0], path_xy[-1]
        if max(abs(a - b) for a, b in zip(first_xy, last_xy)) < SHORTEST_DRAG_PIXELS:
            self.say("A box needs two corners: press at one, drag to the other and release.")
            return
        corners_kji = mrml.box_between(viewWidget.mrmlSliceNode(), self.shown(viewWidget)[0], first_xy, last_xy)
        if corners_kji is None:
            self.say(f"The box is outside the volume '{self.volume.GetName()}': draw it over the image.")
            return
        self.submit(Box(*corners_kji), viewWidget)
