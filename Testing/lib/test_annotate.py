"""The command `interactive-seg annotate` on a folder, from first to last, interrupted, killed, and done again."""
import csv
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from annotating import SHAPE, TASK, annotate, annotate_once, check_study, write_study, write_tiny_weights

from InteractiveSegLib import key_slices
from InteractiveSegLib.annotation import Study
from InteractiveSegLib.annotation import case as case_module
from InteractiveSegLib.annotation.robot import prompt_until
from InteractiveSegLib.cli import main
from InteractiveSegLib.io import read_image
from InteractiveSegLib.robot import Robot


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, ["a.nii.gz", "b.png", "c"])
    return tmp_path


def run(*words):
    return main(["annotate", "scans", "--task", TASK, "--model", "scribbleprompt", "--threads", "1", *map(str, words)])


def rows(results="scans/annotations"):
    with Path(results, "left_atrium", "cases.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def mask_of(name, results="scans/annotations"):
    return read_image(f"{results}/left_atrium/{name}.seg.nrrd").array > 0


def write_file(cases, **changes):
    Path("prompts.json").write_text(json.dumps({"format": "interactive-seg prompts 1", "cases": cases, **changes}))


def test_without_prompts_it_lists_what_there_is_to_do(folder, capsys):
    assert run() == 0
    said = capsys.readouterr().out
    assert "3 of 3 cases are left" in said and "DICOM series 3" in said and "a.nii.gz" in said
    assert {row["status"] for row in rows().values()} == {"todo"}


def test_the_robot_takes_a_study_from_first_to_last_in_one_command(folder, capsys):
    assert run("--robot", "--references", "masks", "--target-dice", 0.8, "--max-prompts", 6) == 0
    said = capsys.readouterr().out
    assert said.startswith("ScribblePrompt-UNet on cpu: about 0.1 GB; ") and said.count(" GB free") == 1, "once, at the start"
    table = rows()
    assert [row["order"] for row in table.values()] == ["1", "2", "3"]
    for name, row in table.items():
        truth = read_image(f"masks/{name}.seg.nrrd").array > 0
        mask = mask_of(name)
        assert float(row["dice"]) == pytest.approx(2 * (mask & truth).sum() / (mask.sum() + truth.sum()), abs=1e-4)
        assert float(row["dice"]) >= 0.8 and int(row["prompts"]) > 0 and name in said
    results = folder / "scans" / "annotations" / "left_atrium"
    assert (results / "c.dcm").is_file() and (results / "curve.png").is_file()
    page = (results / "report.html").read_text(encoding="utf8")
    assert page.count("src='data:image/png;base64,") == 4 and "3 of 3 cases accepted" in page
    assert not list(results.rglob(".partial*"))
    before = (results / "cases.csv").read_bytes()
    assert run("--robot", "--references", "masks") == 0 and (results / "cases.csv").read_bytes() == before, "all was done"


def test_in_a_volume_a_slice_is_finished_and_carried_before_the_next_unless_every_slice_is_wanted(folder, monkeypatch):
    monkeypatch.setattr(key_slices, "STEP", 2)
    words = ("--robot", "--references", "masks", "--target-dice", 0.8, "--max-prompts", 4, "--skip", "b", "--skip", "c")
    assert run(*words, "-o", "carried") == 0
    said = json.loads(Path("carried/left_atrium/prompts.json").read_text())["cases"]["a"]
    assert {"propagate": True} in said
    first = said[: said.index({"propagate": True})]
    assert len({action["click"][0] for action in first}) == 1, "one slice before it is carried"
    spoken = {action["click"][0] for action in said if "click" in action}
    held = mask_of("a", "carried").any(axis=(1, 2))
    assert set(np.flatnonzero(held)) - spoken, "slices that no click spoke to"
    assert run("--prompts", "carried/left_atrium/prompts.json", "-o", "again") == 0
    assert np.array_equal(mask_of("a", "again"), mask_of("a", "carried"))
    assert run(*words, "--every-slice", "-o", "each") == 0
    said = json.loads(Path("each/left_atrium/prompts.json").read_text())["cases"]["a"]
    assert {"propagate": True} not in said
    held = mask_of("a", "each").any(axis=(1, 2))
    assert set(np.flatnonzero(held)) <= {action["click"][0] for action in said}


def test_a_slice_that_the_robot_only_emptied_is_not_carried(folder, monkeypatch):
    monkeypatch.setattr(key_slices, "STEP", 2)
    study = Study("scans", TASK, references="masks", model="scribbleprompt")
    case = study.open("a")
    wrong = np.zeros(SHAPE, bool)
    wrong[0, 5:30, 5:30] = True
    case.set_mask(wrong)
    robot = prompt_until(case, Robot(), 0.9, 3, np.random.default_rng(0))
    while not case.mask[1:].any():
        next(robot)
    assert not case.mask[0].any() and {"propagate": True} not in case.actions


def test_a_dicom_seg_serves_as_a_reference(folder):
    truth = read_image("masks/c.seg.nrrd").array > 0
    others = ("--skip", "a", "--skip", "b", "--max-prompts", 2)
    run("--robot", "--references", "masks", *others, "-o", "first")
    seg = Path("segs") / "c.dcm"
    seg.parent.mkdir()
    seg.write_bytes(Path("first/left_atrium/c.dcm").read_bytes())
    before = mask_of("c", "first")
    assert before.any() and not np.array_equal(before, truth)
    assert run("--robot", "--references", "segs", "--target-dice", 0.99, *others, "-o", "second") == 0
    mask, row = mask_of("c", "second"), rows("second")["c"]
    assert float(row["dice"]) == pytest.approx(2 * (mask & before).sum() / (mask.sum() + before.sum()), abs=1e-4)


def test_what_was_said_can_be_said_again(folder):
    run("--robot", "scribbles", "--references", "masks", "--target-dice", 0.8, "--max-prompts", 3, "-o", "first")
    assert run("--prompts", "first/left_atrium/prompts.json", "-o", "second") == 0
    for name in ("a", "b", "c"):
        assert np.array_equal(mask_of(name, "first"), mask_of(name, "second"))
        assert rows("first")[name]["prompts"] == rows("second")[name]["prompts"]


def test_the_prompts_of_a_file_are_given_and_cases_it_does_not_name_are_left(folder, capsys):
    write_file({"c": [{"click": [2, 20, 22]}, {"click": [2, 2, 2], "positive": False}, {"undo": True}],
                "b": [{"box": [[8, 8], [32, 40]]}, {"lasso": [[5, 5], [5, 30], [30, 20]]}, {"scribble": [[20, 20], [20, 21]]}]})
    assert run("--prompts", "prompts.json") == 0
    study = Study("scans", TASK)
    assert {case.name: (case.status, case.prompts) for case in study.cases} == {
        "a": ("todo", 0), "b": ("accepted", 3), "c": ("accepted", 2)}
    assert mask_of("b").any() and mask_of("c").any(axis=(1, 2)).tolist() == [False, False, True, False, False]
    assert "1 of 3 cases are left" in capsys.readouterr().out


def test_it_goes_on_after_an_interruption_and_loses_nothing(folder, monkeypatch, capsys):
    words = ("--robot", "--references", "masks", "--target-dice", 0.8, "--max-prompts", 4)
    run(*words, "-o", "whole")
    whole = rows("whole")
    for breaking in (1, 3, 2):
        given, do = [], case_module.OpenCase.do

        def interrupted(self, action, given=given, do=do, breaking=breaking):
            if len(given) == breaking:
                raise KeyboardInterrupt
            given.append(action)
            return do(self, action)

        monkeypatch.setattr(case_module.OpenCase, "do", interrupted)
        capsys.readouterr()
        assert run(*words, "-o", "parts") == 130
        assert "the same command goes on" in capsys.readouterr().err
        monkeypatch.undo()
        monkeypatch.chdir(folder)
    assert sum(int(row["prompts"]) for row in rows("parts").values()) == 6
    assert run(*words, "-o", "parts") == 0
    assert {row["status"] for row in rows("parts").values()} == {"accepted"}
    for name, row in rows("parts").items():
        assert float(row["dice"]) >= 0.8 and abs(int(row["prompts"]) - int(whole[name]["prompts"])) <= 4


def test_a_wrong_prompt_stops_the_work_and_leaves_the_case_in_progress(folder, capsys):
    write_file({"b": [{"click": [20, 22]}, {"click": [900, 22]}], "c": [{"click": [2, 20, 22]}]})
    assert run("--prompts", "prompts.json") == 1
    said = capsys.readouterr().err
    assert "lies outside the image" in said and said.count("\n") == 1
    assert {name: row["status"] for name, row in rows().items()} == {"a": "todo", "b": "in progress", "c": "todo"}


def test_cases_are_skipped_and_reopened_by_name(folder):
    assert run("--skip", "a", "--skip", "c") == 0
    assert {name: row["status"] for name, row in rows().items()} == {"a": "skipped", "b": "todo", "c": "skipped"}
    assert run("--reopen", "a", "--robot", "--references", "masks", "--max-prompts", 1) == 0
    assert {name: row["status"] for name, row in rows().items()} == {"a": "accepted", "b": "accepted", "c": "skipped"}


def test_a_case_that_cannot_be_read_is_put_off_with_the_reason_and_the_others_are_done(folder, capsys):
    whole = (folder / "scans" / "a.nii.gz").read_bytes()
    (folder / "scans" / "a.nii.gz").write_bytes(b"broken")
    (folder / "masks" / "c.seg.nrrd").rename(folder / "c.seg.nrrd")
    words = ("--robot", "--references", "masks", "--max-prompts", 1)
    assert run(*words) == 1
    table = rows()
    assert {name: row["status"] for name, row in table.items()} == {"a": "todo", "b": "accepted", "c": "todo"}
    assert "not an image" in table["a"]["note"] and "There is no reference" in table["c"]["note"]
    assert "a: put off" in capsys.readouterr().err
    (folder / "scans" / "a.nii.gz").write_bytes(whole)
    (folder / "c.seg.nrrd").rename(folder / "masks" / "c.seg.nrrd")
    assert run(*words) == 0
    assert {(row["status"], row["note"]) for row in rows().values()} == {("accepted", "")}


def test_a_case_that_another_program_accepts_meanwhile_keeps_its_mask(folder, monkeypatch):
    write_file({"a": [{"click": [2, 20, 22]}], "c": [{"click": [2, 20, 22]}]})
    accept = Study.accept

    def and_meanwhile(study):
        if study.case.name == "a":
            other = Study("scans", TASK)
            other.open("c").set_mask(np.ones(SHAPE, bool))
            accept(other)
        return accept(study)

    monkeypatch.setattr(Study, "accept", and_meanwhile)
    assert run("--prompts", "prompts.json") == 0
    assert rows()["c"]["status"] == "accepted" and mask_of("c").all()


def test_a_case_that_cannot_be_accepted_is_put_off_with_the_reason_and_the_others_are_done(folder, capsys):
    write_file({"a": [{"click": [2, 20, 22]}], "b": [{"click": [20, 22]}]})
    (folder / "scans" / "annotations" / "left_atrium" / "a.seg.nrrd").mkdir(parents=True)
    assert run("--prompts", "prompts.json") == 1
    assert {name: row["status"] for name, row in rows().items()} == {"a": "in progress", "b": "accepted", "c": "todo"}
    assert "a: put off, " in capsys.readouterr().err and rows()["a"]["note"]


def test_a_case_without_a_prompt_is_no_empty_mask_unless_it_is_meant(folder, capsys):
    write_file({"a": [], "b": [{"reset": True}], "c": [{"click": [2, 20, 22]}]})
    assert run("--prompts", "prompts.json") == 1
    assert {name: row["status"] for name, row in rows().items()} == {"a": "todo", "b": "accepted", "c": "accepted"}
    assert "No prompt is given for it" in rows()["a"]["note"] and not mask_of("b").any()
    assert not (folder / "scans" / "annotations" / "left_atrium" / "a.seg.nrrd").exists()


def test_an_accepted_mask_outlives_an_image_that_can_no_longer_be_read(folder):
    write_file({"c": [{"click": [2, 20, 22]}]})
    assert run("--prompts", "prompts.json") == 0
    assert run("--prompts", "prompts.json", "--reopen", "c", "--frame", 1) == 1
    assert mask_of("c").any()
    assert rows()["c"]["status"] == "in progress"


def test_an_undo_after_an_interruption_takes_back_one_action_and_no_more(folder, monkeypatch):
    write_file({"c": [{"click": [2, 20, 22]}, {"click": [3, 20, 22]}, {"undo": True}, {"click": [1, 20, 22]}]})
    assert run("--prompts", "prompts.json", "-o", "whole") == 0
    given, do = [], case_module.OpenCase.do

    def interrupted(self, action):
        if len(given) == 2:
            raise KeyboardInterrupt
        given.append(action)
        return do(self, action)

    with monkeypatch.context() as patch:
        patch.setattr(case_module.OpenCase, "do", interrupted)
        assert run("--prompts", "prompts.json", "-o", "parts") == 130
    assert run("--prompts", "prompts.json", "-o", "parts") == 0
    assert mask_of("c", "whole").any(axis=(1, 2)).tolist() == [False, True, True, False, False]
    assert np.array_equal(mask_of("c", "parts"), mask_of("c", "whole"))


def test_a_corrected_file_is_not_done_on_top_of_the_wrong_one(folder, capsys):
    write_file({"c": [{"click": [1, 20, 22]}, {"click": [2, 900, 22]}]})
    assert run("--prompts", "prompts.json") == 1
    write_file({"c": [{"click": [3, 20, 22]}]})
    assert run("--prompts", "prompts.json") == 1
    assert "give --start-over c to do the file's alone" in capsys.readouterr().err
    assert run("--prompts", "prompts.json", "--start-over", "c") == 0
    assert mask_of("c").any(axis=(1, 2)).tolist() == [False, False, False, True, False]


def test_an_image_of_another_shape_can_be_started_over(folder, capsys):
    write_file({"b": [{"click": [20, 22]}, {"click": [900, 22]}]})
    assert run("--prompts", "prompts.json") == 1
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(600, dtype=np.uint8).reshape(20, 30)), "scans/b.png")
    write_file({"b": [{"click": [10, 12]}]})
    assert run("--prompts", "prompts.json") == 1
    assert "start the case over" in capsys.readouterr().err
    assert run("--prompts", "prompts.json", "--start-over", "b") == 0


