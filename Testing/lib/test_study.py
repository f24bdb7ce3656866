"""A folder of cases, annotated one after the other: what is found, what is kept, what the next case gains."""
import csv
import os
import shutil
import sys
import time

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from annotating import AFFINE, SHAPE, TASK, body, write_study, write_tiny_weights

from InteractiveSegLib import Box, Click, InteractiveSegError, Lasso, Scribble, key_slices
from InteractiveSegLib.annotation import Study
from InteractiveSegLib.annotation.actions import action_of, pack_mask, prompt_of, standing
from InteractiveSegLib.demo_study import write_dicom_series
from InteractiveSegLib.io import read_image


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def folder(tmp_path):
    write_study(tmp_path, ["a.nii.gz", "b.png", "ward/c"])
    return tmp_path


@pytest.fixture
def a_study(folder, weights):
    return lambda **options: Study(folder / "scans", TASK, **{"references": folder / "masks", "model": "multiverseg",
                                                              "weights": weights, **options})


def truth_of(name):
    return body({"a": 0, "b": 1, "ward/c": 2}[name])[1]


def accept_truth(study, name):
    case = study.open(name)
    case.add(Click((20, 22) if name == "b" else (2, 20, 22)))
    case.set_mask(truth_of(name)[2] if name == "b" else truth_of(name))
    return study.accept()


def table_of(study):
    with (study.results / "cases.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_a_copy_of_a_series_below_it_is_a_case_of_its_own(a_study, folder):
    shutil.copytree(folder / "scans" / "ward" / "c", folder / "scans" / "ward" / "c" / "copy")
    study = a_study()
    assert [case.name for case in study.cases] == ["a", "b", "ward/c", "ward/c/copy"]
    assert study.open("ward/c").image.array.shape == SHAPE
    assert accept_truth(study, "ward/c").note == "edited by hand" and study.dicom_file("ward/c").exists()
    assert study.open("ward/c/copy").image.array.shape == SHAPE


@pytest.mark.parametrize(("keyword", "value"), [("ImagePositionPatient", [1, 2]), ("PixelSpacing", 1), ("Rows", None)])
def test_a_series_with_odd_headers_is_one_sentence_and_the_other_cases_go_on(a_study, folder, keyword, value):
    for path in list((folder / "scans" / "ward" / "c").glob("*.dcm"))[:1]:
        data = pydicom.dcmread(path)
        setattr(data, keyword, value)
        data.save_as(path)
    study = a_study()
    with pytest.raises(InteractiveSegError, match=f"no usable {keyword}"):
        study.open("ward/c")
    assert study.skip("odd", "ward/c").status == "skipped" and accept_truth(study, "a").status == "accepted"


def test_every_image_is_a_case_and_nothing_else_is(tmp_path):
    write_study(tmp_path, ["a.nii.gz", "x/b.nrrd", "x/c.mha", "d.png", "d.nii", "e"])
    scans = tmp_path / "scans"
    second = scans / "e"
    for file in sorted(second.glob("*.dcm")):  # another series among the first one's files
        data = pydicom.dcmread(file)
        data.SeriesInstanceUID = "1.2.3.7"
        data.SeriesNumber = 7
        data.save_as(second / f"other_{file.name}")
    write_dicom_series(scans / "ward" / "f", body(9)[0])
    for name in ("notes.txt", "a.seg.nrrd", ".hidden.nrrd", "e/DICOMDIR.bak"):
        (scans / name).write_bytes(b"no image")
    cases = Study(scans, TASK).cases
    assert [case.name for case in cases] == ["a", "d.nii", "d.png", "e/series 3", "e/series 7", "ward/f", "x/b", "x/c"]
    assert {case.status for case in cases} == {"todo"}
    assert [case.name for case in Study(scans, "another task").cases] == [case.name for case in cases], "own results are no cases"
    accepted = Study(scans, TASK, scans / "results")
    accepted.open("d.png").set_mask(np.ones(SHAPE[1:], bool))
    accepted.accept()
    assert (accepted.results / "curve.png").exists() and len(Study(scans, TASK).cases) == len(cases), "nor are others'"
    for case in cases:
        image = Study(scans, TASK).read(case).array
        assert image.shape == (SHAPE[1:] if case.name == "d.png" else SHAPE)


@pytest.mark.skipif(sys.platform != "linux", reason="only there a name may be any bytes")
def test_a_file_with_a_name_that_no_mask_can_have_is_left_out_and_said(folder, caplog):
    scans = folder / "scans"
    for name in (b"sch\xe4del.png", b"x" * 250 + b".png"):
        (scans / os.fsdecode(name)).write_bytes((scans / "b.png").read_bytes())
    (scans / "ward" / "c").rename(scans / "ward" / os.fsdecode(b"\xe4"))
    assert [case.name for case in Study(scans, TASK).cases] == ["a", "b"]
    [words] = caplog.messages
    assert "are left out" in words and "is not UTF-8" in words


@pytest.mark.skipif(sys.platform != "linux", reason="only there a name may be any bytes")
def test_a_series_with_such_a_file_is_refused_in_one_sentence(folder):
    series = folder / "scans" / "ward" / "c"
    first = min(series.iterdir())
    first.rename(series / os.fsdecode(b"\xe4.dcm"))
    with pytest.raises(InteractiveSegError, match="is not UTF-8"):
        read_image(series)


def test_an_accepted_case_is_a_mask_at_its_place_a_row_and_a_curve(a_study):
    study = a_study()
    case = study.open("a")
    case.add(Click((2, 20, 22)))
    case.add(Click((2, 2, 2), positive=False))
    mask = case.mask.copy()
    record = study.accept()
    written = read_image(study.mask_file("a"))
    assert np.array_equal(written.array > 0, mask) and np.allclose(written.affine, AFFINE, atol=1e-5)
    assert sitk.ReadImage(str(study.mask_file("a"))).GetMetaData("Segment0_Name") == TASK
    assert (record.status, record.prompts, record.rank, record.voxels) == ("accepted", 2, 0, mask.sum())
    assert record.volume_ml == pytest.approx(mask.sum() * 3 / 1000)
    truth = truth_of("a")
    assert record.dice == pytest.approx(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    row = table_of(study)["a"]
    assert (row["order"], row["status"], row["prompts"], row["voxels"]) == ("1", "accepted", "2", str(mask.sum()))
    assert float(row["volume_ml"]) == pytest.approx(record.volume_ml)
    assert float(row["dice"]) == pytest.approx(record.dice, abs=1e-4)
    assert table_of(study)["b"]["status"] == "todo"
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(study.results / "curve.png"))).std() > 0


