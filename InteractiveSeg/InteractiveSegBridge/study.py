"""A study in Slicer: its open case is a volume and a segment, and what is said to the segment is in the study's journal.

Knows no Qt. What reads and writes files is a Task of the shared worker.
"""
from __future__ import annotations

import numpy as np
import slicer

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.annotation import OpenCase, Study
from InteractiveSegLib.annotation.actions import action_of, pack_mask, standing
from InteractiveSegLib.placement import in_slices
from InteractiveSegLib.robot import in_volume
from InteractiveSegLib.types import LabelUpdate

from .records import Given
from .segment import NOTHING, LabelCrop, digest, read_labels
from .sessions import SegmentSession
from .states import Choice, State

COLOR = (0.95, 0.6, 0.2)
READ = {"family", "axis", "index", "shape", "prompts", "mask", "labels", "rounds", "targets", "set_slice", "warm_up", "plan",
        "notice", "release"}


class CaseEngine:
    """A study's open case where a SegmentSession expects an InteractiveSession: each step is in the journal when it returns."""

    def __init__(self, case: OpenCase) -> None:
        self.case = case

    def __getattr__(self, name: str):
        """Everything that only reads, and the choice of the slice, is the session's own."""
        if name not in READ:
            raise AttributeError(f"A case of a study does not {name}: use the module Interactive Segmentation.")
        return getattr(self.case.session, name)

    def add(self, prompt):
        return self.case.add(prompt)

    def undo(self):
        return self.case.undo()

    def redo(self):
        return self.case.redo()

    def reset(self):
        return self.case.reset()

    def predict(self, slices=None):
        return self.case.do({"predict": list(slices) if slices is not None else [self.case.session.index]})

    def propagate(self, from_slice=None, axis=None, extent=None, fuse=None):
        yield from self.case.propagate(from_slice, axis=axis, extent=extent, fuse=fuse)

    def restore(self, labels, prompts) -> None:
        said = [{**action_of(prompt), "axis": axis} for prompt, axis in prompts]
        self.case.do({"restore": {"mask": pack_mask(labels != 0), "prompts": said}})

    def set_labels(self, labels):
        return self.case.do({"set_mask": pack_mask(labels != 0), "anew": True})

    def answer_on_plane(self, labels) -> None:
        """A prompt on a tilted plane counts as one, and its result is kept as a mask."""
        self.case.do({"set_mask": pack_mask(labels != 0), "tilted": True})


class PictureEngine(CaseEngine):
    """A case that is a picture (row, column), spoken to as the volume (k, j, i) of one slice that Slicer shows."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, *self.case.session.shape)

    @property
    def labels(self) -> np.ndarray:
        return self.case.session.labels[None]

    @property
    def mask(self) -> np.ndarray:
        return self.case.session.mask[None]

    @property
    def prompts(self) -> tuple:
        return tuple(in_volume(prompt, 0, 0) for prompt in self.case.session.prompts)

    def set_slice(self, axis, index) -> None:
        if axis != 0:
            raise InteractiveSegError(f"{self.case.name} is a picture, which this view cuts across: use the view that shows it.")

    def add(self, prompt):
        return in_one_slice(self.case.add(self._flat(prompt)))

    def restore(self, labels, prompts) -> None:
        super().restore(labels[0], [(self._flat(prompt), axis) for prompt, axis in prompts])

    def set_labels(self, labels):
        return in_one_slice(super().set_labels(labels[0]))

    def answer_on_plane(self, labels) -> None:
        super().answer_on_plane(labels[0])

    def _flat(self, prompt):
        [flat] = in_slices(prompt, self.shape, 0).values()
        return flat


def in_one_slice(update: LabelUpdate) -> LabelUpdate:
    """What changed of a picture, as of a volume of one slice."""
    return LabelUpdate((0, *update.start), (1, *update.stop), update.before[None], update.labels[None], update.targets)


class CaseSegment(SegmentSession):
    """The segment of a study's open case."""

    def __init__(self, segmentation, segment_id: str, volume, study: Study, case: OpenCase) -> None:
        self._case_engine = (PictureEngine if len(case.session.shape) == 2 else CaseEngine)(case)
        super().__init__(segmentation, (segment_id,), volume)
        context = study.context if study.family.contextual else None
        self.choice = Choice(study.family.name, study.options.get("device", "auto"), None, context)
        axes = [action.get("axis", case.axis) for action in standing(case.actions)]
        given = tuple(Given(prompt, axis, None, segment_id) for prompt, axis in zip(self._case_engine.prompts, axes))
        now = digest(read_labels(segmentation, (segment_id,), volume))
        self._engine, self._choice = self._case_engine, self.choice
        self._before = (self._engine, 0)
        self._states = [State(digest(NOTHING), ())] if now != digest(NOTHING) else []
        self._states.append(State(now, given, self._engine, 0))
        self._step = len(self._states) - 1
        self.keep()

    def look(self, choice: Choice):
        changed = super().look(choice)
        if changed is None and self._states[self._step].engine is None:
            return read_labels(self.segmentation, self.segment_ids, self.volume)
        return changed

    def wrote(self) -> LabelCrop:
        """Where masking kept part of the answer out, the case takes over what the segment holds: that is what is accepted."""
        held, labels = super().wrote(), self._engine.labels
        whole = np.array_equal(labels[held.slices], held.labels) and np.count_nonzero(labels) == np.count_nonzero(held.labels)
        if not whole:
            self._states[self._step] = self._states[self._step]._replace(engine=None)
        return held

    def rest(self) -> None:
        """The journal goes on for as long as the case is open."""

    def answering(self, choice: Choice, seen):
        raise InteractiveSegError("This case belongs to a study: accept it in the module Interactive Segmentation.")

    def _answer_on_plane(self, labels: np.ndarray) -> None:
        self._case_engine.answer_on_plane(labels)

    def _new_engine(self, choice: Choice) -> CaseEngine:
        return self._case_engine