def test_the_users_own_file_of_prompts_is_not_written_over(folder):
    write_file({"c": [{"click": [2, 20, 22]}]})
    assert run("--prompts", "prompts.json") == 0
    own = folder / "scans" / "annotations" / "left_atrium" / "prompts.json"
    write_file({"c": [{"click": [2, 20, 22]}], "b": [{"click": [900, 22]}], "a": [{"click": [2, 20, 22]}]})
    (folder / "prompts.json").replace(own)
    text = own.read_text()
    assert run("--prompts", own) == 1
    assert own.read_text() == text


def test_two_names_that_mean_one_folder_are_refused(folder, capsys):
    assert run("--skip", "a") == 0
    before = (folder / "scans" / "annotations" / "left_atrium" / "cases.csv").read_bytes()
    assert main(["annotate", "scans", "--task", "left_atrium"]) == 1
    assert "The study has the task 'left atrium'" in capsys.readouterr().err
    assert (folder / "scans" / "annotations" / "left_atrium" / "cases.csv").read_bytes() == before


def test_the_studys_own_images_are_no_references_and_a_label_that_is_not_there_is_told(folder, capsys):
    assert run("--robot", "--references", "scans", "--max-prompts", 1) == 1
    assert "There is no reference" in rows()["a"]["note"]
    assert run("--robot", "--references", "masks", "--max-prompts", 1, "--label", 22) == 0
    assert "a: its reference has no voxel of --label 22, and counts as empty" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "sentence"), [
    (["--robot"], "needs --references"),
    (["--robot", "--references", "masks", "--target-dice", "2"], "--target-dice 2.0"),
    (["--skip", "z"], "no case 'z'"),
    (["--prompts", "none.json"], "cannot be read as JSON"), (["--axis", "up"], "axis 'up'"), (["--window", "5,5"], "is empty"),
])
def test_a_mistake_is_one_sentence_before_any_work(folder, words, sentence, capsys):
    assert run(*words) == 1
    said = capsys.readouterr().err
    assert sentence in said and said.startswith("interactive-seg: ") and said.count("\n") == 1