def test_a_picture_has_no_volume(a_study):
    assert accept_truth(a_study(), "b").volume_ml is None


def test_a_dicom_case_is_also_a_dicom_seg(a_study, folder):
    study = a_study()
    record = accept_truth(study, "ward/c")
    data = pydicom.dcmread(study.dicom_file("ward/c"))
    source = pydicom.dcmread(next((folder / "scans" / "ward" / "c").glob("*.dcm")))
    assert (data.Modality, data.StudyInstanceUID, record.note) == ("SEG", source.StudyInstanceUID, "edited by hand")
    assert "ward/c" in [case.name for case in a_study().cases] and len(a_study().cases) == 3, "it is no case of its own"


PROMPTS = (Click((2, 20, 22)), Click((2.4, 5, 6), positive=False), Box((1, 8, 9), (4, 30, 33)),
           Scribble(np.eye(4, dtype=bool)[None], False, (2, 10, 11)), Lasso(((2, 5, 5), (2, 5, 30), (2, 30, 20.5))),
           Click(position_ras=(-20.0, 14.5, 90.0)))


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda p: type(p).__name__)
def test_a_prompt_survives_as_json(prompt):
    again = prompt_of(action_of(prompt))
    if isinstance(prompt, Scribble):
        assert again.origin == prompt.origin and again.positive == prompt.positive and np.array_equal(again.mask, prompt.mask)
    else:
        assert again == prompt


def test_a_new_object_goes_on_exactly_where_the_last_one_was(a_study):
    study = a_study()
    case = study.open("a")
    for prompt in PROMPTS[:5]:
        case.add(prompt)
    case.undo()
    case.undo()
    case.redo()
    case.session.set_slice(2, 20)
    case.add(Click((2, 20, 20)))
    case.set_mask(case.mask | truth_of("a"))
    prompts, mask, record = case.session.prompts, case.mask.copy(), study.record("a")
    again = a_study()
    resumed = again.open()
    assert resumed.name == "a" and record.status == "in progress" and record.prompts == 6
    assert np.array_equal(resumed.mask, mask)
    assert [action_of(p) for p in resumed.session.prompts] == [action_of(p) for p in prompts] and len(prompts) == 5
    assert resumed.undo().empty and np.array_equal(resumed.mask, mask), "nothing from before is undone"
    resumed.add(Click((2, 2, 2), positive=False))
    resumed.reset()
    resumed.undo()
    assert len(a_study().open("a").session.prompts) == 6
    assert a_study().record("a").prompts == 7