def open_case(study: Study, name: str | None) -> OpenCase:
    """Read a case, by default the next one. Worker's thread."""
    return study.open(name)


def load_case(study: Study, case: OpenCase, editor_node) -> CaseSegment:
    """The case as nodes of the scene, chosen in the Segment Editor; a picture is a volume of one slice. Window's thread."""
    array, mask = (part[None] if part.ndim == 2 else part for part in (case.image.array, case.mask))
    volume = slicer.util.addVolumeFromArray(np.ascontiguousarray(array), case.image.affine, case.name)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{case.name} {study.task}")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment_id = segmentation.GetSegmentation().AddEmptySegment(study.task, study.task, COLOR)
    if mask.any():
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), segmentation, segment_id, volume)
    editor_node.SetAndObserveSegmentationNode(segmentation)
    editor_node.SetAndObserveSourceVolumeNode(volume)
    editor_node.SetSelectedSegmentID(segment_id)
    return CaseSegment(segmentation, segment_id, volume, study, case)


def unload_case(segment: CaseSegment) -> None:
    """Take the case's nodes out of the scene; all of it is in the study's files."""
    for node in (segment.segmentation, segment.volume):
        if node.GetScene() is not None:
            slicer.mrmlScene.RemoveNode(node)


def draw_curve(records):
    """The chart node with the prompts that each accepted case needed, in the order of acceptance; the same one every time.

    Without cases that were drawn by hand, too: their prompts do not tell what they took.
    """
    accepted = sorted((record for record in records if record.rank is not None), key=lambda record: record.rank)
    table, series, chart = (_named(kind, f"Prompts per case ({kind})") for kind in ("Table", "PlotSeries", "PlotChart"))
    rows = np.array([[number, record.prompts] for number, record in enumerate(accepted, start=1)
                     if not record.by_hand], float).reshape(-1, 2)
    slicer.util.updateTableFromArray(table, rows, ["case", "prompts"])
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("case")
    series.SetYColumnName("prompts")
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle)
    chart.SetTitle("Prompts per case")
    chart.SetXAxisTitle("case, in the order of acceptance")
    chart.SetYAxisTitle("prompts")
    if not chart.HasPlotSeriesNodeID(series.GetID()):
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return chart


def _named(kind: str, name: str):
    node = slicer.mrmlScene.GetFirstNodeByName(name)
    return node if node is not None else slicer.mrmlScene.AddNewNodeByClass(f"vtkMRML{kind}Node", name)
