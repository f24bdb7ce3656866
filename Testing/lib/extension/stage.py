"""The stage outside of the application: real scene and editor logic, a double of the slice view."""
from __future__ import annotations

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
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(application.scene)
        for node in (self.volume, self.segmentation):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
        self.logic = self._editor_logic()
        self.segment_id = self.logic.AddEmptySegment("A")
        self.logic.SetCurrentSegmentID(self.segment_id)
        self.logic.ClearUndoState()
        self.view = SliceWidgetDouble(application.application_logic, application.scene, "Red")
        self.show_slice_of()
        self.editor = {name: EffectInEditor(effect, self.logic) for name, effect in registered.items()}
        for effect in self.editor.values():
            effect.observe(self.view)
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
        interactor.SetEventInformation(*xy, int(control), int(shift), "\0", 0, key)
        interactor.InvokeEvent(name)
        interactor.RemoveObserver(tag)
        return bool(seen)

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
        """Number of line segments in the view, by the colour of the actor that draws them."""
        props = self.view._renderer.GetViewProps()
        actors = [props.GetItemAsObject(index) for index in range(props.GetNumberOfItems())]
        return {a.GetProperty().GetColor(): a.GetMapper().GetInput().GetNumberOfCells() for a in actors}
