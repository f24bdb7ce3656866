"""What a study's page guards against: pressing on while files are read, cancelling, another model, views that look elsewhere."""
from __future__ import annotations

import inspect
import types

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from InteractiveSegBridge.workbench import workbench
from InteractiveSegSelfTest import desktop
from InteractiveSegSelfTest.phantom import CENTRE_KJI
from page_stage import TASK

from InteractiveSegLib.annotation import Study


def nodes():
    """Names of all volumes and segmentations in the scene."""
    kinds = ("vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode")
    return sorted(node.GetName() for kind in kinds for node in slicer.util.getNodesByClass(kind))


def test_the_self_test_of_the_application_annotates_a_study(make_page, application, monkeypatch):
    stage = make_page()
    stage.panel.familyCombo.setCurrentIndex(stage.panel.familyCombo.findData("flood"))
    module = types.SimpleNamespace(widgetRepresentation=lambda: types.SimpleNamespace(self=lambda: stage.page))
    monkeypatch.setattr(slicer.modules, "interactiveseg", module, raising=False)
    monkeypatch.setattr(desktop, "slice_widget", lambda: stage.view)
    assert desktop.annotate_a_study() == "is annotated and accepted"


def test_a_case_is_brought_into_the_views(a_page, application, monkeypatch):
    shown, real = [], inspect.signature(slicer.util.setSliceViewerLayers)
    monkeypatch.setattr(slicer.app, "layout", object())
    monkeypatch.setattr(slicer.util, "setSliceViewerLayers", lambda *args, **kw: shown.append(real.bind(*args, **kw).arguments))
    a_page.press(a_page.panel.nextButton)
    assert shown == [{"background": a_page.volume, "fit": True, "rotateToVolumePlane": True}]


def test_a_second_press_while_a_case_is_read_does_nothing(a_page, folder):
    a_page.panel.onNext()
    assert not a_page.panel.nextButton.enabled
    assert not a_page.panel.openButton.enabled
    a_page.panel.onNext()
    a_page.panel.onRow(1, 0)
    a_page.panel.onOpen()
    a_page.settle()
    assert nodes() == ["a", f"a {TASK}"]
    assert [row[1] for row in a_page.rows()] == ["in progress", "todo"]
    assert a_page.panel.nextButton.enabled


def test_accepting_is_not_given_up_by_cancel(a_page, folder):
    a_page.press(a_page.panel.nextButton)
    a_page.click(CENTRE_KJI)
    a_page.settle()
    a_page.panel.onAccept()
    a_page.panel.onCancel()
    assert "goes on" in a_page.panel.statusLabel.text
    a_page.settle()
    assert a_page.rows()[0][1] == "accepted"
    assert a_page.volume.GetName() == "b", "the page and the study agree"


def test_a_scene_that_is_closed_while_a_case_is_read_does_not_lose_the_case(a_page):
    a_page.panel.onNext()
    slicer.mrmlScene.Clear(0)
    a_page.settle()
    if a_page.panel.segment is None:
        a_page.press(a_page.panel.nextButton)
    assert nodes() == ["a", f"a {TASK}"]
    a_page.press(a_page.panel.acceptButton)
    assert a_page.rows()[0][1] == "accepted"


def test_the_effects_options_show_the_model_of_the_study(a_page):
    a_page.page.logic.editorNode().SetAttribute("InteractiveSeg.Model", "tis")
    a_page.press(a_page.panel.nextButton)
    effect = a_page.page.editor.activeEffect().self()
    assert effect.panel.family == "flood"
    effect.useModel("tis")  # as if chosen in the options: the study's own model goes on answering
    a_page.click(CENTRE_KJI)
    a_page.settle()
    assert a_page.mask()[CENTRE_KJI], effect.panel.statusLabel.text


def test_a_page_that_is_not_shown_leaves_the_views_alone(a_page, monkeypatch):
    observed = []
    monkeypatch.setattr(type(a_page.page.editor), "setupViewObservations", lambda self: observed.append(1))
    slicer.mrmlScene.Clear(0)
    assert observed == [1]
    a_page.page.exit()
    slicer.mrmlScene.Clear(0)
    assert observed == [1]


def test_the_list_of_lesions_goes_with_the_scene_and_stepping_measures_nothing(a_page, monkeypatch):
    a_page.press(a_page.panel.nextButton)
    lesions = a_page.page.lesionPanel
    lesions.refreshButton.click()
    assert lesions.table.rowCount == 1
    monkeypatch.setattr(lesions, "show", lambda: pytest.fail("stepping measured all segments"))
    lesions.nextButton.click()
    monkeypatch.undo()
    slicer.mrmlScene.Clear(0)
    assert lesions.table.rowCount == 0
    lesions.nextButton.click()


def test_a_volume_moved_away_from_the_case_ends_its_session_and_loses_nothing(a_page, folder):
    a_page.press(a_page.panel.nextButton)
    a_page.click(CENTRE_KJI)
    a_page.settle()
    mask, transform = a_page.mask(), slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = slicer.util.vtkMatrixFromArray(np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 20)
    transform.SetMatrixTransformToParent(matrix)
    a_page.volume.SetAndObserveTransformNodeID(transform.GetID())
    a_page.panel.onAccept()
    assert "double-click its row" in a_page.panel.statusLabel.text
    assert Study(folder, TASK, model="flood").record("a").prompts == 1
    a_page.panel.onRow(0, 0)
    a_page.settle()
    assert (a_page.mask() == mask).all()
    a_page.press(a_page.panel.acceptButton)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "annotations" / "left_atrium" / "a.seg.nrrd")))
    assert (np.squeeze(written) == mask).all()
    assert not workbench().worker.busy
