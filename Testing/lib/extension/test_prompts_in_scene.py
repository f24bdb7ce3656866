"""Prompts are objects of the scene: they can be moved and deleted, and they are there again after saving and loading."""
from __future__ import annotations

import json

import numpy as np
import pytest
import slicer
from geometries import GEOMETRIES
from InteractiveSegBridge import mrml, records
from InteractiveSegBridge.workbench import _shared, workbench
from InteractiveSegSelfTest.phantom import CENTRE_KJI, NEIGHBOUR_KJI

from InteractiveSegLib import Box, Click, Lasso, Scribble

GREEN, RED = (0.1, 0.9, 0.2), (1.0, 0.25, 0.2)
K, J, COLUMN = CENTRE_KJI
STROKE = np.zeros((1, 6, 9), bool)
STROKE[0, 2:4] = True
ALL_KINDS = (
    Click(CENTRE_KJI),
    Click((3, 10, 12), positive=False),
    Box((8, 20, 44), (9, 41, 64)),
    Scribble(STROKE, False, (5, 8, 9)),
    Lasso(((8, 10, 10), (8, 40, 12), (8, 30, 50)), positive=False),
)


def prompts(stage):
    return workbench().prompts(stage.editor_node)


def same(one, two):
    """Equal prompts; scribbles are compared by what they paint."""
    if isinstance(one, Scribble):
        return one.positive == two.positive and all(
            (np.argwhere(a.mask) + a.origin).tolist() == (np.argwhere(b.mask) + b.origin).tolist() for a, b in [(one, two)]
        )
    return one == two


@pytest.fixture()
def saved_and_loaded():
    """Save, as if Slicer had been closed: nothing is left but the file; load it."""

    def go(stage):
        stage.active.deactivate()
        _shared.pop().close()
        stage.save_and_load()

    return go


@pytest.fixture()
def a_dicom_stage(make_stage):
    """Slicer turns the slices of a left-handed volume round when it saves one; here they stay as they are."""
    return make_stage(GEOMETRIES["as DICOM"])


def test_prompts_and_segment_are_there_again_after_saving_and_loading(a_dicom_stage, saved_and_loaded):
    a_stage = a_dicom_stage
    a_stage.click(CENTRE_KJI)
    a_stage.click((K, J + 10, COLUMN), control=True)
    a_stage.settle()
    given, mask = prompts(a_stage), a_stage.mask()
    saved_and_loaded(a_stage)
    assert prompts(a_stage) == given
    assert (a_stage.mask() == mask).all()
    a_stage.event("MouseMoveEvent", (1, 1))  # marks appear in the views that the mouse has been in
    assert a_stage.drawn() == {GREEN: 2, RED: 1}


def test_a_volume_whose_slices_slicer_turns_round_when_saving_keeps_prompts_in_place(a_stage, saved_and_loaded):
    where = a_stage.ras_of(CENTRE_KJI)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    saved_and_loaded(a_stage)
    [click] = prompts(a_stage)
    assert click.position != CENTRE_KJI
    assert np.allclose(a_stage.ras_of(click.position), where, atol=1e-2)
    assert a_stage.mask()[click.position]


def test_the_next_click_after_loading_builds_on_the_prompts_before(a_dicom_stage, saved_and_loaded):
    a_stage = a_dicom_stage
    a_stage.click(CENTRE_KJI)
    a_stage.click((K, J + 10, COLUMN), control=True)
    a_stage.settle()
    saved_and_loaded(a_stage)
    a_stage.click(NEIGHBOUR_KJI)
    a_stage.settle()
    assert len(prompts(a_stage)) == 3
    assert a_stage.mask()[CENTRE_KJI]
    assert a_stage.mask()[NEIGHBOUR_KJI]
    assert not a_stage.mask()[K, J + 10, COLUMN], "the negative click of before is still heard"


def test_every_kind_of_prompt_comes_back_to_the_same_voxels(a_stage):
    given = tuple(records.Given(prompt, 0, None, a_stage.segment_id) for prompt in ALL_KINDS)
    records.keep(a_stage.segmentation, [a_stage.segment_id], a_stage.volume, given)
    back = records.kept(a_stage.segmentation, [a_stage.segment_id], a_stage.volume)
    assert len(back) == len(given)
    assert all(same(a.prompt, b.prompt) and a.axis == b.axis for a, b in zip(given, back))


def test_positions_are_kept_in_millimetres_and_fit_another_grid_of_the_same_patient(a_stage):
    given = tuple(records.Given(prompt, 0, None, a_stage.segment_id) for prompt in ALL_KINDS)
    records.keep(a_stage.segmentation, [a_stage.segment_id], a_stage.volume, given)
    [click, *_] = json.loads(a_stage.segmentation.GetAttribute(records.ATTRIBUTE))[a_stage.segment_id]
    assert click["ras"] == [pytest.approx(a_stage.ras_of(CENTRE_KJI), abs=1e-3)]
    array = slicer.util.arrayFromVolume(a_stage.volume)[:, 4:, :].copy()
    own = np.linalg.inv(mrml.node_to_ras(a_stage.volume)) @ mrml.ijk_to_ras(a_stage.volume)
    own[:3, 3] += 4 * own[:3, 1]
    moved = slicer.util.addVolumeFromArray(array, own, "Cropped")
    back = records.kept(a_stage.segmentation, [a_stage.segment_id], moved)
    assert back[0].prompt.position == (K, J - 4, COLUMN)
    assert back[2].prompt.start == (8, 16, 44)


