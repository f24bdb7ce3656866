"""A study keeps what was done: through damage, beside other processes, and where a case cannot be an example."""
import json
import shlex
import threading
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from annotating import TASK, body, write_study, write_tiny_weights

from InteractiveSegLib import Click, InteractiveSegError
from InteractiveSegLib.annotation import Study
from InteractiveSegLib.cli import main
from InteractiveSegLib.context.store import StoredContextSet
from InteractiveSegLib.io import read_image


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return write_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def a_study(tmp_path, weights):
    write_study(tmp_path, ["a.nii.gz", "b.png"])
    return lambda **options: Study(tmp_path / "scans", TASK, **{"model": "multiverseg", "weights": weights, **options})


def accept(study, name):
    study.open(name).add(Click((20, 22) if name == "b" else (2, 20, 22)))
    return study.accept()


def test_the_examples_of_a_case_that_is_being_accepted_are_not_swept_away(a_study, monkeypatch):
    study, put, others = a_study(), StoredContextSet.put, []

    def and_meanwhile(context, entries):
        put(context, entries)
        others.append(threading.Thread(target=a_study))  # as another process does: a connection of its own
        others[0].start()
        others[0].join(0.5)

    study.open("a").set_mask(body(0)[1])
    monkeypatch.setattr(StoredContextSet, "put", and_meanwhile)
    assert study.accept().status == "accepted"
    others[0].join()
    assert len(study.context) == body(0)[1].any(axis=(1, 2)).sum() > 1


def test_the_examples_of_an_accepting_process_that_was_killed_are_swept_away(a_study, monkeypatch):
    study, put = a_study(), StoredContextSet.put

    def killed(context, entries):
        put(context, entries)
        raise KeyboardInterrupt

    study.open("a").set_mask(body(0)[1])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StoredContextSet, "put", killed)
        study.accept()
    assert len(study.context) > 0 and study.record("a").status == "in progress"
    assert len(a_study().context) == 0


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1000], ids=["empty", "garbage"])
def test_of_a_damaged_study_everything_is_kept_and_the_told_command_does_it_again(a_study, tmp_path, damage, capsys):
    command = shlex.split(f"annotate {tmp_path}/scans --task '{TASK}' --threads 1 --model scribbleprompt")
    prompts = tmp_path / "p.json"
    said = {"a": [{"click": [2, 20, 22]}], "b": [{"click": [20, 22]}]}
    prompts.write_text(json.dumps({"format": "interactive-seg prompts 1", "cases": said}))
    assert main([*command, "--prompts", str(prompts), "--window=-10,250"]) == 0
    results = tmp_path / "scans" / "annotations"
    before = {name: (results / "left_atrium" / name).read_bytes() for name in ("prompts.json", "cases.csv")}
    masks = [read_image(results / "left_atrium" / f"{name}.seg.nrrd").array for name in "ab"]
    (results / "study.sqlite").write_bytes(damage)
    capsys.readouterr()
    assert main([*command, "--window=-10,250", "--every-slice", "--examples", "8"]) == 1
    said = capsys.readouterr().err
    assert "--every-slice" in said and "--examples 8" in said
    assert "is damaged" in said and "set aside as study.damaged-" in said and said.count("\n") == 1
    assert main(command) == 0, "a mere look"
    for name, data in before.items():
        [kept] = (results / "left_atrium").glob(name.replace(".", ".damaged-*."))
        assert kept.read_bytes() == data
    assert [path.read_bytes() for path in results.glob("study.damaged-*.sqlite")] == [damage]
    assert main(shlex.split(said.split("`")[1])[1:]) == 0
    study = a_study(model="scribbleprompt", weights=None)
    assert [(case.status, case.prompts) for case in study.cases] == [("accepted", 1)] * 2
    assert (study.results / "prompts.json").read_bytes() == before["prompts.json"]
    for name, mask in zip("ab", masks):
        assert np.array_equal(read_image(study.mask_file(name)).array, mask)


def test_an_image_that_is_too_long_for_an_example_is_accepted_without_one_and_says_so(a_study, tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((8, 8200), np.uint8)), str(tmp_path / "scans" / "long.png"))
    study = a_study()
    study.open("long").set_mask(np.ones((8, 8200), bool))
    record = study.accept()
    assert record.status == "accepted" and "no example for other cases: Got a slice of 8 x 8200 pixels" in record.note
    assert read_image(study.mask_file("long")).array.all() and len(study.context) == 0
    assert accept(study, "b").status == "accepted" and len(study.context) == 1


def test_notes_hold_no_path_but_the_study_s_own(a_study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    references = tmp_path / "masks"
    for study in (a_study(references=references), Study("scans", TASK, references=references)):
        for path, seen in ((tmp_path / "scans" / "x" / "a.png", "x/a.png"), (study.folder / "a.png", "a.png"),
                           (references / "a.png", "../masks/a.png")):
            study.put_off("a", "todo", f"{path} is not an image: mend it.")
            assert study.record("a").note == f"{Path(seen)} is not an image: mend it."
            assert str(tmp_path) not in (study.results / "cases.csv").read_text()


def test_cases_come_as_people_count(tmp_path):
    write_study(tmp_path, [f"p{n}.png" for n in (10, 1, 2)] + ["p02.png", "q/3.png"])
    study = Study(tmp_path / "scans", TASK)
    assert [case.name for case in study.cases] == ["p1", "p02", "p2", "p10", "q/3"] and study.next().name == "p1"


def test_in_a_folder_without_images_nothing_is_made(tmp_path):
    with pytest.raises(InteractiveSegError, match="holds no image"):
        Study(tmp_path, TASK)
    assert not list(tmp_path.iterdir())
