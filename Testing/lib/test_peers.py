"""The classical peers find what they can find, follow corrections, and get fair seeds."""
from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from InteractiveSegLib.evaluation.metrics import dice
from InteractiveSegLib.evaluation.peers import BACKGROUND, CLICK_RADIUS, OBJECT, PEERS, GrowFromSeeds, draw_seeds
from InteractiveSegLib.prompts import Box, Click, Lasso, Scribble
from InteractiveSegLib.types import InteractiveSegError

needs_slicer_core = pytest.mark.skipif(importlib.util.find_spec("slicer") is None, reason="needs slicer-core")
NAMES = [pytest.param(name, marks=needs_slicer_core if name == GrowFromSeeds.name else ()) for name in PEERS]


def two_bright_squares():
    """Noisy image (64, 72) and the two objects in it."""
    left, right = np.zeros((64, 72), bool), np.zeros((64, 72), bool)
    left[20:44, 10:30], right[20:44, 42:62] = True, True
    noise = np.random.default_rng(0).normal(0, 5, left.shape)
    return 100.0 * (left | right) + noise, left, right


@pytest.mark.parametrize("name", NAMES)
def test_one_click_takes_the_square_it_is_in_and_a_negative_click_gives_back_another(name):
    image, left, right = two_bright_squares()
    peer = PEERS[name]()
    peer.start(image)
    first = peer.add(Click((32, 20)))
    assert first.shape == image.shape and first.dtype == bool
    assert dice(first, left) > 0.9
    both = peer.add(Click((32, 52)))
    assert dice(both, left | right) > 0.9
    assert dice(peer.add(Click((32, 20), positive=False)), right) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_box_and_a_scribble_find_the_square(name):
    image, left, right = two_bright_squares()
    peer = PEERS[name]()
    peer.start(image)
    assert dice(peer.add(Box((18, 8), (46, 32))), left) > 0.9
    peer.start(image)
    assert dice(peer.add(Scribble(right & (np.arange(72) == 52))), right) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_new_image_forgets_the_prompts_of_the_one_before(name):
    image, left, _ = two_bright_squares()
    peer = PEERS[name]()
    peer.start(image)
    peer.add(Click((32, 52)))
    peer.start(image)
    assert dice(peer.add(Click((32, 20))), left) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_first_negative_click_and_a_constant_image_give_a_mask(name):
    peer = PEERS[name]()
    peer.start(np.full((32, 32), 7, np.uint8))
    assert not peer.add(Click((16, 16), positive=False)).any()
    assert peer.add(Click((5, 5))).any()


def test_a_click_is_a_disk_and_the_later_seed_wins():
    seeds = np.zeros((30, 30), np.uint8)
    draw_seeds(seeds, Click((10, 10)))
    assert seeds[10, 10 + CLICK_RADIUS] == OBJECT and seeds[10, 11 + CLICK_RADIUS] == 0
    draw_seeds(seeds, Click((10, 11), positive=False))
    assert seeds[10, 10] == BACKGROUND


def test_a_box_marks_its_outside_as_background_and_its_middle_as_object():
    seeds = np.zeros((30, 30), np.uint8)
    draw_seeds(seeds, Box((10, 5), (20, 25)))
    assert (seeds[:10] == BACKGROUND).all() and (seeds[:, 25:] == BACKGROUND).all()
    assert seeds[15, 15] == OBJECT and seeds[10, 5] == 0
    draw_seeds(seeds, Box((3, 3), (4, 4)))
    assert seeds[3, 3] == OBJECT


def test_a_lasso_is_refused_in_one_sentence():
    with pytest.raises(InteractiveSegError, match="Lasso"):
        draw_seeds(np.zeros((9, 9), np.uint8), Lasso(((1, 1), (1, 5), (5, 5))))
