"""What a study makes of its accepted cases: what counts as work, which cases disagree, and what was drawn by hand."""
import csv
import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from annotating import TASK, body, write_study, write_tiny_weights

from InteractiveSegLib import Click
from InteractiveSegLib.annotation import Study
from InteractiveSegLib.annotation.actions import pack_mask


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def a_study(tmp_path, weights):
    """Makes the study of tmp_path / "scans": pictures and a volume."""
    write_study(tmp_path, ["a.nii.gz", "b.png", "c.png"])
    return lambda **options: Study(tmp_path / "scans", TASK, **{"references": tmp_path / "masks", "model": "multiverseg",
                                                                "weights": weights, **options})


def accept_truth(study, name):
    """Accept a case with one click and its true mask, drawn by hand."""
    truth, case = body("abc".index(name))[1], study.open(name)
    case.add(Click((2, 20, 22) if name == "a" else (20, 22)))
    case.set_mask(truth if name == "a" else truth[2])
    return study.accept()


def table_of(study):
    with (study.results / "cases.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_what_the_program_does_before_the_first_answer_is_not_the_user_s_work(a_study, monkeypatch):
    from InteractiveSegLib.annotation import case as module

    clock, perform = [100.0], module.perform

    def slowly(session, action):
        clock[0] += 30
        return perform(session, action)

    study = a_study()
    accept_truth(study, "a")
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module, "perform", slowly)
    case = study.open("b")
    for _ in case.predict():
        pass
    for passed, seconds in ((4, 4.0), (5, 39.0)):
        clock[0] += passed
        case.add(Click((20, 22)))
        assert study.record("b").seconds == seconds


def test_an_accepted_mask_that_the_other_cases_contradict_is_doubted_in_a_sentence(a_study, monkeypatch):
    from InteractiveSegLib.context import outliers

    def predicted(context, case, predict, weights):
        asked.append((case, json.loads(weights)[0], predict))
        return outliers.Outlier("0" * 32, 0.1, 0.85)

    asked, study = [], a_study(model="scribbleprompt", weights=None)
    monkeypatch.setattr(outliers, "doubt", predicted)
    assert "disagrees" not in accept_truth(study, "a").note and not asked, "a model without examples has no opinion"
    study = a_study()
    note = "its mask disagrees with what the other cases predict (Dice 0.10, where 0.85 is usual): look at it again"
    assert note in accept_truth(study, "b").note and note in table_of(study)["b"]["note"]
    assert [words[:2] for words in asked] == [(study.context.digest("b"), "multiverseg")]
    image = body(1)[0].image[2]
    assert asked[0][2](study.context.enabled(), image, (1.0, 1.0)).shape == image.shape


def test_six_real_cases_are_asked_for_one_opinion_and_a_wrong_one_is_named(tmp_path):
    write_study(tmp_path, [f"{name}.png" for name in "abcdefg"])
    study, noted = Study(tmp_path / "scans", TASK, model="multiverseg", device="cpu"), []
    for seed, name in enumerate("abcdefg"):
        truth = body(seed)[1][2]
        study.open(name).set_mask(np.roll(truth, 20, axis=1) if name == "g" else truth)
        noted.append("disagrees with what the other cases predict" in study.accept().note)
    assert noted == [False] * 6 + [True]


def test_a_mask_drawn_by_hand_is_marked_and_left_out_of_the_curve(a_study, monkeypatch):
    from InteractiveSegLib.annotation import results
    from InteractiveSegLib.annotation.page import summary_of

    study = a_study(model="scribbleprompt", weights=None)
    for name in "abc":
        case = study.open(name)
        case.add(Click((2, 20, 22) if name == "a" else (20, 22)))
        if name == "b":
            case.set_mask(body(1)[1][2])
        if name == "c":
            case.do({"set_mask": pack_mask(body(2)[1][2]), "anew": True})
            case.do({"restore": {"mask": pack_mask(case.mask), "prompts": []}})
        study.accept()
    assert {name: row["note"] for name, row in table_of(study).items()} == {"a": "", "b": "edited by hand", "c": ""}
    assert [case.by_hand for case in study.cases] == [False, True, False]
    assert "3 of 3 cases accepted, with 3 prompts" in summary_of(study)
    case = study.open(study.reopen("c").name)
    case.do({"restore": {"mask": pack_mask(body(1)[1][2]), "prompts": []}})
    assert study.accept().by_hand, "the mask was replaced and the prompts stayed"
    pixels = []
    monkeypatch.setattr(results, "replace_bytes", lambda path, data: pixels.append(data))
    for cases in (study.cases, [replace(case, prompts=case.prompts + 9 * case.by_hand) for case in study.cases]):
        results.draw_curve(study.results / "curve.png", cases, TASK)
    assert pixels[0] != pixels[1]


def test_the_first_and_last_thirds_are_those_of_cases_that_prompts_alone_made(a_study, monkeypatch):
    from InteractiveSegLib.annotation import page
    from InteractiveSegLib.annotation.state import CaseRecord

    accepted = [(prompts, "") for prompts in (6, 4, 3, 3, 2, 2)] + [(0, "edited by hand")] * 3
    made = [CaseRecord(str(n), "", "", "", "accepted", prompts, rank=n, note=note) for n, (prompts, note) in enumerate(accepted)]
    study = a_study()
    monkeypatch.setattr(type(study), "cases", made)
    words = page.summary_of(study)
    assert "3 were drawn or edited by hand, too, and do not count here: The first 2 cases took 5.0" in words
    assert "the last 2 2.0" in words


@pytest.mark.parametrize(("model", "task", "title", "code"), [
    ("verse", "lv", "left ventricle", "87878005"), ("verse", "Myocardium", "myocardium", "74281007"),
    ("verse", "scar", "myocardial scar", "12402003"), ("tis", "left atrium", "left atrium", "82471001"),
    ("scribbleprompt", "scar", "scar", ""),
])
def test_a_structure_that_the_model_knows_by_name_is_written_with_title_and_codes(tmp_path, model, task, title, code):
    write_study(tmp_path, ["c"])
    study = Study(tmp_path / "scans", task, model=model)
    study.open("c").set_mask(body(0)[1])
    study.accept()
    written, segment = sitk.ReadImage(str(study.mask_file("c"))), pydicom.dcmread(study.dicom_file("c")).SegmentSequence[0]
    assert written.GetMetaData("Segment0_Name") == segment.SegmentLabel == title
    assert f"SCT^{code}^" in written.GetMetaData("Segment0_Tags") if code else not written.GetMetaData("Segment0_Tags")
    assert not code or segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == code
    category = "49755003" if title == "myocardial scar" else "91723000"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == category
