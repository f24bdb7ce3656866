"""The experiment of `interactive-seg refine`: a robot user corrects a label map of several classes."""
import json

import numpy as np
import pytest
from shapes import ellipsoid

from InteractiveSegLib import InteractiveSession
from InteractiveSegLib.cli import main
from InteractiveSegLib.evaluation import refinement
from InteractiveSegLib.weights import shipped_file

NAMES = ("anterior", "posterior")
SHAPE = (24, 32, 24)


def a_case(subject="s1"):
    """An ellipsoid of two halves that stand out."""
    truth = ellipsoid(SHAPE, (12, 16, 12), (7, 11, 6)) * (1 + (np.arange(SHAPE[1]) >= 16)[None, :, None])
    image = np.random.default_rng(0).normal(60 + 60 * truth, 8).astype(np.float32)
    return refinement.Case(f"{subject}/a", subject, image, truth.astype(np.uint8), (1.0, 1.0, 1.0))


def a_session(case, model="scribbleprompt"):
    return InteractiveSession(case.image, case.spacing, model=model, targets=NAMES, device="cpu")


def a_pack(path):
    cases = [a_case("s1"), a_case("s2")]
    index = [{"key": f"c{n}", "subject": c.subject, "spacing_zyx_mm": c.spacing} for n, c in enumerate(cases)]
    arrays = {f"{kind}_c{n}": array for n, c in enumerate(cases) for kind, array in (("img", c.image), ("lab", c.truth))}
    labels = {str(n): name for n, name in enumerate(NAMES, start=1)}
    np.savez(path, index=json.dumps(index), labels=json.dumps(labels), **arrays)
    return path


def test_a_damaged_start_gets_better_with_clicks_and_a_right_one_needs_none():
    case = a_case()
    truth = case.truth.copy()
    rng = np.random.default_rng(0)
    right = refinement.correct(a_session(case), truth, truth, NAMES, 2, rng)
    assert right.seconds == []
    assert np.array_equal(right.dice, np.ones((3, 2)))
    start = truth * (np.arange(SHAPE[0]) != 12)[:, None, None].astype(np.uint8)
    course = refinement.correct(a_session(case), truth, start, NAMES, 1, rng)
    assert course.dice.shape == (2, 2)
    assert len(course.seconds) == 2
    assert (course.dice[-1] > course.dice[0]).all()
    assert course.harmed == 0


def test_a_peer_with_a_memory_carries_a_corrected_slice_to_its_neighbours():
    case = a_case()
    session = a_session(case, model="limnet")
    session.set_labels(case.truth * (np.arange(SHAPE[0]) == 12)[:, None, None])
    shown = np.flatnonzero(session.labels.any(axis=(1, 2)))
    assert shown.tolist() == [12]
    refinement.carry(session, 12)
    reached = np.flatnonzero(session.labels.any(axis=(1, 2)))
    assert set(reached) <= set(range(12 - refinement.CARRIED, 13 + refinement.CARRIED))
    assert len(reached) > 1
    before = session.labels.copy()
    refinement.carry(session, 0)
    assert np.array_equal(session.labels, before), "an empty slice has nothing to carry"


def test_the_table_says_what_share_of_the_error_the_clicks_removed():
    rows = [{"source": s, "subject": s, "start": "automatic", "method": "TIS", "class": "a", "seconds": 0.2, "clicks": 2,
             "harmed": 1, "dice_0": 0.8, "dice_1": 0.85, "dice_2": 0.9, "dice_3": 0.95} for s in ("s1", "s2")]
    line = refinement.table(rows).splitlines()[2]
    assert line == "| automatic | a | TIS | 2 | 0.800 [0.800, 0.800] | 0.850 | 0.950 | 75% | 0.20 |"
    assert refinement.harm(rows, "TIS").startswith("TIS: 2 of 4 clicks")


def test_the_command_compares_tis_with_peers_on_damaged_starts(tmp_path, capsys):
    command = ["refine", "--data", str(a_pack(tmp_path / "pack.npz")), "--out", str(tmp_path / "out"), "--clicks", "1",
               "--starts", "automatic,shifted", "--max-volumes", "1", "--device", "cpu", "--threads", "1"]
    assert main(command) == 0
    said = capsys.readouterr().out
    for start in ("automatic", "shifted"):
        for method in ("TIS", "scribbleprompt"):
            assert f"| {start} | posterior | {method} | 1 |" in said
    assert (tmp_path / "out" / "curve.png").stat().st_size > 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["volumes"] == 1


def test_weights_of_several_runs_keep_apart_in_the_table(tmp_path, capsys):
    runs = [tmp_path / name / "weights.safetensors" for name in ("whole", "part")]
    for path in runs:
        path.parent.mkdir()
        path.write_bytes(shipped_file("tis-hippocampus").read_bytes())
    command = ["refine", "--data", str(a_pack(tmp_path / "pack.npz")), "--out", str(tmp_path / "out"), "--clicks", "1",
               "--max-volumes", "1", "--peers", "none", "--device", "cpu", "--threads", "1", "--ablations", *map(str, runs)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert all(f"| automatic | anterior | {method} | 1 |" in said for method in ("TIS", "whole", "part"))


@pytest.mark.parametrize(("options", "said"), [
    (["--clicks", "0"], "at least 1 click"),
    (["--starts", "upside down"], "automatic, eroded"),
])
def test_options_that_make_no_sense_are_refused_in_one_sentence(options, said, tmp_path, capsys):
    pack = a_pack(tmp_path / "pack.npz")
    assert main(["refine", "--data", str(pack), "--out", str(tmp_path / "out"), *options]) == 1
    assert said in capsys.readouterr().err
    assert main(["refine", "--data", str(tmp_path / "run.json"), "--out", str(tmp_path / "out")]) == 1
