"""The module's page: a folder of cases is opened, corrected, accepted, left and taken up again; lesions are listed."""
from __future__ import annotations

import csv
from dataclasses import replace

import flood
import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from InteractiveSegBridge import study as bridge
from InteractiveSegBridge.mrml import volume_array
from InteractiveSegBridge.workbench import _shared, workbench
from InteractiveSegSelfTest.phantom import CENTRE_KJI, NEIGHBOUR_KJI, phantom_array
from page_stage import TASK

from InteractiveSegLib import Click, key_slices, models
from InteractiveSegLib.annotation import Study


def test_a_study_lists_its_cases_and_opens_the_first_one_in_the_segment_editor(a_page):
    assert a_page.rows() == [["a", "todo", "0"], ["b", "todo", "0"]]
    a_page.press(a_page.panel.nextButton)
    assert a_page.volume.GetName() == "a"
    assert (volume_array(a_page.volume) == phantom_array()).all()
    assert a_page.segmentation.GetSegmentation().GetSegment(a_page.segment_id).GetName() == TASK
    assert a_page.page.editor.activeEffect().name == "InteractiveClick"
    assert a_page.rows()[0][1] == "in progress"


def test_a_click_is_in_the_journal_and_the_accepted_mask_is_the_segment(a_page, folder):
    a_page.press(a_page.panel.nextButton)
    a_page.click(CENTRE_KJI)
    a_page.settle()
    mask = a_page.mask()
    assert mask[CENTRE_KJI]
    assert Study(folder, TASK, model="flood").record("a").prompts == 1
    a_page.press(a_page.panel.acceptButton)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "annotations" / "left_atrium" / "a.seg.nrrd")))
    assert (np.squeeze(written) == mask).all()
    assert a_page.rows()[0][:3] == ["a", "accepted", "1"]
    assert a_page.volume.GetName() == "b", "the next case is open"
    assert slicer.mrmlScene.GetFirstNodeByName("a") is None


def test_in_a_study_the_effects_give_memory_back_and_leave_accepting_to_the_page(a_page):
    a_page.press(a_page.panel.nextButton)
    a_page.click(CENTRE_KJI)
    a_page.settle()
    effect = a_page.page.editor.activeEffect().self()
    a_page.press(effect.panel.releaseButton)
    assert "the next prompt loads it anew" in effect.panel.statusLabel.text
    before = a_page.mask()
    a_page.click((8, 40, 28), control=True)
    a_page.settle()
    assert (a_page.mask() != before).any()
    a_page.press(effect.panel.acceptButton)
    assert "belongs to a study: accept it in the module Interactive Segmentation" in effect.panel.statusLabel.text


def test_leaving_the_module_while_a_prompt_runs_loses_nothing(a_page, folder):
    a_page.press(a_page.panel.nextButton)
    a_page.click(CENTRE_KJI)
    a_page.page.exit()
    assert a_page.page.editor.activeEffect() is None
    a_page.settle()
    mask = a_page.mask()
    assert mask[CENTRE_KJI], "the answer came after the page was left"
    assert Study(folder, TASK, model="flood").record("a").prompts == 1
    a_page.page.enter()
    a_page.page.editor.setActiveEffectByName("InteractiveClick")
    a_page.click((8, 40, 28), control=True)
    a_page.settle()
    assert (a_page.mask() != mask).any(), "and it goes on from there"


