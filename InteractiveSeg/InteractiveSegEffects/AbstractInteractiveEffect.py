"""The life that all interactive effects share in the Segment Editor; a subclass turns mouse events into prompts.

Knows no model by name and does no arithmetic on voxels: that is the bridge's.
"""
from __future__ import annotations

import inspect
from pathlib import Path

import qt
import slicer
import vtk
from InteractiveSegBridge import mrml
from InteractiveSegBridge.markers import PromptMarkers
from InteractiveSegBridge.resources import resource_path
from InteractiveSegBridge.workbench import SegmentAction, WarmUp, workbench
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect

from InteractiveSegLib import InteractiveSegError

from .options_panel import OptionsPanel

OBLIQUE_DEGREES = 5.0
MESSAGE_MS = 5000
TOGGLE_KEY = "x"  # among the few keys that neither the views nor the Segment Editor take
# Common parameters: one value for all interactive effects.
MODEL, DEVICE, REMOVE = "InteractiveSeg.Model", "InteractiveSeg.Device", "InteractiveSeg.Remove"


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
        self.panel = OptionsPanel(TOGGLE_KEY)
        self.scriptedEffect.addOptionsWidget(self.panel.widget)
        self.panel.familyCombo.connect("currentIndexChanged(int)", self.updateMRMLFromGUI)
        self.panel.deviceCombo.connect("currentIndexChanged(int)", self.updateMRMLFromGUI)
        self.panel.removeButton.connect("toggled(bool)", self.updateMRMLFromGUI)
        self.panel.startOverButton.connect("clicked()", self.onStartOver)
        self.panel.cancelButton.connect("clicked()", self.onCancel)

    def setMRMLDefaults(self) -> None:
        if self.scriptedEffect.parameterSetNode() is None:  # so it is while a scene closes
            return
        self.scriptedEffect.setCommonParameterDefault(MODEL, self.panel.defaultFamily)
        self.scriptedEffect.setCommonParameterDefault(DEVICE, "auto")
        self.scriptedEffect.setCommonParameterDefault(REMOVE, 0)

    def updateGUIFromMRML(self) -> None:
        self.panel.show(
            self.scriptedEffect.parameter(MODEL),
            self.scriptedEffect.parameter(DEVICE),
            bool(self.scriptedEffect.integerParameter(REMOVE)),
        )
        if self._listening:
            self.refresh()  # another model has other prompts

    def updateMRMLFromGUI(self, *_) -> None:
        # Read first: every setCommonParameter calls updateGUIFromMRML at once.
        values = {MODEL: self.panel.family, DEVICE: self.panel.device, REMOVE: int(self.panel.removes)}
        for name, value in values.items():
            self.scriptedEffect.setCommonParameter(name, value)

    # Life cycle: Slicer 5.8 calls no cleanup(), so everything is let go in deactivate()

    def activate(self) -> None:
        workbench().listeners.append(self.refresh)
        workbench().watch(self.scriptedEffect.parameterSetNode())
        self._listening = True
        try:
            workbench().worker.submit(WarmUp(self._segment()))
        except InteractiveSegError as error:
            self.say(str(error))

    def deactivate(self) -> None:
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
        if eventId == vtk.vtkCommand.KeyPressEvent and callerInteractor.GetKeySym() == TOGGLE_KEY:
            self.panel.removeButton.toggle()
            return True
        if callerInteractor.GetShiftKey():  # Shift + mouse is Slicer's crosshair and pan
            return False
        try:
            return bool(self.handleMouse(eventId, callerInteractor.GetEventPosition(), callerInteractor, viewWidget))
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
        workbench().worker.submit(SegmentAction(segment, add, self, prompt))

    def say(self, text: str) -> None:
        """One sentence to the user, in the options and in the status bar."""
        self.panel.statusLabel.text = text
        slicer.util.showStatusMessage(text, MESSAGE_MS)

    def refresh(self) -> None:
        """Show what is running and which prompts there are."""
        self.panel.showPending(workbench().waiting)
        for view in tuple(self._views):
            self._draw(view)

    def rubberBand(self, viewWidget):
        """Two corners in pixels of a rectangle being dragged in this view, or None."""

    # Buttons, and what the workbench reports

    def onStartOver(self) -> None:
        try:
            segment = self._segment()
        except InteractiveSegError as error:
            self.say(str(error))
            return
        workbench().worker.submit(SegmentAction(segment, lambda session: session.reset(), self))

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
        return workbench().segment(self.scriptedEffect.parameterSetNode(), self.panel.family, self.panel.device)

    def _watch(self, viewWidget) -> None:
        if viewWidget in self._views:
            return
        self._views[viewWidget] = PromptMarkers()
        for actor in self._views[viewWidget].actors:
            self.scriptedEffect.addActor2D(viewWidget, actor)
        self._draw(viewWidget)

    def _draw(self, viewWidget) -> None:
        node, markers = viewWidget.mrmlSliceNode(), self._views[viewWidget]
        prompts = workbench().prompts(self.scriptedEffect.parameterSetNode(), self.panel.family, self.panel.device)
        try:
            markers.show(node, self.volume, prompts, self.rubberBand(viewWidget))
        except InteractiveSegError:  # a volume under a warp has no slices to draw in; the next click says so
            markers.show(node, None, ())
        self.scriptedEffect.scheduleRender(viewWidget)
