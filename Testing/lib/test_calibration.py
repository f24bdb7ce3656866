"""The reliability table against probabilities whose calibration is known."""
from __future__ import annotations

import csv

import numpy as np
import pytest

from InteractiveSegLib.evaluation.calibration import Reliability, band

DISK = np.hypot(*(np.mgrid[:101, :101] - 50)) <= 20


def reliability_of(*pairs):
    found = Reliability()
    for probability, truth in pairs:
        found.add("ours", 1, probability.astype(np.float32), truth)
    return found


def test_the_band_is_the_object_and_its_radius_around_it():
    near = band(DISK)
    assert near[50, 50] and near[50, 89] and not near[50, 92]
    assert DISK.sum() / near.sum() == pytest.approx(1 / 4, abs=0.02)
    long = np.zeros((60, 60), bool)
    long[10:50, 20:40] = True  # radius of a disk as large: 16
    assert band(long)[30, 5] and not band(long)[30, 2]


def test_a_probability_that_holds_as_often_as_it_says_has_no_error():
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(40):
        probability = rng.uniform(size=(60, 60))
        pairs.append((probability, rng.uniform(size=(60, 60)) < probability))
    found = reliability_of(*pairs)
    pixels, predicted, observed = found.curve("ours", 1)
    assert pixels == pytest.approx(np.full(10, 0.1), abs=0.01)
    assert predicted == pytest.approx(np.arange(0.05, 1, 0.1), abs=0.01)
    assert observed == pytest.approx(predicted, abs=0.03)
    assert found.error("ours", 1) < 0.02


def test_overconfidence_is_what_it_says_too_much():
    truth = np.zeros((40, 40), bool)
    truth[10:30, 10:30] = True
    inside = np.where(truth, 0.7, 0.0)
    assert reliability_of((inside, truth)).error("ours", 1) == pytest.approx(0.3 * truth.sum() / band(truth).sum())
    shifted = np.roll(truth, 5, axis=1).astype(float)  # sure, and right in three of four columns
    share, predicted, observed = reliability_of((shifted, truth)).curve("ours", 1)
    assert predicted[9] == 1 and observed[9] == pytest.approx(0.75)
    assert np.isnan(observed[1:9]).all() and share[1:9].sum() == 0


def test_images_count_alike_however_large_they_are():
    small, large = np.zeros((20, 20), bool), np.zeros((200, 200), bool)
    small[8:12, 8:12], large[80:120, 80:120] = True, True
    errors = [reliability_of((np.full(t.shape, p), t)).error("ours", 1) for p, t in ((0.05, small), (0.95, large))]
    both = reliability_of((np.full(small.shape, 0.05), small), (np.full(large.shape, 0.95), large))
    assert both.error("ours", 1) == pytest.approx(np.mean(errors))


def test_the_table_the_file_and_the_picture_hold_each_method_and_number_of_prompts(tmp_path):
    found = reliability_of((np.where(DISK, 0.85, 0.15), DISK))
    found.add("ours", 5, DISK.astype(float), DISK)
    found.write(tmp_path)
    _, _, first, second = found.table().splitlines()
    assert first.split(" | ")[:4] == ["| ours", "1", "1", "0.150"]
    assert second.split(" | ")[3:5] == ["0.000", "0.00"] and second.endswith("| 1.00 |") and second.count(" - ") == 8
    with (tmp_path / "calibration.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20 and float(rows[8]["observed"]) == 1 and float(rows[8]["probability"]) == pytest.approx(0.85)
    assert (tmp_path / "calibration.png").stat().st_size > 5000