def test_what_stands_in_the_journal_is_what_stands_in_the_session(a_study):
    rng, study = np.random.default_rng(5), a_study()
    case = study.open("b")
    for _ in range(60):
        act = rng.choice(["click", "click", "undo", "redo", "reset", "set_mask", "resume"], p=[.25, .25, .2, .15, .05, .05, .05])
        if act == "click":
            case.add(Click(tuple(rng.integers(0, 40, 2).tolist()), bool(rng.integers(2))))
        elif act == "set_mask":
            case.set_mask(rng.random(SHAPE[1:]) > 0.5)
        elif act == "resume":
            case = study.open("b")
        else:
            getattr(case, act)()
        assert [action_of(prompt) for prompt in case.session.prompts] == standing(case.actions)


def test_each_accepted_case_is_there_for_the_next_which_answers_before_any_prompt(a_study):
    study = a_study()
    assert not study.open("a").can_predict
    accept_truth(study, "a")
    slices = int(truth_of("a").any(axis=(1, 2)).sum())
    assert len(study.context) == slices
    case = study.open("ward/c")
    assert case.can_predict
    for _ in case.predict():
        pass
    assert case.prompts == 0 and case.session.probability.std() > 0
    entries = [(entry.info.provenance, entry.mask) for entry in study.context.enabled()]
    for provenance, mask in entries:
        assert np.array_equal(mask, truth_of("a")[provenance.index])
    assert {p.index: sum(p.prompts.values()) for p, _ in entries}[2] == 1


def test_a_prediction_that_was_interrupted_goes_on_where_it_was(a_study, monkeypatch):
    monkeypatch.setattr(key_slices, "CHUNK", 2)
    study = a_study()
    accept_truth(study, "a")
    next(study.open("ward/c").predict())
    case = a_study().open("ward/c")
    for _ in case.predict():
        pass
    assert [action["predict"] for action in case.actions if "predict" in action] == [[0, 1], [2, 3], [4]]


def test_an_example_counts_only_while_its_case_is_accepted(a_study):
    study = a_study()
    for name in ("a", "b"):
        accept_truth(study, name)
    both = len(study.context)
    assert study.reopen("a").status == "in progress" and len(study.context) == 1
    assert np.array_equal(study.open("a").mask, truth_of("a"))
    record = study.accept()
    assert len(study.context) == both and record.rank == 0, "it keeps its place on the curve"
    study.skip("blurred", "b")
    assert len(study.context) == both - 1 and not study.mask_file("b").exists()
    assert table_of(study)["b"]["note"] == "blurred" and table_of(study)["b"]["status"] == "skipped"


def test_strips_that_a_tilted_view_cuts_of_slices_are_no_examples(a_study):
    case = a_study().open("a")
    strip = np.zeros(case.mask.shape, bool)
    strip[1:4, 18:20, 10:30] = True
    case.do({"set_mask": pack_mask(strip), "tilted": True})
    assert case.examples() == []
    case.add(Click((2, 20, 24)))
    assert [example["provenance"].index for example in case.examples()] == [2]
    case.set_mask(strip)
    assert [example["provenance"].index for example in case.examples()] == [1, 2, 3]


def test_the_context_of_a_model_without_one_stays_empty(a_study):
    study = a_study(model="scribbleprompt", weights=None)
    accept_truth(study, "a")
    assert len(study.context) == 0 and not study.open("b").can_predict


def test_next_and_previous_walk_the_folder(a_study):
    study = a_study()
    assert study.previous() is None and study.next().name == "a"
    accept_truth(study, "a")
    assert (study.previous().name, study.next().name) == ("a", "b")
    study.open("b")
    assert (study.previous().name, study.next().name) == ("a", "ward/c")
    study.open("ward/c")
    assert study.next().name == "b", "in progress"
    study.skip()
    study.skip(name="b")
    assert study.next() is None and study.case is None
    with pytest.raises(InteractiveSegError, match="reopen"):
        study.open()
    assert study.reopen("ward/c").status == "todo" and study.next().name == "ward/c"


def test_a_study_can_be_moved_and_get_new_cases(a_study, folder, weights):
    study = a_study()
    accept_truth(study, "a")
    before = len(study.context)
    (folder / "scans").rename(folder / "elsewhere")
    sitk.WriteImage(sitk.ReadImage(str(folder / "elsewhere" / "a.nii.gz")), str(folder / "elsewhere" / "a.nrrd"))
    moved = Study(folder / "elsewhere", TASK, model="multiverseg", weights=weights)
    assert [(case.name, case.source, case.status) for case in moved.cases] == [
        ("a", "a.nii.gz", "accepted"), ("a.nrrd", "a.nrrd", "todo"), ("b", "b.png", "todo"), ("ward/c", "ward/c", "todo")]
    assert len(moved.context) == before > 0


