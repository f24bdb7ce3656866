"""The life that all interactive effects share in the Segment Editor; a subclass turns mouse events into prompts.

Knows no model by name and does no arithmetic on voxels: that is the bridge's.
"""
from __future__ import annotations

import inspect
from pathlib import Path

import qt
import slicer
import vtk
from InteractiveSegBridge import mrml, strokes
from InteractiveSegBridge.markers import PromptMarkers
from InteractiveSegBridge.resources import resource_path
from InteractiveSegBridge.sessions import Choice
from InteractiveSegBridge.workbench import PromptChange, SegmentAction, WarmUp, workbench
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect

from InteractiveSegLib import InteractiveSegError

from . import keys
from .options_panel import OptionsPanel

OBLIQUE_DEGREES = 5.0
MESSAGE_MS = 5000
SHORTEST_MOVE_PIXELS = 4
# Slicer delivers the second press of a fast pair as a double click, and would maximise the view with it.
PRESSES = (vtk.vtkCommand.LeftButtonPressEvent, vtk.vtkCommand.LeftButtonDoubleClickEvent)
# Common parameters: one value for all interactive effects.
MODEL, DEVICE, REMOVE, BRUSH = (f"InteractiveSeg.{name}" for name in ("Model", "Device", "Remove", "Brush"))


