"""Views that follow none of the volume's slices: the network sees what the view shows, and its answer is on the voxels there."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import slicer
from flood import FloodNetwork
from geometries import GEOMETRIES, put_under_transform
from InteractiveSegBridge import mrml
from InteractiveSegBridge.workbench import _shared, workbench
from InteractiveSegSelfTest.phantom import CENTRE_KJI, NEIGHBOUR_KJI, RADII_KJI, SHAPE, ellipsoid
from InteractiveSegSelfTest.scenarios import dice

from InteractiveSegLib import Box, Click, Lasso, Scribble, models

GREEN, RED = (0.1, 0.9, 0.2), (1.0, 0.25, 0.2)
K, J, COLUMN = CENTRE_KJI
TRUTH = ellipsoid(CENTRE_KJI, RADII_KJI)


def prompts(stage):
    return workbench().prompts(stage.editor_node)


def plane_of(stage):
    return mrml.plane_shown(stage.view.mrmlSliceNode(), stage.volume)


def cut_by(plane):
    """Bool, the volume's shape: the voxels that the plane cuts."""
    cut = np.zeros(SHAPE, bool)
    cut.ravel()[plane.reaches(SHAPE)] = True
    return cut


def assert_the_plane_shows_the_ellipsoid(stage, plane):
    mask = stage.mask()
    assert not (mask & ~cut_by(plane)).any(), "no voxel beside the plane has changed"
    assert dice(plane.cut(mask), plane.cut(TRUTH)) > 0.85


@pytest.fixture()
def tilted(a_stage):
    """A view tilted by 35 degrees against the volume, through the ellipsoid's centre."""
    a_stage.show_slice_of(CENTRE_KJI, tilt_degrees=35)
    return a_stage


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_a_click_in_a_tilted_view_segments_what_the_view_shows(make_stage, geometry, axis):
    stage = make_stage(geometry)
    stage.show_slice_of(CENTRE_KJI, axis, tilt_degrees=30)
    stage.click(CENTRE_KJI)
    stage.settle()
    assert stage.application.dialogs == []
    assert stage.mask()[CENTRE_KJI]
    assert_the_plane_shows_the_ellipsoid(stage, plane_of(stage))
    assert "tilted by 30° to the volume: the network sees the picture of this view" in stage.application.status[-1]


def test_the_axial_view_of_an_oblique_volume_under_a_turning_transform_is_such_a_view(a_stage):
    put_under_transform(a_stage.volume, a_stage.segmentation)
    node = a_stage.view.mrmlSliceNode()
    node.SetOrientationToAxial()
    node.JumpSliceByCentering(*a_stage.ras_of(CENTRE_KJI))
    plane = plane_of(a_stage)
    assert plane is not None
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert a_stage.mask()[CENTRE_KJI]
    assert_the_plane_shows_the_ellipsoid(a_stage, plane)


def test_prompts_add_up_in_one_view_and_across_views_and_undo_takes_them_one_by_one(tilted):
    one = tilted
    one.click(CENTRE_KJI)
    one.settle()
    first = one.mask()
    one.click((K, J, COLUMN + 5), control=True)
    one.settle()
    second = one.mask()
    assert second.sum() < first.sum(), "the second prompt corrects the first one's answer"
    beside = (K + 3, *NEIGHBOUR_KJI[1:])
    one.show_slice_of(beside)
    one.click(beside)
    one.settle()
    third = one.mask()
    assert third[beside]
    assert set(np.flatnonzero((third != second).any(axis=(1, 2)))) == {K + 3}, "the slice was added to what the tilted view gave"
    assert [prompt.positive for prompt in prompts(one)] == [True, False, True]
    for expected, count in ((second, 2), (first, 1), (np.zeros(SHAPE, bool), 0)):
        one.undo()
        assert (one.mask() == expected).all()
        assert len(prompts(one)) == count
    for expected in (first, second, third):
        one.redo()
        assert (one.mask() == expected).all()
    one.show_slice_of(CENTRE_KJI, tilt_degrees=35)
    one.click((K, J + 6, COLUMN))
    one.settle()
    assert len(prompts(one)) == 4
    assert one.mask()[beside]


@pytest.mark.parametrize("tilt", [30, 50])
def test_no_voxel_that_the_view_cuts_within_the_object_stays_empty_whatever_other_views_gave_before(a_stage, tilt):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.show_slice_of(CENTRE_KJI, tilt_degrees=tilt)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    within = ellipsoid(CENTRE_KJI, tuple(r - 3 for r in RADII_KJI))
    assert a_stage.mask()[within & cut_by(plane_of(a_stage))].all()


def test_what_other_effects_drew_beside_the_plane_stays_and_on_it_is_where_the_prompt_starts(tilted):
    painted = np.zeros(SHAPE, bool)
    painted[2:14, 50:60, 50:60] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        painted.astype(np.uint8), tilted.segmentation, tilted.segment_id, tilted.volume
    )
    beside = painted & ~cut_by(plane_of(tilted))
    tilted.click(CENTRE_KJI)
    tilted.settle()
    assert tilted.mask()[CENTRE_KJI]
    assert tilted.mask()[beside].all()


