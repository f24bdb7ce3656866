"""Volumes on the command line: `segment --propagate`, the robot's rounds, `volumes` with its peers, and speed."""
import csv
import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from brightness import bright, see_brightness
from shapes import affine_of, ellipsoid, overlap

from InteractiveSegLib import InteractiveSession
from InteractiveSegLib.cli import main
from InteractiveSegLib.demo_study import write_volume
from InteractiveSegLib.evaluation.volumes import reach
from InteractiveSegLib.evaluation.volumes.items import Volume, load_volumes
from InteractiveSegLib.evaluation.volumes.peers import fill_between, grow_from_seeds, has_slicer
from InteractiveSegLib.evaluation.volumes.protocol import Contouring, Interpolating, Propagating, Refining, evaluate
from InteractiveSegLib.evaluation.volumes.report import table
from InteractiveSegLib.io import read_image, write_segmentation
from InteractiveSegLib.phantoms import Phantom
from InteractiveSegLib.robot_rounds import next_click, play

SHAPE = (14, 60, 72)
BALL = ellipsoid(SHAPE, (7, 28, 40), (4.5, 14, 14))
AFFINE = affine_of((12, -7, 30), (1, 1, 3))
needs_slicer = pytest.mark.skipif(not has_slicer(), reason="needs slicer-core")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder, made the current one, with a volume and the right mask; LIM-Net's networks see brightness."""
    monkeypatch.chdir(tmp_path)
    see_brightness(monkeypatch)
    image = bright(BALL).astype(np.int16)
    write_volume(tmp_path / "a.nii.gz", Phantom(image, np.zeros(SHAPE, np.uint8), AFFINE, {}, "MR", (0.0, 300.0)))
    write_segmentation("truth.nii.gz", BALL, AFFINE, [])
    return tmp_path


def segment(*words):
    return main(["segment", "a.nii.gz", "-o", "out.nrrd", *words])


def test_a_click_and_propagate_fill_the_volume(files, capsys):
    assert segment("--click", "7,28,40", "--propagate") == 0
    assert overlap(read_image("out.nrrd").array > 0, BALL) > 0.85
    assert "slices touched: 1" in capsys.readouterr().out


def test_slices_are_where_the_volume_was_scanned_unless_an_axis_is_chosen(files, capsys):
    sagittal = AFFINE @ np.eye(4)[[2, 0, 1, 3]].T  # the thick axis is the file's first one, as in a reoriented sagittal scan
    image = np.moveaxis(bright(BALL), 0, 2).astype(np.int16)
    write_volume(files / "a.nii.gz", Phantom(image, np.zeros(image.shape, np.uint8), sagittal, {}, "MR", (0.0, 300.0)))
    for words, axis in (((), 2), (("--axis", "J"), 1)):
        assert segment("--click", "28,40,7", *words) == 0
        held = np.nonzero(read_image("out.nrrd").array)
        assert [len(set(places)) == 1 for places in held] == [n == axis for n in range(3)]


@needs_slicer
def test_a_measured_click_answers_on_its_slice_along_k_whatever_the_voxels_are(files):
    volume = Volume("p/ball", "p", "a", "a", bright(BALL), BALL, (1.0, 1.0, 3.0))
    first = next(Interpolating("fill").rounds(volume))
    assert len(set(np.nonzero(first)[0])) == 1 and first.sum() > 100


@pytest.mark.parametrize(("mode", "shown"), [("auto+click", [5, 6, 7, 8]), ("click", [7])])
def test_what_is_known_by_name_is_there_before_the_first_click(files, monkeypatch, mode, shown):
    named = np.zeros(SHAPE, bool)
    named[5:9] = BALL[5:9]

    def predict(requests):
        return [np.where(named[r.key[1]] | (BALL[r.key[1]] & bool(r.prompts)), 6.0, -6.0) for r in requests]

    monkeypatch.setattr("InteractiveSegLib.session.make_predictor", lambda setting, adopt: SimpleNamespace(predict=predict))
    assert segment("--model", "verse", "--target", "LV", "--mode", mode, "--click", "7,28,40") == 0
    found = read_image("out.nrrd").array > 0
    assert np.flatnonzero(found.any(axis=(1, 2))).tolist() == shown and np.array_equal(found[7], BALL[7])


def test_the_robot_plays_rounds_and_says_how_good_each_is(files, capsys):
    assert segment("--interactive-rounds", "3", "--reference", "truth.nii.gz") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("round ")]
    assert len(said) == 3
    assert float(said[-1].split()[-1]) == pytest.approx(overlap(read_image("out.nrrd").array > 0, BALL), abs=1e-4)


