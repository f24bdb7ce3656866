"""`interactive-seg evaluate` and `benchmark` as a person types them, with a small network of random weights."""
from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from InteractiveSegLib.cli import main
from InteractiveSegLib.robot import HABITS


@pytest.fixture
def a_pack(tmp_path):
    rows, columns = np.mgrid[:48, :48]
    masks = np.stack([np.hypot(rows - 20 - n, columns - 24) < 10 for n in range(4)]).astype(np.uint8)
    np.savez(tmp_path / "made.npz", images=masks * 150 + 20, masks=masks, roi_yxhw=np.tile([0, 0, 48, 48], (4, 1)),
             subject=np.array(list("aabb")), id=np.arange(4).astype(str), labels=json.dumps({"1": "disk"}))
    return tmp_path / "made.npz"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import torch
    from safetensors.torch import save_file

    from InteractiveSegLib.models.scribbleprompt import build

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(build((4, 4, 4, 4)).state_dict(), path)
    return path


def test_evaluate_prints_one_table_and_saves_rows_curve_and_provenance(a_pack, weights, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", "--data", str(a_pack), "--weights", str(weights), "--peers", "watershed", "--max-images", "2",
               "--max-prompts", "5", "--device", "cpu", "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "| made/disk | scribbleprompt | 2/2 |" in printed
    assert "| made/disk | watershed | 2/2 |" in printed
    assert "NoC90" in printed and "boundary(5)" in printed and "Dice(5)" in printed and "Dice(10)" not in printed
    with (out / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["scribbleprompt", "watershed"] * 2
    assert all(0 <= float(row["dice_5"]) <= 1 for row in rows)
    record = json.loads((out / "run.json").read_text())
    assert record["images"] == 2 and len(record["weights_sha256"]) == 64 and record["device"] == "cpu"
    assert (out / "curve.png").stat().st_size > 5000
    assert (out / "summary.md").read_text().strip() in printed


@pytest.mark.parametrize("model", ["limnet", "multiverseg"])
def test_the_shipped_weights_of_every_click_family_can_be_evaluated(a_pack, tmp_path, capsys, model):
    assert main(["evaluate", "--data", str(a_pack), "--model", model, "--peers", "none", "--max-images", "1", "--max-prompts=1",
                 "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    assert f"| made/disk | {model} | 1/1 |" in capsys.readouterr().out


def test_the_same_command_gives_the_same_rows_and_each_robot_its_own(a_pack, tmp_path):
    def rows(name, *robot):
        out = tmp_path / name
        assert main(["evaluate", "--data", str(a_pack), "--model", "none", "--peers", "watershed", "--robot", *robot,
                     "--max-prompts", "3", "--out", str(out)]) == 0
        with (out / "rows.csv").open() as file:
            return [{**row, "seconds": ""} for row in csv.DictReader(file)]

    jittered = rows("one", "clicks", "--jitter", "4")
    assert len(jittered) == 4
    assert jittered == rows("two", "clicks", "--jitter", "4")
    assert jittered != rows("three", "clicks")
    assert rows("four", "box") != rows("five", "scribbles")


def test_habits_stand_side_by_side_in_one_table(a_pack, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", "--data", str(a_pack), "--model", "none", "--peers", "watershed", "--robot", "all",
                 "--max-images", "1", "--max-prompts", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for habit in HABITS:
        assert f"| made/disk | watershed, {habit} | 1/1 |" in printed
    with (out / "rows.csv").open() as file:
        assert len({row["dice_1"] for row in csv.DictReader(file)}) > 4, "they do not prompt alike"


def test_calibration_is_a_table_a_file_and_a_picture(a_pack, weights, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", "--data", str(a_pack), "--weights", str(weights), "--peers", "watershed", "--max-images", "1",
                 "--max-prompts", "1", "--calibration", "--device", "cpu", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| scribbleprompt | 1 | 1 | 0." in printed and "| watershed | 1 | 1 |" not in printed
    assert (out / "calibration.png").exists() and (out / "calibration.csv").exists()


def test_the_peers_run_without_a_model(a_pack, tmp_path, capsys):
    assert main(["evaluate", "--data", str(a_pack), "--model", "none", "--peers", "watershed", "--max-prompts", "2",
                 "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "scribbleprompt" not in printed and "watershed" in printed


@pytest.mark.parametrize("extra, words", [
    (["--peers", "lasso-tool"], "choose all, none, or some of"),
    (["--model", "none", "--peers", "none"], "Nothing is left"),
    (["--task", "nothing*", "--model", "none"], "glob"),
    (["--max-prompts", "0"], "count from 1"),
    (["--robot", "clicks,knocks"], "no robot 'knocks'"),
    (["--model", "none", "--calibration"], "needs a probability"),
    (["--model", "unheard-of"], "choose one of"),
])
def test_what_cannot_be_run_is_one_sentence(a_pack, tmp_path, capsys, extra, words):
    assert main(["evaluate", "--data", str(a_pack), "--out", str(tmp_path / "out"), *extra]) == 1
    error = capsys.readouterr().err
    assert words in error and error.startswith("interactive-seg:") and error.count("\n") == 1


def test_benchmark_names_what_it_measured(weights, capsys):
    command = ["benchmark", "--weights", str(weights), "--size", "64", "--prompts", "2", "--device", "cpu", "--threads", "1"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "64 x 64 slice, 1 thread(s)" in printed and "torch" in printed
    methods = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")][1:]
    assert methods[:4] == ["scribbleprompt", "published size, random weights", "watershed", "random-walker"]


def test_benchmark_tells_what_examples_cost_in_processes_of_their_own(tmp_path, capsys):
    import torch
    from safetensors.torch import save_file

    from InteractiveSegLib.models.multiverseg import MultiverSegConfig, MultiverSegNet

    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_file(MultiverSegNet(MultiverSegConfig((4, 4))).state_dict(), path)
    command = ["benchmark", "--context", "2", "--features", "4,4", "--weights", str(path), "--prompts", "1", "--device", "cpu"]
    assert main([*command, "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("| ")][1:]
    assert [row[1] for row in rows] == ["2"] * 4
    assert rows[0][0] == "multiverseg, tiny" and all(float(row[3]) > 0 for row in rows)
    assert "Opening a store of 500 entries" in printed


def test_the_published_way_of_computing_gives_the_same_logits():
    import torch

    from InteractiveSegLib.evaluation.speed import authors_forward
    from InteractiveSegLib.models.multiverseg import MultiverSegConfig, MultiverSegNet

    torch.manual_seed(0)
    network = MultiverSegNet(MultiverSegConfig((6, 6, 4))).eval()
    target, support = torch.rand(1, 5, 32, 32), torch.rand(1, 7, 2, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(authors_forward(network, target, support), network(target, support), atol=1e-5)
