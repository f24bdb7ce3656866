"""The canvas and the axes: nothing may be squeezed, shifted or lost on the way to the network and back."""
import numpy as np
import pytest
from scipy import ndimage
from shapes import ellipsoid, overlap

from InteractiveSegLib import Box, Click
from InteractiveSegLib.geometry import Canvas, affine_from_spacing, normalise, ras_to_position
from InteractiveSegLib.rasterise import prompt_maps

SHAPES = [((512, 512), (1.0, 1.0)), ((60, 333), (1.0, 1.0)), ((15, 200), (10.0, 1.5)), ((36, 52), (1.0, 1.0))]


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_a_mask_comes_back_from_the_canvas_where_it_was(shape, spacing):
    truth = ellipsoid(shape, (shape[0] * 0.45, shape[1] * 0.6), (shape[0] * 0.3, shape[1] * 0.2))
    canvas = Canvas(shape, spacing, 128)
    back = canvas.expand(canvas.shrink(truth) - 0.5) > 0
    assert overlap(back, truth) > 0.93


@pytest.mark.parametrize(("shape", "spacing"), SHAPES)
def test_what_is_round_in_millimetres_is_round_on_the_canvas(shape, spacing):
    millimetres = np.indices(shape) * np.reshape(spacing, (2, 1, 1))
    centre = np.array(shape) * spacing / 2
    radius = min(np.array(shape) * spacing) * 0.4
    disk = ((millimetres - centre[:, None, None]) ** 2).sum(axis=0) < radius**2
    rows, columns = np.nonzero(Canvas(shape, spacing, 128).shrink(disk) > 0.5)
    assert abs(np.ptp(rows) - np.ptp(columns)) <= 3


REGIONS = [None, (100.0, 60.0, 180.0, 140.0), (-40.0, -30.0, 150.0, 160.0), (290.0, 150.0, 330.0, 190.0)]


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize(("low", "high"), [((0, 0), (128, 128)), ((60, 3), (61, 9)), ((120, 100), (128, 128))])
def test_the_part_of_a_slice_that_canvas_pixels_reach_holds_all_of_them_and_little_else(region, low, high):
    canvas = Canvas((300, 200), (1.5, 1.0), 128, region)
    seen = np.zeros((128, 128), np.float32)
    seen[low[0]:high[0], low[1]:high[1]] = 1
    shown = canvas.expand(seen) > 0
    there = canvas.reach(low, high)
    assert shown[there].sum() == shown.sum()
    for axis, (part, step) in enumerate(zip(there, canvas.step)):
        hit = np.flatnonzero(shown.any(axis=1 - axis))
        assert not hit.size or part.stop - part.start <= np.ptp(hit) + 1 + 2 * np.ceil(step + 1)


@pytest.mark.parametrize("region", [None, (100.0, 60.0, 180.0, 140.0)])
def test_clicks_and_images_meet_on_the_canvas(region):
    image = np.zeros((300, 200))
    image[140, 90] = 1
    canvas = Canvas(image.shape, (1.0, 1.0), 128, region)
    row, column, inside = canvas.locate(np.array([140]), np.array([90]))
    assert inside.all()
    brightest = np.unravel_index(canvas.shrink(image).argmax(), (128, 128))
    assert abs(brightest[0] - row[0]) <= 1
    assert abs(brightest[1] - column[0]) <= 1


def test_a_thin_stroke_on_a_large_slice_does_not_fade():
    stroke = np.zeros((1000, 1000), bool)
    stroke[500, 100:900] = True
    assert Canvas(stroke.shape, (1.0, 1.0), 128).mark(stroke).sum() >= 100


@pytest.mark.parametrize("size", [40, 128, 300])
def test_boxes_are_filled_and_clicks_are_one_pixel_whatever_the_canvas(size):
    canvas = Canvas((64, 72), (1.0, 1.0), size)
    box, positive, _ = prompt_maps([Box((20, 10), (50, 40)), Click((30, 30))], canvas)
    rows, columns = np.nonzero(box)
    assert box[rows.min():rows.max() + 1, columns.min():columns.max() + 1].all()
    assert abs(box.sum() - (30 * size / 72) ** 2) < 0.15 * box.sum()
    assert positive.sum() == 1


def test_a_stroke_on_a_fine_canvas_has_no_gaps():
    stroke = np.zeros((30, 30), bool)
    stroke[np.arange(5, 25), np.arange(5, 25)] = True
    assert ndimage.label(Canvas(stroke.shape, (1.0, 1.0), 128).mark(stroke), np.ones((3, 3)))[1] == 1


def test_outside_of_the_slice_the_canvas_is_black():
    canvas = Canvas((50, 100), (1.0, 1.0), 128)
    shrunk = canvas.shrink(np.ones((50, 100)))
    assert (shrunk[:30] == 0).all()
    assert (shrunk[34:94] == 1).all()


def test_a_hot_pixel_does_not_flatten_the_image():
    image = np.random.default_rng(0).uniform(0, 1, (64, 64))
    image[0, 0] = 1e6
    assert normalise(image).std() > 0.2


def test_windowing_clips_at_its_ends():
    assert normalise(np.array([[-1000.0, 40.0], [240.0, 3000.0]]), (-160, 240)).tolist() == [[0, 0.5], [1, 1]]


def test_a_nearly_binary_image_keeps_its_contrast():
    image = np.zeros((100, 100))
    image[50, 50:55] = 1
    assert normalise(image)[50, 52] == 1


def test_ras_and_voxels_are_inverse_of_each_other():
    affine = affine_from_spacing((3.0, 0.5, 0.7))
    assert np.allclose(ras_to_position(affine, (1.4, 1.0, 6.0), 3), (2, 2, 2))
    assert np.allclose(ras_to_position(affine, (1.4, 1.0, 0.0), 2), (2, 2))
