"""A volume before any prompt: what is answered on a few slices is carried to the others, and gives way to what the user says."""
from dataclasses import replace

import numpy as np
import pytest
from annotating import AFFINE, TASK
from brightness import see_brightness
from shapes import ellipsoid, overlap

from InteractiveSegLib import Click, InteractiveSession, key_slices, models, predictors
from InteractiveSegLib.annotation import Study
from InteractiveSegLib.annotation.actions import repeatable, standing
from InteractiveSegLib.context import ContextSet
from InteractiveSegLib.demo_study import write_volume
from InteractiveSegLib.key_slices import answer_volume
from InteractiveSegLib.phantoms import Phantom
from InteractiveSegLib.predictors.slices import SlicePredictor

SHAPE, KEYS, WINDOW = (18, 48, 56), [2, 6, 10, 14], (0.0, 200.0)
TRUTH = ellipsoid(SHAPE, (8, 22, 28), (5.5, 12, 13))
IMAGE = (np.random.default_rng(0).normal(50, 4, SHAPE) + 130 * TRUTH).astype(np.int16)


class BrightFamily:
    """A family that learns from examples, and whose answer to no prompt is what is bright, but for the last of the key slices
    where `denies` is set."""

    size = 64

    def __init__(self):
        self.asked, self.denies = 0, False

    def predict(self, images, prompts, previous):
        self.asked += len(images)
        logits = np.where(images > 0.5, 6.0, -6.0).astype(np.float32)
        if self.denies and self.asked == len(KEYS):
            logits[-1] = -6.0
        return logits


@pytest.fixture
def network(monkeypatch):
    """The family's network; LIM-Net's networks are stand-ins, too."""
    see_brightness(monkeypatch)
    network, load = BrightFamily(), models.load
    spec = replace(models.find_family("multiverseg"), name="bright", title="Bright", networks=("bright",), modes=())
    monkeypatch.setitem(models.FAMILIES, "bright", spec)
    monkeypatch.setitem(predictors.PREDICTORS, "bright", "slices:SlicePredictor")
    monkeypatch.setattr(SlicePredictor, "notice", "", raising=False)
    monkeypatch.setattr(models, "load", lambda name, *rest: network if name == "bright" else load(name, *rest))
    return network


@pytest.fixture
def session(network):
    context = ContextSet()
    context.add(IMAGE[8], TRUTH[8])
    return InteractiveSession(IMAGE, spacing=(3.0, 1.0, 1.0), model="bright", context=context, window=WINDOW)


def test_every_fourth_slice_is_answered_and_the_others_are_filled_from_them(network, session):
    steps = list(answer_volume(session))
    assert network.asked == len(KEYS)
    assert overlap(session.mask, TRUTH) > 0.9
    assert session.mask[4].any() and session.mask[12].any(), "no slice between was asked"
    assert [step.done for step in steps] == list(range(len(KEYS), len(KEYS) + len(steps)))
    assert all(step.done <= step.total for step in steps)


def test_the_answer_that_nothing_is_there_ends_the_object(network, session):
    network.denies = True
    tube = np.broadcast_to(IMAGE[8], SHAPE).copy()
    found = InteractiveSession(tube, (3.0, 1.0, 1.0), model="bright", context=session.context, window=WINDOW)
    list(answer_volume(found))
    assert found.mask[:KEYS[-1]].any(axis=(1, 2)).all() and not found.mask[KEYS[-1]:].any()


def test_what_the_user_says_later_counts_for_more_than_the_answers_it_was_filled_from(session):
    list(answer_volume(session))
    session.add(Click((8, 22, 28)))
    list(session.propagate(fuse=False))
    assert session.rounds.known == (frozenset({8}),), "the model's own answers are not the user's"


def test_answers_that_are_carried_or_asked_for_again_do_not_become_the_users(session):
    list(answer_volume(session))
    list(session.propagate())
    assert session.rounds.known == (frozenset(),)
    session.context.add(IMAGE[4], TRUTH[4])
    list(answer_volume(session))
    assert session.rounds.known == (frozenset(),)


def test_slices_that_the_user_spoke_to_stay_as_they_are(session):
    session.set_mask(np.zeros(SHAPE, bool))
    session.add(Click((5, 22, 28)))
    edited = np.array(session.mask)
    edited[5, :, 28:] = False
    session.set_mask(edited)
    list(answer_volume(session))
    assert np.array_equal(session.mask[5], edited[5])
    assert session.mask[4].any()


@pytest.mark.parametrize("why", ["asked for", "few slices", "no memory network", "all at once"])
def test_all_slices_are_answered_where_carrying_is_not_wanted_or_not_possible(network, session, monkeypatch, why):
    extent, options = None, {}
    if why == "asked for":
        options = {"every_slice": True}
    elif why == "few slices":
        extent = (5, 5 + 2 * key_slices.STEP - 1)
    elif why == "no memory network":
        monkeypatch.setattr(key_slices, "is_shipped", lambda family: False)
    else:
        monkeypatch.setitem(models.FAMILIES, "bright", replace(session.family, sweeps=True))
        session = InteractiveSession(IMAGE, model="bright", context=session.context)
    list(answer_volume(session, extent, **options))
    assert network.asked == (extent[1] - extent[0] if extent else SHAPE[0])


