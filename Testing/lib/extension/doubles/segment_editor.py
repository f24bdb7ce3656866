"""Stand-in for qMRMLSegmentEditorWidget: its effects and its editing are real as far as slicer-core goes, its looks are not."""
from __future__ import annotations

import qSlicerSegmentationsEditorEffectsPythonQt as effects
import qt
import slicer
from scripted_effect import EffectInEditor


class SegmentEditorWidgetDouble(qt.QWidget):
    """One Segment Editor on a node. `views`: slice widget doubles of the layout, for all editors."""

    views = ()

    def __init__(self):
        super().__init__()
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._editors, self._active, self._observed = {}, None, []

    def setMRMLScene(self, scene):
        self._logic.SetMRMLScene(scene)
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())

    def setMRMLSegmentEditorNode(self, node):
        if node is None:
            self.setActiveEffect(None)
        self._logic.SetSegmentEditorNode(node)
        if node is not None and not self._editors:
            self._add_effects()
        elif node is not None:
            for editor in self._editors.values():
                editor.call("setMRMLDefaults")

    def updateEffectList(self):
        self._add_effects(late=True)

    def _add_effects(self, late=False):
        registered = effects.qSlicerSegmentEditorEffectFactory.instance().registered
        added = {n: EffectInEditor(e, self._logic, late) for n, e in registered.items() if n not in self._editors}
        for editor in added.values():
            editor.scripted._select = self.setActiveEffectByName
            for view in self._observed:
                editor.observe(view)
        self._editors.update(added)

    def setMaximumNumberOfUndoStates(self, count):
        self._logic.SetMaximumNumberOfUndoStates(count)

    def setSegmentationNode(self, node):
        self._logic.SetSegmentationNode(node)
        if node is not None:
            self._logic.TrivialSetSourceRepresentationToBinaryLabelmap()

    def setSourceVolumeNode(self, node):
        self._logic.SetSourceVolumeNode(node)

    def setCurrentSegmentID(self, segment_id):
        self._logic.SetCurrentSegmentID(segment_id)

    def setActiveEffectByName(self, name):
        self.setActiveEffect(self.effectByName(name))

    def setActiveEffect(self, scripted):
        if self._active is not None:
            self._active.deactivate()
        self._active = next((editor for editor in self._editors.values() if editor.scripted is scripted), None)
        if self._active is not None:
            self._active.activate()

    def activeEffect(self):
        return self._active.scripted if self._active is not None else None

    def effectByName(self, name):
        return self._editors[name].scripted if name in self._editors else None

    def updateWidgetFromMRML(self):
        pass

    def setupViewObservations(self):
        for view in type(self).views:
            if view not in self._observed:
                self._observed.append(view)
                for editor in self._editors.values():
                    editor.observe(view)

    def removeViewObservations(self):
        pass

    def installKeyboardShortcuts(self):
        pass

    def uninstallKeyboardShortcuts(self):
        pass

    def undo(self):
        self._logic.Undo()

    def redo(self):
        self._logic.Redo()
