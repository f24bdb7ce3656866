"""Models that know structures by name: all segments that bear one are answered by one session, in one step."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import slicer
from InteractiveSegBridge import structures
from InteractiveSegBridge.workbench import _shared, workbench
from InteractiveSegSelfTest.phantom import CENTRE_KJI, NEIGHBOUR_KJI, NEIGHBOUR_RADII_KJI, RADII_KJI, ellipsoid
from InteractiveSegSelfTest.scenarios import dice

from InteractiveSegLib import models

K = CENTRE_KJI[0]
LEFT, RIGHT = ellipsoid(CENTRE_KJI, RADII_KJI)[K], ellipsoid(NEIGHBOUR_KJI, NEIGHBOUR_RADII_KJI)[K]


@pytest.fixture()
def heart(a_stage, monkeypatch):
    """A model of left and right, and a segment of each; the left one is chosen."""
    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], targets=("left", "right")))
    a_stage.segmentation.GetSegmentation().GetSegment(a_stage.segment_id).SetName("Left")
    a_stage.right = a_stage.segmentation.GetSegmentation().AddEmptySegment("r", "right")
    a_stage.editor_node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    a_stage.effect.updateGUIFromMRML()
    a_stage.settle()
    a_stage.application.status.clear()
    return a_stage


def say(stage, segment_id, kji, control=False):
    stage.logic.SetCurrentSegmentID(segment_id)
    stage.click(kji, control)
    stage.settle()
    assert stage.application.dialogs == []


def test_segments_with_the_models_names_share_one_session_and_each_gets_its_own_voxels(heart):
    assert heart.effect.panel.structureCombo.currentText == "left", "by its name, whatever the case of the letters"
    say(heart, heart.segment_id, CENTRE_KJI)
    say(heart, heart.right, NEIGHBOUR_KJI)
    [session] = workbench()._segments
    assert session._engine.targets == ("left", "right")
    assert dice(heart.mask()[K], LEFT) > 0.8
    assert dice(heart.mask(heart.right)[K], RIGHT) > 0.7
    assert [given.segment_id for given in session.given] == [heart.segment_id, heart.right]


def test_one_prompt_changes_all_segments_and_one_undo_brings_all_back(heart):
    say(heart, heart.segment_id, CENTRE_KJI)
    before = heart.mask()
    say(heart, heart.right, (K, CENTRE_KJI[1] + 10, CENTRE_KJI[2]))
    left, right = heart.mask(), heart.mask(heart.right)
    assert right.any()
    assert left.sum() < before.sum(), "what the right one has won the left one has lost"
    assert not (left & right).any()
    heart.undo()
    assert (heart.mask() == before).all()
    assert not heart.mask(heart.right).any()
    assert len(workbench().prompts(heart.editor_node)) == 1
    heart.redo()
    assert (heart.mask() == left).all()
    assert (heart.mask(heart.right) == right).all()


def test_a_segment_that_the_model_does_not_know_is_never_eaten_when_overwriting_is_off(heart):
    finished = np.zeros(heart.mask().shape, bool)
    finished[K - 2 : K + 3, 25:36, 20:36] = True
    tumour = heart.add_segment("tumour", finished)
    say(heart, heart.segment_id, CENTRE_KJI)
    say(heart, heart.right, (K, CENTRE_KJI[1] + 12, CENTRE_KJI[2]))
    assert (heart.mask(tumour) == finished).all()


def test_starting_over_forgets_the_chosen_structure_alone(heart):
    say(heart, heart.segment_id, CENTRE_KJI)
    say(heart, heart.right, NEIGHBOUR_KJI)
    left = heart.mask()
    heart.effect.panel.startOverButton.click()
    heart.settle()
    assert (heart.mask() == left).all()
    assert not heart.mask(heart.right).any()
    assert [given.segment_id for given in workbench().given(heart.editor_node)] == [heart.segment_id]


def test_moving_a_prompt_says_the_others_of_its_slice_again(heart):
    say(heart, heart.segment_id, CENTRE_KJI)
    say(heart, heart.right, NEIGHBOUR_KJI)
    heart.press_key("Delete", at_kji=CENTRE_KJI)
    heart.settle()
    assert not heart.mask().any()
    assert dice(heart.mask(heart.right)[K], RIGHT) > 0.7
    heart.undo()
    assert dice(heart.mask()[K], LEFT) > 0.8


def test_a_tilted_view_speaks_to_all_structures_too(heart):
    heart.show_slice_of(CENTRE_KJI, tilt_degrees=30)
    say(heart, heart.segment_id, CENTRE_KJI)
    say(heart, heart.right, (K, CENTRE_KJI[1], CENTRE_KJI[2] + 8))
    assert heart.mask(heart.right).any()
    assert not (heart.mask() & heart.mask(heart.right)).any()
    assert len(workbench().prompts(heart.editor_node)) == 2


def test_every_structure_has_its_prompts_again_after_saving_and_loading(heart):
    say(heart, heart.right, NEIGHBOUR_KJI)
    say(heart, heart.segment_id, CENTRE_KJI)
    heart.active.deactivate()
    _shared.pop().close()
    heart.save_and_load()
    heart.effect.onPredictRange()
    workbench().worker.cancel()
    given = workbench().given(heart.editor_node)
    assert [one.segment_id for one in given] == [heart.right, heart.segment_id], "in the order in which they were given"
    heart.settle()


def test_another_model_takes_the_chosen_segment_alone_with_its_own_prompts(heart):
    say(heart, heart.segment_id, CENTRE_KJI)
    say(heart, heart.right, NEIGHBOUR_KJI)
    other = next(family.name for family in models.list_families() if not family.lists and family.name != "flood")
    heart.effect.panel.familyCombo.setCurrentIndex(heart.effect.panel.familyCombo.findData(other))
    heart.settle()
    assert [given.segment_id for given in workbench().given(heart.editor_node)] == [heart.right]


def test_a_segment_of_another_name_is_asked_for_and_the_answer_stays_with_it(heart):
    heart.segmentation.GetSegmentation().GetSegment(heart.segment_id).SetName("Segment_1")
    heart.click(CENTRE_KJI)
    heart.settle()
    assert "choose as Structure which of them the segment 'Segment_1' is" in heart.application.status[-1]
    assert not heart.mask().any()
    panel = heart.effect.panel
    assert panel.structureCombo.currentIndex == -1
    panel.structureCombo.setCurrentIndex(panel.structureCombo.findData("left"))
    heart.effect.onStructure()
    say(heart, heart.segment_id, CENTRE_KJI)
    assert dice(heart.mask()[K], LEFT) > 0.8
    segment = heart.segmentation.GetSegmentation().GetSegment(heart.segment_id)
    assert structures.structure_of(segment, ("left", "right")) == "left"
    assert structures.structure_of(segment, ("anterior",)) is None


def test_the_missing_structures_are_added_with_names_colours_and_codes(a_stage):
    spec = next(family for family in models.list_families() if family.targets)
    segments = a_stage.segmentation.GetSegmentation()
    segments.GetSegment(a_stage.segment_id).SetName("left ventricle")
    a_stage.editor_node.SetAttribute("InteractiveSeg.Model", spec.name)
    a_stage.effect.updateGUIFromMRML()
    workbench().worker.cancel()
    a_stage.effect.panel.structuresButton.click()
    names = [segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())]
    assert names[:3] == ["left ventricle", "myocardium", "right ventricle"]
    assert len(names) == len(spec.targets)
    entries = [structures.structure_of(segments.GetNthSegment(n), spec.targets) for n in range(len(names))]
    assert entries == list(spec.targets)
    a_stage.effect.panel.structuresButton.click()
    assert segments.GetNumberOfSegments() == len(names)
    assert "has a segment already" in a_stage.application.status[-1]
    a_stage.settle()


def test_the_network_is_the_one_that_knows_the_chosen_segments_name():
    lists = next(family for family in models.list_families() if family.named).lists
    segmentation = slicer.vtkMRMLSegmentationNode()
    segments = segmentation.GetSegmentation()
    ids = {name: segments.AddEmptySegment(name, name) for name in (*lists[0], *lists[1], "tumour")}
    for names in lists[:2]:
        assert structures.together(segmentation, ids[names[-1]], lists) == {name: ids[name] for name in names}


def test_what_the_weights_never_saw_is_marked_in_the_box_and_not_in_the_segments_name(a_stage, monkeypatch):
    spec = replace(models.FAMILIES["flood"], targets=("left", "right"), unseen=("right",))
    monkeypatch.setitem(models.FAMILIES, "flood", spec)
    a_stage.segmentation.GetSegmentation().GetSegment(a_stage.segment_id).SetName("right")
    a_stage.effect.updateGUIFromMRML()
    a_stage.settle()
    panel = a_stage.effect.panel
    panel.showStructure("right")
    assert panel.structureCombo.currentText == "right (untrained)" and panel.structure == "right"
    assert a_stage.segmentation.GetSegmentation().GetSegment(a_stage.segment_id).GetName() == "right"