@pytest.mark.parametrize("text", [
    "nothing",
    "[1]",
    '{"A":1}',
    '{"%s":[{}]}',
    '{"%s":[{"kind":"Click","axis":0,"positive":true,"ras":[[1,2]]}]}',
    '{"%s":[{"kind":"Scribble","axis":0,"positive":true,"ras":[[0,0,0],[1,0,0],[0,1,0],[0,0,1]],"shape":[9e9,9,9],"bits":""}]}',
    '{"%s":[{"kind":"Scribble","axis":0,"positive":true,"ras":[[0,0,0],[1,0,0],[0,1,0],[0,0,1]],"shape":[9,9,9],"bits":"eJ"}]}',
])
def test_a_damaged_attribute_is_ignored(a_stage, text):
    a_stage.segmentation.SetAttribute(records.ATTRIBUTE, text.replace("%s", a_stage.segment_id))
    assert records.kept(a_stage.segmentation, [a_stage.segment_id], a_stage.volume) == ()
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert a_stage.mask()[CENTRE_KJI]


def test_the_scene_forgets_a_prompt_that_is_undone_and_a_segment_that_is_removed(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert a_stage.segmentation.GetAttribute(records.ATTRIBUTE)
    a_stage.undo()
    a_stage.settle()
    assert not a_stage.segmentation.GetAttribute(records.ATTRIBUTE)
    a_stage.redo()
    a_stage.settle()
    other = a_stage.logic.AddEmptySegment("B")
    a_stage.segmentation.GetSegmentation().RemoveSegment(a_stage.segment_id)
    a_stage.logic.SetCurrentSegmentID(other)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert list(json.loads(a_stage.segmentation.GetAttribute(records.ATTRIBUTE))) == [other]


def test_a_prompt_is_moved_by_its_sign_and_the_slice_is_asked_again(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.drag(CENTRE_KJI, NEIGHBOUR_KJI)
    a_stage.settle()
    assert prompts(a_stage) == (Click(position=NEIGHBOUR_KJI),)
    assert a_stage.mask()[NEIGHBOUR_KJI]
    assert not a_stage.mask()[CENTRE_KJI]
    a_stage.undo()
    a_stage.settle()
    assert a_stage.mask()[CENTRE_KJI]
    assert prompts(a_stage) == (Click(position=CENTRE_KJI),)
    a_stage.click((K, J + 10, COLUMN), control=True)
    a_stage.settle()
    assert len(prompts(a_stage)) == 2
    assert a_stage.mask()[CENTRE_KJI]


def test_the_delete_key_removes_the_prompt_under_the_mouse_only(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    one = a_stage.mask()
    a_stage.click(NEIGHBOUR_KJI)
    a_stage.settle()
    assert not a_stage.press_key("Delete", NEIGHBOUR_KJI), "the key goes no further"
    a_stage.settle()
    assert prompts(a_stage) == (Click(position=CENTRE_KJI),)
    assert (a_stage.mask() == one).all()
    a_stage.undo()
    assert a_stage.mask()[NEIGHBOUR_KJI]
    a_stage.press_key("Delete", (K, 2, 2))
    assert "No prompt lies under the mouse" in a_stage.application.status[-1]


def test_deleting_leaves_other_slices_as_they_are(a_stage):
    a_stage.show_slice_of((K - 2, J, COLUMN))
    a_stage.click((K - 2, J, COLUMN))
    a_stage.show_slice_of(CENTRE_KJI)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    before = a_stage.mask()
    a_stage.press_key("Delete", CENTRE_KJI)
    a_stage.settle()
    after = a_stage.mask()
    assert not after[K].any()
    assert (np.delete(after, K, axis=0) == np.delete(before, K, axis=0)).all()


def test_a_prompt_cannot_be_dropped_outside_the_volume(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.drag(CENTRE_KJI, (K, J, -20))
    a_stage.settle()
    assert "would leave the volume" in a_stage.application.status[-1]
    assert prompts(a_stage) == (Click(position=CENTRE_KJI),)


def test_a_box_is_moved_by_its_sign_with_the_click_tool_or_with_alt(a_stage):
    a_stage.choose("InteractiveBox")
    a_stage.drag((8, 20, 44), (8, 40, 63))
    a_stage.settle()
    a_stage.choose("InteractiveClick")
    corner = np.array([8, 19.5, 43.5])
    a_stage.drag(corner, corner + (0, 3, -4))
    a_stage.settle()
    assert prompts(a_stage) == (Box((8, 23, 40), (9, 44, 60)),)
    a_stage.choose("InteractiveBox")
    a_stage.view.sliceView().interactor().SetAltKey(1)
    corner += (0, 3, -4)
    a_stage.drag(corner, corner + (0, -3, 4))
    a_stage.view.sliceView().interactor().SetAltKey(0)
    a_stage.settle()
    assert prompts(a_stage) == (Box((8, 20, 44), (9, 41, 64)),)


def test_a_stroke_that_begins_where_a_click_was_is_a_stroke(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.choose("InteractiveScribble")
    a_stage.drag(CENTRE_KJI, (K, J + 8, COLUMN))
    a_stage.settle()
    assert prompts(a_stage)[0] == Click(CENTRE_KJI)
    assert isinstance(prompts(a_stage)[1], Scribble)


def test_cancelling_a_move_leaves_all_as_it_was(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    before = a_stage.mask()
    a_stage.drag(CENTRE_KJI, NEIGHBOUR_KJI)
    a_stage.effect.onCancel()
    a_stage.settle()
    assert (a_stage.mask() == before).all()
    a_stage.click((K, J + 10, COLUMN), control=True)
    a_stage.settle()
    assert prompts(a_stage) == (Click(position=CENTRE_KJI), Click((K, J + 10, COLUMN), positive=False))
