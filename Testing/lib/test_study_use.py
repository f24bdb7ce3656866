"""What a study makes of its accepted cases: what counts as work, which cases disagree, and what was drawn by hand."""
import csv

import numpy as np
import pytest
from annotating import TASK, body, write_study, write_tiny_weights

from InteractiveSegLib import Click
from InteractiveSegLib.annotation import Study


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