def test_after_a_crash_the_page_offers_the_case_in_work_with_prompts_and_mask(a_page, make_page, folder):
    a_page.press(a_page.panel.nextButton)
    a_page.click(CENTRE_KJI)
    a_page.click((8, 40, 28), control=True)
    a_page.settle()
    mask = a_page.mask()
    a_page.page.editor.setActiveEffect(None)
    _shared.pop().close()  # nothing is said to the study any more
    slicer.mrmlScene.Clear(0)
    again = make_page()
    assert again.panel.folderEdit.text == str(folder), "the last study is remembered"
    again.open(folder)
    assert again.panel.nextButton.text == "Go on with a"
    assert "a was in work: its 2 prompts and its mask are kept." in again.panel.statusLabel.text
    again.press(again.panel.nextButton)
    assert (again.mask() == mask).all()
    prompts = workbench().prompts(again.page.logic.editorNode())
    assert prompts == (Click(CENTRE_KJI), Click((8, 40, 28), positive=False))
    again.click(NEIGHBOUR_KJI)
    again.settle()
    assert again.mask()[NEIGHBOUR_KJI]
    assert not again.mask()[8, 40, 28]


def test_a_prompt_in_a_tilted_view_counts_and_what_it_gave_is_kept(a_page, make_page, folder):
    a_page.press(a_page.panel.nextButton)
    a_page.show_slice_of(CENTRE_KJI, tilt_degrees=30)
    a_page.click(CENTRE_KJI)
    a_page.settle()
    first = a_page.mask()
    assert first[CENTRE_KJI]
    assert len(set(np.argwhere(first)[:, 0].tolist())) > 1, "the view cuts several slices"
    a_page.click((8, 40, 28), control=True)
    a_page.settle()
    a_page.page.editor.undo()
    assert (a_page.mask() == first).all()
    a_page.click((8, 22, 28))
    a_page.settle()
    assert a_page.panel.study.case.prompts == 3
    mask = a_page.mask()
    a_page.page.editor.setActiveEffect(None)
    _shared.pop().close()
    slicer.mrmlScene.Clear(0)
    again = make_page()
    again.open(folder)
    again.press(again.panel.nextButton)
    assert (again.mask() == mask).all()


def test_undo_moves_and_edits_by_hand_are_in_the_journal_too(a_page, folder):
    a_page.press(a_page.panel.nextButton)
    a_page.click(CENTRE_KJI)
    a_page.settle()
    a_page.drag(CENTRE_KJI, NEIGHBOUR_KJI)
    a_page.settle()
    assert Study(folder, TASK, model="flood").open("a").session.prompts == (Click(NEIGHBOUR_KJI),)


def test_what_is_painted_by_hand_is_saved_by_itself(a_page, folder):
    a_page.press(a_page.panel.nextButton)
    painted = np.zeros(a_page.mask().shape, bool)
    painted[3:5, 10:20, 10:20] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        painted.astype(np.uint8), a_page.segmentation, a_page.segment_id, a_page.volume
    )
    a_page.panel.keep()
    a_page.settle()
    assert (Study(folder, TASK, model="flood").open("a").mask == painted).all()


def test_a_hand_edit_just_before_accepting_is_accepted(a_page, folder):
    a_page.press(a_page.panel.nextButton)
    painted = np.zeros(a_page.mask().shape, bool)
    painted[3:5, 10:20, 10:20] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        painted.astype(np.uint8), a_page.segmentation, a_page.segment_id, a_page.volume
    )
    a_page.press(a_page.panel.acceptButton)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "annotations" / "left_atrium" / "a.seg.nrrd")))
    assert (np.squeeze(written) == painted).all()


def test_what_masking_kept_out_of_the_segment_is_not_accepted(a_page, folder):
    a_page.press(a_page.panel.nextButton)
    node, values = a_page.page.logic.editorNode(), volume_array(a_page.volume)
    node.SourceVolumeIntensityMaskOn()
    node.SetSourceVolumeIntensityMaskRange(float(values[CENTRE_KJI]) - 5, float(values[CENTRE_KJI]) + 5)
    a_page.click(CENTRE_KJI)
    a_page.settle()
    mask = a_page.mask()
    assert mask.any() and mask.sum() < a_page.panel.study.case.mask.sum(), "part of the answer was kept out"
    a_page.click(NEIGHBOUR_KJI)
    a_page.settle()
    a_page.page.editor.undo()
    a_page.settle()
    assert (a_page.mask() == mask).all()
    a_page.press(a_page.panel.acceptButton)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "annotations" / "left_atrium" / "a.seg.nrrd")))
    assert (np.squeeze(written) == mask).all()


