"""A small correction stays where it was made; a large one, a box and a first prompt may change everything."""
import numpy as np
import pytest
from shapes import ellipsoid

from InteractiveSegLib.predictors.slices import Request, keep_local
from InteractiveSegLib.prompts import Box, Click, Lasso, Scribble
from InteractiveSegLib.rasterise import mask_to_logits

BEFORE = ellipsoid((100, 100), (50, 50), (30, 30))
HERE, THERE = np.zeros((2, 100, 100), bool)
HERE[48:52, 78:86] = True  # grows out of the object's right side
THERE[48:52, 14:24] = True  # and what it loses or wins on its left
STROKE = np.zeros((100, 100), bool)
STROKE[50, 81:84] = True


def after(answer, *prompts, before=BEFORE):
    logits = mask_to_logits(answer)
    keep_local(logits, Request(np.zeros((100, 100)), prompts, None if before is None else mask_to_logits(before)))
    return logits > 0


@pytest.mark.parametrize("prompt", [Click((50, 82)), Click((50, 87)), Scribble(STROKE)])
def test_a_small_correction_takes_the_piece_at_the_prompt_and_leaves_the_rest(prompt):
    assert (after(BEFORE | HERE | THERE, prompt) == BEFORE | HERE).all()
    assert (after((BEFORE | HERE) & ~THERE, Click((20, 20)), prompt) == BEFORE | HERE).all()
    assert (after((BEFORE & ~HERE) | THERE, Click((50, 79), False)) == BEFORE & ~HERE).all(), "whichever way it changed"


def test_the_last_prompt_is_the_one_that_counts():
    assert (after(BEFORE | HERE | THERE, Click((50, 82)), Click((50, 18))) == BEFORE | THERE).all()


@pytest.mark.parametrize("prompts", [
    (), (Box((10, 10), (90, 90)),), (Lasso(((10, 10), (10, 90), (90, 50))),), (Click((50, 82)), Box((10, 10), (90, 90))),
])
def test_what_speaks_of_the_whole_object_may_change_all_of_it(prompts):
    answer = BEFORE | HERE | THERE
    assert (after(answer, *prompts) == answer).all()


def test_a_large_correction_and_a_first_answer_are_taken_whole():
    other = np.roll(BEFORE, 8, axis=1) | THERE
    assert (after(other, Click((50, 82))) == other).all()
    assert (after(BEFORE | THERE, Click((50, 82)), before=None) == BEFORE | THERE).all()
    assert (after(HERE | THERE, Click((50, 82)), before=np.zeros_like(BEFORE)) == HERE | THERE).all()
