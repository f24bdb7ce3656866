"""Choosing examples for a target, and finding the example that disagrees with the rest."""
from __future__ import annotations

import numpy as np
import pytest
from shapes import ellipsoid

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.context import ContextSet, Provenance
from InteractiveSegLib.context.outliers import doubt, find_outliers, leave_one_out
from InteractiveSegLib.context.selection import choose, choose_described, describe


def a_slice(centre, shape=(96, 120), level=100, seed=0):
    """(image, mask): a bright disk at `centre`, given as shares of the shape."""
    mask = ellipsoid(shape, tuple(c * n for c, n in zip(centre, shape)), (0.15 * min(shape),) * 2)
    return np.random.default_rng(seed).normal(0, 5, shape) + level * mask, mask


def test_what_looks_like_the_target_comes_first_at_any_size_and_brightness():
    left = [a_slice((0.5, 0.3), seed=n)[0] for n in range(3)]
    right = [a_slice((0.5, 0.8), shape=(150, 210), level=900, seed=9 + n)[0] for n in range(3)]
    target = a_slice((0.5, 0.78), level=30, seed=77)[0] + 1000
    assert choose(left + right, target, 1)[0] >= 3
    assert choose(left + right, a_slice((0.5, 0.3), seed=5)[0], 1)[0] < 3


def test_copies_of_one_example_do_not_crowd_out_another_view():
    alike, other = a_slice((0.5, 0.42))[0], a_slice((0.5, 0.6), seed=3)[0]
    chosen = choose([alike] * 6 + [other], a_slice((0.5, 0.5), seed=4)[0], 2)
    assert sorted(index == 6 for index in chosen) == [False, True]


def test_every_example_is_chosen_at_most_once_and_all_of_them_when_they_fit():
    images = [a_slice((0.2 + 0.05 * n, 0.5), seed=n)[0] for n in range(9)]
    for count in (0, 4, 9, 30):
        chosen = choose(images, images[4], count)
        assert len(chosen) == len(set(chosen)) == min(count, 9)
    assert choose(images, images[4], 3)[0] == 4
    assert choose([], images[0], 5) == []


def test_one_more_example_keeps_those_chosen_before():
    vectors = np.array([describe(a_slice((0.3 + 0.01 * n, 0.4), seed=n)[0]) for n in range(30)])
    assert choose_described(vectors, vectors[3], 12)[:5] == choose_described(vectors, vectors[3], 5)


@pytest.mark.parametrize("image", [np.zeros((30, 40)), np.full((5, 3), 7, np.int16), np.eye(1, dtype=bool)])
def test_constant_and_tiny_slices_have_a_description(image):
    assert np.isfinite(describe(image)).all()
    assert choose([image, a_slice((0.5, 0.5))[0]], image, 2)


def test_what_is_no_slice_or_no_count_is_one_sentence():
    with pytest.raises(InteractiveSegError, match="one slice"):
        describe(np.zeros((2, 3, 4)))
    with pytest.raises(InteractiveSegError, match="0 or more"):
        choose([np.eye(9)], np.eye(9), -1)


def by_brightness(examples, image, spacing):
    """Predicts with the threshold on which its examples' masks agree best: a learner without a network."""
    cuts = np.linspace(-20, 120, 29)
    fits = [np.mean([np.mean((entry.image > cut) == entry.mask) for entry in examples]) for cut in cuts]
    return image > cuts[int(np.argmax(fits))]


def a_context(count, wrong=()):
    context = ContextSet()
    for n in range(count):
        image, mask = a_slice((0.4 + 0.02 * n, 0.5), seed=n)
        context.add(image, ~mask if n in wrong else mask)
    return context.enabled()


def test_the_example_with_the_wrong_mask_is_named_and_the_others_are_not():
    entries = a_context(9, wrong=[6])
    (outlier,) = find_outliers(entries, by_brightness)
    assert outlier.id == entries[6].info.id
    assert outlier.id in outlier.message and outlier.message.count(". ") == 0
    assert outlier.dice < 0.1 < 0.9 < outlier.usual


def test_agreeing_few_and_uniformly_hard_examples_raise_no_warning():
    assert find_outliers(a_context(9), by_brightness) == []
    assert find_outliers(a_context(4, wrong=[1]), by_brightness) == [], "too few to tell who is wrong"
    noise = np.random.default_rng(0)
    assert find_outliers(a_context(12), lambda examples, image, spacing: noise.random(image.shape) > 0.5) == []


def test_a_task_whose_images_differ_widely_has_no_outlier_for_that(monkeypatch):
    from InteractiveSegLib.context import outliers

    entries = a_context(12)
    monkeypatch.setattr(outliers, "leave_one_out", lambda *asked: np.linspace(0.2, 0.95, 12))
    assert find_outliers(entries, by_brightness) == []
    monkeypatch.setattr(outliers, "leave_one_out", lambda *asked: np.array([0.2] + [0.93, 0.95] * 5 + [0.9]))
    assert [outlier.id for outlier in find_outliers(entries, by_brightness)] == [entries[0].info.id]


def test_the_one_left_out_is_never_among_its_examples_and_the_budget_holds():
    entries, seen = a_context(8), []

    def predict(examples, image, spacing):
        seen.append([entry.image is image for entry in examples])
        return image > 50

    scores = leave_one_out(entries, predict, budget=3)
    assert scores.min() > 0.95 and len(seen) == 8
    assert all(len(own) == 3 and not any(own) for own in seen)
    with pytest.raises(InteractiveSegError, match="at least 2"):
        leave_one_out(entries[:1], predict)


def volumes(*wrong, count=7, slices=4):
    """So many cases of some slices each; the masks of these are of the surroundings."""
    context = ContextSet()
    for case in range(count):
        for n in range(slices):
            image, mask = a_slice((0.8 if case == 6 else 0.3 + 0.01 * case, 0.5), seed=case * slices + n)
            provenance = Provenance(context.digest(str(case)), 0, n)
            context.add(image, ~mask if case in wrong else mask, provenance=provenance)
    return context


def test_a_wrong_volume_is_not_vouched_for_by_its_own_slices():
    def like_the_nearest(examples, image, spacing):
        return by_brightness(examples[:3], image, spacing)

    entries = volumes(6).enabled()
    assert {outlier.id for outlier in find_outliers(entries, like_the_nearest)} == {entry.info.id for entry in entries[24:]}
    assert find_outliers(volumes(2, count=4, slices=9).enabled(), by_brightness) == [], "too few cases to tell who is wrong"
    with pytest.raises(InteractiveSegError, match="of 1 cases, expected at least 2"):
        leave_one_out(volumes(count=1).enabled(), by_brightness)


def test_a_case_is_doubted_where_the_cases_before_it_predict_another_mask():
    asked = []

    def predict(examples, image, spacing):
        asked.append({entry.info.provenance.case for entry in examples})
        return by_brightness(examples, image, spacing)

    context = volumes(6)
    case = context.digest
    found = doubt(context, case("6"), predict)
    assert found.id == context.infos()[26].id and found.dice < 0.1 < 0.9 < found.usual
    assert all(case("6") not in cases for cases in asked) and len(asked) == 6
    asked.clear()
    assert doubt(context, case("5"), predict) is None and not asked, "what was found stays"
    assert doubt(context, case("6"), predict, "other weights") is not None and len(asked) == 6
    for few in (case("4"), case("none")):
        assert doubt(volumes(4), few, predict) is None
    noise = np.random.default_rng(0)
    assert doubt(volumes(6), case("6"), lambda examples, image, spacing: noise.random(image.shape) > 0.5) is None
