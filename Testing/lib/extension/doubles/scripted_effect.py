"""Stand-in for qSlicerSegmentEditorScriptedEffect; the editing itself is done by the real vtkSlicerSegmentEditorLogic.

It refuses what Slicer 5.8.1 refuses: unknown names, keyword arguments, text for a mode, and a result of an event that is
not a bool (Slicer would take it for False). What Slicer would only print is raised.
"""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import qt
import slicer
import vtk
from PySide6 import QtWidgets
from slice_widget import SliceWidgetDouble
from strict import Strict, refuse_keywords

EditorLogic = slicer.vtkSlicerSegmentEditorLogic
EditorNode = slicer.vtkMRMLSegmentEditorNode
MODES = [
    EditorLogic.ModificationModeSet,
    EditorLogic.ModificationModeAdd,
    EditorLogic.ModificationModeRemove,
    EditorLogic.ModificationModeRemoveAll,
]
EVENTS = (
    *(f"{button}Button{what}Event" for button in ("Left", "Middle", "Right") for what in ("Press", "Release", "DoubleClick")),
    *("MouseMoveEvent", "MouseWheelForwardEvent", "MouseWheelBackwardEvent", "KeyPressEvent", "KeyReleaseEvent"),
    *("EnterEvent", "LeaveEvent"),
)
UNDO_STATES = 10  # the Segment Editor's value: nine steps back


def _number_text(value):
    """Numbers as Qt writes them: six significant digits."""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return str(value)
    return str(int(value)) if hasattr(value, "__index__") else format(float(value), "g")


class ScriptedEffectDouble(Strict):
    """The C++ half of an effect: parameters, labelmaps, options, views, and the callbacks in Slicer's order."""

    QT_CLASS = "qSlicerSegmentEditorScriptedEffect"
    PROPERTIES = {
        "name": str,
        "title": str,
        "perSegment": bool,
        "requireSegments": bool,
        "showEffectCursorInSliceView": bool,
        "showEffectCursorInThreeDView": bool,
    }
    ModificationModeSet, ModificationModeAdd, ModificationModeRemove, ModificationModeRemoveAll = range(4)
    NotConfirmed, ConfirmedWithoutDialog, ConfirmedWithDialog = range(3)

    def __init__(self, parent):
        self._values = {"name": "UnnamedScriptedEffect", "title": "", "perSegment": True, "requireSegments": True}
        self._logic, self._python, self._active, self._source = None, None, False, ""
        self._answer_visible = False  # what the user says when asked to show a hidden segment
        self._frame = qt.QFrame()
        self._layout = qt.QFormLayout(self._frame)
        self._observed, self._node_tag = [], None
        self._select = lambda name: None  # the Segment Editor this effect is in

    # identity

    def self(self):
        return self._python

    def pythonSource(self):
        return self._source

    def setPythonSource(self, path):
        """Module = name of the folder, class = name of the file. False, and no word more, when that fails."""
        path = Path(path)
        if importlib.util.find_spec("SegmentEditorEffects") is None or not path.is_file():
            return False
        cls = getattr(sys.modules.get(path.parent.name), path.stem, None)
        if not isinstance(cls, type) or not path.stem.endswith("Effect"):
            return False
        self._source = str(path)
        self._python = cls(self)
        return True

    def parameterSetNode(self):
        return self._logic.GetSegmentEditorNode() if self._logic else None

    def scene(self):
        return self.parameterSetNode().GetScene()

    def active(self):
        return self._active

    def selectEffect(self, name):
        self._select(name)

    # parameters

    def parameter(self, name):
        node = self.parameterSetNode()
        own = node.GetAttribute(f"{self.name}.{name}")
        value = node.GetAttribute(name) if own is None else own
        if value is None:
            raise KeyError(f"parameter {name} was never set: Slicer prints an error and returns nothing")
        return value

    def integerParameter(self, name):
        text = self.parameter(name)
        return int(text) if text.lstrip("-").isdigit() else 0

    def setCommonParameter(self, name, value):
        node, text = self.parameterSetNode(), _number_text(value)
        if (node.GetAttribute(name) or "") == text:
            return
        blocked = node.GetDisableModifiedEvent()
        node.SetDisableModifiedEvent(1)
        node.SetAttribute(name, text)
        node.SetDisableModifiedEvent(blocked)
        node.InvokeCustomModifiedEvent(EditorNode.EffectParameterModified)

    def setParameter(self, name, value):
        self.setCommonParameter(f"{self.name}.{name}", value)

    def setCommonParameterDefault(self, name, value):
        if not self.parameterSetNode().GetAttribute(name):
            self.setCommonParameter(name, value)

    # labelmaps

    def saveStateForUndo(self):
        self._logic.SaveStateForUndo()

    def modifySelectedSegmentByLabelmap(self, labelmap, mode, *rest, **keywords):
        refuse_keywords("modifySelectedSegmentByLabelmap", keywords)
        node = self.parameterSetNode()
        self.modifySegmentByLabelmap(node.GetSegmentationNode(), node.GetSelectedSegmentID() or "", labelmap, mode, *rest)

    def modifySegmentByLabelmap(self, segmentation, segment_id, labelmap, mode, *rest, **keywords):
        """No extent: 5.8 ignores it and newer versions honour it, so code that is right in both crops the modifier."""
        refuse_keywords("modifySegmentByLabelmap", keywords)
        if not isinstance(labelmap, slicer.vtkOrientedImageData):
            raise TypeError(f"method requires a vtkOrientedImageData, a {type(labelmap).__name__} was provided.")
        if isinstance(mode, str) or not hasattr(mode, "__index__") or int(mode) not in range(4):
            raise ValueError(f"Could not find matching overload for given arguments: mode {mode!r}")
        if any(not isinstance(value, bool) for value in rest):
            raise ValueError(f"the meaning of {rest!r} differs between Slicer versions: crop the modifier")
        if segmentation.GetSegmentation().GetSegment(segment_id) is None:
            raise ValueError(f"no segment {segment_id!r}: Slicer logs this and changes nothing")
        bypass = rest[0] if rest else False
        self._logic.ModifySegmentByLabelmap(segmentation, segment_id, labelmap, MODES[int(mode)], self.perSegment, bypass)

    def confirmCurrentSegmentVisible(self):
        """For a hidden segment Slicer opens a modal question, also with --testing."""
        node = self.parameterSetNode()
        segmentation, segment_id = node.GetSegmentationNode(), node.GetSelectedSegmentID()
        display = segmentation.GetDisplayNode() if segmentation else None
        if not segment_id or display is None or display.GetSegmentVisibility(segment_id):
            return self.ConfirmedWithoutDialog
        if not self._answer_visible:
            return self.NotConfirmed
        display.SetSegmentVisibility(segment_id, True)
        return self.ConfirmedWithDialog

    # views

    def addActor2D(self, widget, actor):
        _check_widget("addActor2D", widget)
        widget._renderer.AddViewProp(actor)

    def removeActor2D(self, widget, actor):
        _check_widget("removeActor2D", widget)
        widget._renderer.RemoveViewProp(actor)

    def scheduleRender(self, widget):
        _check_widget("scheduleRender", widget)
        widget.sliceView().scheduleRender()

    # options

    def optionsFrame(self):
        return self._frame

    def addOptionsWidget(self, item):
        if not isinstance(item, (QtWidgets.QWidget, QtWidgets.QLayout)):
            raise ValueError(f"Could not find matching overload for given arguments: ({item!r},)")  # None ends Slicer
        self._layout.addRow(item)