@pytest.mark.parametrize(("cases", "changes", "sentence"), [
    ({}, {"format": "other"}, "is no list of prompts"), ([], {}, "is no list of prompts"),
    ({"z": []}, {}, "no case 'z'"), ({"b": [{"tap": [1, 2]}]}, {}, "case b: Got the prompt"),
    ({"b": [{"click": ["x", 2]}]}, {}, "not numbers"), ({"b": [{"click": [1, 2], "positive": 1}]}, {}, "case b: Got the prompt"),
    ({"b": [{"box": [[1, 2], [1, 2]]}]}, {}, "is empty"), ({"b": [{"scribble": [[-1, 2]]}]}, {}, "draw it in the image"),
    ({"b": [{"lasso": [[1, 2]]}]}, {}, "at least 3 points"), ({"b": [7]}, {}, "Got the prompt 7"),
    ({"b": [{"restore": 5}]}, {}, "case b: Got the action"), ({"b": [{"restore": {}}]}, {}, "case b: Got the action"),
    ({"b": [{"restore": {"mask": {}, "prompts": [{"click": 1}]}}]}, {}, "case b: Got the prompt"),
    ({"b": [{"resume": True}]}, {}, "Got the action"), ({"b": [{"predict": 2}]}, {}, "Got the action"),
    ({"b": [{"undo": False}]}, {}, "Got the action"), ({"b": [{"propagate": False}]}, {}, "Got the action"),
    ({"b": [{"click": [20, 22], "undo": True}]}, {}, "Got the action"), ({"b": [{"click": [10**400, 22]}]}, {}, "not numbers"),
])
def test_a_prompts_file_is_checked_before_any_work(folder, cases, changes, sentence, capsys):
    write_file(cases, **changes)
    assert run("--prompts", "prompts.json") == 1
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    assert not (folder / "scans" / "annotations" / "left_atrium" / "b.seg.nrrd").exists()


