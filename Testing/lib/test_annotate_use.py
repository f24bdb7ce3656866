"""The command `interactive-seg annotate`: examples of another study, propagation from a file's prompts, how many examples."""
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from annotating import TASK, write_study, write_tiny_weights

from InteractiveSegLib import InteractiveSegError, InteractiveSession
from InteractiveSegLib.annotation import Study
from InteractiveSegLib.cli import main
from InteractiveSegLib.context import ContextSet
from InteractiveSegLib.io import read_image


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: the studies "one" and "two", each with a volume and a picture of the same names."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        write_study(tmp_path / name, ["a.nii.gz", "b.png"])
    write_tiny_weights(tmp_path / "tiny.safetensors")
    return tmp_path


def run(study, *words, **cases):
    Path("prompts.json").write_text(json.dumps({"format": "interactive-seg prompts 1", "cases": cases}))
    said = ["--prompts", "prompts.json"] if cases else []
    return main(["annotate", f"{study}/scans", "--task", TASK, "--weights", "tiny.safetensors", "--device", "cpu", *said,
                 *map(str, words)])


CLICKS = [{"click": [1, 20, 22]}, {"click": [2, 20, 22]}]


def test_a_store_without_examples_of_this_study_says_how_to_get_them(folder, capsys):
    assert run("one", b=[{"click": [20, 22]}]) == 0
    store = "one/scans/annotations/context.sqlite"
    assert run("one", "--context", store) == 0
    capsys.readouterr()
    assert run("two", "--context", store) == 0
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"0 of 1 examples in {store} belong to this study and the task 'left atrium': ")
    export, add = (shlex.split(part) for part in said.split("`")[1::2])
    assert run("two") == 0 and capsys.readouterr().err == ""
    assert main(export[1:]) == 0 and main(add[1:]) == 0
    assert len(Study("two/scans", TASK, model="multiverseg").context) == 1


def test_the_prompts_of_a_file_are_carried_through_the_volume(folder, monkeypatch):
    plain, carried = {"a": CLICKS, "b": [{"click": [20, 22]}]}, "one/scans/annotations/left_atrium"
    monkeypatch.setattr("InteractiveSegLib.annotation.case.OpenCase.can_predict", False)
    assert run("two", **plain) == 0
    assert run("one", "--propagate", **plain) == 0
    masks = [read_image(f"{name}/scans/annotations/left_atrium/a.seg.nrrd").array > 0 for name in ("two", "one")]
    held = [mask.any(axis=(1, 2)) for mask in masks]
    assert held[0].tolist() == [False, True, True, False, False] and held[1].sum() > 2
    said = json.loads(Path(carried, "prompts.json").read_text())["cases"]
    assert said["a"] == [*CLICKS, {"propagate": True}] and {"propagate": True} not in said["b"]
    assert run("one", "--propagate", "--reopen", "a", **plain) == 0, "it goes on: there is nothing left to do"
    nothing = [{"click": [2, 20, 22]}, {"undo": True}]
    assert run("two", "--propagate", "--start-over", "a", a=nothing) == 0
    assert not (read_image("two/scans/annotations/left_atrium/a.seg.nrrd").array > 0).any()


@pytest.mark.parametrize("count", [0, 257, -1, 2.5, True])
def test_another_number_of_examples_than_can_be_is_one_sentence(count):
    with pytest.raises(InteractiveSegError, match="expected 1 to 256"):
        InteractiveSession(np.zeros((8, 8)), model="multiverseg", context=ContextSet(), examples=count)


def test_as_many_examples_are_used_as_the_user_wants(folder, capsys):
    context, image = ContextSet(), np.random.default_rng(0).normal(0, 1, (40, 48))
    for _ in range(20):
        context.add(image, image > 0)
    sessions = [InteractiveSession(image, model="multiverseg", weights="tiny.safetensors", context=context, examples=most,
                                   device="cpu", mode="always") for most in (None, 3, 200)]
    assert [session.plan.examples for session in sessions] == [16, 3, 200]
    assert "with 3 of 20 examples" in sessions[1].plan.sentence
    sessions[1].predict()
    [encoded] = sessions[1]._predictors[0].predictor.examples._encoded
    assert len(encoded[0]) == 3
    assert run("one", "--examples", 300) == 1
    assert "Got 300 examples, expected 1 to 256" in capsys.readouterr().err
    assert run("one", "--examples", 30, b=[{"click": [20, 22]}]) == 0


def test_how_a_session_is_used_is_chosen_when_it_is_made():
    session = InteractiveSession(np.zeros((8, 8)), model="verse", mode="click")
    with pytest.raises(AttributeError):
        session.mode = "auto"
    assert session.mode == "click" and InteractiveSession(np.zeros((8, 8))).mode is None