class AbstractInteractiveEffect(AbstractScriptedSegmentEditorEffect):
    """Options, prompts and messages around one shared workbench.

    Subclasses set NAME, TITLE and HELP and implement `handleMouse`.
    """

    def __init__(self, scriptedEffect) -> None:
        scriptedEffect.name = self.NAME
        scriptedEffect.title = self.TITLE
        scriptedEffect.perSegment = True
        super().__init__(scriptedEffect)
        self.panel = None
        self._listening = False
        self._views = {}  # slice widget -> PromptMarkers, for the views the mouse has been in
        self._grabbed = None  # (view, prompt, position of the press) while the button is down on a prompt's sign

    def clone(self):
        """Without this method Slicer never shows the effect. The file must be the subclass's, not this one."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects  # exists in the application only

        clone = effects.qSlicerSegmentEditorScriptedEffect(None)
        clone.setPythonSource(Path(inspect.getfile(type(self))).as_posix())
        return clone

    def icon(self):
        return qt.QIcon(str(resource_path(f"Icons/{self.NAME}.png")))

    def helpText(self) -> str:
        return self.HELP

    # Options

    def setupOptionsFrame(self) -> None:
        self.panel = OptionsPanel(self.NAME)
        self.scriptedEffect.addOptionsWidget(self.panel.widget)
        for signal, owner in (
            ("currentIndexChanged(int)", self.panel.familyCombo),
            ("currentIndexChanged(int)", self.panel.deviceCombo),
            ("toggled(bool)", self.panel.removeButton),
            ("valueChanged(int)", self.panel.brushSpin),
        ):
            owner.connect(signal, self.updateMRMLFromGUI)
        for button, slot in (
            (self.panel.startOverButton, self.onStartOver),
            (self.panel.cancelButton, self.onCancel),
            (self.panel.nextButton, self.onNextSegment),
            (self.panel.visibilityButton, self.onVisibility),
        ):
            button.connect("clicked()", slot)
        for name, button in self.panel.toolButtons.items():
            button.connect("clicked()", lambda name=name: self.onTool(name))

    def setMRMLDefaults(self) -> None:
        if self.scriptedEffect.parameterSetNode() is None:  # so it is while a scene closes
            return
        defaults = {MODEL: self.panel.defaultFamily, DEVICE: "auto", REMOVE: 0, BRUSH: self.panel.brushPixels}
        for name, value in defaults.items():
            self.scriptedEffect.setCommonParameterDefault(name, value)

    def updateGUIFromMRML(self) -> None:
        effect = self.scriptedEffect
        removes, brush_pixels = bool(effect.integerParameter(REMOVE)), effect.integerParameter(BRUSH)
        self.panel.show(effect.parameter(MODEL), effect.parameter(DEVICE), removes, brush_pixels)
        if self._listening:
            self.refresh()

    def updateMRMLFromGUI(self, *_) -> None:
        # Read first: every setCommonParameter calls updateGUIFromMRML at once.
        panel = self.panel
        values = {MODEL: panel.family, DEVICE: panel.device, REMOVE: int(panel.removes), BRUSH: panel.brushPixels}
        for name, value in values.items():
            self.scriptedEffect.setCommonParameter(name, value)

    # Life cycle: Slicer 5.8 calls no cleanup(), so everything is let go in deactivate()

    def activate(self) -> None:
        workbench().listeners.append(self.refresh)
        workbench().watch(self.scriptedEffect.parameterSetNode())
        self._listening = True
        try:
            workbench().worker.submit(WarmUp(self._segment(), self._choice()))
        except InteractiveSegError as error:
            self.say(str(error))

    def deactivate(self) -> None:
        self._grabbed = None
        if self._listening:
            workbench().unwatch()
            workbench().listeners.remove(self.refresh)
            self._listening = False
        self.layoutChanged()

    def cleanup(self) -> None:
        self.deactivate()

    def layoutChanged(self) -> None:
        """The views may be other widgets from now on."""
        for view, markers in self._views.items():
            if not view:  # PythonQt: the widget was destroyed
                continue
            for actor in markers.actors:
                self.scriptedEffect.removeActor2D(view, actor)
            self.scriptedEffect.scheduleRender(view)
        self._views.clear()

    def sourceVolumeNodeChanged(self) -> None:
        if self.scriptedEffect.active():
            self.refresh()

    # Events

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget) -> bool:
        """True stops the event; Slicer takes nothing but a real bool."""
        if viewWidget.className() != "qMRMLSliceWidget":
            return False
        self._watch(viewWidget)
        if callerInteractor.GetShiftKey():  # Shift + mouse is Slicer's crosshair and pan
            return False
        try:
            if eventId == vtk.vtkCommand.KeyPressEvent:
                return self._handleKey(callerInteractor, viewWidget)
            return self._handleGrab(eventId, callerInteractor, viewWidget) or bool(
                self.handleMouse(eventId, callerInteractor.GetEventPosition(), callerInteractor, viewWidget)
            )
        except InteractiveSegError as error:
            self.say(str(error))
            return True

    def processViewNodeEvents(self, callerViewNode, eventId, viewWidget) -> None:
        if viewWidget in self._views:
            self._draw(viewWidget)

    def handleMouse(self, eventId, xy, interactor, viewWidget) -> bool:
        """True when the event was ours. xy in pixels of the view."""
        raise NotImplementedError

    # For subclasses

    @property
    def volume(self):
        """The Segment Editor's source volume, or None."""
        editor = self.scriptedEffect.parameterSetNode()
        return editor.GetSourceVolumeNode() if editor else None

    def removes(self, interactor) -> bool:
        """True when a prompt given now marks what is not the object: Ctrl is held, or the button is down."""
        return bool(interactor.GetControlKey()) != self.panel.removes

    def submit(self, prompt, axis: int, index: int, viewWidget) -> None:
        """Send a prompt in slice `index` of array axis `axis` to the network."""
        if not self.scriptedEffect.confirmCurrentSegmentVisible():
            return
        segment = self._segment()

        def add(session):
            session.set_slice(axis, index)
            return session.add(prompt)

        tilt = mrml.working_axis(viewWidget.mrmlSliceNode(), self.volume)[1]
        self.say(
            f"The view is tilted by {tilt:.0f}° to the volume: the prompt goes to the nearest slice, {'KJI'[axis]} = {index}."
            if tilt > OBLIQUE_DEGREES
            else ""
        )
        workbench().worker.submit(SegmentAction(segment, self._choice(), add, self, prompt))

    def say(self, text: str) -> None:
        """One sentence to the user, in the options and in the status bar."""
        self.panel.statusLabel.text = text
        slicer.util.showStatusMessage(text, MESSAGE_MS)

    def refresh(self) -> None:
        """Show what is running and which prompts there are."""
        self.panel.showPending(workbench().waiting)
        for view in tuple(self._views):
            self._draw(view)

    def showDraft(self, viewWidget, path_xy, closed: bool, positive: bool) -> None:
        """Draw a path that the mouse is still making; () takes it away."""
        self._views[viewWidget].show_draft(path_xy, closed, positive)
        self.scriptedEffect.scheduleRender(viewWidget)

    # Buttons, and what the workbench reports

    def onStartOver(self) -> None:
        try:
            segment = self._segment()
        except InteractiveSegError as error:
            self.say(str(error))
            return
        workbench().worker.submit(SegmentAction(segment, self._choice(), lambda session: session.reset(), self))

    def onTool(self, name: str) -> None:
        self.scriptedEffect.selectEffect(name)

    def onRemove(self) -> None:
        self.panel.removeButton.toggle()

    def onNextSegment(self) -> None:
        workbench().select_next_segment(self.scriptedEffect.parameterSetNode())

    def onVisibility(self) -> None:
        workbench().toggle_visibility(self.scriptedEffect.parameterSetNode())

    def onCancel(self) -> None:
        workbench().worker.cancel()
        self.say("Cancelled.")

    def actionFinished(self) -> None:
        self.refresh()

    def actionDropped(self) -> None:
        self.say("The result was dropped: its segment or volume is no longer the one being edited.")

    def actionFailed(self, error: BaseException) -> None:
        """The one place where errors of the library reach the user."""
        if isinstance(error, ModuleNotFoundError):
            text = f"The network needs the Python package {error.name}: open the module InteractiveSeg and install it there."
        elif isinstance(error, InteractiveSegError):
            text = str(error)
        else:
            text = f"The prediction failed ({type(error).__name__}: {error}); the details are in the error log."
        self.panel.statusLabel.text = text
        slicer.util.errorDisplay(text, windowTitle=self.TITLE)

    def _segment(self):
        return workbench().segment(self.scriptedEffect.parameterSetNode())

    def _choice(self) -> Choice:
        return Choice(self.panel.family, self.panel.device)

    def _handleKey(self, interactor, viewWidget) -> bool:
        """True when the key is ours; with Ctrl or Alt it is somebody else's."""
        key = interactor.GetKeySym()
        if interactor.GetControlKey() or interactor.GetAltKey():
            return False
        if key == keys.DELETE:
            self._delete(viewWidget, interactor.GetEventPosition())
            return True
        actions = {
            keys.REMOVE: self.onRemove,
            keys.NEXT_SEGMENT: self.onNextSegment,
            keys.START_OVER: self.onStartOver,
            keys.VISIBILITY: self.onVisibility,
            **{tool.key: lambda name=tool.effect: self.onTool(name) for tool in keys.TOOLS},
        }
        if key in actions:
            actions[key]()
        return key in actions

    def _handleGrab(self, eventId, interactor, viewWidget) -> bool:
        """Drag a prompt by its sign. A press and release on the spot is an ordinary click, and goes to the subclass then."""
        xy = interactor.GetEventPosition()
        if eventId == vtk.vtkCommand.LeftButtonPressEvent:
            prompt = self._promptAt(viewWidget, xy)
            self._grabbed = (viewWidget, prompt, xy) if prompt is not None else None
            return self._grabbed is not None
        if self._grabbed is None or self._grabbed[0] != viewWidget:
            return False
        _, prompt, from_xy = self._grabbed
        far = max(abs(a - b) for a, b in zip(from_xy, xy)) >= SHORTEST_MOVE_PIXELS
        if eventId == vtk.vtkCommand.MouseMoveEvent:
            self.showDraft(viewWidget, (from_xy, xy) if far else (), False, getattr(prompt, "positive", True))
            return True
        if eventId != vtk.vtkCommand.LeftButtonReleaseEvent:
            return False
        self._grabbed = None
        self.showDraft(viewWidget, (), False, True)
        if far:
            self._move(prompt, strokes.moved(prompt, viewWidget.mrmlSliceNode(), self.volume, from_xy, xy))
            return True
        self.handleMouse(vtk.vtkCommand.LeftButtonPressEvent, xy, interactor, viewWidget)
        return False  # the subclass gets the release next

    def _promptAt(self, viewWidget, xy):
        number = self._views[viewWidget].hit(xy)
        prompts = workbench().prompts(self.scriptedEffect.parameterSetNode())
        return prompts[number] if number is not None and number < len(prompts) else None

    def _move(self, prompt, instead) -> None:
        if instead is None:
            self.say(f"The prompt would leave the volume '{self.volume.GetName()}': drop it inside or press {keys.DELETE}.")
            return
        workbench().worker.submit(PromptChange(self._segment(), self._choice(), self, prompt, instead))

    def _delete(self, viewWidget, xy) -> None:
        prompt = self._promptAt(viewWidget, xy)
        if prompt is None:
            self.say("No prompt lies under the mouse: point at its plus or minus to delete it.")
            return
        workbench().worker.submit(PromptChange(self._segment(), self._choice(), self, prompt))

    def _watch(self, viewWidget) -> None:
        if viewWidget in self._views:
            return
        self._views[viewWidget] = PromptMarkers()
        for actor in self._views[viewWidget].actors:
            self.scriptedEffect.addActor2D(viewWidget, actor)
        self._draw(viewWidget)

    def _draw(self, viewWidget) -> None:
        node, markers = viewWidget.mrmlSliceNode(), self._views[viewWidget]
        try:
            markers.show(node, self.volume, workbench().prompts(self.scriptedEffect.parameterSetNode()))
        except InteractiveSegError:  # a volume under a warp has no slices to draw in; the next click says so
            markers.show(node, None, ())
        self.scriptedEffect.scheduleRender(viewWidget)
