"""A device that fills up or vanishes in mid-session costs no prompt. The graphics card is a double; the rest is real."""
import numpy as np
import pytest
import torch
from shapes import overlap
from test_cuda import by_limnet_clicks, by_multiverseg, by_tis, by_verse

from InteractiveSegLib import Click, InteractiveSegError, InteractiveSession, device, models, plan
from InteractiveSegLib.plan import PLANS
from InteractiveSegLib.predictors.context import ContextPredictor
from InteractiveSegLib.predictors.limnet import ClickPredictor
from InteractiveSegLib.predictors.tis import TISPredictor
from InteractiveSegLib.predictors.verse import VerSePredictor


class Card:
    """The shipped network on a device that fails at its third call and `lasts` - 1 more."""

    def __init__(self, network, error, lasts):
        self.network, self.error, self.lasts, self.calls = network, error, lasts, 0
        self.size = network.size

    def predict(self, images, prompts, previous):
        self.calls += 1
        if 3 <= self.calls < 3 + self.lasts:
            raise self.error
        return self.network.predict(images, prompts, previous)


@pytest.fixture
def a_card(monkeypatch):
    """Installs a Card as this computer's graphics card."""
    shipped = models.load

    def install(error, lasts):
        card = Card(shipped("scribbleprompt", None, "cpu"), error, lasts)

        def load(name, path, where):
            return shipped(name, path, where) if where == "cpu" else card

        load.cache_clear = shipped.cache_clear
        monkeypatch.setattr(models, "load", load)
        monkeypatch.setattr(device, "_lost", set())
        for module in (device, plan):
            monkeypatch.setattr(module, "available_devices", lambda: tuple(k for k in ("cuda", "cpu") if k not in device._lost))
        free = device.free_memory
        monkeypatch.setattr(plan, "free_memory", lambda kind: 8e9 if kind == "cuda" else free(kind))
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        return card

    return install


FULL = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
GONE = RuntimeError("CUDA error: unspecified launch failure")
CLICKS = [Click((40, 70)), Click((30, 60)), Click((45, 75), positive=False), Click((42, 66))]


def answered(image, clicks=CLICKS):
    session = InteractiveSession(image)
    for click in clicks:
        session.add(click)
    return session


@pytest.mark.parametrize(("error", "lasts"), [(FULL, 1), (FULL, 10**6), (GONE, 10**6)], ids=["once full", "full", "gone"])
def test_every_prompt_is_answered_as_on_the_cpu(a_card, a_disk, error, lasts, caplog):
    alone = answered(a_disk[0])
    a_card(error, lasts)
    session = answered(a_disk[0])
    assert np.array_equal(alone.probability, session.probability)
    assert len(session.prompts) == 4
    said = "smaller plan" if lasts == 1 else "the CPU goes on"
    assert said in caplog.text and said in session.plan.sentence


def test_a_full_card_is_tried_once_more_and_kept_when_that_works(a_card, a_disk):
    card = a_card(FULL, 1)
    session = answered(a_disk[0])
    assert card.calls > 4 and session.plan.device == "cuda" and session.plan.batch == 1, "the card went on, with less at a time"


def test_a_card_that_vanished_is_not_asked_again_by_the_next_session(a_card, a_disk):
    card = a_card(GONE, 10**6)
    answered(a_disk[0])
    calls = card.calls
    again = InteractiveSession(a_disk[0], device="cuda")
    again.add(CLICKS[0])
    assert again.plan.device == "cpu" and card.calls == calls


def test_an_error_of_ours_is_not_taken_for_the_cards(a_card, a_disk):
    a_card(RuntimeError("shapes do not match"), 10**6)
    with pytest.raises(RuntimeError, match="shapes"):
        answered(a_disk[0])


@pytest.mark.parametrize("lasts", [1, 10**6])
def test_a_computer_without_memory_gets_one_smaller_plan_and_then_one_sentence(a_disk, monkeypatch, lasts):
    calls = []

    def predict(self, images, prompts, previous):
        calls.append(len(images))
        if 2 <= len(calls) < 2 + lasts:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")
        return np.zeros(images.shape, np.float32)

    monkeypatch.setattr("InteractiveSegLib.models.scribbleprompt.SliceNetwork.predict", predict)
    session = InteractiveSession(a_disk[0], device="cpu")
    session.add(CLICKS[0])
    if lasts == 1:
        session.add(CLICKS[1])
        assert session.plan.batch == 1 and session.mask[CLICKS[1].position]
    else:
        with pytest.raises(InteractiveSegError, match="no memory left: close"):
            session.add(CLICKS[1])
        assert session.prompts == (CLICKS[0],), "the prompt without an answer is not kept"


