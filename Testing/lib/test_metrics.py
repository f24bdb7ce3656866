"""Every measure against numbers worked out by hand, and HD95 against MONAI's."""
from __future__ import annotations

import numpy as np
import pytest

from InteractiveSegLib.evaluation.metrics import boundary_dice, dice, filled_curve, got_worse, hd95, mean_interval, noc
from InteractiveSegLib.types import InteractiveSegError


def square(start, stop, size=20):
    mask = np.zeros((size, size), bool)
    mask[start:stop, start:stop] = True
    return mask


EMPTY = np.zeros((20, 20), bool)


def test_dice_is_twice_the_overlap_by_the_sum():
    mask, truth = np.zeros((1, 10), bool), np.zeros((1, 10), bool)
    mask[0, :4], truth[0, 2:8] = True, True  # 4 and 6 pixels, 2 in common
    assert dice(mask, truth) == pytest.approx(0.4)
    assert dice(truth, truth) == 1
    assert dice(EMPTY, square(2, 4)) == 0
    assert dice(EMPTY, EMPTY) == 1


def test_masks_of_another_shape_or_type_are_refused():
    with pytest.raises(InteractiveSegError, match="bool arrays of one shape"):
        dice(EMPTY, EMPTY[:10])
    with pytest.raises(InteractiveSegError, match="uint8"):
        hd95(EMPTY.astype(np.uint8), EMPTY)


def test_hd95_of_a_shifted_column_is_the_shift_in_millimetres():
    mask, truth = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    mask[:, 10], truth[:, 13] = True, True
    assert hd95(mask, truth) == 3
    assert hd95(mask, truth, spacing=(1.0, 0.5)) == 1.5
    assert hd95(truth, truth) == 0


def test_hd95_takes_the_worse_direction():
    truth, mask = square(5, 10), square(5, 10)
    mask[:, 19] = True  # far from the truth, while every border pixel of the truth lies on the mask's
    assert hd95(mask, truth) == hd95(truth, mask) > 9


def test_hd95_forgives_the_last_twentieth():
    truth = np.zeros((30, 100), bool)
    truth[0] = True
    mask = truth.copy()
    mask[29, 50:53] = True  # 3 of 103 border pixels are 29 away
    assert hd95(mask, truth) == 0


def test_hd95_of_an_empty_mask_is_the_image_diagonal():
    assert hd95(EMPTY, EMPTY) == 0
    assert hd95(EMPTY, square(2, 5)) == hd95(square(2, 5), EMPTY) == pytest.approx(np.hypot(20, 20))
    assert hd95(EMPTY, square(2, 5), (3.0, 4.0)) == pytest.approx(100)


def test_hd95_agrees_with_monai():
    import torch
    from monai.metrics import compute_hausdorff_distance
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    for _ in range(5):
        mask, truth = (gaussian_filter(rng.normal(size=(48, 40)), 3) > 0 for _ in range(2))
        one_hot = [torch.from_numpy(np.stack([~array, array]))[None].float() for array in (mask, truth)]
        theirs = compute_hausdorff_distance(*one_hot, percentile=95, spacing=(2.0, 1.5))
        assert hd95(mask, truth, (2.0, 1.5)) == pytest.approx(float(theirs), abs=1e-4)


def test_the_boundary_dice_counts_border_pixels_within_the_tolerance():
    mask, truth = np.zeros((20, 40), bool), np.zeros((20, 40), bool)
    mask[:, 10], truth[:, 13] = True, True
    assert boundary_dice(mask, truth, 2) == 0
    assert boundary_dice(mask, truth, 3) == 1
    truth[15:, 13], truth[15:, 11] = False, True  # a quarter of the one border, and what is near it of the other
    assert boundary_dice(mask, truth, 2) == pytest.approx((6 + 5) / 40), "row 14 of the mask is one step from row 15 of the truth"
    assert boundary_dice(EMPTY, EMPTY) == boundary_dice(square(2, 9), square(2, 9)) == 1
    assert boundary_dice(EMPTY, square(2, 5)) == boundary_dice(square(2, 5), EMPTY) == 0
    with pytest.raises(InteractiveSegError, match="one shape"):
        boundary_dice(EMPTY, EMPTY[:10])