@pytest.mark.parametrize("words", [["--interactive-rounds", "2"], ["--reference", "truth.nii.gz", "--click", "7,28,40"],
                                   ["--interactive-rounds", "0", "--reference", "truth.nii.gz"]])
def test_rounds_and_reference_belong_together(files, words, capsys):
    assert segment(*words) == 1
    assert "give both or none" in capsys.readouterr().err


def test_the_click_goes_to_the_worst_slice_and_says_what_is_missing_there():
    rng, nothing = np.random.default_rng(0), np.zeros(SHAPE, bool)
    first = next_click(BALL, nothing, rng)
    assert first.position == (7, 28, 40) and first.positive
    spill = BALL.copy()
    spill[3, 5:50, 5:60] = True
    mended = next_click(BALL, spill, rng)
    assert mended.position[0] == 3 and not mended.positive and not BALL[mended.position]
    assert next_click(BALL, BALL, rng) is None
    assert next_click(BALL, nothing, rng, axis=2).position[2] == 40


def test_the_robot_stops_when_all_is_right(files):
    session = InteractiveSession(bright(BALL))
    session.set_mask(BALL)
    assert list(play(session, BALL)) == []


def a_pack(path):
    labels = np.where(BALL, 1, 0).astype(np.uint8)
    labels[:, :8, :8] = 2
    arrays = {"index": json.dumps([
        {"key": key, "subject": key[0], "spacing_zyx_mm": [3, 1, 1], "labels_present": [0, 1, 2]} for key in ("a1", "a2", "b1")])}
    for n, key in enumerate(("a1", "a2", "b1")):
        arrays[f"img_{key}"], arrays[f"lab_{key}"] = bright(BALL, seed=n).astype(np.uint8), labels
    np.savez(path, labels=json.dumps({"0": "ground", "1": "ball", "2": "corner"}), **arrays)


def test_volumes_come_from_as_many_subjects_as_there_are(tmp_path):
    a_pack(tmp_path / "p.npz")
    assert [v.task for v in load_volumes(tmp_path)] == ["p/ball"] * 3 + ["p/corner"] * 3
    two = load_volumes(tmp_path, "*/ball", max_volumes=2)
    assert {v.subject for v in two} == {"a", "b"}
    assert np.array_equal(two[0].truth, BALL) and two[0].spacing == (3, 1, 1)


def test_the_volumes_command_writes_rows_table_and_curve(files, capsys):
    a_pack(files / "p.npz")
    words = ["volumes", "--data", "p.npz", "--task", "*/ball", "--max-volumes", "1", "--rounds", "2", "--out", "results"]
    assert main([*words, "--methods", "scribbleprompt"]) == 0
    assert "| p/ball | 1 | ScribblePrompt, propagated | 0." in capsys.readouterr().out
    assert {path.name for path in (files / "results").iterdir()} == {"rows.csv", "summary.md", "curve.png", "run.json"}
    assert json.loads((files / "results" / "run.json").read_text())["command"].startswith("interactive-seg")
    for words, sentence in ((["--methods", "magic"], "no method 'magic'"), (["--task", "*/heart"], "matches '*/heart'"),
                            (["--rounds", "0"], "count from 1"), (["--methods", "verse"], "No method of verse knows")):
        assert main(["volumes", "--data", "p.npz", "--out", "results", "--methods", "scribbleprompt", *words]) == 1
        assert sentence in capsys.readouterr().err


def test_hearts_are_found_by_name_and_other_objects_are_left_to_other_methods(files, capsys):
    a_pack(files / "p.npz")
    with np.load(files / "p.npz") as pack:
        arrays = dict(pack)
    np.savez(files / "p.npz", **{**arrays, "labels": json.dumps({"0": "ground", "1": "ball", "2": "left atrium"})})
    words = ["volumes", "--data", "p.npz", "--max-volumes", "1", "--rounds", "1", "--out", "results"]
    assert main([*words, "--methods", "scribbleprompt,verse,verse-slices,tis"]) == 0
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    ours, named = "ScribblePrompt, propagated", "VerSe by name then click, "
    found = [line[2] for line in lines if line[0] == "| p/left atrium"]
    assert found == [ours, f"{named}propagated", f"{named}slice by slice", "TIS by itself, then clicks"]
    assert [line[2] for line in lines if line[0] == "| p/ball"] == [ours]
    assert main([*words, "--methods", "verse-slices"]) == 0
    assert "\n1 volumes, saved in" in capsys.readouterr().out, "the ball is none of VerSe's"