@pytest.mark.parametrize(("text", "words"), [
    ('{"format": "interactive-seg prompts 1", "cases": {"b": [{"click": [20, 22]}], "b": []}}', "'b' is there 2 times"),
    ("[" * 100_000, "recursion"),
], ids=["a case named twice", "endlessly nested"])
def test_json_that_says_something_else_than_it_seems_is_refused(folder, text, words, capsys):
    Path("prompts.json").write_text(text)
    assert run("--prompts", "prompts.json") == 1
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_a_click_in_millimetres_needs_three_of_them(folder, capsys):
    write_file({"c": [{"click_ras": [1, 2]}]})
    assert run("--prompts", "prompts.json") == 1
    assert "expected (R, A, S)" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that start at once and can be killed without a word")
def test_a_killed_annotation_loses_at_most_its_last_action(tmp_path):
    kill_often(tmp_path, 10)


def kill_often(folder, kills, report=lambda kill, told: None):
    """Start the annotation, kill it at a random moment and check the study, over and over."""
    write_study(folder, ["a.nii.gz", "b.png", "c.png", "d.mha"])
    weights = write_tiny_weights(folder / "tiny.safetensors")
    annotate_once(folder, weights)
    rng, forking, told = np.random.default_rng(0), multiprocessing.get_context("fork"), []
    for kill in range(kills):
        ear, mouth = forking.Pipe(duplex=False)
        process = forking.Process(target=annotate, args=(folder, weights, mouth))
        process.start()
        mouth.close()
        told += [ear.recv() for _ in range(rng.integers(0, 10))]  # how far it comes must not hang on the machine's load
        time.sleep(rng.uniform(0, 0.4))
        assert process.exitcode is None, "it must not have ended by itself"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        try:
            while True:
                told.append(ear.recv())
        except EOFError:
            ear.close()
        check_study(folder, weights, told)
        told = told_now(folder, told)
        report(kill, told)


def told_now(folder, told):
    """What is known after the check, which may have opened a case and so written a line: the next process starts from it."""
    study = Study(folder / "scans", TASK, folder / "out", model="multiverseg")
    known = [("journal", case.name, len(study.state.journal(case.name, TASK)[0])) for case in study.cases]
    return known + [("accepted", case.name, 0) for case in study.cases if case.status == "accepted"]


def test_a_structure_that_the_model_does_not_know_is_refused_before_anything_is_made(folder, capsys):
    assert main(["annotate", "scans", "--task", "polyp", "--model", "verse"]) == 1
    said = capsys.readouterr().err
    assert "VerSe knows LV, " in said and "got the task 'polyp': call it one of these, or choose" in said
    assert not (folder / "scans" / "annotations").exists()
