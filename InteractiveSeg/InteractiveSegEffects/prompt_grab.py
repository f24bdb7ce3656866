"""Prompts that are there can be dragged by their plus or minus, and deleted. Knows no option and no button."""
from __future__ import annotations

import vtk
from InteractiveSegBridge import mrml, strokes
from InteractiveSegBridge.tasks import PromptChange
from InteractiveSegBridge.workbench import workbench

from . import keys

SHORTEST_MOVE_PIXELS = 4


class PromptGrab:
    """Follows the left button from a prompt's sign to where it is released."""

    def __init__(self, effect) -> None:
        self._effect = effect
        self._held = None  # (view, Given, position of the press) while the button is down

    def letGo(self) -> None:
        """Forget what is being dragged."""
        self._held = None

    def handleMouse(self, eventId, interactor, viewWidget) -> bool:
        """True when the event was ours. A press and release on the spot is an ordinary click, which the effect gets then."""
        xy = interactor.GetEventPosition()
        if eventId == vtk.vtkCommand.LeftButtonPressEvent:
            takes = self._effect.DRAG_MOVES or interactor.GetAltKey()  # a stroke may begin where a click was
            given = self._givenAt(viewWidget, xy) if takes else None
            self._held = (viewWidget, given, xy) if given is not None else None
            return self._held is not None
        if self._held is None or self._held[0] != viewWidget:
            return False
        _, given, from_xy = self._held
        far = max(abs(a - b) for a, b in zip(from_xy, xy)) >= SHORTEST_MOVE_PIXELS
        if eventId == vtk.vtkCommand.MouseMoveEvent:
            path_xy, positive = (from_xy, xy) if far else (), getattr(given.prompt, "positive", True)
            self._effect.views.show_draft(viewWidget, path_xy, False, positive)
            return True
        if eventId != vtk.vtkCommand.LeftButtonReleaseEvent:
            return False
        self._held = None
        self._effect.views.show_draft(viewWidget, (), False, True)
        if far:
            grid = mrml.grid_of(self._effect.volume, given.plane)
            self._move(given, strokes.moved(given.prompt, viewWidget.mrmlSliceNode(), grid, from_xy, xy))
            return True
        self._effect.handleMouse(vtk.vtkCommand.LeftButtonPressEvent, xy, interactor, viewWidget)
        return False  # the effect gets the release next

    def delete(self, viewWidget, xy) -> None:
        """Take the prompt under a pixel of the view away."""
        given = self._givenAt(viewWidget, xy)
        if given is None:
            self._effect.say("No prompt lies under the mouse: point at its plus or minus to delete it.")
            return
        workbench().worker.submit(PromptChange(*self._effect.segmentAndChoice(), self._effect, given))

    def _givenAt(self, viewWidget, xy):
        number = self._effect.views.hit(viewWidget, xy)
        given = workbench().given(self._effect.scriptedEffect.parameterSetNode())
        return given[number] if number is not None and number < len(given) else None

    def _move(self, given, instead) -> None:
        if instead is None:
            name = self._effect.volume.GetName()
            self._effect.say(f"The prompt would leave the volume '{name}': drop it inside or press {keys.DELETE}.")
            return
        workbench().worker.submit(PromptChange(*self._effect.segmentAndChoice(), self._effect, given, instead))
