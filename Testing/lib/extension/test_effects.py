"""The click and box effects: events in, voxels, messages and marks out."""
from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from geometries import GEOMETRIES, put_under_transform
from InteractiveSegBridge.mrml import ijk_to_ras, matrix_from_array, volume_array
from InteractiveSegBridge.workbench import workbench
from InteractiveSegSelfTest.phantom import CENTRE_KJI, NEIGHBOUR_KJI, RADII_KJI, ellipsoid
from InteractiveSegSelfTest.scenarios import dice
from slice_widget import SliceWidgetDouble

from InteractiveSegLib import Box, Click

GREEN, RED = (0.1, 0.9, 0.2), (1.0, 0.25, 0.2)


def prompts(stage):
    return workbench().prompts(stage.editor_node)


def assert_only_this_slice_is_segmented(stage, axis):
    mask, expected = np.moveaxis(stage.mask(), axis, 0), np.moveaxis(ellipsoid(CENTRE_KJI, RADII_KJI), axis, 0)
    index = CENTRE_KJI[axis]
    assert set(np.flatnonzero(mask.any(axis=(1, 2)))) == {index}
    assert dice(mask[index], expected[index]) > 0.8


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_a_click_segments_the_slice_that_the_view_shows(make_stage, geometry, axis):
    stage = make_stage(geometry)
    stage.show_slice_of(CENTRE_KJI, axis)
    stage.click(CENTRE_KJI)
    stage.settle()
    assert_only_this_slice_is_segmented(stage, axis)


def test_a_click_lands_right_when_volume_and_segmentation_are_under_a_transform(a_stage):
    put_under_transform(a_stage.volume, a_stage.segmentation)
    a_stage.show_slice_of(CENTRE_KJI)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert_only_this_slice_is_segmented(a_stage, 0)


def test_a_fast_second_click_is_a_second_prompt_and_does_not_maximise_the_view(a_stage):
    xy = a_stage.xy_of(CENTRE_KJI)
    events = ("LeftButtonPressEvent", "LeftButtonReleaseEvent", "LeftButtonDoubleClickEvent", "LeftButtonReleaseEvent")
    seen_by_slicer = [name for name in events if a_stage.event(name, xy)]
    assert seen_by_slicer == []
    a_stage.settle()
    assert len(prompts(a_stage)) == 2


def test_a_pan_that_shift_began_ends_with_the_button_and_gives_no_prompt(a_stage):
    xy = a_stage.xy_of(CENTRE_KJI)
    seen_by_slicer = [a_stage.event("LeftButtonPressEvent", xy, shift=True), a_stage.event("MouseMoveEvent", (9, 9), shift=True),
                      a_stage.event("LeftButtonReleaseEvent", (9, 9))]
    assert seen_by_slicer == [True, True, True]
    assert prompts(a_stage) == ()


@pytest.mark.parametrize("event", ["MouseMoveEvent", "LeftButtonReleaseEvent"])
def test_shift_in_the_middle_of_a_stroke_does_not_lose_it(make_stage, event):
    stage = make_stage(effect="InteractiveScribble")
    one, two = stage.xy_of(CENTRE_KJI), stage.xy_of(NEIGHBOUR_KJI)
    stage.event("LeftButtonPressEvent", one)
    stage.event("MouseMoveEvent", two, shift=event == "MouseMoveEvent")
    assert not stage.event("LeftButtonReleaseEvent", two, shift=event != "MouseMoveEvent")
    assert stage.event("MouseMoveEvent", (5, 5)), "nothing follows the mouse any more"
    stage.settle()
    assert len(prompts(stage)) == 1


def test_the_slice_of_the_view_where_the_mouse_was_last_is_predicted(a_stage, application, monkeypatch):
    asked = []
    a_stage.event("MouseMoveEvent", (50, 50))
    a_stage.view = SliceWidgetDouble(application.application_logic, application.scene, "Yellow")
    for effect in a_stage.editor.values():
        effect.observe(a_stage.view)
    a_stage.show_slice_of(axis=2)
    a_stage.event("MouseMoveEvent", (50, 50))
    monkeypatch.setattr(a_stage.effect, "_submit", lambda task, effect, axis, extent: asked.append((axis, extent)))
    a_stage.effect.onPredict()
    assert asked == [(2, (CENTRE_KJI[2], CENTRE_KJI[2] + 1))]


