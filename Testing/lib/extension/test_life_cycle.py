"""Things that disappear under a running prompt, and failures: a message, never a crash, never a write elsewhere."""
from __future__ import annotations

import gc
import time
import weakref

import numpy as np
import pytest
import slicer
from geometries import put_under_warp
from InteractiveSegBridge.workbench import workbench
from InteractiveSegSelfTest.phantom import CENTRE_KJI, RADII_KJI, ellipsoid

from InteractiveSegLib import InteractiveSegError, InteractiveSession, models
from InteractiveSegLib.rounds import Progress


def test_deleting_the_volume_while_a_prompt_runs_drops_the_result(a_stage):
    a_stage.click(CENTRE_KJI)
    slicer.mrmlScene.RemoveNode(a_stage.volume)
    a_stage.settle()
    assert "dropped" in a_stage.application.status[-1]
    assert a_stage.segmentation.GetBinaryLabelmapInternalRepresentation(a_stage.segment_id).IsEmpty()


def test_deleting_the_segment_while_a_prompt_runs_drops_the_result(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.segmentation.GetSegmentation().RemoveSegment(a_stage.segment_id)
    a_stage.settle()
    assert "dropped" in a_stage.application.status[-1]
    assert a_stage.segmentation.GetSegmentation().GetNumberOfSegments() == 0


def test_closing_the_scene_while_a_prompt_runs_forgets_everything(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.click(CENTRE_KJI, control=True)
    slicer.mrmlScene.Clear(0)
    a_stage.settle()
    assert workbench().prompts(None) == ()
    assert workbench()._segments == []


def test_a_removed_volume_is_let_go_of(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    session = weakref.ref(workbench()._segments[0])
    slicer.mrmlScene.RemoveNode(a_stage.volume)
    gc.collect()
    assert session() is None


def test_the_result_goes_to_the_segment_that_was_clicked_for(a_stage):
    a_stage.click(CENTRE_KJI)
    other = a_stage.logic.AddEmptySegment("B")
    a_stage.logic.SetCurrentSegmentID(other)
    a_stage.settle()
    assert a_stage.mask()[CENTRE_KJI]
    assert not a_stage.mask(other).any()


def test_switching_to_another_effect_does_not_lose_the_prompt(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.choose("InteractiveBox")
    a_stage.settle()
    assert a_stage.mask()[CENTRE_KJI]


def test_a_volume_whose_voxels_change_gets_a_fresh_session(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    slicer.util.updateVolumeFromArray(a_stage.volume, np.zeros((16, 64, 72), np.int16))
    assert workbench().prompts(a_stage.editor_node) == ()
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert len(workbench().prompts(a_stage.editor_node)) == 1


@pytest.mark.parametrize(("error", "message"), [
    (InteractiveSegError("The weights are damaged: reinstall them."), "The weights are damaged: reinstall them."),
    (ModuleNotFoundError("No module named 'torch'", name="torch"), "needs the Python package torch: open the module"),
    (ZeroDivisionError("no spacing"), "The prediction failed (ZeroDivisionError: no spacing)"),
    (MemoryError("not enough"), "The computer has no memory left: close other programs, or crop the image."),
])
def test_a_failing_network_is_told_in_one_window_and_the_next_prompt_works(a_stage, monkeypatch, error, message):
    a_stage.settle()
    working = models.load

    def fail(*_):
        raise error

    fail.cache_clear = working.cache_clear
    monkeypatch.setattr(models, "load", fail)
    workbench()._segments.clear()
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert len(a_stage.application.dialogs) == 1
    assert message in a_stage.application.dialogs[0]
    assert not a_stage.mask().any()
    monkeypatch.setattr(models, "load", working)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert a_stage.mask()[CENTRE_KJI]
    assert len(workbench().prompts(a_stage.editor_node)) == 1


def test_a_colour_volume_is_refused_with_a_message_at_the_click(a_stage):
    colour = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
    slicer.util.updateVolumeFromArray(colour, np.zeros((16, 64, 72, 3), np.uint8))
    colour.CopyOrientation(a_stage.volume)
    a_stage.editor_node.SetAndObserveSourceVolumeNode(colour)
    a_stage.click(CENTRE_KJI)
    assert "'Photo' has 3 components" in a_stage.application.status[-1]


def test_a_volume_under_a_warp_is_refused_at_the_click_and_the_view_goes_on(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    put_under_warp(a_stage.volume)
    node = a_stage.view.mrmlSliceNode()
    node.SetSliceOffset(node.GetSliceOffset() + 1)
    assert set(a_stage.drawn().values()) == {0}
    a_stage.click_xy((150, 120))
    assert "non-linear transform 'Warp'" in a_stage.application.status[-1]


def test_cleaning_up_an_effect_that_was_never_used_is_harmless(registered):
    for scripted in registered.values():
        scripted.self().cleanup()
    from InteractiveSegBridge.workbench import _shared

    assert _shared == [], "nothing was started"


def test_the_shipped_weights_answer_a_click_inside_the_object(make_stage):
    stage = make_stage(family=models.list_families()[0].name)
    stage.click(CENTRE_KJI)
    stage.settle()
    mask, truth = stage.mask(), ellipsoid(CENTRE_KJI, RADII_KJI)
    assert stage.application.dialogs == []
    assert mask[CENTRE_KJI]
    assert set(np.flatnonzero(mask.any(axis=(1, 2)))) == {CENTRE_KJI[0]}
    assert (mask & truth).sum() > 0.8 * mask.sum(), "what is marked lies on the object"


def test_quitting_slicer_ends_a_long_action(a_stage, monkeypatch):
    steps, reached = 3000, []

    def slow(session, **_):
        for number in range(steps):
            time.sleep(0.001)
            reached.append(number)
            yield Progress(0, number, steps, None)

    monkeypatch.setattr(InteractiveSession, "propagate", slow)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.effect.panel.propagateButton.click()
    thread = workbench().worker._thread
    slicer.app.quit()
    thread.shutdown(wait=True)
    assert len(reached) < steps


@pytest.mark.parametrize("button", [
    "visibilityButton", "nextButton", "startOverButton", "propagateButton", "predictRangeButton", "acceptButton",
    "structuresButton",
])
def test_a_button_without_a_chosen_segment_says_what_to_choose_or_does_nothing(a_stage, button):
    a_stage.settle()
    a_stage.editor_node.SetSelectedSegmentID("")
    getattr(a_stage.effect.panel, button).click()
    a_stage.settle()
    if button != "nextButton":
        assert "No segment is chosen" in a_stage.effect.panel.statusLabel.text
