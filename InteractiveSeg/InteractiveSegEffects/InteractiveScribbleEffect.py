"""A stroke painted in a slice view is one prompt: inside the object, or with Ctrl outside of it."""
from __future__ import annotations

from InteractiveSegBridge import strokes

from InteractiveSegLib import Scribble

from .AbstractDrawingEffect import AbstractDrawingEffect


class InteractiveScribbleEffect(AbstractDrawingEffect):
    """Paint with the left button inside the object, with Ctrl outside of it."""

    NAME = "InteractiveScribble"
    TITLE = "Interactive scribble"
    HELP = (
        "<html><b>Paint a stroke</b> with the left button through the object, with Ctrl (Cmd on macOS) through what is not "
        "the object: it is found in the slice you look at.<br>Every further stroke corrects the result.</html>"
    )

    def setupOptionsFrame(self) -> None:
        super().setupOptionsFrame()
        self.panel.brushRow.setVisible(True)

    def pathDrawn(self, path_xy, positive, viewWidget) -> None:
        grid, _ = self.shown(viewWidget)
        painted = strokes.stroke_mask(viewWidget.mrmlSliceNode(), grid, path_xy, self.panel.brushPixels)
        if painted is None:
            self.say(f"The stroke is outside the volume '{self.volume.GetName()}': paint inside the image.")
            return
        origin, mask = painted
        self.submit(Scribble(mask, positive, origin), viewWidget)