def test_skipping_leaves_a_case_out_and_previous_goes_back(a_page):
    a_page.press(a_page.panel.nextButton)
    a_page.press(a_page.panel.skipButton)
    assert a_page.rows()[0][1] == "skipped"
    a_page.press(a_page.panel.nextButton)
    assert a_page.volume.GetName() == "b"
    a_page.press(a_page.panel.previousButton)
    assert a_page.volume.GetName() == "a"


def test_predicting_a_case_fills_its_slices_with_progress_and_leaves_nothing_to_undo_by_halves(a_page, monkeypatch):
    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], automatic=True))
    monkeypatch.setattr(flood.FloodNetwork, "predict", lambda self, images, prompts, previous: 9 * images - 4.5)
    a_page.press(a_page.panel.nextButton)
    a_page.press(a_page.panel.predictButton)
    mask = a_page.mask()
    assert (mask[3:13].any(axis=(1, 2))).all(), "the ellipsoid's slices are filled"
    assert mask[CENTRE_KJI]
    a_page.page.editor.undo()
    assert not a_page.mask().any(), "one undo for the whole prediction"
    a_page.page.editor.redo()
    assert (a_page.mask() == mask).all()


def test_of_a_volume_some_slices_are_predicted_and_one_undo_takes_back_what_was_carried_too(a_page, monkeypatch):
    asked = []

    def predict(self, images, prompts, previous):
        asked.extend(images)
        return 9 * images - 4.5

    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], automatic=True))
    a_page.press(a_page.panel.nextButton)
    a_page.press(a_page.panel.acceptButton)
    monkeypatch.setattr(flood.FloodNetwork, "predict", predict)
    monkeypatch.setattr(key_slices, "carries", lambda session, count: True)
    a_page.press(a_page.panel.predictButton)
    mask = a_page.mask()
    assert len(asked) == len(key_slices.key_slices(0, len(mask))) and mask[3:13].any(axis=(1, 2)).all()
    actions = a_page.panel.study.case.actions
    assert actions[-1] == {"propagate": key_slices.key_slices(0, len(mask))}
    a_page.page.editor.undo()
    assert not a_page.mask().any(), "one undo for the whole prediction"
    a_page.page.editor.redo()
    assert (a_page.mask() == mask).all()


def test_the_curve_has_a_point_for_each_accepted_case(a_page):
    a_page.press(a_page.panel.nextButton)
    for clicks in (2, 1):
        for _ in range(clicks):
            a_page.click(CENTRE_KJI)
        a_page.settle()
        a_page.press(a_page.panel.acceptButton)
    chart = bridge.draw_curve(a_page.panel.study.cases)
    table = chart.GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    assert [table.GetColumnByName(name).GetNumberOfTuples() for name in ("case", "prompts")] == [2, 2]
    assert [table.GetColumnByName("prompts").GetTuple1(row) for row in range(2)] == [2, 1]
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 1, "the same chart every time"


def accept_the_first(make_page, folder, monkeypatch):
    """The page after the first case was accepted, with a model that learns from examples."""
    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], contextual=True))
    stage = make_page()
    stage.open(folder)
    stage.press(stage.panel.nextButton)
    stage.click(CENTRE_KJI)
    stage.settle()
    stage.press(stage.panel.acceptButton)
    stage.settle()
    return stage


def test_examples_are_shown_with_a_picture_left_out_and_removed(make_page, folder, monkeypatch):
    stage = accept_the_first(make_page, folder, monkeypatch)
    examples = stage.panel.contextPanel
    assert examples.list.count == 1
    assert not examples.list.item(0).icon().pixmap(64, 64).isNull()
    examples.useButton.click()
    assert "Choose an example" in stage.panel.statusLabel.text
    examples.list.setCurrentRow(0)
    examples.useButton.click()
    assert examples.countLabel.text == "1 example, 0 in use."
    examples.list.setCurrentRow(0)
    examples.removeButton.click()
    assert examples.countLabel.text == "0 examples, 0 in use."


