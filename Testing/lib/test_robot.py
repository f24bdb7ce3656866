"""The robot must prompt as a careful person would, or every figure is wrong."""
import numpy as np
import pytest
from shapes import ellipsoid

from InteractiveSegLib import Box, Click, Scribble
from InteractiveSegLib.geometry import Canvas
from InteractiveSegLib.rasterise import prompt_maps
from InteractiveSegLib.robot import (
    HABITS,
    Robot,
    border_click,
    centreline_scribble,
    contour_scribble,
    depth,
    error_region,
    line_scribble,
)

RING = ellipsoid((80, 80), (40, 40), (30, 30)) & ~ellipsoid((80, 80), (40, 40), (18, 18))
EMPTY = np.zeros((80, 80), bool)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_the_first_click_is_in_the_middle_of_the_largest_part(rng):
    truth = ellipsoid((80, 80), (20, 20), (10, 10)) | ellipsoid((80, 80), (60, 60), (4, 4))
    click = Robot().prompt(truth, EMPTY, rng, first=True)
    assert click.positive
    assert np.hypot(click.position[0] - 20, click.position[1] - 20) <= 1.5


def test_a_click_for_a_ring_lies_on_the_ring(rng):
    assert RING[Robot().prompt(RING, EMPTY, rng).position]
    assert RING[Robot(jitter=10).prompt(RING, EMPTY, rng).position]


def test_too_much_mask_earns_a_negative_prompt_inside_the_surplus(rng):
    mask = ellipsoid((80, 80), (40, 40), (39, 39))
    for kind in ("clicks", "scribbles"):
        prompt = Robot(kind).prompt(RING, mask, rng)
        assert not prompt.positive
        where = prompt.mask if kind == "scribbles" else tuple(np.array(prompt.position)[:, None])
        assert (mask & ~RING)[where].all()


def test_a_right_mask_earns_no_prompt(rng):
    for kind in HABITS:
        assert Robot(kind).prompt(RING, RING, rng, first=True) is None


def test_careless_clicks_are_inside_the_error_but_not_in_its_middle(rng):
    truth = ellipsoid((80, 80), (40, 40), (25, 25))
    inside = depth(truth)
    off = [inside[Robot("off-centre").prompt(truth, EMPTY, rng).position] for _ in range(40)]
    border = [inside[Robot("border").prompt(truth, EMPTY, rng).position] for _ in range(40)]
    assert min(off) > 0 and np.mean(off) < 15
    assert min(border) > 0 and max(border) < 2.5
    assert not Robot("border").prompt(truth, np.ones((80, 80), bool), rng).positive


def test_a_careless_box_is_too_large_or_cuts_one_side_and_clicks_follow(rng):
    truth = np.zeros((80, 80), bool)
    truth[20:40, 30:70] = True
    assert Robot("large-box").prompt(truth, EMPTY, rng, first=True) == Box((15, 20), (45, 80))
    cuts = {(box.start, box.stop) for box in (Robot("cutting-box").prompt(truth, EMPTY, rng, first=True) for _ in range(40))}
    assert cuts == {((25, 30), (40, 70)), ((20, 40), (40, 70)), ((20, 30), (35, 70)), ((20, 30), (40, 60))}
    for kind in ("large-box", "cutting-box"):
        assert isinstance(Robot(kind).prompt(truth, EMPTY, rng), Click)


def test_a_stray_scribble_leaves_the_object_once(rng):
    truth = ellipsoid((80, 80), (40, 40), (20, 12))
    stray = Robot("stray").prompt(truth, EMPTY, rng, first=True)
    assert stray.positive and (stray.mask & truth).any() and 2 < (stray.mask & ~truth).sum() < 20
    assert not (Robot("stray").prompt(truth, EMPTY, rng).mask & ~truth).any()


def test_a_negative_click_can_come_first_beside_the_object(rng):
    truth = ellipsoid((80, 80), (40, 40), (20, 12))
    for _ in range(20):
        click = Robot("negative-first").prompt(truth, EMPTY, rng, first=True)
        assert not click.positive and not truth[click.position]
        assert np.hypot(click.position[0] - 40, click.position[1] - 40) < 20 + 13
    assert Robot("negative-first").prompt(truth, EMPTY, rng).positive
    assert Robot("negative-first").prompt(np.ones((9, 9), bool), np.zeros((9, 9), bool), rng, first=True).positive


def test_a_box_robot_begins_with_the_bounding_box_and_goes_on_with_clicks(rng):
    assert Robot("box").prompt(RING, EMPTY, rng, first=True) == Box((10, 10), (71, 71))
    assert isinstance(Robot("box").prompt(RING, EMPTY, rng), Click)


def test_a_jittered_hand_misses_the_centre(rng):
    truth = ellipsoid((80, 80), (40, 40), (25, 25))
    positions = {Robot(jitter=3).prompt(truth, EMPTY, rng).position for _ in range(10)}
    assert len(positions) > 5


def test_strokes_stay_inside_their_region(rng):
    for draw in (line_scribble, centreline_scribble, contour_scribble):
        stroke = draw(RING, rng)
        assert stroke.any()
        assert not (stroke & ~RING).any()
    assert isinstance(Robot("scribbles").prompt(RING, EMPTY, rng), Scribble)


def test_the_error_is_the_larger_of_what_is_missing_and_what_is_too_much():
    mask = RING.copy()
    mask[:3] = True
    mask[40, 10:15] = False
    region, positive = error_region(RING, mask)
    assert not positive
    assert region[0, 40]


def test_border_clicks_lie_near_the_edge(rng):
    row, column = border_click(RING, rng)
    assert RING[row, column]
    assert not RING[row - 3:row + 4, column - 3:column + 4].all()


def test_maps_hold_each_prompt_in_its_channel_and_the_later_one_wins():
    canvas = Canvas((80, 80), (1.0, 1.0), 80)
    box, positive, negative = prompt_maps([Box((10, 20), (30, 40)), Click((5, 6)), Click((7, 8), False), Click((7, 8))], canvas)
    assert box.sum() == 400
    assert box[10, 20] == box[29, 39] == 1
    assert positive[5, 6] == positive[7, 8] == 1
    assert negative.sum() == 0