@pytest.fixture()
def starts(monkeypatch):
    """Where each prediction started from: its slice's largest logit of the mask before, 0 for none."""
    found, predict = [], FloodNetwork.predict

    def watched(network, images, prompts, previous):
        found.append(float(np.max(previous)))
        return predict(network, images, prompts, previous)

    monkeypatch.setattr(FloodNetwork, "predict", watched)
    return found


@pytest.mark.parametrize(("axis", "tilt"), [(1, 0), (2, 0), (0, 35)])
def test_masks_that_are_seen_edge_on_are_no_start_for_a_view_that_crosses_them(a_stage, starts, axis, tilt):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    empty = starts[-1]
    a_stage.show_slice_of(CENTRE_KJI, axis, tilt_degrees=tilt)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert starts[-1] == empty
    assert dice(np.moveaxis(a_stage.mask(), axis, 0)[CENTRE_KJI[axis]], np.moveaxis(TRUTH, axis, 0)[CENTRE_KJI[axis]]) > 0.8
    a_stage.click((K, J + 4, COLUMN + 2))
    a_stage.settle()
    assert starts[-1] > empty, "a second prompt in the view starts from the first one's answer"


@pytest.mark.parametrize("tilt", [0, 35])
def test_what_was_painted_by_hand_is_where_a_view_starts(a_stage, starts, tilt):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    painted = a_stage.mask()
    painted[K - 3 : K + 4, J - 6 : J + 6, COLUMN - 5 : COLUMN + 5] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        painted.astype(np.uint8), a_stage.segmentation, a_stage.segment_id, a_stage.volume
    )
    empty = starts[-1]
    a_stage.show_slice_of(CENTRE_KJI, 0 if tilt else 1, tilt_degrees=tilt)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert starts[-1] > empty


@pytest.mark.parametrize(("effect", "kind"), [
    ("InteractiveBox", Box), ("InteractiveScribble", Scribble), ("InteractiveLasso", Lasso),
])
def test_every_tool_works_in_a_tilted_view(make_stage, effect, kind):
    stage = make_stage(GEOMETRIES["axis-aligned"], effect=effect)
    stage.show_slice_of(CENTRE_KJI, tilt_degrees=35)
    x, y = stage.xy_of(CENTRE_KJI)
    path = {Box: [(-60, -70), (60, 70)], Scribble: [(-8, 0), (8, 0)], Lasso: [(-12, -9), (12, -9), (0, 14)]}[kind]
    corners = [(x + dx, y + dy) for dx, dy in path]
    stage.event("LeftButtonPressEvent", corners[0])
    for xy in corners[1:]:
        stage.event("MouseMoveEvent", xy)
    stage.event("LeftButtonReleaseEvent", corners[-1])
    stage.settle()
    assert stage.application.dialogs == []
    [prompt] = prompts(stage)
    assert isinstance(prompt, kind)
    assert stage.mask()[CENTRE_KJI]
    assert not (stage.mask() & ~cut_by(plane_of(stage))).any()
    assert stage.drawn()[GREEN] > 2, "its outline is drawn"


def test_a_prompt_is_drawn_on_its_plane_only(tilted):
    tilted.click(CENTRE_KJI)
    tilted.settle()
    assert tilted.drawn()[GREEN] == 2
    tilted.show_slice_of((K + 4, J, COLUMN), tilt_degrees=35)
    assert tilted.drawn()[GREEN] == 0
    tilted.show_slice_of(CENTRE_KJI, tilt_degrees=-20)
    assert tilted.drawn()[GREEN] == 2, "it lies in every plane through its place"


def test_an_outline_is_not_drawn_where_it_does_not_lie(make_stage):
    stage = make_stage(GEOMETRIES["axis-aligned"], effect="InteractiveBox")
    stage.drag((K, J - 10, COLUMN - 10), (K, J + 10, COLUMN + 10))
    stage.settle()
    assert stage.drawn()[GREEN] == 6, "four sides and a plus"
    stage.show_slice_of(CENTRE_KJI, tilt_degrees=35)
    assert stage.drawn()[GREEN] == 0, "no side of it lies in this view"


def test_a_prompt_can_be_moved_and_deleted_where_it_was_given(tilted):
    tilted.click(CENTRE_KJI)
    tilted.settle()
    x, y = tilted.xy_of(CENTRE_KJI)
    tilted.event("LeftButtonPressEvent", (x, y))
    tilted.event("MouseMoveEvent", (x + 10, y))
    tilted.event("LeftButtonReleaseEvent", (x + 10, y))
    tilted.settle()
    [moved] = prompts(tilted)
    assert moved.positive
    assert_the_plane_shows_the_ellipsoid(tilted, plane_of(tilted))
    tilted.event("KeyPressEvent", (x + 10, y), key="Delete")
    tilted.settle()
    assert prompts(tilted) == ()
    assert not tilted.mask().any()
    tilted.undo()
    assert tilted.mask()[CENTRE_KJI]


