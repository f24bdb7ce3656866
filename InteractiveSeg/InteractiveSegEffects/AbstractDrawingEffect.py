"""Prompts that are drawn with the left button held down: from press to release the mouse leaves a path in one view."""
from __future__ import annotations

import vtk

from .AbstractInteractiveEffect import PRESSES, AbstractInteractiveEffect


class AbstractDrawingEffect(AbstractInteractiveEffect):
    """Collects the path. Subclasses implement `pathDrawn`, and `draft` when they show something else than the path."""

    def __init__(self, scriptedEffect) -> None:
        super().__init__(scriptedEffect)
        self._view, self._path_xy, self._positive = None, [], True  # the view only while the button is down

    def deactivate(self) -> None:
        self._view = None
        super().deactivate()

    def handleMouse(self, eventId, xy, interactor, viewWidget) -> bool:
        if eventId in PRESSES:
            self._view, self._path_xy, self._positive = viewWidget, [xy], not self.removes(interactor)
            return True
        if self._view is None or self._view != viewWidget:
            return False
        if eventId == vtk.vtkCommand.MouseMoveEvent:
            self._path_xy.append(xy)
            self.views.show_draft(viewWidget, *self.draft(self._path_xy), self._positive)
            return True
        if eventId != vtk.vtkCommand.LeftButtonReleaseEvent:
            return False
        self._view = None
        self.views.show_draft(viewWidget, (), False, True)
        if self.volume is None:
            self.say("No source volume is chosen: choose one at the top of the Segment Editor.")
        else:
            self.pathDrawn([*self._path_xy, xy], self._positive, viewWidget)
        return True

    def draft(self, path_xy) -> tuple:
        """(path, closed) to show while drawing."""
        return path_xy, False

    def pathDrawn(self, path_xy, positive: bool, viewWidget) -> None:
        """The button was released. path_xy: at least two positions in pixels of the view."""
        raise NotImplementedError
