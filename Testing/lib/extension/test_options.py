"""The options panel: what is recommended, many slices with progress and cancel, examples, structures known by name."""
from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import slicer
from InteractiveSegBridge import advice, mrml
from InteractiveSegBridge.resources import resource_path
from InteractiveSegBridge.rounds import rounds_line
from InteractiveSegBridge.workbench import workbench
from InteractiveSegSelfTest.phantom import CENTRE_KJI, SHAPE

from InteractiveSegLib import InteractiveSession, acceptance, models, plan
from InteractiveSegLib.models import FAMILIES, list_families
from InteractiveSegLib.predictors.slices import SlicePredictor
from InteractiveSegLib.rounds import Progress, Rounds


@pytest.fixture()
def carried(monkeypatch):
    """Propagation by a rule one can check: every slice gets the mask of the first one that has one; as slow as one likes."""
    seen = []

    class Carried:
        axis, count, known = 0, 0, (frozenset({CENTRE_KJI[0]}),)
        source = np.ones((1, SHAPE[0]), int)

    def propagate(session, from_slice=None, axis=None, extent=None, **_):
        masks = np.moveaxis(session.labels.copy(), axis, 0)
        first = np.flatnonzero(masks.any(axis=(1, 2)))[0]
        for done, index in enumerate(range(*extent), start=1):
            masks[index] = masks[first]
            seen.append(index)
            yield Progress(index, done, extent[1] - extent[0], masks[index])
        Carried.count += 1
        session.set_labels(np.moveaxis(masks, 0, axis))

    monkeypatch.setattr(InteractiveSession, "propagate", propagate)
    monkeypatch.setattr(InteractiveSession, "rounds", Carried)
    return seen


def test_the_recommended_model_is_the_one_measured_best_for_the_kind_of_image(a_stage, monkeypatch):
    figures = {
        "clicks": {"flood": {"CT": 3.0, "all": 9.0}, list_families()[0].name: {"CT": 5.0, "all": 8.0}},
        "structures": [{"names": ["LV"], "clicks": {"flood": 1.5}}],
    }
    monkeypatch.setattr(advice, "measured", lambda: figures)
    monkeypatch.setattr(advice, "missing_weights", lambda family: [])
    assert "this image: " + list_families()[0].title in advice.recommendation(a_stage.volume)
    array = slicer.util.arrayFromVolume(a_stage.volume)
    array[0] = -1000
    slicer.util.arrayFromVolumeModified(a_stage.volume)
    assert advice.recommendation(a_stage.volume, None, 0.123) == (
        "For CT: Flood, measured 3.0 clicks to a Dice of 0.90; the last prompt took 0.12 s here."
    )
    assert advice.recommendation(a_stage.volume, "LV") == "For LV: Flood, measured 1.5 clicks to a Dice of 0.90."
    monkeypatch.setitem(FAMILIES, "flood", replace(FAMILIES["flood"], contextual=True))
    assert "0.90 with accepted examples." in advice.recommendation(a_stage.volume)


def test_what_was_measured_of_every_family_is_shown_when_it_is_chosen(a_stage):
    panel = a_stage.effect.panel
    for family in list_families():
        if family.name != "flood":
            panel.familyCombo.setCurrentIndex(panel.familyCombo.findData(family.name))
            workbench().worker.cancel()
            a_stage.effect._advise()
            assert panel.measuredLabel.text.startswith("Measured on"), family.name
    a_stage.settle()


def test_every_slice_says_from_which_round_it_came():
    source = np.array([[1, 1, 1, 0, 2, 2]])
    rounds = Rounds(0, 2, source, (frozenset({1, 3}),), np.zeros(6))
    assert rounds_line(rounds) == "Slices K: yours 1, 3; round 1 0, 2; round 2 4-5."
    assert rounds_line(None) == ""


def test_the_modality_comes_from_dicom_when_the_volume_does(a_stage):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(a_stage.volume), "DICOM.Modality", "MR")
    assert advice.modality_of(a_stage.volume) == "MR"