class EffectInEditor:
    """What the Segment Editor does to one effect: the callbacks, in the order measured in the application."""

    def __init__(self, registered, logic, late=False):
        """late: registered when the editor had its node already."""
        logic.SetMaximumNumberOfUndoStates(UNDO_STATES)
        self.scripted = registered.self().clone()
        if self.scripted is None or self.scripted.self() is None:
            raise TypeError(f"{registered.name}.clone() made no effect: it would never appear in the Segment Editor")
        self.scripted._logic = logic
        self.effect = self.scripted.self()
        options = ("setMRMLDefaults", "setupOptionsFrame") if late else ("setupOptionsFrame", "setMRMLDefaults")
        for name in ("icon", *options, "referenceGeometryChanged", "sourceVolumeNodeChanged"):
            self.call(name)

    def call(self, name, *args):
        """A callback, when the effect has it."""
        method = getattr(self.effect, name, None)
        return method(*args) if method is not None else None

    def activate(self):
        scripted = self.scripted
        scripted._frame.setVisible(True)
        scripted._active = True
        scripted._node_tag = scripted.parameterSetNode().AddObserver(
            EditorNode.EffectParameterModified, lambda *_: scripted._active and self.call("updateGUIFromMRML")
        )
        for name in ("updateGUIFromMRML", "activate", "helpText"):
            self.call(name)

    def deactivate(self):
        if not self.scripted._active:
            return
        self.scripted._frame.setVisible(False)
        self.scripted._active = False
        self.scripted.parameterSetNode().RemoveObserver(self.scripted._node_tag)
        self.call("deactivate")

    def observe(self, widget):
        """Deliver the view's events: priority 1.0, and only a real True stops the observers behind."""
        interactor, tags = widget.sliceView().interactor(), {}

        def pass_on(caller, name):
            if not self.scripted._active:
                return
            result = self.call("processInteractionEvents", caller, int(getattr(vtk.vtkCommand, name)), widget)
            if type(result) is not bool:
                raise TypeError(f"processInteractionEvents returned {result!r}: Slicer takes that for False")
            if result:
                caller.GetCommand(tags[name]).SetAbortFlag(1)

        for name in EVENTS:
            tags[name] = interactor.AddObserver(name, pass_on, 1.0)
        widget.mrmlSliceNode().AddObserver(
            vtk.vtkCommand.ModifiedEvent,
            lambda node, _: self.scripted._active
            and self.call("processViewNodeEvents", node, int(vtk.vtkCommand.ModifiedEvent), widget),
        )


def _check_widget(name, widget):
    if not isinstance(widget, SliceWidgetDouble):
        raise ValueError(f"Called {name}(qMRMLWidget*, ...) with wrong arguments: {widget!r}")
