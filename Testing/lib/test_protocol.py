"""Packs become the right items, the robot's run is measured as it happened, and the summary says what the rows say."""
from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from InteractiveSegLib.evaluation import report
from InteractiveSegLib.evaluation.calibration import Reliability
from InteractiveSegLib.evaluation.peers import Watershed
from InteractiveSegLib.evaluation.protocol import evaluate, run_item
from InteractiveSegLib.evaluation.tasks import Item, hard_subsets, load_items
from InteractiveSegLib.prompts import Box, Click
from InteractiveSegLib.robot import Robot
from InteractiveSegLib.types import InteractiveSegError


class Painter:
    """A segmenter that answers the n-th prompt with the n-th of the given masks."""

    name = "painter"

    def __init__(self, masks):
        self.masks = masks

    def start(self, image, spacing=None):
        self.prompts = []

    def add(self, prompt):
        self.prompts.append(prompt)
        return self.masks[len(self.prompts) - 1]


def columns(start, stop):
    mask = np.zeros((20, 20), bool)
    mask[:, start:stop] = True
    return mask


def an_item(truth, task="pack/object", subject="1", spacing=None, subsets=()):
    return Item(task, "pack", subject, "a", 0, truth * 100, truth, spacing, subsets)


@pytest.fixture
def a_folder(tmp_path):
    """A pack of 2D images, six slices of three subjects with padding, and a pack with one volume of five slices."""
    images, masks = np.zeros((6, 32, 32), np.uint8), np.zeros((6, 32, 32), np.uint8)
    masks[:, 10:20, 10:20], masks[0, 25, 25] = 1, 2  # label 2 has one pixel: too small to be an item
    images[:, 8:26] = 50 + 100 * masks[:, 8:26]
    np.savez(tmp_path / "2d_made.npz", images=images, masks=masks, roi_yxhw=np.tile([8, 0, 18, 32], (6, 1)),
             subject=np.array(list("aabbcc")), id=np.arange(6).astype(str), labels=json.dumps({"1": "square", "2": "dot"}))
    label = np.zeros((9, 30, 30), np.uint8)
    label[2:7, 5:25, 5:25] = 3
    index = [{"key": "v", "subject": "v", "spacing_zyx_mm": [8.0, 2.0, 1.5], "labels_present": [0, 3]}]
    np.savez(tmp_path / "3d_made.npz", index=json.dumps(index), labels=json.dumps({"3": "cube"}), img_v=label * 9, lab_v=label)
    return tmp_path


def test_an_item_is_the_image_without_its_padding(a_folder):
    items = load_items(a_folder, "*/square")
    assert [item.subject for item in items] == list("aabbcc")
    assert items[0].image.shape == items[0].truth.shape == (18, 32)
    assert items[0].image.min() == 50 and items[0].truth.sum() == 100
    assert items[0].spacing is None


def test_an_object_of_one_pixel_is_no_item_and_a_filter_that_meets_nothing_is_an_error(a_folder):
    with pytest.raises(InteractiveSegError, match="glob"):
        load_items(a_folder, "*/dot")


def test_a_volume_gives_slices_from_its_first_to_its_last(a_folder):
    items = load_items(a_folder / "3d_made.npz")
    assert [item.slice_index for item in items] == [2, 3, 5, 6]
    assert [item.slice_index for item in items if "end-slice" in item.subsets] == [2, 6]
    assert items[0].spacing == (2.0, 1.5) and items[0].task == "3d_made/cube"


def test_few_images_are_spread_over_the_subjects(a_folder):
    for seed in range(5):
        assert {item.subject for item in load_items(a_folder, "*/square", max_images=3, seed=seed)} == set("abc")
    assert len(load_items(a_folder, "*/square", max_images=4)) == 4


def test_a_file_that_is_no_pack_is_one_sentence(tmp_path):
    (tmp_path / "broken.npz").write_text("no zip")
    with pytest.raises(InteractiveSegError, match="not a pack"):
        load_items(tmp_path)


def test_hard_kinds_are_what_their_names_say():
    rows, columns_ = np.mgrid[:100, :100] - 50
    radius = np.hypot(rows, columns_)
    blob = radius < 25
    assert hard_subsets(blob) == ()
    assert hard_subsets(radius < 4) == ("small",)
    assert hard_subsets(blob & (radius > 15), end_slice=True) == ("thin", "ring", "end-slice")
    assert hard_subsets((abs(rows) < 2) & (abs(columns_) < 40)) == ("thin",)
    assert hard_subsets(np.roll(blob, 26, 1) & (columns_ > 5) | np.roll(blob, -26, 1) & (columns_ < -5)) == ("multi-part",)