def test_where_all_slices_agree_with_each_other_they_are_asked_together(session, monkeypatch):
    monkeypatch.setitem(models.FAMILIES, "bright", replace(session.family, sweeps=True))
    session, asked = InteractiveSession(IMAGE, model="bright", context=session.context), []
    list(answer_volume(session, done={0, 1}, predict=asked.append))
    assert asked == [list(range(SHAPE[0]))]


def test_nothing_is_carried_where_there_is_no_list_of_weights(session, monkeypatch, tmp_path):
    monkeypatch.setenv("INTERACTIVESEG_MODELS", str(tmp_path))
    assert not key_slices.carries(session, SHAPE[0])


def test_nothing_found_is_no_error(network, session):
    list(answer_volume(InteractiveSession(np.zeros(SHAPE, np.int16), model="bright", context=session.context, window=WINDOW)))
    assert network.asked == len(KEYS)


@pytest.fixture
def a_study(network, tmp_path):
    """Makes the study of three volumes, of which "a" was accepted."""
    (tmp_path / "scans").mkdir()
    for name in "abc":
        phantom = Phantom(IMAGE, TRUTH.astype(np.uint8), AFFINE, {1: TASK}, "MR", (0.0, 255.0))
        write_volume(tmp_path / "scans" / f"{name}.nii.gz", phantom)
    study = Study(tmp_path / "scans", TASK, model="bright", window=WINDOW)
    study.open("a").set_mask(TRUTH)
    study.accept()
    return lambda **options: Study(tmp_path / "scans", TASK, model="bright", window=WINDOW, **options)


def test_in_a_study_the_answer_is_no_prompt_and_can_be_said_again_without_it(network, a_study):
    case = a_study().open("b")
    list(case.predict())
    answered = case.mask.copy()
    assert network.asked == len(KEYS) and overlap(answered, TRUTH) > 0.9
    assert case.prompts == 0 and not repeatable(case.actions) and not standing(case.actions)
    case.undo()
    assert not case.mask[4].any() and case.mask[6].any(), "the carried slices are one step"
    case.redo()
    assert np.array_equal(case.mask, answered)
    assert np.array_equal(a_study().open("b").mask, answered), "it is on disk"
    network.asked = 0
    list(a_study(every_slice=True).open("c").predict())
    assert network.asked == SHAPE[0]


@pytest.mark.parametrize("steps", [1, 2, 100], ids=["answers", "carrying", "the end"])
def test_what_an_interrupted_prediction_left_is_not_the_users(a_study, monkeypatch, steps):
    monkeypatch.setattr(key_slices, "CHUNK", 2)
    whole = a_study().open("b")
    list(whole.predict())
    case = a_study().open("c")
    for _ in zip(range(steps), case.predict()):
        pass
    case = a_study().open("c")
    list(case.predict())
    assert np.array_equal(case.mask, whole.mask) and case.session.rounds.known == (frozenset(),)
    case.add(Click((8, 22, 28)))
    case = a_study().open("c")
    assert case.session.rounds.known == (frozenset({8}),)
    list(case.propagate())
    assert case.session.rounds.known == (frozenset({8}),), "all others may change"


def test_a_volume_that_was_answered_slice_by_slice_before_is_filled_from_key_slices_anew(network, a_study):
    each = a_study(every_slice=True).open("b").predict()
    next(each)
    case = a_study().open("b")
    list(case.predict())
    assert case.session.rounds.known == (frozenset(),)
    network.asked = 0
    each = a_study(every_slice=True).open("b")
    list(each.predict())
    assert network.asked == SHAPE[0] - key_slices.CHUNK - len([key for key in KEYS if key >= key_slices.CHUNK])


def test_slices_whose_answer_was_taken_back_are_answered_again(a_study):
    case = a_study(every_slice=True).open("b")
    next(case.predict())
    case.undo()
    list(case.predict())
    assert case.mask[3:14].any(axis=(1, 2)).all()


def test_masks_that_were_drawn_stay_when_a_case_is_taken_up_again(a_study):
    case = a_study().open("b")
    list(case.predict())
    drawn = case.mask.copy()
    drawn[5, :, 28:] = False
    case.set_mask(drawn)
    case = a_study().open("b")
    list(case.predict())
    assert np.array_equal(case.mask[5], drawn[5])
    case.add(Click((8, 22, 28)))
    case = a_study().open("b")
    assert case.session.rounds.known == (frozenset({5, 8}),)
    list(case.propagate())
    assert np.array_equal(case.mask[5], drawn[5])


def test_a_slice_painted_beside_a_prompted_one_is_not_filled_anew_after_an_interruption(network, a_study):
    case = a_study().open("b")
    case.add(Click((8, 22, 28)))
    drawn = case.mask.copy()
    drawn[5, 10:14, 10:14] = True
    case.set_mask(drawn)
    case = a_study().open("b")
    list(case.propagate())
    assert np.array_equal(case.mask[5], drawn[5]) and case.mask[10].any()
    case.reset()
    case.add(Click((8, 22, 28)))
    case = a_study().open("b")
    list(case.propagate())
    assert not case.mask[5, 10, 10], "started over"


def test_carrying_answers_is_not_the_users_work(a_study, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("InteractiveSegLib.annotation.case.time.monotonic", lambda: clock[0])
    case = a_study().open("b")
    steps = case.predict()
    next(steps)
    for _ in steps:
        clock[0] += 7
    case.add(Click((8, 22, 28)))
    assert case.seconds == 0
    for _ in case.propagate():
        clock[0] += 1
    assert case.seconds > 0, "who waits for the next slice works"