def test_after_the_volume_was_moved_the_session_knows_where_the_segment_lies(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = ijk_to_ras(a_stage.volume)[:3, :3] @ [20, 0, 0]
    transform.SetMatrixTransformToParent(matrix_from_array(matrix))
    a_stage.volume.SetAndObserveTransformNodeID(transform.GetID())
    assert a_stage.mask().any()
    assert prompts(a_stage) == (Click((*CENTRE_KJI[:2], CENTRE_KJI[2] - 20)),), "prompts stay with their segment"
    a_stage.effect.onStartOver()
    a_stage.settle()
    assert not a_stage.mask().any()


def test_an_intensity_range_on_another_grid_is_refused_in_one_sentence_and_nothing_is_lost(a_stage, application):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    before = a_stage.mask()
    grid = slicer.vtkOrientedImageData()
    grid.SetExtent(0, 20, 0, 20, 0, 15)
    grid.SetGeometryFromImageToWorldMatrix(matrix_from_array(ijk_to_ras(a_stage.volume) @ np.diag([2.0, 2, 1, 1])))
    a_stage.segmentation.GetSegmentation().SetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(),
        slicer.vtkSegmentationConverter.SerializeImageGeometry(grid))
    a_stage.editor_node.SetSourceVolumeIntensityMask(True)
    a_stage.editor_node.SetSourceVolumeIntensityMaskRange(0, 5000)
    a_stage.click(NEIGHBOUR_KJI)
    a_stage.settle()
    assert "switch the range off" in application.dialogs[0]
    assert len(prompts(a_stage)) == 1
    assert (a_stage.mask() == before).all()
    a_stage.editor_node.SetSourceVolumeIntensityMask(False)
    a_stage.click(NEIGHBOUR_KJI)
    a_stage.settle()
    assert len(prompts(a_stage)) == 2
    assert len(application.dialogs) == 1


def test_shift_and_the_other_buttons_stay_slicers(a_stage):
    xy = a_stage.xy_of(CENTRE_KJI)
    assert a_stage.event("LeftButtonPressEvent", xy, shift=True)
    assert a_stage.event("RightButtonPressEvent", xy)
    assert a_stage.event("MouseMoveEvent", xy)
    assert not prompts(a_stage)


def test_a_click_in_the_3d_view_is_slicers(a_stage):
    class ThreeDWidget:
        def className(self):
            return "qMRMLThreeDWidget"

    interactor = a_stage.view.sliceView().interactor()
    assert a_stage.effect.processInteractionEvents(interactor, vtk.vtkCommand.LeftButtonPressEvent, ThreeDWidget()) is False
    assert not prompts(a_stage)


def test_prompts_given_while_one_is_running_are_all_answered(a_stage):
    for _ in range(4):
        a_stage.click(CENTRE_KJI)
    a_stage.click(NEIGHBOUR_KJI)
    assert len(prompts(a_stage)) == 5, "they are drawn before they are answered"
    a_stage.settle()
    assert len(prompts(a_stage)) == 5
    assert a_stage.mask()[NEIGHBOUR_KJI]
    for _ in range(2):  # clicking the same spot again changes nothing and leaves no undo step
        a_stage.undo()
    assert not a_stage.mask().any()


def test_cancel_forgets_what_waits_and_takes_the_running_answer_back(a_stage):
    a_stage.settle()
    a_stage.click(CENTRE_KJI)
    a_stage.click(NEIGHBOUR_KJI)
    a_stage.effect.panel.cancelButton.click()
    a_stage.settle()
    assert not a_stage.mask().any()
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert prompts(a_stage) == (Click(position=CENTRE_KJI),)


