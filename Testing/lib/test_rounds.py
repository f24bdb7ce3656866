"""Rounds of propagation: of two masks the better one stays, the user's own always, and the session says which is which."""
from types import SimpleNamespace

import numpy as np
import pytest
from brightness import bright, see_brightness
from shapes import ellipsoid, overlap

from InteractiveSegLib import Click, InteractiveSession

SHAPE = (14, 60, 72)
BALL = ellipsoid(SHAPE, (7, 28, 40), (4.5, 14, 14))


@pytest.fixture
def networks(monkeypatch):
    return see_brightness(monkeypatch)


def with_slice(mask, index, part):
    """The mask with another one on one slice."""
    mask = mask.copy()
    mask[index] = part
    return mask


@pytest.fixture
def after_one_round(networks):
    """A session that was propagated once from slice 7, all of it right."""
    session = InteractiveSession(bright(BALL))
    session.set_mask(with_slice(np.zeros(SHAPE, bool), 7, BALL[7]))
    list(session.propagate())
    return session


@pytest.fixture
def answered(networks, monkeypatch):
    """A session whose model finds half of the ball by name, the click on slice 7 found all of it there."""
    half = BALL.copy()
    half[:, :, 40:] = False

    def predict(requests):
        return [np.where((BALL if request.prompts else half)[request.key[1]], 6.0, -6.0) for request in requests]

    monkeypatch.setattr("InteractiveSegLib.session.make_predictor", lambda setting, adopt: SimpleNamespace(predict=predict))
    session = InteractiveSession(bright(BALL), model="verse", targets=("LV",), mode="auto+click")
    session.predict()
    assert np.array_equal(session.mask, half)
    session.add(Click((7, 28, 50)))
    return session, half


def test_a_correction_reaches_the_next_slices_and_the_models_own_answers_stay_farther_on(answered):
    session, half = answered
    for _ in range(2):
        list(session.propagate())
        assert overlap(session.mask[6:9], BALL[6:9]) > 0.95
        assert np.array_equal(session.mask[[3, 4, 10, 11]], half[[3, 4, 10, 11]])


def test_an_answer_that_was_edited_by_hand_is_the_users(answered):
    session, _ = answered
    edited = np.zeros(SHAPE[1:], bool)
    edited[40:50, 10:20] = True
    session.set_mask(with_slice(session.mask, 6, edited))
    session.set_mask(with_slice(session.mask, 11, np.zeros(SHAPE[1:], bool)))
    list(session.propagate())
    assert np.array_equal(session.mask[6], edited) and not session.mask[11].any()
    assert session.rounds.known == (frozenset({6, 7, 11}),)


def mislead(session):
    """Draw a dark place on slice 5, so that the next round finds the ground instead of the object."""
    dark = np.zeros(SHAPE[1:], bool)
    dark[2:8, 2:8] = True
    session.set_mask(with_slice(session.mask, 5, dark))
    return dark


def test_better_masks_of_the_round_before_stay(after_one_round):
    session = after_one_round
    dark = mislead(session)
    list(session.propagate(from_slice=5))
    others = [k for k in range(14) if k != 5]
    assert overlap(session.mask[others], BALL[others]) > 0.95
    assert np.array_equal(session.mask[5], dark), "the user's own slice is not replaced"
    source = session.rounds.source[0]
    assert session.rounds.count == 2 and source[5] == 2
    assert (source[[k for k in others if 3 <= k <= 11]] == 1).all()


def test_without_fusion_the_new_round_is_taken(after_one_round):
    session = after_one_round
    mislead(session)
    list(session.propagate(from_slice=5, fuse=False))
    assert session.mask[6, 50, 60] and not session.mask[6, 28, 40]
    assert set(session.rounds.source[0][[4, 6, 8]].tolist()) == {2}
    assert session.rounds.source[0][7] == 1, "slice 7 is the user's since the first round"
    assert np.array_equal(session.mask[7], BALL[7])


