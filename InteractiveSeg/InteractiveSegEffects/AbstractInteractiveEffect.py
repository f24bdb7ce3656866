"""The life that all interactive effects share in the Segment Editor; a subclass turns mouse events into prompts.

Knows no model by name and does no arithmetic on voxels: that is the bridge's.
"""
from __future__ import annotations

import inspect
import weakref
from pathlib import Path

import qt
import slicer
import vtk
from InteractiveSegBridge import advice, mrml
from InteractiveSegBridge.records import Given
from InteractiveSegBridge.resources import resource_path
from InteractiveSegBridge.states import Choice
from InteractiveSegBridge.tasks import Acceptance, Job, PlanePrediction, Prediction, Prompting, Propagation, StartOver, WarmUp
from InteractiveSegBridge.workbench import workbench
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.models import list_families

from . import keys
from .options_panel import BRUSH_PIXELS, OptionsPanel
from .prompt_grab import PromptGrab
from .slice_views import SliceViews

MESSAGE_MS = 5000
# Slicer delivers the second press of a fast pair as a double click, and would maximise the view with it.
PRESSES = (vtk.vtkCommand.LeftButtonPressEvent, vtk.vtkCommand.LeftButtonDoubleClickEvent)
# Common parameters: one value for all interactive effects.
MODEL, DEVICE, REMOVE, BRUSH = (f"InteractiveSeg.{n}" for n in ("Model", "Device", "Remove", "Brush"))