def test_each_click_corrects_tis_own_result_of_the_volumes_structure(tmp_path):
    a_pack(tmp_path / "p.npz")
    ball = load_volumes(tmp_path, "*/ball", max_volumes=1)[0]
    assert not Refining("").knows(ball)
    atrium = dataclasses.replace(ball, task="p/left atrium", truth=np.roll(ball.truth, 5, axis=1))
    assert Refining("").knows(atrium)
    wrong = [np.count_nonzero(mask ^ atrium.truth) for mask, _ in zip(Refining("").rounds(atrium), range(3))]
    assert wrong[0] > wrong[1] > wrong[2]


def test_reach_counts_the_slices_that_one_true_slice_was_carried_to(files, capsys):
    a_pack(files / "p.npz")
    words = ["volumes", "--data", "p.npz", "--task", "*/ball", "--max-volumes", "1", "--out", "results", "--reach"]
    assert main(words) == 0
    shown = BALL.any(axis=(1, 2)).sum()
    assert re.search(rf"\| p/ball \| 1 \| LIM-Net \| \d\.0 \| {shown - 1}\.0 \| [01]\.\d\d", capsys.readouterr().out)
    with (files / "results" / "rows.csv").open() as rows:
        ours, copy = csv.DictReader(rows)
    assert float(ours["dice"]) > float(copy["dice"])  # a ball's slices grow smaller; a copy does not
    start = reach.widest(BALL)
    gap = BALL.copy()
    gap[start + 1] = False  # a slice that was lost, and a perfect one behind it
    volume = Volume("p/ball", "p", "a", "a", BALL, BALL, (3.0, 1.0, 1.0))
    found = reach.measure(volume, gap)
    assert found["reached"] == np.flatnonzero(BALL.any(axis=(1, 2))).tolist().index(start) and found["of"] == shown - 1
    assert found["dice_1"] == 0.5 and found["dice_2"] == 1


def test_the_weights_that_are_given_are_those_that_carry_masks(tmp_path, capsys):
    a_pack(tmp_path / "p.npz")
    (tmp_path / "xmem.pth").write_bytes(b"no weights")
    words = ["volumes", "--data", str(tmp_path / "p.npz"), "--max-volumes", "1", "--methods", "scribbleprompt"]
    assert main([*words, "--out", str(tmp_path), "--memory-weights", str(tmp_path / "xmem.pth")]) == 1
    assert "xmem.pth cannot be read as weights" in capsys.readouterr().err


def test_rows_hold_the_dice_of_every_round_and_the_table_their_mean(files):
    volumes = [Volume("p/ball", "p", str(n), str(n), bright(BALL, seed=n), BALL, (3.0, 1.0, 1.0)) for n in range(2)]
    rows = list(evaluate([Propagating("ours", "scribbleprompt")], volumes, rounds=2))
    assert [row["method"] for row in rows] == ["ours", "ours"]
    assert all(0.7 < row["dice_1"] <= 1 and 0.7 < row["dice_2"] <= 1 for row in rows)
    mean = np.mean([row["dice_1"] for row in rows])
    assert f"| p/ball | 2 | ours | {mean:.3f} |" in table(rows)


@needs_slicer
def test_slicer_s_fill_between_slices_is_itself():
    cylinder = np.zeros((9, 20, 20), bool)
    cylinder[1:8, 5:12, 6:13] = True
    two = np.zeros_like(cylinder)
    two[[1, 7]] = cylinder[[1, 7]]
    assert np.array_equal(fill_between(two), cylinder)
    assert np.array_equal(fill_between(two[:5]), two[:5]), "one slice has nothing between"


@needs_slicer
def test_perfect_contours_get_better_with_their_number():
    volume = Volume("p/ball", "p", "a", "a", bright(BALL), BALL, (3.0, 1.0, 1.0))
    found = [overlap(mask, BALL) for mask, _ in zip(Contouring().rounds(volume), range(6))]
    assert found[5] > found[2] > found[0] and found[5] > 0.9


@needs_slicer
def test_slicer_s_grow_from_seeds_fills_what_is_bright():
    grown = grow_from_seeds(bright(BALL), [((7, 28, 40), True), ((7, 50, 60), False)])
    assert overlap(grown, BALL) > 0.9