def test_the_boundary_dice_agrees_with_monai():
    import torch
    from monai.metrics import compute_surface_dice
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    for _ in range(5):
        mask, truth = (gaussian_filter(rng.normal(size=(48, 40)), 3) > 0 for _ in range(2))
        one_hot = [torch.from_numpy(np.stack([~array, array]))[None].float() for array in (mask, truth)]
        theirs = compute_surface_dice(*one_hot, class_thresholds=[2.0])
        assert boundary_dice(mask, truth, 2.0) == pytest.approx(float(theirs), abs=1e-6)


def test_number_of_clicks_counts_a_failure_as_the_cap():
    curve = [0.5, 0.8, 0.85, 0.7, 0.92]
    assert noc(curve, 0.80, cap=20) == (2, False)
    assert noc(curve, 0.90, cap=20) == (5, False)
    assert noc(curve, 0.95, cap=20) == (20, True)
    assert noc(curve, 0.90, cap=4) == (4, True)
    assert noc([1.0], 0.95, cap=20) == (1, False)


def test_a_run_that_stopped_early_keeps_its_last_dice():
    assert filled_curve([0.5, 1.0], 4).tolist() == [0.5, 1.0, 1.0, 1.0]
    assert filled_curve([0.1, 0.2, 0.3], 2).tolist() == [0.1, 0.2]


def test_a_prompt_harms_when_dice_falls_by_more_than_a_thousandth():
    assert got_worse([0.5, 0.7, 0.6, 0.5995, 0.8]) == (1, 4)
    assert got_worse([0.9]) == (0, 0)


def test_the_mean_counts_images_within_a_task_and_tasks_equally():
    values, tasks = [0.0, 0.0, 0.6, 1.0], ["a", "a", "a", "b"]
    mean, low, high = mean_interval(values, tasks, ["p", "p", "p", "q"], ["1", "1", "2", "1"])
    assert mean == pytest.approx((0.2 + 1.0) / 2)
    assert low < mean < high


def test_slices_of_one_subject_do_not_narrow_the_interval():
    rng = np.random.default_rng(1)
    of_subject = rng.normal(size=12)
    subjects = [str(n) for n in range(12)]
    once = mean_interval(of_subject, ["t"] * 12, ["p"] * 12, subjects)
    tenfold = mean_interval(np.repeat(of_subject, 10), ["t"] * 120, ["p"] * 120, np.repeat(subjects, 10))
    assert tenfold == pytest.approx(once)
    spread = of_subject.std() / np.sqrt(12)
    assert once[2] - once[1] == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_a_subject_is_drawn_into_all_tasks_of_its_pack_at_once():
    values = np.concatenate([np.arange(10.0), -np.arange(10.0)])  # opposite in two tasks: the mean of tasks cannot vary
    subjects = [str(n) for n in range(10)] * 2
    together = mean_interval(values, ["a"] * 10 + ["b"] * 10, ["p"] * 20, subjects)
    assert together == pytest.approx((0, 0, 0), abs=1e-12)
    apart = mean_interval(values, ["a"] * 10 + ["b"] * 10, ["p"] * 10 + ["q"] * 10, subjects)
    assert apart[2] - apart[1] > 1


def test_one_subject_alone_has_no_interval():
    mean, low, high = mean_interval([0.2, 0.4], ["t"] * 2, ["p"] * 2, ["1", "1"])
    assert mean == pytest.approx(0.3) and np.isnan([low, high]).all()


def test_a_weighted_mean_is_the_share_of_all_prompts():
    mean, low, high = mean_interval([1, 0], ["t"] * 2, ["p"] * 2, ["1", "2"], weights=[19, 1])
    assert mean == pytest.approx(0.05)
    assert low == 0 and high == pytest.approx(1 / 19)
    assert np.isnan(mean_interval([0], ["t"], ["p"], ["1"], weights=[0])).all()