def test_a_worse_mask_of_the_round_before_goes(networks):
    session = InteractiveSession(bright(BALL))
    small = BALL & ellipsoid(SHAPE, (7, 28, 40), (9, 5, 5))
    session.set_mask(small)
    session.add(Click((7, 28, 40)))
    session.set_mask(with_slice(session.mask, 7, BALL[7]))
    list(session.propagate())
    assert overlap(session.mask, BALL) > 0.95
    assert session.rounds.source[0][[5, 6, 8, 9]].tolist() == [1, 1, 1, 1]


def test_the_quality_network_is_asked_of_slices_that_differ_and_are_not_the_users(after_one_round, networks):
    assert networks[1].asked == [], "the first round has nothing to compare with"
    session = after_one_round
    session.set_mask(with_slice(session.mask, 9, BALL[9] & ellipsoid(SHAPE[1:], (28, 40), (20, 5))))
    before = session.mask.copy()
    list(session.propagate(fuse=False))
    differ = [k for k in range(14) if k not in (7, 9) and (before[k] != session.mask[k]).any()]
    session.undo()
    list(session.propagate())
    assert sum(networks[1].asked) == len(differ)


def test_an_edit_by_hand_is_the_users_in_all_later_rounds(after_one_round):
    session = after_one_round
    edited = BALL[10] & ellipsoid(SHAPE[1:], (28, 40), (20, 4))
    session.set_mask(with_slice(session.mask, 10, edited))
    for _ in range(2):
        list(session.propagate())
        assert np.array_equal(session.mask[10], edited)
    assert session.rounds.known == (frozenset({7, 10}),)
    assert session.rounds.source[0][10] == 2 and session.rounds.count == 3


def test_a_clicked_slice_of_the_result_is_the_users_and_starts_the_next_round(after_one_round):
    session = after_one_round
    session.add(Click((4, 28, 40)))
    clicked = session.mask[4].copy()
    list(session.propagate())
    assert 4 in session.rounds.known[0] and np.array_equal(session.mask[4], clicked)


def test_rounds_are_undone_one_by_one(after_one_round):
    session = after_one_round
    first = session.mask.copy()
    mislead(session)
    list(session.propagate(fuse=False))
    session.undo()
    assert session.rounds.count == 1
    session.undo()
    assert np.array_equal(session.mask, first)
    session.undo()
    assert session.rounds is None


def test_a_round_along_another_axis_fuses_with_the_last(after_one_round):
    session = after_one_round
    drawn = session.mask.copy()
    drawn[:, :, 40] = BALL[:, :, 40]
    session.set_mask(drawn)
    session.add(Click((7, 28, 40)))
    list(session.propagate(axis="I", from_slice=40))
    assert session.rounds.axis == 2 and session.rounds.source.shape == (1, SHAPE[2])
    assert overlap(session.mask, BALL) > 0.9


def test_fusion_gives_back_one_target_and_leaves_the_other(networks):
    truth = BALL.astype(np.uint8)
    truth[ellipsoid(SHAPE, (7, 50, 60), (4.5, 6, 6))] = 2
    session = InteractiveSession(bright(truth), targets=("ball", "spot"))
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[7] = truth[7]
    session.set_labels(drawn)
    list(session.propagate())
    misled = session.labels.copy()
    misled[5] = np.where(truth[5] == 2, 2, 0)
    misled[5, 2:8, 2:8] = 1
    session.set_labels(misled)
    list(session.propagate(from_slice=5))
    others = [3, 4, 6, 8, 9, 10]
    assert overlap(session.mask_of("ball")[others], truth[others] == 1) > 0.9
    assert overlap(session.mask_of("spot")[others], truth[others] == 2) > 0.75
    assert session.rounds.source[0][others].tolist() == [1] * 6
    assert set(session.rounds.source[1][others].tolist()) <= {1, 2}
    list(session.propagate(from_slice=5, fuse=False))
    assert overlap(session.mask_of("ball")[others], truth[others] == 1) < 0.5