def test_a_model_without_weights_says_so_in_the_list_and_is_not_recommended(a_stage):
    panel = a_stage.effect.panel
    for index in range(panel.familyCombo.count):
        family = FAMILIES[panel.familyCombo.itemData(index)]
        panel.familyCombo.setCurrentIndex(index)
        assert ("not shipped" in panel.familyCombo.currentText) == bool(advice.missing_weights(family))
    assert "Flood" not in advice.recommendation(a_stage.volume)


def test_the_memory_line_names_the_model_what_it_needs_and_what_is_free(a_stage, monkeypatch):
    a_stage.settle()
    workbench()._segments.clear()
    monkeypatch.setattr(plan, "free_memory", lambda device: 5e9)
    a_stage.choose("InteractiveBox")
    a_stage.settle()
    text = a_stage.effect.panel.memoryLabel.text
    assert text.startswith("Flood on ")
    assert text.endswith(" GB; 5.0 GB free")


def test_too_little_memory_is_said_before_the_model_loads(a_stage, monkeypatch):
    a_stage.settle()
    workbench()._segments.clear()
    monkeypatch.setattr(plan, "free_memory", lambda device: 1e8)
    monkeypatch.setattr(models, "load", lambda *asked: pytest.fail("it is loaded"))
    a_stage.choose("InteractiveBox")
    a_stage.settle()
    text = a_stage.effect.panel.memoryLabel.text
    assert text.startswith("Flood needs about ")
    assert "0.1 GB are free on cpu: close other programs, crop the volume" in text


def test_propagation_fills_the_chosen_slices_in_one_undoable_step(a_stage, carried):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    before = a_stage.mask()
    panel = a_stage.effect.panel
    assert panel.extent == (0, SHAPE[0])
    panel.firstSpin.setValue(6)
    panel.lastSpin.setValue(10)
    panel.propagateButton.click()
    a_stage.settle()
    mask = a_stage.mask()
    assert set(np.flatnonzero(mask.any(axis=(1, 2)))) == {6, 7, 8, 9, 10}
    assert "Round 1 is done" in a_stage.application.status[-1]
    assert panel.roundsLabel.text == "Slices K: yours 8; round 1 0-7, 9-15."
    a_stage.undo()
    assert (a_stage.mask() == before).all()
    a_stage.redo()
    assert (a_stage.mask() == mask).all()


def test_propagation_shows_progress_and_cancel_leaves_nothing_of_it(a_stage, carried, monkeypatch):
    propagate, cancelled = InteractiveSession.propagate, threading.Event()

    def slowly(session, **options):
        for reached in propagate(session, **options):
            cancelled.wait(60)
            yield reached

    monkeypatch.setattr(InteractiveSession, "propagate", slowly)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    before, seen = a_stage.mask(), []
    panel = a_stage.effect.panel
    show = panel.showPending
    panel.showPending = lambda count, progress, busy: (show(count, progress, busy), seen.append(progress))
    panel.propagateButton.click()
    workbench().worker.pending[-1].cancel()
    cancelled.set()
    a_stage.settle()
    assert len(carried) <= 2, "it ends at the next slice"
    panel.cancelButton.click()
    assert (a_stage.mask() == before).all()
    panel.propagateButton.click()
    a_stage.settle()
    assert (SHAPE[0], SHAPE[0]) in seen or any(seen)
    a_stage.click((CENTRE_KJI[0], CENTRE_KJI[1] + 10, CENTRE_KJI[2]), control=True)
    a_stage.settle()
    assert len(workbench().prompts(a_stage.editor_node)) == 2


def test_an_effect_can_be_chosen_where_there_is_no_list_of_weights_and_says_so(make_stage, monkeypatch, tmp_path):
    monkeypatch.setenv("INTERACTIVESEG_MODELS", str(tmp_path))
    models.load.cache_clear()
    stage = make_stage(family=list_families()[0].name)
    stage.click(CENTRE_KJI)
    stage.settle()
    assert not stage.effect.panel.fuseBox.enabled
    assert "not shipped" in stage.effect.panel.familyCombo.currentText
    assert str(tmp_path) in stage.application.dialogs[-1]


def test_propagating_nothing_is_told_in_one_sentence(a_stage):
    a_stage.effect.panel.propagateButton.click()
    a_stage.settle()
    assert "There is no mask on any slice to carry" in a_stage.application.dialogs[-1]


