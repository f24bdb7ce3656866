"""A Segment Editor without its window: real scene, real editor logic, a slice view double, and a mouse."""
from __future__ import annotations

import numpy as np
import qt
import slicer
from InteractiveSegBridge import mrml
from InteractiveSegBridge.workbench import workbench
from InteractiveSegSelfTest.phantom import CENTRE_KJI, oblique_ijk_to_ras, phantom_array
from scripted_effect import EffectInEditor
from slice_widget import SliceWidgetDouble

SETTLE_ROUNDS = 3000  # of at least 10 ms each while something runs


class Stage:
    """A volume in an axial-like view, a segmentation with one segment, and the effect that is given the events."""

    def __init__(self, application, registered, ijk_to_ras=None):
        self.scene, self._application = application.scene, application
        self.volume = slicer.util.addVolumeFromArray(
            phantom_array(), oblique_ijk_to_ras() if ijk_to_ras is None else ijk_to_ras, "Phantom"
        )
        self.segmentation = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
        self.segmentation.CreateDefaultDisplayNodes()
        self.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(self.volume)
        self._add_to_subject_hierarchy(self.volume, self.segmentation)
        self.editor_node = self.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.logic = self._editor_logic()
        self.segment_id = self.logic.AddEmptySegment("A")
        self.logic.SetCurrentSegmentID(self.segment_id)
        self.logic.ClearUndoState()
        self.view = SliceWidgetDouble(application.application_logic, self.scene, "Red")
        self.show_slice_of(CENTRE_KJI)
        self.editor = {name: EffectInEditor(effect, self.logic) for name, effect in registered.items()}
        for effect in self.editor.values():
            effect.observe(self.view)
        self.active = None

    def _add_to_subject_hierarchy(self, *nodes):
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)
        for node in nodes:
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    def _editor_logic(self):
        logic = slicer.vtkSlicerSegmentEditorLogic()
        logic.SetMRMLScene(self.scene)
        logic.SetMRMLApplicationLogic(self._application.application_logic)
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

    def show_slice_of(self, kji, tilt_degrees=0.0):
        """Turn the view to the volume's k slices and move it to this voxel."""
        composite = self.view.sliceLogic().GetSliceCompositeNode()
        composite.SetBackgroundVolumeID(self.volume.GetID())
        self.view.mrmlSliceNode().RotateToVolumePlane(self.volume)
        to_ras = np.array(mrml.ijk_to_ras(self.volume))
        axes = to_ras[:3, :3] / np.linalg.norm(to_ras[:3, :3], axis=0)
        angle = np.deg2rad(tilt_degrees)
        axes[:, 1:] = np.c_[
            np.cos(angle) * axes[:, 1] + np.sin(angle) * axes[:, 2], np.cos(angle) * axes[:, 2] - np.sin(angle) * axes[:, 1]
        ]
        node, ras = self.view.mrmlSliceNode(), self.ras_of(kji)
        node.SetSliceToRASByNTP(*axes[:, 2], *axes[:, 0], *ras, 0)
        node.SetFieldOfView(90.0, 72.0, 1.0)
        node.UpdateMatrices()

    def ras_of(self, kji):
        """World millimetres of a voxel's centre."""
        return (mrml.ijk_to_ras(self.volume) @ [*kji[::-1], 1.0])[:3]

    def xy_of(self, kji):
        """The pixel of the view that shows a voxel's centre best."""
        to_xy = np.linalg.inv(mrml.array_from_matrix(self.view.mrmlSliceNode().GetXYToRAS()))
        return tuple(int(round(value)) for value in (to_xy @ [*self.ras_of(kji), 1.0])[:2])

    def event(self, name, xy, control=False, shift=False, key=""):
        """One event of the view, as VTK delivers it. True when Slicer behind the effect saw it too."""
        interactor, seen = self.view.sliceView().interactor(), []
        tag = interactor.AddObserver(name, lambda *_: seen.append(name), 0.0)
        interactor.SetEventInformation(*xy, int(control), int(shift), "\0", 0, key or None)
        interactor.InvokeEvent(name)
        interactor.RemoveObserver(tag)
        return bool(seen)

    def click(self, kji, control=False):
        """Press and release on a voxel of the slice shown."""
        self.click_xy(self.xy_of(kji), control)

    def click_xy(self, xy, control=False):
        self.event("LeftButtonPressEvent", xy, control)
        self.event("LeftButtonReleaseEvent", xy, control)

    def drag(self, kji_one, kji_two):
        """Press at one voxel, move, release at another."""
        one, two = self.xy_of(kji_one), self.xy_of(kji_two)
        middle = tuple((a + b) // 2 for a, b in zip(one, two))
        self.event("LeftButtonPressEvent", one)
        self.event("MouseMoveEvent", middle)
        self.event("LeftButtonReleaseEvent", two)

    def settle(self):
        """Let the event loop turn until no prompt is waiting."""
        for _ in range(SETTLE_ROUNDS):
            if not workbench().worker.busy:
                return
            qt.QApplication.instance().processEvents()
        raise AssertionError("the worker never became idle: it waits for an event loop that nothing turns")

    def mask(self, segment_id=None):
        """A segment on the volume's grid, read with Slicer's own reader: bool (k, j, i)."""
        array = slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, segment_id or self.segment_id, self.volume)
        return np.zeros(mrml.volume_shape(self.volume), bool) if array is None else array.astype(bool)

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

    def actors(self):
        """Line segments drawn in the view, per actor: (colour, number of segments)."""
        drawn, actors = [], self.view._renderer.GetActors2D()
        actors.InitTraversal()
        for _ in range(actors.GetNumberOfItems()):
            actor = actors.GetNextActor2D()
            drawn.append((actor.GetProperty().GetColor(), actor.GetMapper().GetInput().GetNumberOfCells()))
        return drawn

    def press_key(self, key):
        return self.event("KeyPressEvent", (150, 120), key=key)