class AbstractInteractiveEffect(AbstractScriptedSegmentEditorEffect):
    """Options, prompts and messages around one shared workbench.

    Subclasses set NAME, TITLE and HELP and implement `handleMouse`.
    """

    DRAG_MOVES = False  # a drag without Alt moves a prompt: only where it has no other meaning

    def __init__(self, scriptedEffect) -> None:
        scriptedEffect.name = self.NAME
        scriptedEffect.title = self.TITLE
        scriptedEffect.perSegment = True
        super().__init__(scriptedEffect)
        self.panel = None
        self._listening = False
        self.views = SliceViews(self)
        self.grab = PromptGrab(self)
        self._pressed = False  # the left button was pressed for us and is still down
        self._warm = None  # the choice that was warmed up last
        self._seconds = None  # that the last answer took

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
        self.panel = panel = OptionsPanel(self.NAME, self.say, self._do)
        self.scriptedEffect.addOptionsWidget(panel.widget)
        for signal, owner in (
            ("currentIndexChanged(int)", panel.familyCombo),
            ("currentIndexChanged(int)", panel.deviceCombo),
            ("toggled(bool)", panel.removeButton),
            ("valueChanged(int)", panel.brushSpin),
        ):
            owner.connect(signal, self.updateMRMLFromGUI)
        for button, slot in (
            (panel.structuresButton, self.onAddStructures),
            (panel.startOverButton, self.onStartOver),
            (panel.cancelButton, self.onCancel),
            (panel.releaseButton, self.onRelease),
            (panel.nextButton, self.onNextSegment),
            (panel.visibilityButton, self.onVisibility),
            (panel.predictButton, self.onPredict),
            (panel.predictRangeButton, self.onPredictRange),
            (panel.propagateButton, self.onPropagate),
            (panel.acceptButton, self.onAccept),
        ):
            button.connect("clicked()", slot)
        panel.structureCombo.connect("activated(int)", self.onStructure)
        panel.examplesButton.connect("toggled(bool)", self.refresh)
        for name, button in panel.toolButtons.items():
            button.connect("clicked()", lambda name=name: self.onTool(name))

    def setMRMLDefaults(self) -> None:
        if self.scriptedEffect.parameterSetNode() is None:  # so it is while a scene closes
            return
        # Slicer may ask before the options are made.
        defaults = {MODEL: list_families()[0].name, DEVICE: "auto", REMOVE: 0, BRUSH: BRUSH_PIXELS[1]}
        for name, value in defaults.items():
            self.scriptedEffect.setCommonParameterDefault(name, value)

    def updateGUIFromMRML(self) -> None:
        if self.panel is None:
            return
        effect = self.scriptedEffect
        removes, brush_pixels = bool(effect.integerParameter(REMOVE)), effect.integerParameter(BRUSH)
        self.panel.show(effect.parameter(MODEL), effect.parameter(DEVICE), removes, brush_pixels)
        if self._listening:
            self._warmUp()
            self.refresh()

    def updateMRMLFromGUI(self, *_) -> None:
        # Read first: every setCommonParameter calls updateGUIFromMRML at once.
        panel = self.panel
        values = {
            MODEL: panel.family,
            DEVICE: panel.device,
            REMOVE: int(panel.removes),
            BRUSH: panel.brushPixels,
        }
        for name, value in values.items():
            self.scriptedEffect.setCommonParameter(name, value)

    # Life cycle: Slicer 5.8 calls no cleanup(), so everything is let go in deactivate()

    def activate(self) -> None:
        workbench().listeners.append(self.refresh)
        workbench().watch(self.scriptedEffect.parameterSetNode())
        self._listening = True
        self._warm = None
        self._warmUp()
        self._advise()

    def deactivate(self) -> None:
        self.grab.letGo()
        self._pressed = False
        if self._listening:
            workbench().unwatch()
            workbench().listeners.remove(self.refresh)
            self._listening = False
        self.layoutChanged()

    def cleanup(self) -> None:
        self.deactivate()

    def layoutChanged(self) -> None:
        """The views may be other widgets from now on."""
        self.views.leave()

    def sourceVolumeNodeChanged(self) -> None:
        if self.scriptedEffect.active():
            self._warm = None
            self._warmUp()
            self._advise()

    # Events

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget) -> bool:
        """True stops the event; Slicer takes nothing but a real bool."""
        if viewWidget.className() != "qMRMLSliceWidget":
            return False
        self.views.enter(viewWidget)
        released = eventId == vtk.vtkCommand.LeftButtonReleaseEvent
        if eventId in PRESSES:
            self._pressed = False
        if (released or callerInteractor.GetShiftKey()) and not self._pressed:  # Shift + mouse is Slicer's crosshair and pan
            return False
        taken = self._handle(eventId, callerInteractor, viewWidget)
        if eventId in PRESSES:
            self._pressed = taken
        elif released:
            self._pressed = False
        return taken

    def _handle(self, eventId, interactor, viewWidget) -> bool:
        try:
            if eventId == vtk.vtkCommand.KeyPressEvent:
                return keys.press(self, interactor, viewWidget)
            return self.grab.handleMouse(eventId, interactor, viewWidget) or bool(
                self.handleMouse(eventId, interactor.GetEventPosition(), interactor, viewWidget)
            )
        except InteractiveSegError as error:
            self.say(str(error))
            return True

    def processViewNodeEvents(self, callerViewNode, eventId, viewWidget) -> None:
        self.views.draw(viewWidget)

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

    def shown(self, viewWidget) -> tuple:
        """(grid, plane) of what a view shows: the volume's own grid, or a plane that follows none of its slices."""
        plane = None if self.panel.seesVolume else mrml.plane_shown(viewWidget.mrmlSliceNode(), self.volume)
        return mrml.grid_of(self.volume, plane), plane

    def submit(self, prompt, viewWidget) -> None:
        """Send a prompt, whose positions are voxels of the grid `shown`, to the network."""
        if not self.scriptedEffect.confirmCurrentSegmentVisible():
            return
        slice_node = viewWidget.mrmlSliceNode()
        grid, plane = self.shown(viewWidget)
        _, tilt = mrml.working_axis(slice_node, mrml.grid_of(self.volume))
        tilted = f"The view is tilted by {tilt:.0f}° to the volume: the network sees the picture of this view."
        self.say(tilted if plane is not None else "")
        segment, choice = self.segmentAndChoice()
        chosen = self.scriptedEffect.parameterSetNode().GetSelectedSegmentID()
        given = Given(prompt, mrml.working_axis(slice_node, grid)[0], plane, chosen)
        workbench().worker.submit(Prompting(segment, choice, self, given))

    def segmentAndChoice(self) -> tuple:
        """What is segmented and what answers; InteractiveSegError when something is not chosen."""
        node = self.scriptedEffect.parameterSetNode()
        case = workbench().case(node)
        if case is not None:
            return case, case.choice
        structures = workbench().structures(node, self.panel.structures)
        segment = workbench().segment(node, structures.values())
        context = workbench().context(segment.name) if self.panel.learns else None
        return segment, Choice(self.panel.family, self.panel.device, tuple(structures) or None, context)

    def useModel(self, family: str) -> None:
        """Answer with this model from now on."""
        self.scriptedEffect.setCommonParameter(MODEL, family)

    def say(self, text: str) -> None:
        """One sentence to the user, in the options and in the status bar."""
        self.panel.statusLabel.text = text
        slicer.util.showStatusMessage(text, MESSAGE_MS)

    def refresh(self, *_) -> None:
        """Show what is running, which prompts there are, and what the chosen segment is."""
        node = self.scriptedEffect.parameterSetNode()
        self.panel.showStructure(workbench().structure(node, self.panel.structureNames))
        self.panel.showRounds(workbench().rounds(node))
        wants = self.panel.learns and self.panel.examplesButton.checked
        self.panel.showContext(self._told(workbench().context_of, node) if wants else None)
        self.panel.showPending(workbench().waiting, workbench().progress, workbench().worker.busy)
        if self.volume is not None and self.volume.GetImageData() is not None:
            self.panel.showSlices(mrml.volume_shape(self.volume)[workbench().axis(node)])
        self.views.draw()

    # Buttons, and what the workbench reports

    def onStartOver(self) -> None:
        self._submit(StartOver, self, self.scriptedEffect.parameterSetNode().GetSelectedSegmentID())

    def onStructure(self, *_) -> None:
        self._told(workbench().call_structure, self.scriptedEffect.parameterSetNode(), self.panel.structure)
        self._warmUp()

    def onAddStructures(self) -> None:
        names = self._told(workbench().add_structures, self.scriptedEffect.parameterSetNode(), self.panel.structures)
        if names is not None:
            self.say(f"Added {', '.join(names)}." if names else "Every structure of this model has a segment already.")

    def onPredict(self) -> None:
        view = self.views.last
        if view is None or self.volume is None:
            self.say("Move the mouse over the slice view whose slice is to be predicted, then press the button again.")
            return
        grid, plane = self.shown(view)
        if plane is not None:
            self._submit(PlanePrediction, self, plane)
            return
        axis, index = mrml.shown_slice(view.mrmlSliceNode(), grid)
        self._submit(Prediction, self, axis, (index, index + 1))

    def onPredictRange(self) -> None:
        self._submit(Prediction, self, workbench().axis(self.scriptedEffect.parameterSetNode()), self.panel.extent)

    def onPropagate(self) -> None:
        axis = self._told(workbench().axis_to_propagate, self.scriptedEffect.parameterSetNode())
        if axis is not None:
            self._submit(Propagation, self, axis, self.panel.extent, self.panel.fuses)

    def onAccept(self) -> None:
        self._submit(Acceptance, self)

    def onTool(self, name: str) -> None:
        self.scriptedEffect.selectEffect(name)

    def onNextTool(self) -> None:
        if self.panel.nextTool is not None:
            self.onTool(self.panel.nextTool)

    def onRemove(self) -> None:
        self.panel.removeButton.toggle()

    def onNextSegment(self) -> None:
        workbench().select_next_segment(self.scriptedEffect.parameterSetNode())

    def onVisibility(self) -> None:
        self._told(workbench().toggle_visibility, self.scriptedEffect.parameterSetNode())

    def onCancel(self) -> None:
        workbench().worker.cancel()
        self.say("Cancelled.")

    def onRelease(self) -> None:
        self._do(lambda progress: workbench().release(), self._released)

    def _released(self, *_) -> None:
        self.panel.showMemory("")
        self.say("The model's memory is free again; the next prompt loads it anew.")

    def actionFinished(self, task) -> None:
        if isinstance(task, Acceptance):
            self.say(f"{task.examples} slices are examples now.")
            self.panel.contextPanel.show()
        elif isinstance(task, Propagation):
            self.say(f"Round {task.rounds} is done: correct a slice and propagate again, or accept.")
        elif task.given is not None:
            self._seconds = task.seconds
        if task.segment.notice:
            self.say(task.segment.notice)
        self.panel.showMemory(task.segment.plan)  # a device may have failed meanwhile
        self._advise()

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

    def _submit(self, task_class, *args) -> None:
        """Queue an action on the chosen segment, or say what is not chosen."""
        chosen = self._told(self.segmentAndChoice)
        if chosen is not None:
            workbench().worker.submit(task_class(*chosen, *args))

    def _do(self, work, told) -> None:
        """Queue anything else; see Job."""
        workbench().worker.submit(Job(work, told, self.actionFailed))

    def _told(self, ask, *args):
        """What `ask` gives; None where it refuses, which is said."""
        try:
            return ask(*args)
        except InteractiveSegError as error:
            self.say(str(error))

    def _advise(self) -> None:
        node = self.scriptedEffect.parameterSetNode()
        name = workbench().structure(node, advice.structures_measured())
        self.panel.showAdvice(advice.recommendation(self.volume, name, self._seconds), advice.said_of(self.panel.family))
        self.panel.showExamples(workbench().examples(node) if self.panel.learns else "")
        self.refresh()

    def _warmUp(self) -> None:
        """Load the model of the present choice, once."""
        chosen = self._told(self.segmentAndChoice)
        if chosen is None:
            return
        segment, choice = chosen
        if (weakref.ref(segment), choice) != self._warm:
            self._warm = (weakref.ref(segment), choice)
            workbench().worker.submit(WarmUp(segment, choice, self.panel.showMemory))
