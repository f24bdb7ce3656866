"""The slice views that the mouse has been in, and the prompts drawn in them. Knows no option and no button."""
from __future__ import annotations

from InteractiveSegBridge.markers import PromptMarkers
from InteractiveSegBridge.workbench import workbench

from InteractiveSegLib import InteractiveSegError


class SliceViews:
    """Slice widget -> PromptMarkers. PythonQt: a widget is false once it was destroyed."""

    def __init__(self, effect) -> None:
        self._effect, self._markers, self._last = effect, {}, None

    @property
    def last(self):
        """The view in which the mouse was last; None where that is no more."""
        return self._last if self._last in self._markers and self._last else None

    def enter(self, view) -> None:
        """The mouse is in this view."""
        self._last = view
        if view not in self._markers:
            self._markers[view] = PromptMarkers()
            for actor in self._markers[view].actors:
                self._effect.scriptedEffect.addActor2D(view, actor)
            self._draw(view)

    def leave(self) -> None:
        """Forget all views: they may be other widgets from now on."""
        for view, markers in self._markers.items():
            if not view:
                continue
            for actor in markers.actors:
                self._effect.scriptedEffect.removeActor2D(view, actor)
            self._effect.scriptedEffect.scheduleRender(view)
        self._markers.clear()

    def draw(self, *views) -> None:
        """Show the prompts as they are in these views, in all where none is named."""
        for view in views or tuple(self._markers):
            if view in self._markers:
                self._draw(view)

    def hit(self, view, xy) -> int | None:
        """The number of the prompt whose sign lies there; None where none does."""
        return self._markers[view].hit(xy)

    def show_draft(self, view, path_xy, closed: bool, positive: bool) -> None:
        """Draw a path that the mouse is still making; () takes it away."""
        self._markers[view].show_draft(path_xy, closed, positive)
        self._effect.scriptedEffect.scheduleRender(view)

    def _draw(self, view) -> None:
        node, markers = view.mrmlSliceNode(), self._markers[view]
        try:
            given = workbench().given(self._effect.scriptedEffect.parameterSetNode())
            markers.show(node, self._effect.volume, given)
        except InteractiveSegError:  # a volume under a warp has no slices to draw in; the next click says so
            markers.show(node, None, ())
        self._effect.scriptedEffect.scheduleRender(view)
