"""What the effects share: one worker, the sessions, and the one way an action becomes a change of a segment."""
from __future__ import annotations

from pathlib import Path

import qt
import slicer
import vtk

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.context import ContextStore, as_task

from . import structures
from .rounds import rounds_line
from .sessions import SegmentSession
from .tasks import SegmentAction
from .worker import Worker

AWAKE = 3  # segments whose sessions stay in memory


class Workbench(slicer.util.VTKObservationMixin):
    """Sessions and worker of this Slicer. `listeners` are called whenever prompts or pending actions may differ."""

    def __init__(self) -> None:
        super().__init__()
        self.worker = Worker(self._notify)
        self.listeners = []
        self._segments = []
        self.new_segment_per_click = False  # a list of lesions is being made
        self._contexts = {}  # structure -> ContextSet
        self._editor_node, self._notice_due = None, False
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.NodeRemovedEvent, self._prune)
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.StartCloseEvent, self._forget)
        slicer.app.connect("aboutToQuit()", self.worker.cancel)  # Slicer waits for the thread: a long action is to end soon

    def structures(self, editor_node, lists) -> dict[str, str]:
        """Structure -> segment id of what is predicted together with the chosen segment; see structures.together."""
        segmentation, segment_id, _ = _selection(editor_node)
        return structures.together(segmentation, segment_id, lists)

    def structure(self, editor_node, names) -> str | None:
        """Which of the structures that a model knows the chosen segment is."""
        try:
            segmentation, segment_id, _ = _selection(editor_node)
        except InteractiveSegError:
            return None
        return structures.structure_of(segmentation.GetSegmentation().GetSegment(segment_id), names)

    def call_structure(self, editor_node, name: str) -> None:
        """Say which structure the chosen segment is."""
        segmentation, segment_id, _ = _selection(editor_node)
        structures.call(segmentation, segment_id, name)

    def add_structures(self, editor_node, lists) -> list[str]:
        """A segment for each structure of the model that has none; their names."""
        segmentation, segment_id, _ = _selection(editor_node)
        return structures.add_missing(segmentation, segment_id, lists)

    def segment(self, editor_node, segment_ids=()) -> SegmentSession:
        """The session for what the Segment Editor has selected, made when there is none.

        segment_ids: of all segments that are predicted together, where the selected one is not alone.
        """
        segmentation, segment_id, volume = _selection(editor_node)
        wanted = (segmentation, tuple(segment_ids) or (segment_id,), volume)
        self._prune()
        shared = [segment for segment in self._segments if segment.shares(*wanted)]
        known = next((segment for segment in shared if segment.choice is not None or segment.is_for(*wanted)), None)
        # What is said of a segment is said to one session; another one reads what there was. The last one is the one in use.
        self._segments = [segment for segment in self._segments if segment not in shared] + [known or SegmentSession(*wanted)]
        busy = {id(task.segment) for task in self.worker.pending}
        for segment in self._segments[:-AWAKE]:
            if id(segment) not in busy:
                segment.rest()
        return self._segments[-1]

    def case(self, editor_node) -> SegmentSession | None:
        """The case of a study that the Segment Editor has selected: what answers there is the study's to choose."""
        try:
            segmentation, segment_id, volume = _selection(editor_node)
        except InteractiveSegError:
            return None
        self._prune()
        cases = [segment for segment in self._segments if segment.choice is not None]
        return next((case for case in cases if case.shares(segmentation, (segment_id,), volume)), None)

    def put(self, segment: SegmentSession) -> None:
        """Use this session for its segment, instead of one that would be made."""
        same = (segment.segmentation, segment.segment_ids, segment.volume)
        self._segments = [other for other in self._segments if not other.shares(*same)] + [segment]
        self._notify()

    def given(self, editor_node) -> tuple:
        """Prompts on what the Segment Editor has selected, those still waiting included, as Given."""
        segment = self._selected(editor_node)
        if segment is None:
            return ()
        waiting = [t.given for t in self.worker.pending if t.segment is segment and t.given is not None]
        return segment.given + tuple(waiting)

    def prompts(self, editor_node) -> tuple:
        """The same without places."""
        return tuple(given.prompt for given in self.given(editor_node))

    def axis(self, editor_node) -> int:
        """Array axis along whose slices the last prompt was given that is not on a tilted plane; 0 without one."""
        return next((given.axis for given in reversed(self.given(editor_node)) if given.plane is None), 0)

    def axis_to_propagate(self, editor_node) -> int:
        """The same; InteractiveSegError where all prompts are on tilted planes: what these cut of a slice is no mask of it."""
        given = self.given(editor_node)
        if given and all(one.plane is not None for one in given):
            raise InteractiveSegError(
                "Masks are carried from slice to slice of the volume, and so far you spoke to tilted views only: press 'Rotate "
                "to volume plane' in the bar of the slice view, click the object there, and propagate again."
            )
        return self.axis(editor_node)

    def rounds(self, editor_node) -> str:
        """Which round of propagation each slice of the selected segment came from, in one line."""
        segment = self._selected(editor_node)
        return rounds_line(segment.rounds) if segment is not None else ""

    @property
    def progress(self) -> tuple[int, int] | None:
        """(done, total) of a long action that is running."""
        return next((task.progress for task in self.worker.pending if task.progress is not None), None)

    def context(self, task: str):
        """The examples that were accepted in the Segment Editor for a structure; kept beside Slicer's settings."""
        if task not in self._contexts:
            folder = Path(slicer.app.slicerUserSettingsFilePath).parent / "InteractiveSeg"
            folder.mkdir(parents=True, exist_ok=True)
            self._contexts[task] = ContextStore(folder / "context.sqlite").open("Segment Editor", as_task(task))
        return self._contexts[task]

    def context_of(self, editor_node):
        """The examples from which a model learns what the selected segment is; None where there can be none."""
        segment = self._selected(editor_node)
        if segment is None:
            return None
        return self.context(segment.name) if segment.choice is None else segment.choice.context

    def examples(self, editor_node) -> str:
        """How many examples there are of what the selected segment is, in one line; "" where nothing is selected."""
        segment, context = self._selected(editor_node), self.context_of(editor_node)
        if segment is None:
            return ""
        infos = context.infos() if context is not None else ()
        used = sum(info.enabled for info in infos)
        left_out = f", {len(infos) - used} left out" if used < len(infos) else ""
        return f"Learns from {used} accepted examples of '{segment.name}'{left_out}."

    @property
    def waiting(self) -> int:
        """Number of user actions without an answer."""
        return sum(isinstance(task, SegmentAction) for task in self.worker.pending)

    def select_next_segment(self, editor_node) -> None:
        """Choose the segment after the chosen one in the Segment Editor, the first one after the last."""
        segmentation = editor_node.GetSegmentationNode() if editor_node else None
        ids = list(segmentation.GetSegmentation().GetSegmentIDs()) if segmentation else []
        if ids:
            chosen = editor_node.GetSelectedSegmentID()
            editor_node.SetSelectedSegmentID(ids[(ids.index(chosen) + 1) % len(ids) if chosen in ids else 0])

    def release(self) -> None:
        """Give the memory of all models back. In the worker's thread, where nothing is answered meanwhile."""
        for segment in tuple(self._segments):
            segment.release()

    def add_segment(self, editor_node) -> None:
        """Another segment, chosen, with the next number."""
        segmentation = editor_node.GetSegmentationNode()
        segment_id = segmentation.GetSegmentation().AddEmptySegment()
        editor_node.SetSelectedSegmentID(segment_id)

    def toggle_visibility(self, editor_node) -> None:
        """Show or hide the chosen segment."""
        segmentation, segment_id, _ = _selection(editor_node)
        display = segmentation.GetDisplayNode()
        if display is not None:
            display.SetSegmentVisibility(segment_id, not display.GetSegmentVisibility(segment_id))

    def watch(self, editor_node) -> None:
        """Hear of another segment being chosen, and of undo and redo: Slicer tells an effect nothing of these."""
        self.unwatch()
        self._editor_node = editor_node
        self.addObserver(editor_node, vtk.vtkCommand.ModifiedEvent, self._selection_changed)
        self._selection_changed()

    def unwatch(self) -> None:
        """The opposite of `watch`."""
        self.removeObservers(self._selection_changed)
        self.removeObservers(self._segments_changed)

    def close(self) -> None:
        """Stop working and let go of everything."""
        self.listeners.clear()
        self.worker.close()
        self.removeObservers()
        self._segments.clear()

    def _forget(self, *_) -> None:
        self.worker.cancel()
        self._segments.clear()
        self._notify()

    def _prune(self, *_) -> None:
        dead = [segment for segment in self._segments if not segment.alive]
        for segment in dead:
            self._segments.remove(segment)
            if segment.has_nodes and not segment.has_voxels:  # its prompts mean nothing any more; moved, they lie in the scene
                segment.forget()
        if dead:
            self._notify()

    def _selected(self, editor_node) -> SegmentSession | None:
        """The session for what the Segment Editor has selected; also made when the scene came with prompts for it."""
        self._prune()
        try:
            segmentation, segment_id, volume = _selection(editor_node)
        except InteractiveSegError:
            return None
        known = next((s for s in reversed(self._segments) if s.shares(segmentation, (segment_id,), volume)), None)
        return known if known is not None else self._made(editor_node)

    def _made(self, editor_node) -> SegmentSession | None:
        """A session for the selected segment alone; None where its volume cannot be worked on."""
        try:
            return self.segment(editor_node)
        except InteractiveSegError:
            return None

    def _selection_changed(self, *_) -> None:
        self.removeObservers(self._segments_changed)
        segmentation = self._editor_node.GetSegmentationNode()
        if segmentation is not None:
            # An edit of voxels is the one event, undo the other; which of them also depends on Slicer's version.
            for event in (slicer.vtkSegmentation.SegmentModified, slicer.vtkSegmentation.SourceRepresentationModified):
                self.addObserver(segmentation.GetSegmentation(), event, self._segments_changed)
        self._segments_changed()

    def _segments_changed(self, *_) -> None:
        """One edit makes several events: tell the listeners once, when it is over."""
        if not self._notice_due:
            self._notice_due = True
            qt.QTimer.singleShot(0, self._settled)

    def _settled(self) -> None:
        self._notice_due = False
        for segment in self._segments:
            if segment.alive:
                segment.keep()
        self._notify()

    def _notify(self) -> None:
        for listener in tuple(self.listeners):
            listener()


def _selection(editor_node) -> tuple:
    """(segmentation, segment id, volume) chosen in the Segment Editor, or the one thing that is missing."""
    segmentation = editor_node.GetSegmentationNode() if editor_node else None
    segment_id = editor_node.GetSelectedSegmentID() if editor_node else None
    volume = editor_node.GetSourceVolumeNode() if editor_node else None
    if segmentation and segment_id and segmentation.GetSegmentation().GetSegment(segment_id) is None:
        segment_id = None  # the editor's node still names a segment that was just removed
    for value, name in ((segmentation, "segmentation"), (volume, "source volume"), (segment_id, "segment")):
        if not value:
            raise InteractiveSegError(f"No {name} is chosen: choose one at the top of the Segment Editor.")
    return segmentation, segment_id, volume


_shared: list[Workbench] = []


def workbench() -> Workbench:
    """The one workbench of this Slicer; made at first use, because it needs the scene."""
    if not _shared:
        _shared.append(Workbench())
    return _shared[0]
