"""The stage outside of the application: real scene and editor logic, a double of the slice view."""
from __future__ import annotations

import collections
import tempfile

import numpy as np
import slicer
from InteractiveSegSelfTest.stage import Stage
from scripted_effect import EffectInEditor
from slice_widget import SliceWidgetDouble


class CoreStage(Stage):
    """A Segment Editor without its window."""

    def __init__(self, application, registered, ijk_to_ras=None):
        super().__init__(ijk_to_ras)
        self.application = application
        self.registered = registered
        self.view = SliceWidgetDouble(application.application_logic, application.scene, "Red")
        self.take_up_editing()
        self.show_slice_of()

    def take_up_editing(self):
        """Open the Segment Editor on the stage's volume and segmentation; no effect is active then."""
        scene = self.application.scene
        if self.editor_node.GetScene() is None:  # the scene was closed
            self.editor_node = scene.GetFirstNodeByClass("vtkMRMLSegmentEditorNode")
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        for node in (self.volume, self.segmentation):
            if not hierarchy.GetItemByDataNode(node):
                hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
        self.logic = self._editor_logic()
        segments = self.segmentation.GetSegmentation()
        self.segment_id = segments.GetNthSegmentID(0) if segments.GetNumberOfSegments() else self.logic.AddEmptySegment("A")
        self.logic.SetCurrentSegmentID(self.segment_id)
        self.logic.ClearUndoState()
        self.editor = {name: EffectInEditor(effect, self.logic) for name, effect in self.registered.items()}
        for effect in self.editor.values():
            effect.observe(self.view)
            effect.scripted._select = self.choose
        self.active = None

    def _editor_logic(self):
        logic = slicer.vtkSlicerSegmentEditorLogic()
        logic.SetMRMLScene(self.application.scene)
        logic.SetMRMLApplicationLogic(self.application.application_logic)
        logic.SetSegmentEditorNode(self.editor_node)
        logic.SetSegmentationNode(self.segmentation)
        logic.SetSourceVolumeNode(self.volume)
        logic.TrivialSetSourceRepresentationToBinaryLabelmap()
        return logic

    @property
    def effect(self):
        """The active effect's Python object."""
        return self.active.effect

    def choose(self, name):
        """Press an effect's button."""
        if self.active is not None:
            self.active.deactivate()
        self.active = self.editor[name]
        self.active.activate()

    def event(self, name, xy, control=False, shift=False, key=None):
        """One event of the view, as VTK delivers it. True when Slicer behind the effect saw it too."""
        interactor, seen = self.view.sliceView().interactor(), []
        tag = interactor.AddObserver(name, lambda *_: seen.append(name), 0.0)
        interactor.SetEventInformation(*map(int, xy), int(control), int(shift), "\0", 0, key)
        interactor.InvokeEvent(name)
        interactor.RemoveObserver(tag)
        return bool(seen)

    def save_and_load(self):
        effect, names = self.active.scripted.name, (self.volume.GetName(), self.segmentation.GetName())
        scene = self.application.scene
        self.active.deactivate()
        with tempfile.TemporaryDirectory() as folder:
            self.application.prepare_files(f"{folder}/cache")
            assert scene.WriteToMRB(f"{folder}/scene.mrb")
            scene.Clear(0)
            self.application.prepare_files(f"{folder}/cache")
            messages = slicer.vtkMRMLMessageCollection()
            assert scene.ReadFromMRB(f"{folder}/scene.mrb", False, messages), messages.GetAllMessagesAsString()
        self.volume, self.segmentation = (slicer.util.getNode(name) for name in names)
        self.take_up_editing()
        self.choose(effect)
        self.show_slice_of()

    def add_segment(self, name, mask):
        """Another segment with these voxels; the first one stays selected."""
        segment_id = self.segmentation.GetSegmentation().AddEmptySegment(name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            mask.astype(np.uint8), self.segmentation, segment_id, self.volume
        )
        return segment_id

    def undo(self):
        self.logic.Undo()

    def redo(self):
        self.logic.Redo()

    def drawn(self):
        """Number of line segments in the view, by the colour of the actors that draw them."""
        props = self.view._renderer.GetViewProps()
        counts = collections.Counter()
        for actor in (props.GetItemAsObject(index) for index in range(props.GetNumberOfItems())):
            counts[actor.GetProperty().GetColor()] += actor.GetMapper().GetInput().GetNumberOfCells()
        return dict(counts)

    def press_key(self, key, at_kji=None):
        """A key in the view, with the mouse over a voxel. True when Slicer behind the effect saw it too."""
        return self.event("KeyPressEvent", self.xy_of(at_kji) if at_kji is not None else (1, 1), key=key)