def test_a_run_records_each_mask_and_stops_when_nothing_is_wrong():
    truth = columns(0, 10)
    segmenter = Painter([columns(0, 5), columns(0, 4), truth])
    run = run_item(segmenter, an_item(truth, spacing=(1.0, 2.0)), Robot("clicks"), cap=20)
    assert run.dice == pytest.approx([2 / 3, 8 / 14, 1])
    assert len(run.seconds) == 3
    assert run.hd95 == {1: 10.0, 5: 0, 10: 0, 20: 0}  # 5 columns of 2 mm short
    assert 0.3 < run.boundary[1] < 1 and run.boundary[5] == run.boundary[20] == 1
    assert all(isinstance(prompt, Click) and prompt.positive for prompt in segmenter.prompts)


def test_the_box_robot_begins_with_a_box_and_corrects_with_clicks():
    truth = columns(5, 10)
    segmenter = Painter([columns(5, 12)] * 3)
    run_item(segmenter, an_item(truth), Robot("box"), cap=3)
    assert [type(prompt) for prompt in segmenter.prompts] == [Box, Click, Click]
    assert not segmenter.prompts[1].positive


def test_the_jittered_hand_moves_alike_for_every_segmenter():
    truth = columns(5, 15)
    hands = [Painter([columns(0, 1)] * 4) for _ in range(3)]
    for hand, seed in zip(hands, (0, 0, 1)):
        run_item(hand, an_item(truth), Robot("clicks", jitter=3), cap=4, seed=seed)
    assert hands[0].prompts == hands[1].prompts != hands[2].prompts


def test_probabilities_are_counted_after_each_number_of_prompts_that_is_shown():
    class Sure(Painter):
        @property
        def probability(self):
            return self.masks[len(self.prompts) - 1].astype(np.float32)

    truth, reliability = columns(5, 10), Reliability()
    segmenters = [Sure([columns(0, 10), truth]), Painter([truth])]
    list(evaluate(segmenters, [an_item(truth)], Robot(), cap=10, reliability=reliability))
    assert sorted(reliability.images) == [("painter", 1), ("painter", 5), ("painter", 10)], "only what has a probability"
    assert reliability.error("painter", 1) == pytest.approx(5 / 15)
    assert reliability.error("painter", 5) == reliability.error("painter", 10) == 0, "what stopped early stays as it was"


def test_rows_are_written_as_they_come_and_the_summary_counts_them(tmp_path):
    truth = columns(0, 10)
    items = [an_item(truth, "pack/a", "1"), an_item(truth, "pack/a", "2", subsets=("small",)), an_item(truth, "pack/b", "1")]
    painter = Painter([columns(0, 5), columns(0, 4), columns(0, 9), columns(0, 8)])  # Dice .67 .57 .95 .89
    rows = report.write_rows(evaluate([painter, Watershed()], items, Robot(), cap=4), tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open() as file:
        assert [line["method"] for line in csv.DictReader(file)] == ["painter", "watershed"] * 3
    summary = {(entry["group"], entry["method"]): entry for entry in report.summarise(rows)}
    entry = summary["pack/a", "painter"]
    assert (entry["images"], entry["subjects"], entry["noc_90"], entry["failed_90"]) == (2, 2, 3, 0)
    assert (entry["noc_95"], entry["failed_95"]) == (4, 2)
    assert entry["dice_1"] == pytest.approx(2 / 3) and entry["worse"] == pytest.approx(2 / 3)
    assert summary[report.ALL_TASKS, "painter"]["images"] == 3
    assert summary["hard: small", "painter"]["images"] == 1
    found = summary["pack/b", "watershed"]["noc_90"]
    table = report.comparison_table(list(summary.values()), "painter")
    assert f"| pack/b | 3.0 | watershed | {found:.1f} | {3 / found:.2f} |" in table
    fewer = sum(summary[task, "watershed"]["noc_90"] > 3 for task in ("pack/a", "pack/b"))
    assert f"Fewer prompts than the best peer on {fewer} of 2 tasks" in table


def test_an_interrupted_run_leaves_the_rows_it_had(tmp_path):
    def two_rows_then_ctrl_c():
        yield {"task": "a"}
        yield {"task": "b"}
        assert (tmp_path / "rows.csv").read_text().split() == ["task", "a", "b"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report.write_rows(two_rows_then_ctrl_c(), tmp_path / "rows.csv")


def test_a_summary_without_corrections_says_so():
    rows = list(evaluate([Painter([columns(0, 10)])], [an_item(columns(0, 10))], Robot(), cap=1))
    (entry,) = report.summarise(rows)
    assert np.isnan(entry["worse"])
    assert "| - |" in report.markdown_table([entry])