def test_tasks_are_kept_apart(a_study, folder):
    accept_truth(a_study(), "a")
    other = Study(folder / "scans", "aorta", model="multiverseg")
    assert {case.status for case in other.cases} == {"todo"} and len(other.context) == 0


def test_names_are_in_the_study_s_file_and_not_in_the_context(a_study, folder):
    accept_truth(a_study(), "ward/c")
    results = folder / "scans" / "annotations"
    data = {name: b"".join(file.read_bytes() for file in results.glob(f"{name}*")) for name in ("study", "context")}
    assert b"ward/c" in data["study"] and not any(word in data["context"] for word in (b"ward", b"scans", b"Phantom", b"PHANTOM"))


def test_what_a_killed_process_left_half_written_is_swept_away_later(a_study):
    results = a_study().results
    for name, age in (("old", 7200), ("new", 10)):
        path = results / f".partial-1-{name}"
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    a_study()
    assert [path.name for path in results.glob(".partial*")] == [".partial-1-new"]


def test_two_programs_cannot_mix_their_prompts_in_one_case(a_study):
    first, second = a_study().open("a"), a_study().open("a")
    second.add(Click((2, 20, 22)))
    with pytest.raises(InteractiveSegError, match="Another window or program works on a"):
        first.add(Click((2, 5, 5)))
    assert len(a_study().open("a").session.prompts) == 1


def test_time_is_work_and_a_long_pause_is_none(a_study, monkeypatch):
    from InteractiveSegLib.annotation import case as module

    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    study = a_study()
    case = study.open("b")
    for passed in (10, 5000):
        clock[0] += passed
        case.add(Click((20, 22)))
    assert study.record("b").seconds == 10 + module.PAUSE
    clock[0] += 7
    assert study.accept().seconds == 17 + module.PAUSE


@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (1, -1, 1)), ((2, 0, 1), (1, 1, 1)), ((1, 2, 0), (-1, 1, -1))])
def test_a_reference_whose_axes_run_another_way_lies_where_it_lies(a_study, folder, order, flips):
    reference = sitk.PermuteAxes(sitk.ReadImage(str(folder / "masks" / "a.seg.nrrd")), order)
    sitk.WriteImage(reference[tuple(slice(None, None, step) for step in flips)], str(folder / "masks" / "a.nii.gz"))
    (folder / "masks" / "a.seg.nrrd").unlink()
    assert np.array_equal(a_study().open("a").reference, truth_of("a"))


def test_an_image_that_was_changed_is_said_and_its_journal_kept(a_study, folder):
    study = a_study()
    study.open("b").add(Click((20, 22)))
    sitk.WriteImage(sitk.Image(8, 8, sitk.sitkUInt8), str(folder / "scans" / "b.png"))
    with pytest.raises(InteractiveSegError, match="image was changed"):
        a_study(references=None).open("b")
    assert len(study.state.journal("b", TASK)[0]) == 1


@pytest.mark.parametrize(("options", "words"), [
    ({"task": "../up"}, "name of a structure"), ({"task": ""}, "name of a structure"),
    ({"references": "nowhere"}, "not a folder"), ({"folder": "nowhere"}, "not a folder"), ({"folder": "empty"}, "holds no image"),
    ({"model": "magic"}, "no model"), ({"output": "scans"}, "among the images"),
])
def test_a_mistake_is_one_sentence(tmp_path, monkeypatch, options, words):
    write_study(tmp_path, ["a.png"])
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InteractiveSegError, match=words):
        Study(**{"folder": "scans", "task": TASK, **options})


def test_a_mask_and_prompts_put_in_place_are_what_a_new_start_finds(a_study):
    case = a_study().open("a")
    for k in (1, 2):
        case.add(Click((k, 20, 22)))
    mask = case.mask.copy()
    mask[1] = False
    case.do({"restore": {"mask": pack_mask(mask), "prompts": [action_of(Click((2, 20, 22)))]}})
    again = a_study().open("a")
    assert again.session.prompts == (Click((2, 20, 22)),)
    assert np.array_equal(again.mask, mask)


@pytest.mark.parametrize(("model", "task", "target"), [
    ("verse", "left atrium", "LA"), ("verse", "myocardium", "myocardium"), ("verse", "lv", "LV"),
    ("tis", "Left atrium", "left atrium"), ("multiverseg", "left atrium", "object"),
])
def test_a_model_that_knows_structures_by_name_is_asked_for_the_one_of_the_study(folder, model, task, target):
    study = Study(folder / "scans", task, model=model)
    assert study.open("a").session.targets == (target,)
