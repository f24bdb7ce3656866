"""The stage in the application: a real Segment Editor widget and a real slice view, with and without a main window."""
from __future__ import annotations

import slicer
import vtk
from InteractiveSegBridge.workbench import workbench

from .stage import Stage


class DesktopStage(Stage):
    """One effect, active in a Segment Editor of its own. Events go to it as Slicer's C++ side passes them on."""

    def __init__(self, effect_name: str) -> None:
        super().__init__()
        self.segment_id = self.segmentation.GetSegmentation().AddEmptySegment("A")
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.setMRMLScene(slicer.mrmlScene)
        self.editor.setMRMLSegmentEditorNode(self.editor_node)
        self.editor.setSegmentationNode(self.segmentation)
        self.editor.setSourceVolumeNode(self.volume)
        self.editor.setCurrentSegmentID(self.segment_id)
        self.editor.setActiveEffectByName(effect_name)
        if self.editor.activeEffect() is None:
            raise AssertionError(f"{effect_name} is not in the Segment Editor, it has {self.editor.availableEffectNames()}")
        self.view = self._slice_widget()
        self.show_slice_of()

    def event(self, name, xy, control=False):
        interactor = self.view.sliceView().interactor()
        interactor.SetEventInformation(int(xy[0]), int(xy[1]), int(control), 0, "\0", 0, None)
        effect = self.editor.activeEffect().self()
        stopped = effect.processInteractionEvents(interactor, int(getattr(vtk.vtkCommand, name)), self.view)
        assert type(stopped) is bool, f"Slicer takes {stopped!r} for False"

    def undo(self) -> None:
        self.editor.undo()

    def redo(self) -> None:
        self.editor.redo()

    def close(self) -> None:
        """Let go of the effect and of what it left running."""
        workbench().worker.cancel()
        self.settle()
        self.editor.setActiveEffect(None)
        self.editor.setMRMLSegmentEditorNode(None)

    def _slice_widget(self):
        layout_manager = slicer.app.layoutManager()
        if layout_manager is not None:
            return layout_manager.sliceWidget("Red")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "SelfTest")
        node.SetLayoutName("SelfTest")
        node.SetDimensions(300, 240, 1)
        widget = slicer.qMRMLSliceWidget()
        widget.setMRMLScene(slicer.mrmlScene)
        widget.setMRMLSliceNode(node)
        return widget