def test_an_accepted_case_that_the_others_contradict_is_named_when_the_next_one_is_open(make_page, folder, monkeypatch):
    monkeypatch.setattr(Study, "doubt", lambda self, name: "its mask disagrees with the others")
    stage = accept_the_first(make_page, folder, monkeypatch)
    assert stage.panel.statusLabel.text.startswith("a: its mask disagrees with the others. b is open.")
    assert f"slice {CENTRE_KJI[0]} of a" in stage.panel.contextPanel.list.item(0).text()


def test_an_example_that_the_others_contradict_is_named_and_can_be_left_out(make_page, folder, monkeypatch):
    from InteractiveSegLib.context import outliers

    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], contextual=True))
    stage = make_page()
    stage.open(folder)
    context, examples = stage.panel.study.context, stage.panel.contextPanel
    image, mask = np.arange(64, dtype=np.float32).reshape(8, 8), np.zeros((8, 8), bool)
    for number in range(outliers.FEWEST - 1):
        context.add(image + number, mask | (image > 31))
    examples.checkButton.click()
    stage.settle()
    assert "Examples of 4 cases are in use, which is too few" in stage.panel.statusLabel.text
    context.add(image + 9, mask | (image < 9))
    monkeypatch.setattr(outliers, "asking", lambda model: lambda examples, image, spacing: np.arange(64).reshape(8, 8) > 31)
    examples.checkButton.click()
    stage.settle()
    assert "1 example disagrees with the others" in stage.panel.statusLabel.text
    texts = [examples.list.item(row).text() for row in range(examples.list.count)]
    assert ["disagrees with the others: Dice 0.00, usual 1.00" in text for text in texts] == [False] * 4 + [True]
    examples.list.setCurrentRow(4)
    examples.useButton.click()
    assert "left out" in examples.list.item(4).text()
    stage.settle()


def test_a_folder_without_images_is_refused_in_one_sentence(make_page, tmp_path):
    stage = make_page()
    stage.open(tmp_path)
    assert "holds no image" in stage.panel.statusLabel.text
    assert not stage.panel.nextButton.enabled or stage.panel.study is None


def test_closing_the_scene_leaves_the_study_open_and_the_case_in_work(a_page):
    a_page.press(a_page.panel.nextButton)
    a_page.click(CENTRE_KJI)
    a_page.settle()
    slicer.mrmlScene.Clear(0)
    a_page.settle()
    assert a_page.panel.segment is None
    a_page.press(a_page.panel.nextButton)
    assert a_page.mask()[CENTRE_KJI]


def test_each_click_can_be_a_lesion_of_its_own_with_its_volume_in_a_table(a_page, tmp_path):
    a_page.press(a_page.panel.nextButton)
    lesions = a_page.page.lesionPanel
    lesions.newButton.click()
    a_page.click(CENTRE_KJI)
    a_page.settle()
    a_page.click(NEIGHBOUR_KJI)
    a_page.settle()
    lesions.newButton.click()
    lesions.export(tmp_path / "lesions.csv")
    with (tmp_path / "lesions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3, "the study's own segment and two lesions"
    voxels = [row["millilitres"] for row in rows[1:]]
    assert float(voxels[0]) == pytest.approx(a_page.mask(a_page.segmentation.GetSegmentation().GetNthSegmentID(1)).sum()
                                             * 0.7 * 0.8 * 2.5 / 1000, rel=1e-3)
    chosen = a_page.segment_id
    lesions.nextButton.click()
    assert a_page.segment_id != chosen
    lesions.previousButton.click()
    assert a_page.segment_id == chosen