def test_prompts_on_a_plane_are_saved_with_the_scene_and_go_on_from_there(make_stage):
    stage = make_stage(GEOMETRIES["as DICOM"])
    stage.show_slice_of(CENTRE_KJI, tilt_degrees=35)
    plane = plane_of(stage)
    stage.click(CENTRE_KJI)
    stage.settle()
    place = stage.ras_of((plane.to_ijk @ [*prompts(stage)[0].position[::-1], 1.0])[2::-1])
    stage.active.deactivate()
    _shared.pop().close()
    stage.save_and_load()
    [given] = workbench().given(stage.editor_node)
    assert np.allclose(stage.ras_of((given.plane.to_ijk @ [*given.prompt.position[::-1], 1.0])[2::-1]), place, atol=0.01)
    stage.show_slice_of(CENTRE_KJI, tilt_degrees=35)
    stage.click((K, J, COLUMN + 5), control=True)
    stage.settle()
    assert len(prompts(stage)) == 2


@pytest.mark.parametrize("damage", [
    {"shape": [0, 5]}, {"shape": [10**9, 10**9]}, {"to_ras": [[0] * 4] * 4}, {"to_ras": [[1, 2], [3, 4]]}, {"to_ras": "x"},
])
def test_a_damaged_plane_in_a_scene_is_no_prompt(tilted, damage):
    import json

    from InteractiveSegBridge import records

    tilted.click(CENTRE_KJI)
    tilted.settle()
    kept = json.loads(tilted.segmentation.GetAttribute(records.ATTRIBUTE))
    kept[tilted.segment_id][0]["plane"].update(damage)
    tilted.segmentation.SetAttribute(records.ATTRIBUTE, json.dumps(kept))
    assert records.kept(tilted.segmentation, [tilted.segment_id], tilted.volume) == ()


def test_a_click_beside_the_volume_in_a_tilted_view_says_so(tilted):
    tilted.click((K, -30, COLUMN))
    tilted.settle()
    assert "outside the volume 'Phantom'" in tilted.application.status[-1]
    assert prompts(tilted) == ()


def test_predicting_a_tilted_view_asks_the_model_of_what_it_shows(tilted, monkeypatch):
    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], automatic=True))
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        TRUTH.astype(np.uint8), tilted.segmentation, tilted.segment_id, tilted.volume
    )
    tilted.event("MouseMoveEvent", (150, 120))
    tilted.effect.panel.predictButton.click()
    tilted.settle()
    plane = plane_of(tilted)
    assert not plane.cut(tilted.mask()).any(), "this model has no answer without a prompt"
    assert (tilted.mask() == TRUTH)[~cut_by(plane)].all()


def test_a_model_of_volumes_hears_a_click_in_a_tilted_view_at_its_voxel(tilted, monkeypatch):
    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], volumetric=True))
    tilted.effect.updateGUIFromMRML()
    workbench().worker.cancel()
    tilted.click(CENTRE_KJI)
    [given] = workbench().given(tilted.editor_node)
    assert given.plane is None
    assert given.prompt == Click(CENTRE_KJI)
    workbench().worker.cancel()
    tilted.settle()


def test_frames_of_a_sequence_are_other_images_and_keep_the_segment(a_stage):
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    frames = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Cine")
    array = slicer.util.arrayFromVolume(a_stage.volume).copy()
    for number, shift in enumerate((0, 40)):
        slicer.util.updateVolumeFromArray(a_stage.volume, np.roll(array, shift, axis=2))
        frames.SetDataNodeAtValue(a_stage.volume, str(number))
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "Browser")
    browser.AddSynchronizedSequenceNode(frames)
    browser.AddProxyNode(a_stage.volume, frames, False)

    def show(frame):
        browser.SetSelectedItemNumber(frame)
        logic.UpdateProxyNodesFromSequences(browser)

    show(0)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    first = a_stage.mask()
    assert dice(first[K], TRUTH[K]) > 0.8
    show(1)
    assert (slicer.util.arrayFromVolume(a_stage.volume)[K] == np.roll(array, 40, axis=2)[K]).all()
    assert prompts(a_stage) == (), "they spoke of another frame"
    a_stage.click((K, J, (COLUMN + 40) % SHAPE[2]))
    a_stage.settle()
    assert a_stage.application.dialogs == []
    assert dice(a_stage.mask()[K] & ~first[K], np.roll(TRUTH[K], 40, axis=1) & ~first[K]) > 0.8
    a_stage.click(CENTRE_KJI)
    show(0)
    a_stage.settle()
    assert "dropped" in a_stage.application.status[-1], "the answer to a frame that is no longer shown"
