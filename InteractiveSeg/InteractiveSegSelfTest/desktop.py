"""The stage in the application: a real Segment Editor widget and a real slice view, with and without a main window."""
from __future__ import annotations

import tempfile
from pathlib import Path

import slicer
import vtk
from InteractiveSegBridge.workbench import workbench

from .phantom import CENTRE_KJI, phantom_array
from .stage import Stage

MODEL = "InteractiveSeg.Model"


class DesktopStage(Stage):
    """One effect, active in a Segment Editor of its own. Events go to it as Slicer's C++ side passes them on."""

    def __init__(self, effect_name: str, family: str) -> None:
        super().__init__()
        self.segment_id = self.segmentation.GetSegmentation().AddEmptySegment("A")
        self._effect_name, self._family = effect_name, family
        self._open_editor()
        self.view = slice_widget()
        self.show_slice_of()

    def _open_editor(self) -> None:
        self.editor_node.SetAttribute(MODEL, self._family)
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.setMRMLScene(slicer.mrmlScene)
        self.editor.setMRMLSegmentEditorNode(self.editor_node)
        self.editor.setSegmentationNode(self.segmentation)
        self.editor.setSourceVolumeNode(self.volume)
        self.editor.setCurrentSegmentID(self.segment_id)
        self.editor.setActiveEffectByName(self._effect_name)
        if self.editor.activeEffect() is None:
            raise AssertionError(f"{self._effect_name} is not in the Segment Editor, it has {self.editor.availableEffectNames()}")

    @property
    def effect(self):
        """The active effect's Python object."""
        return self.editor.activeEffect().self()

    def event(self, name, xy, control=False, key=None):
        send_event(self.effect, self.view, name, xy, control, key)

    def undo(self) -> None:
        self.editor.undo()

    def redo(self) -> None:
        self.editor.redo()

    def save_and_load(self) -> None:
        self._close_editor()
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "scene.mrb")
            if not slicer.util.saveScene(path):
                raise AssertionError("the scene could not be saved")
            slicer.mrmlScene.Clear(0)
            slicer.util.loadScene(path)
        self.volume, self.segmentation = (slicer.util.getNode(name) for name in ("Phantom", "Segmentation"))
        self.segment_id = self.segmentation.GetSegmentation().GetNthSegmentID(0)
        self.editor_node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self._open_editor()
        self.view = slice_widget()
        self.show_slice_of()

    def close(self) -> None:
        """Let go of the effect and of what it left running."""
        workbench().worker.cancel()
        self.settle()
        self._close_editor()

    def _close_editor(self) -> None:
        self.editor.setActiveEffect(None)
        self.editor.setMRMLSegmentEditorNode(None)


class PageStage(Stage):
    """The case that is open on the module's page."""

    def __init__(self, page) -> None:
        self.page, self.view = page, slice_widget()

    @property
    def volume(self):
        return self.page.studyPanel.segment.volume

    @property
    def segmentation(self):
        return self.page.studyPanel.segment.segmentation

    @property
    def segment_id(self):
        return self.page.studyPanel.segment.segment_ids[0]

    def event(self, name, xy, control=False):
        send_event(self.page.editor.activeEffect().self(), self.view, name, xy, control)


def annotate_a_study() -> str:
    """Open a study of one case on the module's page, click, accept: the mask is in its file. Says what was done."""
    import SimpleITK as sitk

    page = slicer.modules.interactiveseg.widgetRepresentation().self()
    if page.studyPanel is None:
        return f"was left out: {page.studyPlace.title}"
    stage, panel = PageStage(page), page.studyPanel
    with tempfile.TemporaryDirectory() as folder:
        sitk.WriteImage(sitk.GetImageFromArray(phantom_array()), str(Path(folder) / "phantom.nrrd"))
        panel.folderEdit.text, panel.taskEdit.text = folder, "self-test"
        for slot in (panel.onOpen, panel.onNext):
            slot()
            stage.settle()
        stage.show_slice_of()
        stage.click(CENTRE_KJI)
        stage.settle()
        assert stage.mask()[CENTRE_KJI], "the voxel clicked is in the segment"
        panel.onAccept()
        stage.settle()
        assert (Path(folder) / "annotations" / "self-test" / "phantom.seg.nrrd").is_file(), panel.statusLabel.text
        panel.close()
    return "is annotated and accepted"


def send_event(effect, view, name, xy, control, key=None) -> None:
    """One event of a view, as the Segment Editor passes it on."""
    interactor = view.sliceView().interactor()
    interactor.SetEventInformation(int(xy[0]), int(xy[1]), int(control), 0, "\0", 0, key)
    stopped = effect.processInteractionEvents(interactor, int(getattr(vtk.vtkCommand, name)), view)
    assert type(stopped) is bool, f"Slicer takes {stopped!r} for False"


def slice_widget():
    """The red slice view of the layout, or one of our own where there is no main window."""
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
