"""Several objects in one session: whose prompt it is, who keeps a contested pixel, and what one action changed of whom."""
import numpy as np
import pytest
from shapes import ellipsoid, overlap

from InteractiveSegLib import Click, InteractiveSegError, InteractiveSession


@pytest.fixture
def two_disks():
    """(image, left, right): two bright disks of different brightness on a dark ground, 96 x 128."""
    left, right = ellipsoid((96, 128), (48, 36), (16, 16)), ellipsoid((96, 128), (48, 92), (16, 16))
    image = np.random.default_rng(0).normal(100, 8, left.shape) + 120 * left + 90 * right
    return image.astype(np.float32), left, right


@pytest.fixture
def a_pair(two_disks):
    return InteractiveSession(two_disks[0], targets=("left", "right"))


def test_each_target_gets_the_object_that_was_clicked_for_it(a_pair, two_disks):
    a_pair.add(Click((48, 36), label="left"))
    a_pair.add(Click((48, 92), label="right"))
    a_pair.add(Click((48, 92), label="left", positive=False))
    assert overlap(a_pair.mask_of("left"), two_disks[1]) > 0.7
    assert overlap(a_pair.mask_of("right"), two_disks[2]) > 0.7
    assert np.array_equal(a_pair.labels, a_pair.mask_of("left") + 2 * a_pair.mask_of("right"))
    assert np.array_equal(a_pair.mask, a_pair.mask_of("left") | a_pair.mask_of("right"))


def test_a_click_says_which_target_it_speaks_of_or_is_refused(a_pair):
    for label in (None, "middle"):
        with pytest.raises(InteractiveSegError, match="left, right or background"):
            a_pair.add(Click((48, 36), label=label))
    assert a_pair.prompts == ()


def test_a_later_click_takes_a_pixel_from_the_target_that_held_it(a_pair):
    a_pair.add(Click((48, 36), label="left"))
    update = a_pair.add(Click((48, 40), label="right"))
    assert a_pair.labels[48, 40] == 2
    assert {"left", "right"} == set(update.per_target)
    a_pair.add(Click((48, 40), label="left"))
    assert a_pair.labels[48, 40] == 1


def test_a_background_click_removes_what_lies_under_it(a_pair):
    a_pair.add(Click((48, 36), label="left"))
    update = a_pair.add(Click((50, 38), label="background"))
    assert a_pair.labels[50, 38] == 0
    assert list(update.per_target) == ["left"]


def test_what_was_drawn_by_hand_for_one_target_is_not_eaten_by_the_other(a_pair, two_disks):
    drawn = two_disks[1] & (np.indices(two_disks[1].shape)[1] > 40)  # a part of the left disk
    a_pair.set_mask(drawn, target="right")
    a_pair.add(Click((48, 30), label="left"))
    assert np.array_equal(a_pair.mask_of("right"), drawn)
    assert overlap(a_pair.mask_of("left"), two_disks[1] & ~drawn) > 0.6


def test_undo_works_across_targets(a_pair, two_disks):
    maps = [a_pair.labels.copy()]
    for act in (
        lambda: a_pair.add(Click((48, 36), label="left")),
        lambda: a_pair.add(Click((48, 92), label="right")),
        lambda: a_pair.add(Click((48, 45), label="right")),
        lambda: a_pair.set_labels(np.where(two_disks[1], 2, 0)),
        lambda: a_pair.add(Click((48, 36), label="background")),
    ):
        act()
        maps.append(a_pair.labels.copy())
    for expected in reversed(maps[:-1]):
        a_pair.undo()
        assert np.array_equal(a_pair.labels, expected)
    for expected in maps[1:]:
        update = a_pair.redo()
        assert np.array_equal(a_pair.labels, expected)
    assert np.array_equal(a_pair.labels[update.slices], update.labels)


def test_pasting_what_changed_of_each_target_gives_its_new_mask(a_pair):
    a_pair.add(Click((48, 36), label="left"))
    before = {name: a_pair.mask_of(name) for name in a_pair.targets}
    update = a_pair.add(Click((48, 44), label="right"))
    for name, change in update.per_target.items():
        before[name][change.slices] = change.mask
    for name in a_pair.targets:
        assert np.array_equal(before[name], a_pair.mask_of(name))


def test_a_second_target_does_not_change_what_the_first_would_answer_alone(two_disks):
    alone = InteractiveSession(two_disks[0])
    alone.add(Click((48, 36)))
    pair = InteractiveSession(two_disks[0], targets=("left", "right"))
    pair.add(Click((48, 36), label="left"))
    assert np.array_equal(alone.mask, pair.mask_of("left"))


@pytest.mark.parametrize(("targets", "words"), [
    (("a", "a"), "different names"),
    (("background",), "outside of every target"), ("liver", r"write \['liver'\]"),
    (tuple(f"organ {n}" for n in range(300)), "1 to 255"),
])
def test_unusable_targets_are_refused(two_disks, targets, words):
    with pytest.raises(InteractiveSegError, match=words):
        InteractiveSession(two_disks[0], targets=targets)


def test_labels_that_no_target_has_are_refused(a_pair, two_disks):
    with pytest.raises(InteractiveSegError, match="0 to 2"):
        a_pair.set_labels(two_disks[1] * 3)
    with pytest.raises(InteractiveSegError, match="which of left, right"):
        a_pair.set_mask(two_disks[1])
    with pytest.raises(InteractiveSegError, match="no target 'middle'"):
        a_pair.mask_of("middle")


def test_what_a_family_does_not_have_is_refused(two_disks):
    with pytest.raises(InteractiveSegError, match="no mode 'auto'"):
        InteractiveSession(two_disks[0], mode="auto")
    with pytest.raises(InteractiveSegError, match="does not learn from a context"):
        InteractiveSession(two_disks[0], context=object())
