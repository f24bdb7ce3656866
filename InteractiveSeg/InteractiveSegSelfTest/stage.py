"""A phantom in a slice view and a mouse: what every stage for the scenarios has, in the application or outside of it."""
from __future__ import annotations

import numpy as np
import slicer
from InteractiveSegBridge import mrml
from InteractiveSegBridge.workbench import workbench

from .phantom import CENTRE_KJI, oblique_ijk_to_ras, phantom_array

SETTLE_ROUNDS = 6000  # turns of the event loop; each waits up to 10 ms while a prompt runs
FIELD_OF_VIEW_MM = 90.0


class Stage:
    """Subclasses make `segmentation`, `segment_id`, `view` and `effect`, the active one's Python object, and implement `event`,
    `undo`, `redo` and `save_and_load`."""

    def __init__(self, ijk_to_ras=None) -> None:
        matrix = oblique_ijk_to_ras() if ijk_to_ras is None else ijk_to_ras
        self.volume = slicer.util.addVolumeFromArray(phantom_array(), matrix, "Phantom")
        self.segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Segmentation")
        self.segmentation.CreateDefaultDisplayNodes()
        self.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(self.volume)
        self.editor_node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.segment_id, self.view = None, None

    def event(self, name: str, xy, control: bool = False, key=None):
        """One event of the mouse in the view, or of a key."""
        raise NotImplementedError

    def press_key(self, key: str):
        """A key in the view."""
        return self.event("KeyPressEvent", (1, 1), key=key)

    def save_and_load(self):
        """Save the scene to an .mrb file, close it, load the file, and open the editor on what was loaded."""
        raise NotImplementedError

    def prompts(self) -> tuple:
        """Prompts on the chosen segment."""
        return workbench().prompts(self.editor_node)

    def show_slice_of(self, kji=CENTRE_KJI, axis: int = 0, tilt_degrees: float = 0.0) -> None:
        """Turn the view to the slices along an array axis, tilted about the view's first axis, and move it to a voxel.

        As radiologists look at them: the patient's left or back on the right of the screen, front or head at the top.
        """
        to_ras = mrml.ijk_to_ras(self.volume)[:3, :3]
        directions = (to_ras / np.linalg.norm(to_ras, axis=0))[:, ::-1]  # in array order
        normal, across = directions[:, axis], directions[:, 1 if axis == 2 else 2]
        across = -across if across @ (1, 1, 0) > 0 else across
        normal = -normal if np.cross(normal, across) @ (0, 1, 1) < 0 else normal
        angle = np.deg2rad(tilt_degrees)
        normal = np.cos(angle) * normal + np.sin(angle) * np.cross(across, normal)
        node = self.view.mrmlSliceNode()
        node.SetSliceToRASByNTP(*normal, *across, *self.ras_of(kji), 0)
        width, height = node.GetDimensions()[:2]
        node.SetFieldOfView(FIELD_OF_VIEW_MM, FIELD_OF_VIEW_MM * height / width, 1.0)
        node.UpdateMatrices()

    def ras_of(self, kji) -> np.ndarray:
        """World millimetres of a voxel's centre."""
        return (mrml.ijk_to_ras(self.volume) @ [*kji[::-1], 1.0])[:3]

    def xy_of(self, kji) -> tuple[int, int]:
        """The pixel of the view that shows a voxel's centre best."""
        to_xy = np.linalg.inv(mrml.array_from_matrix(self.view.mrmlSliceNode().GetXYToRAS()))
        return tuple(round(float(value)) for value in (to_xy @ [*self.ras_of(kji), 1.0])[:2])

    def call_segment(self, name: str) -> None:
        """Give the chosen segment a name."""
        self.segmentation.GetSegmentation().GetSegment(self.segment_id).SetName(name)

    def click(self, kji, control: bool = False) -> None:
        """Press and release on a voxel of the slice shown."""
        self.click_xy(self.xy_of(kji), control)

    def click_xy(self, xy, control: bool = False) -> None:
        self.event("LeftButtonPressEvent", xy, control)
        self.event("LeftButtonReleaseEvent", xy, control)

    def drag(self, kji_one, kji_two) -> None:
        """Press at one voxel, move, release at another."""
        self.drag_xy(self.xy_of(kji_one), self.xy_of(kji_two))

    def draw(self, voxels_kji) -> None:
        """Hold the button down from voxel to voxel."""
        path = [self.xy_of(voxel) for voxel in voxels_kji]
        self.event("LeftButtonPressEvent", path[0])
        for xy in path[1:]:
            self.event("MouseMoveEvent", xy)
        self.event("LeftButtonReleaseEvent", path[-1])

    def drag_xy(self, one, two) -> None:
        self.event("LeftButtonPressEvent", one)
        self.event("MouseMoveEvent", tuple((a + b) // 2 for a, b in zip(one, two)))
        self.event("LeftButtonReleaseEvent", two)

    def settle(self) -> None:
        """Let the event loop turn until no prompt is waiting."""
        for _ in range(SETTLE_ROUNDS):
            slicer.app.processEvents()
            if not workbench().worker.busy:
                return
        raise AssertionError("the worker never became idle: it waits for an event loop that nothing turns")

    def mask(self, segment_id=None) -> np.ndarray:
        """A segment on the volume's grid, read with Slicer's own reader: bool (k, j, i)."""
        array = slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, segment_id or self.segment_id, self.volume)
        return np.zeros(mrml.volume_shape(self.volume), bool) if array is None else array.astype(bool)