def test_accepting_makes_examples_of_the_segments_slices(a_stage, monkeypatch):
    monkeypatch.setattr(acceptance, "shipped_file", lambda name: resource_path("measured.json"))
    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], contextual=True))
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.effect.panel.acceptButton.click()
    a_stage.settle()
    assert a_stage.application.dialogs == []
    assert "1 slices are examples now." in a_stage.application.status[-1]
    context = workbench().context(workbench()._segments[-1].name)
    [info] = context.infos()
    entry = context.read(info.id)
    assert (entry.mask == a_stage.mask()[CENTRE_KJI[0]]).all()
    assert info.provenance.case
    assert "Phantom" not in str(info), "no name of a volume, only a hash"
    label = a_stage.effect.panel.examplesLabel
    assert label.text == "Learns from 1 accepted examples of 'Segment_1'."
    context.set_enabled(info.id, False)
    a_stage.effect._advise()
    assert label.text == "Learns from 0 accepted examples of 'Segment_1', 1 left out."


def test_what_masking_kept_out_of_the_segment_is_no_example(a_stage, monkeypatch):
    monkeypatch.setattr(acceptance, "shipped_file", lambda name: resource_path("measured.json"))
    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], contextual=True))
    value = float(mrml.volume_array(a_stage.volume)[CENTRE_KJI])
    a_stage.editor_node.SourceVolumeIntensityMaskOn()
    a_stage.editor_node.SetSourceVolumeIntensityMaskRange(value - 5, value + 5)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    shown = a_stage.mask()
    session = workbench()._segments[-1]._engine
    answered = session.mask.copy()
    assert shown.any() and shown.sum() < answered.sum(), "part of the answer was kept out"
    a_stage.effect.panel.acceptButton.click()
    a_stage.settle()
    context = workbench().context(workbench()._segments[-1].name)
    [info] = context.infos()
    assert (context.read(info.id).mask == shown[CENTRE_KJI[0]]).all()
    assert (session.mask == answered).all(), "the next click goes on from the whole answer"


def test_a_tilted_view_becomes_an_example_as_it_was_seen_and_accepting_again_replaces_it(a_stage, monkeypatch):
    monkeypatch.setattr(acceptance, "shipped_file", lambda name: resource_path("measured.json"))
    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], contextual=True))
    planes = []
    for tilt in (35, -20):
        a_stage.show_slice_of(CENTRE_KJI, tilt_degrees=tilt)
        planes.append(mrml.plane_shown(a_stage.view.mrmlSliceNode(), a_stage.volume))
        a_stage.click(CENTRE_KJI)
        a_stage.settle()
    for _ in range(2):
        a_stage.effect.panel.acceptButton.click()
        a_stage.settle()
        assert a_stage.application.dialogs == []
        assert "2 slices are examples now." in a_stage.application.status[-1]
    context = workbench().context(workbench()._segments[-1].name)
    entries = [context.read(info.id) for info in context.infos()]
    assert [entry.mask.shape for entry in entries] == [plane.shape for plane in planes]
    for entry, plane in zip(entries, planes):
        assert np.allclose(entry.image, plane.sample(slicer.util.arrayFromVolume(a_stage.volume)))
        assert (entry.mask == (plane.cut(a_stage.mask()) != 0)).mean() > 0.98