def test_slicers_undo_takes_the_prompt_back_too(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.click(CENTRE_KJI, control=True)
    a_stage.settle()
    a_stage.undo()
    a_stage.click(NEIGHBOUR_KJI)
    a_stage.settle()
    assert prompts(a_stage) == (Click(position=CENTRE_KJI), Click(position=NEIGHBOUR_KJI))


def test_a_manual_edit_between_two_prompts_is_kept(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    painted = a_stage.mask()
    painted[2, 5:12, 5:12] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        painted.astype(np.uint8), a_stage.segmentation, a_stage.segment_id, a_stage.volume
    )
    a_stage.click(NEIGHBOUR_KJI)
    a_stage.settle()
    mask = a_stage.mask()
    assert mask[2, 5:12, 5:12].all(), "what was painted in another slice is still there"
    assert mask[NEIGHBOUR_KJI]


def test_a_segment_that_is_not_empty_is_the_starting_point(a_stage):
    start = np.zeros(a_stage.mask().shape, bool)
    start[12:14, 10:20, 10:20] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        start.astype(np.uint8), a_stage.segmentation, a_stage.segment_id, a_stage.volume
    )
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert (a_stage.mask()[12:14] == start[12:14]).all()


def test_click_and_box_share_their_prompts(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.choose("InteractiveBox")
    a_stage.drag((8, 20, 44), (8, 40, 63))
    a_stage.settle()
    assert [type(prompt) for prompt in prompts(a_stage)] == [Click, Box]
    assert a_stage.mask()[CENTRE_KJI], "the box did not undo the click"


def test_each_segment_has_prompts_of_its_own(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.logic.SetCurrentSegmentID(a_stage.logic.AddEmptySegment("B"))
    assert prompts(a_stage) == ()
    a_stage.click(NEIGHBOUR_KJI)
    a_stage.settle()
    assert a_stage.mask()[CENTRE_KJI]
    assert not a_stage.mask()[NEIGHBOUR_KJI]


def test_the_remove_button_and_its_key_swap_add_and_remove_for_both_effects(a_stage):
    assert not a_stage.event("KeyPressEvent", (150, 120), key="x"), "the key goes no further"
    assert a_stage.effect.panel.removes
    a_stage.choose("InteractiveBox")
    assert a_stage.effect.panel.removes, "one setting for all interactive effects"
    a_stage.choose("InteractiveClick")
    a_stage.click(CENTRE_KJI, control=True)
    a_stage.settle()
    assert prompts(a_stage) == (Click(position=CENTRE_KJI, positive=True),)


def test_a_click_never_leaves_the_editable_intensity_range_and_the_prompts_still_add_up(a_stage):
    a_stage.editor_node.SourceVolumeIntensityMaskOn()
    a_stage.editor_node.SetSourceVolumeIntensityMaskRange(199, 400)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    editable = volume_array(a_stage.volume) >= 199
    first = a_stage.mask()
    assert first.any()
    assert not (first & ~editable).any()
    a_stage.click(CENTRE_KJI, control=True)
    a_stage.settle()
    assert a_stage.mask().sum() < first.sum()
    assert not (a_stage.mask() & ~editable).any()
    a_stage.undo()
    a_stage.click(NEIGHBOUR_KJI)
    a_stage.settle()
    assert prompts(a_stage) == (Click(position=CENTRE_KJI), Click(position=NEIGHBOUR_KJI))


def test_a_finished_neighbour_is_not_eaten_when_overwriting_is_off(a_stage):
    finished = np.zeros(a_stage.mask().shape, bool)
    finished[6:11, 25:36, 20:36] = True
    other = a_stage.add_segment("B", finished)
    a_stage.editor_node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert (a_stage.mask(other) == finished).all()
    assert a_stage.mask()[CENTRE_KJI]


def test_start_over_clears_the_segment_in_one_undoable_step(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    before = a_stage.mask()
    a_stage.effect.panel.startOverButton.click()
    a_stage.settle()
    assert not a_stage.mask().any()
    assert prompts(a_stage) == ()
    a_stage.undo()
    assert (a_stage.mask() == before).all()


@pytest.mark.parametrize("kji", [(8, -1.6, 20), (8, 20, -20), (8, 80, 20)])
def test_a_click_outside_the_volume_says_so_and_does_nothing(a_stage, kji):
    a_stage.click(kji)
    a_stage.settle()
    assert "outside the volume 'Phantom'" in a_stage.application.status[-1]
    assert not a_stage.mask().any()
    assert not prompts(a_stage)


def test_a_hidden_segment_is_not_edited_against_the_users_answer(a_stage):
    a_stage.segmentation.GetDisplayNode().SetSegmentVisibility(a_stage.segment_id, False)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert not a_stage.mask().any()


def test_without_a_source_volume_the_message_says_what_to_choose(a_stage):
    a_stage.logic.SetSourceVolumeNode(None)
    a_stage.click_xy((150, 120))
    assert "No source volume is chosen" in a_stage.application.status[-1]


def test_a_press_without_a_drag_is_no_box(make_stage):
    stage = make_stage(effect="InteractiveBox")
    stage.click(CENTRE_KJI)
    stage.settle()
    assert "two corners" in stage.application.status[-1]
    assert not prompts(stage)


def test_clicks_and_boxes_are_drawn_in_their_slice_only(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.click((CENTRE_KJI[0], 60, 5), control=True)
    a_stage.settle()
    assert a_stage.drawn() == {GREEN: 2, RED: 1}, "a plus has two bars, a minus has one"
    a_stage.show_slice_of((3, *CENTRE_KJI[1:]))
    assert a_stage.drawn() == {GREEN: 0, RED: 0}
    a_stage.show_slice_of(CENTRE_KJI)
    a_stage.choose("InteractiveBox")
    xy = a_stage.xy_of((8, 20, 44))
    a_stage.event("LeftButtonPressEvent", xy)
    a_stage.event("MouseMoveEvent", a_stage.xy_of((8, 40, 63)))
    assert a_stage.drawn() == {GREEN: 2 + 4, RED: 1}, "the rubber band follows the mouse"


def test_the_marks_follow_undo_redo_and_the_chosen_segment(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert a_stage.drawn()[GREEN] == 2
    a_stage.undo()
    a_stage.settle()
    assert a_stage.drawn()[GREEN] == 0
    a_stage.redo()
    a_stage.settle()
    assert a_stage.drawn()[GREEN] == 2
    a_stage.logic.SetCurrentSegmentID(a_stage.logic.AddEmptySegment("B"))
    a_stage.settle()
    assert a_stage.drawn()[GREEN] == 0
    a_stage.logic.SetCurrentSegmentID(a_stage.segment_id)
    a_stage.settle()
    assert a_stage.drawn()[GREEN] == 2


def test_another_model_goes_on_with_the_segment_and_the_prompts_there_are(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    before = a_stage.mask()
    combo = a_stage.effect.panel.familyCombo
    other = 1 - combo.currentIndex
    combo.setCurrentIndex(other)
    assert a_stage.drawn()[GREEN] == 2
    assert (a_stage.mask() == before).all()
    combo.setCurrentIndex(combo.findData("flood"))
    a_stage.click(NEIGHBOUR_KJI)
    a_stage.settle()
    assert a_stage.mask()[CENTRE_KJI]
    assert prompts(a_stage) == (Click(position=CENTRE_KJI), Click(position=NEIGHBOUR_KJI))


def test_the_cancel_button_counts_the_prompts_without_an_answer(a_stage):
    a_stage.settle()
    button = a_stage.effect.panel.cancelButton
    assert not button.enabled
    a_stage.click(CENTRE_KJI)
    a_stage.click(NEIGHBOUR_KJI)
    assert (button.enabled, button.text) == (True, "Cancel (2)")
    a_stage.settle()
    assert (button.enabled, button.text) == (False, "Cancel")


def test_leaving_the_effect_takes_its_marks_away(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.active.deactivate()
    assert a_stage.drawn() == {}
    assert workbench().listeners == []
