"""Measuring hearts: absent structures, clicks from an automatic result, ejection fractions, the tables."""
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from shapes import ellipsoid

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.cli import main
from InteractiveSegLib.evaluation.cardiac import automatic_rows, chosen_slices, ejection_fractions, read_hearts, small_slices
from InteractiveSegLib.evaluation.cardiac_report import agreement, automatic_table, click_table, counts
from InteractiveSegLib.models.verse.network import VerSeConfig, build
from InteractiveSegLib.training.recipes.verse import UNetPeerRecipe

SHAPE = (4, 72, 72)


@pytest.fixture
def a_pack(tmp_path):
    """Two phases of one subject and one of another; the first slice shows nothing."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:, 20:50, 20:50], labels[1:, 28:42, 28:42], labels[1:, 20:50, 52:60] = 2, 3, 1
    small = labels.copy()
    small[1:, 28:42, 28:42] = 2
    small[1:, 32:38, 32:38] = 3
    volumes = {"a_01": labels, "a_02": small, "b_01": labels}
    index = [{"key": key, "subject": key[0], "spacing_zyx_mm": [10, 1.5, 1.5]} for key in volumes]
    arrays = {f"lab_{key}": lab for key, lab in volumes.items()}
    arrays.update({f"img_{key}": (60 + 50 * lab).astype(np.uint8) for key, lab in volumes.items()})
    arrays["scr_a_01"] = np.where(ellipsoid(SHAPE, (2, 35, 35), (3, 3, 3)), 3, 4).astype(np.uint8)
    names = {"1": "RV", "2": "myocardium", "3": "LV cavity"}
    np.savez(tmp_path / "3d_acdc_cine_dev.npz", labels=json.dumps(names), index=json.dumps(index), **arrays)
    return tmp_path / "3d_acdc_cine_dev.npz"


def test_what_is_drawn_where_a_structure_is_absent_is_counted_in_millilitres(a_pack):
    hearts = read_hearts(a_pack, 1)
    masks = {target: truth.copy() for target, truth in hearts[0].truth.items()}
    masks["LV"][0, :10, :10] = True
    rows = {row["target"]: row for row in automatic_rows(hearts, "made", lambda heart: masks)}
    assert rows["RV"]["dice"] == rows["RV"]["dice_all"] == 1 and rows["RV"]["extra_ml"] == 0
    assert rows["LV"]["dice"] == 1, "the paper's measure does not see it"
    assert rows["LV"]["dice_all"] == 0.75 and rows["LV"]["dice_3d"] < 1
    assert rows["LV"]["extra_ml"] == pytest.approx(100 * 22.5 / 1000) and rows["LV"]["absent"] == 1
    assert "| made | mean |" in automatic_table(list(rows.values()))


def test_the_slices_that_are_clicked_show_the_structure_from_end_to_end():
    truth = np.zeros((9, 20, 20), bool)
    truth[2:8, 5:15, 5:15] = True
    truth[8, 0, :3] = True
    assert chosen_slices(truth, 3).tolist() == [3, 5, 7]
    assert chosen_slices(truth, 1).tolist() == [5], "one slice is the middle one, not the first"
    assert chosen_slices(truth, 99).tolist() == [2, 3, 4, 5, 6, 7], "three pixels are no task"
    assert chosen_slices(np.zeros_like(truth), 3).tolist() == []


def test_small_slices_are_told_apart(a_pack):
    truth = np.zeros((5, 20, 20), bool)
    truth[1, 5:8, 5:8] = truth[2:4, 5:15, 5:15] = truth[4, 5:15, 5:9] = True
    assert small_slices(truth).tolist() == [False, True, False, False, True], "an empty slice is none"
    heart = read_hearts(a_pack, 1)[0]
    heart.truth.clear()
    heart.truth["LV"] = truth
    mask = truth.copy()
    mask[[1, 3]] = False
    [row] = automatic_rows([heart], "made", lambda heart: {"LV": mask})
    assert row["dice_small"] == 0.5 and row["dice"] == 0.5
    [row] = automatic_rows([heart], "made", lambda heart: {"LV": np.where(np.arange(5)[:, None, None] == 4, False, truth)})
    assert row["dice_small"] == 0.5 and row["dice"] == 0.75


def test_tables_have_intervals_over_subjects_and_rows_for_small_slices():
    curve = {f"dice_{n}": 0.95 for n in range(1, 21)}
    rows = [{"method": "made", "target": "LV", "subject": subject, "small": small, "dice_0": value, **curve}
            for subject, small, value in (("a", 0, 0.8), ("a", 1, 0.2), ("b", 0, 0.9), ("b", 0, 0.9))]
    table = click_table(rows, "other").splitlines()
    assert table[2].startswith("| made | LV | 4 | 2 | 0.700 [0.500, 0.900] |")
    assert table[3].startswith("| made | mean, small slices | 1 | 1 | 0.200 |"), "one subject has no interval"
    same = {"method": "made", "target": "LV", "dice_small": float("nan"), "dice_3d": 1.0, "dice_all": 1.0, "absent": 0}
    volumes = [{**same, "subject": s, "key": s, "dice": value, "extra_ml": 0.0} for s, value in (("a", 0.5), ("b", 0.7))]
    assert "| made | LV | 2 | 0.600 [0.500, 0.700] | - |" in automatic_table(volumes)


def test_an_automatic_result_that_is_right_needs_no_click():
    row = {"dice_0": 0.93, **{f"dice_{n}": 0.94 + 0.001 * n for n in range(1, 21)}}
    assert [counts(row, target, named=True) for target in (0.90, 0.95)] == [0, 10]
    assert counts(row, 0.90, named=False) == 1 and counts(row, 0.99, named=True) == 20


def test_ejection_fractions_are_compared_by_subject(a_pack):
    hearts = read_hearts(a_pack)
    rows = list(automatic_rows(hearts, "made", lambda heart: heart.truth))
    fractions = ejection_fractions(rows)
    assert [f["subject"] for f in fractions] == ["a"], "one phase has no ejection fraction"
    assert fractions[0]["true"] == fractions[0]["ours"] == pytest.approx(100 * (1 - 36 / 196))
    mean, low, high = agreement([{"true": 50, "ours": 53}, {"true": 60, "ours": 59}])
    assert mean == 1 and high - mean == pytest.approx(1.96 * np.sqrt(8)) and low == pytest.approx(2 - high)


def test_published_numbers_stand_beside_and_are_marked():
    row = {"method": "made", "target": "LV", "subject": "a", "small": 0, **{f"dice_{n}": 0.9 for n in range(21)}}
    table = click_table([row], "3d_acdc_cine_dev")
    assert "VerSe click, as published | mean | - | - | - | 0.898 | 0.967 | 1.49 | 2.35 | 6.48 |" in table
    assert "published" not in click_table([row], "other")


def test_the_command_measures_every_mode_and_prints_the_tables(a_pack, tmp_path, capsys):
    torch.manual_seed(0)
    network = build(VerSeConfig(base=8, width=64, feedforward=32, rounds=1))
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, tmp_path / "tiny.safetensors")
    out = tmp_path / "out"
    arguments = ["--data", str(a_pack), "--out", str(out), "--volumes", "1", "--slices", "1",
                 "--parts", "automatic,click,auto+click,scribbles", "--weights", str(tmp_path / "tiny.safetensors")]
    assert main(["hearts", *arguments]) == 0
    printed = capsys.readouterr().out
    for words in ("| VerSe auto | myocardium | 1 |", "| VerSe auto+click | mean |", "| VerSe click | RV | 1 | 1 |",
                  "expert's scribble", "| LV | 1 |"):
        assert words in printed
    assert (out / "summary.md").read_text().strip() in printed and (out / "VerSe-click.csv").exists()


def test_an_automatic_u_net_stands_beside_it(a_pack, tmp_path, capsys):
    torch.manual_seed(0)
    save_file(UNetPeerRecipe(tmp_path).build().state_dict(), tmp_path / "unet.safetensors")
    assert main(["hearts", "--data", str(a_pack), "--out", str(tmp_path / "out"), "--volumes", "1", "--parts", "automatic",
                 "--unet", str(tmp_path / "unet.safetensors")]) == 0
    assert "| U-Net | myocardium | 1 |" in capsys.readouterr().out


def test_a_pack_without_hearts_is_refused(tmp_path):
    np.savez(tmp_path / "liver.npz", labels=json.dumps({"1": "liver"}), index="[]")
    with pytest.raises(InteractiveSegError, match="give a pack of hearts"):
        read_hearts(tmp_path / "liver.npz")
    with pytest.raises(InteractiveSegError, match="not a pack of volumes"):
        read_hearts(tmp_path / "none.npz")
