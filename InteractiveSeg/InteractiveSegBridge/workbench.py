"""What the effects share: one worker, the sessions, and the one way an action becomes a change of a segment."""
from __future__ import annotations

import logging
from typing import Callable

import qt
import slicer
import vtk

from InteractiveSegLib import InteractiveSegError, MaskUpdate

from .segment import write_update
from .sessions import Choice, SegmentSession
from .worker import Task, Worker

logger = logging.getLogger(__name__)


class SegmentAction(Task):
    """One user action on one segment: `action(session) -> MaskUpdate` in the worker, then one undoable write.

    choice: what answers. effect: hears of the end through actionFinished, actionDropped or actionFailed.
    """

    def __init__(self, segment: SegmentSession, choice: Choice, action: Callable, effect, prompt=None) -> None:
        self.segment, self.choice, self.action, self.effect, self.prompt = segment, choice, action, effect, prompt
        self._seen = None

    def prepare(self) -> bool:
        if not self._writable():
            return False
        self._seen = self.segment.look(self.choice)
        return True

    def run(self) -> MaskUpdate:
        return self.segment.act(self.choice, self.action, self._seen)

    def finish(self, update: MaskUpdate) -> None:
        if not self._writable():
            self.segment.take_back()
            return
        write_update(
            self.effect.scriptedEffect, self.segment.segmentation, self.segment.segment_id, self.segment.volume, update
        )
        self.segment.wrote()
        self.effect.actionFinished()

    def fail(self, error: BaseException) -> None:
        if not isinstance(error, InteractiveSegError):
            logger.error("The prediction failed", exc_info=error)
        self.effect.actionFailed(error)

    def undo(self) -> None:
        self.segment.take_back()

    def _writable(self) -> bool:
        """Undo states belong to the segmentation in the editor, so nothing is written into another one."""
        editor = self.effect.scriptedEffect.parameterSetNode()
        if self.segment.alive and editor is not None and editor.GetSegmentationNode() is self.segment.segmentation:
            return True
        self.effect.actionDropped()
        return False


class PromptChange(SegmentAction):
    """Another prompt in a prompt's place, or none: moved or deleted by the user."""

    def __init__(self, segment: SegmentSession, choice: Choice, effect, prompt, instead=None) -> None:
        super().__init__(segment, choice, None, effect)
        self._prompt, self._instead = prompt, instead

    def run(self) -> MaskUpdate:
        return self.segment.change(self.choice, self._prompt, self._instead, self._seen)


class WarmUp(Task):
    """Loads the network while the user still looks for the first place to click; silent, for the click will tell."""

    prompt = None

    def __init__(self, segment: SegmentSession, choice: Choice) -> None:
        self.segment, self.choice = segment, choice
        self._seen = None

    def prepare(self) -> bool:
        self._seen = self.segment.look(self.choice) if self.segment.alive else None
        return self.segment.alive

    def run(self) -> None:
        self.segment.warm_up(self.choice, self._seen)

    def fail(self, error: BaseException) -> None:
        logger.info("The network could not be loaded ahead of the first prompt: %s", error)


class Workbench(slicer.util.VTKObservationMixin):
    """Sessions and worker of this Slicer. `listeners` are called whenever prompts or pending actions may differ."""

    def __init__(self) -> None:
        super().__init__()
        self.worker = Worker(self._notify)
        self.listeners = []
        self._segments = []
        self._editor_node, self._notice_due = None, False
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.NodeRemovedEvent, self._prune)
        self.addObserver(slicer.mrmlScene, slicer.vtkMRMLScene.StartCloseEvent, self._forget)

    def segment(self, editor_node) -> SegmentSession:
        """The session for what the Segment Editor has selected, made when there is none."""
        wanted = _selection(editor_node)
        self._prune()
        for segment in self._segments:
            if segment.is_for(*wanted):
                return segment
        self._segments.append(SegmentSession(*wanted))
        return self._segments[-1]

    def prompts(self, editor_node) -> tuple:
        """Prompts on what the Segment Editor has selected, those still waiting included."""
        segment = self._selected(editor_node)
        if segment is None:
            return ()
        waiting = [t.prompt for t in self.worker.pending if t.segment is segment and t.prompt is not None]
        return segment.prompts + tuple(waiting)

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
            if segment.has_nodes:  # the volume holds other voxels now: its prompts mean nothing any more
                segment.forget()
        if dead:
            self._notify()

    def _selected(self, editor_node) -> SegmentSession | None:
        """The session for what the Segment Editor has selected; also made when the scene came with prompts for it."""
        self._prune()
        try:
            return self.segment(editor_node) if editor_node is not None else None
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
