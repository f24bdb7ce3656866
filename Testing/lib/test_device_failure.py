"""A graphics card that fills up or vanishes in mid-session costs no prompt. The card is a double; the rest is real."""
import numpy as np
import pytest
import torch

from InteractiveSegLib import Click, InteractiveSession, device, models


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
    shipped = models.load

    def install(error, lasts):
        card = Card(shipped("scribbleprompt", None, "cpu"), error, lasts)
        monkeypatch.setattr(models, "load", lambda name, path, where: shipped(name, path, where) if where == "cpu" else card)
        monkeypatch.setattr(device, "choose_device", lambda name="auto": "cuda")
        return card

    return install


FULL = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
GONE = RuntimeError("CUDA error: unspecified launch failure")


@pytest.mark.parametrize(("error", "lasts"), [(FULL, 1), (FULL, 10**6), (GONE, 10**6)], ids=["once full", "full", "gone"])
def test_every_prompt_is_answered_as_on_the_cpu(a_card, a_disk, error, lasts, caplog):
    clicks = [Click((40, 70)), Click((30, 60)), Click((45, 75), positive=False), Click((42, 66))]
    answers = []
    for installed in (False, True):
        if installed:
            a_card(error, lasts)
        session = InteractiveSession(a_disk[0])
        for click in clicks:
            session.add(click)
        answers.append(session.probability)
    assert np.array_equal(*answers)
    assert len(session.prompts) == 4
    assert ("smaller plan" if error is FULL else "the CPU goes on") in caplog.text


def test_a_full_card_is_tried_once_more_and_kept_when_that_works(a_card, a_disk, caplog):
    card = a_card(FULL, 1)
    session = InteractiveSession(a_disk[0])
    for _ in range(4):
        session.add(Click((40, 70)))
    assert card.calls > 4, "the card went on"
    assert "the CPU goes on" not in caplog.text


def test_an_error_of_ours_is_not_taken_for_the_cards(a_card, a_disk):
    a_card(RuntimeError("shapes do not match"), 10**6)
    session = InteractiveSession(a_disk[0])
    with pytest.raises(RuntimeError, match="shapes"):
        for _ in range(4):
            session.add(Click((40, 70)))