def test_memory_that_fills_up_in_mid_propagation_costs_no_slice(a_volume, monkeypatch):
    from InteractiveSegLib.models.limnet import propagation

    def carried():
        session = InteractiveSession(a_volume[0], spacing=(3.0, 1.0, 1.0), device="cpu")
        session.set_mask(np.where(np.arange(14)[:, None, None] == 7, a_volume[1], False))
        for _ in session.propagate(from_slice=7):
            pass
        return session

    expected = carried().labels
    encode, calls = propagation.encode, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise FULL
        return encode(*arguments)

    monkeypatch.setattr(propagation, "encode", failing)
    session = carried()
    assert np.array_equal(session.labels, expected) and "smaller plan" in session.plan.sentence


@pytest.mark.parametrize("error", [FULL, GONE], ids=["full", "gone"])
def test_nothing_of_a_session_stays_on_a_device_that_failed_in_a_propagation(a_card, a_volume, monkeypatch, error):
    from InteractiveSegLib import propagation

    card = a_card(error, 0)
    session = InteractiveSession(a_volume[0], spacing=(3.0, 1.0, 1.0))
    session.add(Click((7, *(int(n) // 2 for n in a_volume[0].shape[1:]))))
    made, kept = [], session._predictors[0]

    class Fails:
        def __init__(self, image, axis, spacing, plan, window, weights):
            made.append(plan.device)
            if len(made) > 1:
                assert kept.predictor is None, "the networks of clicks make room"
                self.carry = propagation_of_the_cpu(image, axis, spacing, PLANS["cpu"], window, weights).carry

        def carry(self, known, extent, found):
            raise error

    propagation_of_the_cpu = propagation.Propagator
    monkeypatch.setattr(propagation, "Propagator", Fails)
    [*session.propagate(from_slice=7, fuse=False)]
    assert made == (["cuda", "cuda"] if error is FULL else ["cuda", "cpu"])
    calls = card.calls
    session.add(Click((7, 2, 2), positive=False))
    assert (card.calls > calls) == (error is FULL) and kept.plan is session.plan


def test_what_propagation_keeps_is_let_go_before_a_click_is_tried_again(a_card, a_disk):
    a_card(FULL, 1)
    session = InteractiveSession(a_disk[0])
    for click in CLICKS[:2]:
        session.add(click)
    session._propagators["kept"] = "many encoded slices"
    for click in CLICKS[2:]:
        session.add(click)
    assert session.plan.batch == 1 and not session._propagators


def test_released_networks_are_let_go_and_loaded_again(a_disk):
    import gc
    import weakref

    session = InteractiveSession(a_disk[0], device="cpu")
    session.add(CLICKS[0])
    network = weakref.ref(models.load("scribbleprompt", None, "cpu"))
    before = session.probability
    session.release()
    gc.collect()
    assert network() is None
    assert len(session.prompts) == 1 and np.array_equal(session.probability, before)
    session.add(CLICKS[1])
    assert np.array_equal(session.mask, answered(a_disk[0], CLICKS[:2]).mask)


FAMILIES = {by_multiverseg: ContextPredictor, by_limnet_clicks: ClickPredictor, by_verse: VerSePredictor, by_tis: TISPredictor}


@pytest.mark.parametrize("answer", FAMILIES, ids=lambda function: function.__name__)
def test_what_a_family_keeps_between_prompts_may_be_lost_with_its_device(answer, tmp_path, monkeypatch, caplog):
    expected = answer("cpu", tmp_path)
    method = "refine" if answer is by_tis else "predict"
    asked, calls = getattr(FAMILIES[answer], method), []

    def failing(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise FULL
        return asked(self, *arguments)

    monkeypatch.setattr(FAMILIES[answer], method, failing)
    found = answer("cpu", tmp_path)
    assert "smaller plan" in caplog.text and len(calls) > 2
    assert expected.any() and overlap(found > 0, expected > 0) >= 0.999