def test_the_examples_can_be_looked_at_and_left_out_beside_the_prompts(a_stage, monkeypatch):
    monkeypatch.setattr(acceptance, "shipped_file", lambda name: resource_path("measured.json"))
    panel = a_stage.effect.panel
    assert not panel.examplesButton.isVisibleTo(panel.widget), "this model learns from none"
    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], contextual=True))
    a_stage.effect.updateGUIFromMRML()
    assert panel.examplesButton.isVisibleTo(panel.widget)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    panel.acceptButton.click()
    a_stage.settle()
    assert not panel.contextPanel.widget.isVisibleTo(panel.widget)
    panel.examplesButton.click()
    a_stage.settle()
    assert panel.contextPanel.widget.isVisibleTo(panel.widget)
    assert panel.contextPanel.countLabel.text == "1 example, 1 in use."
    assert not panel.contextPanel.list.item(0).icon().pixmap(64, 64).isNull()
    panel.contextPanel.list.setCurrentRow(0)
    panel.contextPanel.useButton.click()
    [info] = workbench().context_of(a_stage.editor_node).infos()
    assert not info.enabled
    a_stage.show_slice_of((CENTRE_KJI[0] + 2, *CENTRE_KJI[1:]))
    a_stage.click((CENTRE_KJI[0] + 2, *CENTRE_KJI[1:]))
    a_stage.settle()
    panel.acceptButton.click()
    a_stage.settle()
    assert panel.contextPanel.list.count == 2, "the new one is in the list at once"
    a_stage.logic.SetCurrentSegmentID(a_stage.logic.AddEmptySegment("another"))
    a_stage.settle()
    assert panel.contextPanel.countLabel.text == "0 examples, 0 in use.", "those of the chosen segment"


def test_propagating_from_tilted_views_alone_says_what_to_do(a_stage, carried):
    a_stage.show_slice_of(CENTRE_KJI, tilt_degrees=35)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    before, panel = a_stage.mask(), a_stage.effect.panel
    panel.propagateButton.click()
    a_stage.settle()
    assert not carried
    assert (a_stage.mask() == before).all()
    assert "press 'Rotate to volume plane' in the bar of the slice view, click the object there" in panel.statusLabel.text
    a_stage.show_slice_of(CENTRE_KJI, axis=1)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.show_slice_of(CENTRE_KJI, tilt_degrees=35)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert panel.extent == (0, SHAPE[1]), "the slices of the view that follows the volume"
    panel.propagateButton.click()
    a_stage.settle()
    assert len(carried) == SHAPE[1]


def test_the_memory_of_the_model_is_given_back_and_the_next_prompt_loads_it_again(a_stage, monkeypatch):
    released = []
    release = InteractiveSession.release
    monkeypatch.setattr(InteractiveSession, "release", lambda session: (released.append(session), release(session)))
    panel = a_stage.effect.panel
    a_stage.click(CENTRE_KJI)
    assert not panel.releaseButton.enabled, "an answer is under way"
    assert "wait" in panel.releaseButton.toolTip
    a_stage.settle()
    a_stage.show_slice_of(CENTRE_KJI, tilt_degrees=35)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert panel.releaseButton.enabled
    assert "memory" in panel.releaseButton.toolTip
    before = a_stage.mask()
    panel.releaseButton.click()
    a_stage.settle()
    assert len(released) == 2, "the volume's session and the tilted view's"
    assert not any(session._predictors for session in released)
    assert "the next prompt loads it anew" in panel.statusLabel.text
    assert panel.memoryLabel.text == ""
    assert panel.releaseButton.enabled
    assert (a_stage.mask() == before).all()
    a_stage.click((CENTRE_KJI[0], CENTRE_KJI[1] + 6, CENTRE_KJI[2]), control=True)
    a_stage.settle()
    assert a_stage.application.dialogs == []
    assert len(workbench().prompts(a_stage.editor_node)) == 3
    assert "Flood on" in panel.memoryLabel.text


def test_only_a_few_segments_keep_their_sessions_in_memory(a_stage):
    a_stage.editor_node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    for number in range(6):
        a_stage.logic.SetCurrentSegmentID(a_stage.logic.AddEmptySegment(f"lesion {number}"))
        a_stage.click(CENTRE_KJI)
        a_stage.settle()
    assert sum(segment._engine is not None for segment in workbench()._segments) <= 3
    first = workbench()._segments[1]
    a_stage.logic.SetCurrentSegmentID(first.segment_ids[0])
    a_stage.click(CENTRE_KJI, control=True)
    a_stage.settle()
    assert len(workbench().prompts(a_stage.editor_node)) == 2


def test_how_the_examples_were_used_is_told_after_each_answer(a_stage, monkeypatch):
    monkeypatch.setattr(SlicePredictor, "notice", "The examples are left out: prompts alone do better.", raising=False)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    assert "The examples are left out" in a_stage.application.status[-1]
