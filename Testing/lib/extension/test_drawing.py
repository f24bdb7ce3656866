"""Strokes and curves: drawn with the mouse, they become prompts at the right voxels and add up with clicks and boxes."""
from __future__ import annotations

import numpy as np
import pytest
from geometries import GEOMETRIES
from InteractiveSegBridge import mrml, strokes
from InteractiveSegBridge.workbench import workbench
from InteractiveSegSelfTest.phantom import CENTRE_KJI, NEIGHBOUR_KJI, RADII_KJI, SHAPE, ellipsoid
from InteractiveSegSelfTest.scenarios import dice

from InteractiveSegLib import Box, Click, Lasso, Scribble

GREEN, RED = (0.1, 0.9, 0.2), (1.0, 0.25, 0.2)
K, J, COLUMN = CENTRE_KJI


def prompts(stage):
    return workbench().prompts(stage.editor_node)


def draw(stage, *voxels_kji, control=False):
    """Hold the left button down from voxel to voxel."""
    path = [stage.xy_of(voxel) for voxel in voxels_kji]
    stage.event("LeftButtonPressEvent", path[0], control)
    for xy in path[1:]:
        stage.event("MouseMoveEvent", xy, control)
    stage.event("LeftButtonReleaseEvent", path[-1], control)


def painted(scribble):
    """The scribble on the whole volume."""
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(o, o + n) for o, n in zip(scribble.origin, scribble.mask.shape))] = scribble.mask
    return mask


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_a_stroke_marks_the_voxels_it_passes_in_the_slice_that_the_view_shows(make_stage, geometry, axis):
    stage = make_stage(geometry, effect="InteractiveScribble")
    stage.show_slice_of(CENTRE_KJI, axis)
    across = [other for other in range(3) if other != axis]
    one, two = list(CENTRE_KJI), list(CENTRE_KJI)
    one[across[1]] -= 4
    two[across[1]] += 4
    draw(stage, one, two)
    stage.settle()
    [scribble] = prompts(stage)
    voxels = np.argwhere(painted(scribble))
    assert set(voxels[:, axis]) == {CENTRE_KJI[axis]}
    assert {tuple(v) for v in (one, two, CENTRE_KJI)} <= {tuple(v) for v in voxels.tolist()}
    assert abs(voxels[:, across[0]] - CENTRE_KJI[across[0]]).max() <= 3, "no wider than the brush"
    mask, truth = (np.moveaxis(m, axis, 0)[CENTRE_KJI[axis]] for m in (stage.mask(), ellipsoid(CENTRE_KJI, RADII_KJI)))
    assert dice(mask, truth) > 0.8


def test_the_brush_is_as_wide_on_the_screen_as_it_says(a_stage):
    a_stage.show_slice_of(CENTRE_KJI)
    ends = [a_stage.xy_of((K, J, COLUMN - 5)), a_stage.xy_of((K, J, COLUMN + 5))]
    widths_mm = []
    for pixels in (10, 40):
        _, mask = strokes.stroke_mask(a_stage.view.mrmlSliceNode(), mrml.grid_of(a_stage.volume), ends, pixels)
        widths_mm.append(mask[0, :, mask.shape[2] // 2].sum() * 0.8)
    pixel_mm = 90.0 / 300
    assert widths_mm == pytest.approx([10 * pixel_mm, 40 * pixel_mm], abs=0.8)


def test_a_thin_stroke_is_unbroken(a_stage):
    ends = [a_stage.xy_of((K, 5, 5)), a_stage.xy_of((K, 60, 33)), a_stage.xy_of((K, 9, 60))]
    _, mask = strokes.stroke_mask(a_stage.view.mrmlSliceNode(), mrml.grid_of(a_stage.volume), ends, 1)
    rows = np.flatnonzero(mask[0].any(axis=1))
    assert len(rows) >= 55
    assert (np.diff(rows) == 1).all(), "every row between the ends"


def test_strokes_with_control_mark_what_is_not_the_object(make_stage):
    stage = make_stage(effect="InteractiveScribble")
    draw(stage, (K, J, COLUMN - 4), (K, J, COLUMN + 4))
    stage.settle()
    before = stage.mask()
    draw(stage, (K, J + 8, COLUMN - 4), (K, J + 8, COLUMN + 4), control=True)
    stage.settle()
    assert [p.positive for p in prompts(stage)] == [True, False]
    assert stage.mask().sum() < before.sum()
    assert not stage.mask()[painted(prompts(stage)[1])].any()


def test_a_press_without_a_move_is_a_dot(make_stage):
    stage = make_stage(effect="InteractiveScribble")
    stage.click(CENTRE_KJI)
    stage.settle()
    assert painted(prompts(stage)[0])[CENTRE_KJI]


@pytest.mark.parametrize(("effect", "message"), [
    ("InteractiveScribble", "The stroke is outside the volume 'Phantom'"),
    ("InteractiveLasso", "The curve encloses nothing of the volume 'Phantom'"),
])
def test_drawing_outside_the_volume_says_so(make_stage, effect, message):
    stage = make_stage(effect=effect)
    draw(stage, (K, J, -30), (K, J + 10, -30), (K, J + 10, -20))
    stage.settle()
    assert message in stage.application.status[-1]
    assert not prompts(stage)


def test_a_curve_around_the_object_finds_it(make_stage):
    stage = make_stage(effect="InteractiveLasso")
    _, rows, columns = RADII_KJI
    draw(stage, (K, J - rows - 3, COLUMN), (K, J, COLUMN + columns + 3), (K, J + rows + 3, COLUMN), (K, J, COLUMN - columns - 3))
    stage.settle()
    [lasso] = prompts(stage)
    assert isinstance(lasso, Lasso)
    assert {point[0] for point in lasso.points} == {K}
    assert dice(stage.mask()[K], ellipsoid(CENTRE_KJI, RADII_KJI)[K]) > 0.6
    assert stage.mask()[CENTRE_KJI]


def test_the_path_being_drawn_follows_the_mouse_and_goes_with_the_release(make_stage):
    stage = make_stage(effect="InteractiveScribble")
    path = [stage.xy_of((K, J, COLUMN + n)) for n in range(4)]
    stage.event("LeftButtonPressEvent", path[0], control=True)
    for xy in path[1:]:
        stage.event("MouseMoveEvent", xy, control=True)
    assert stage.drawn() == {GREEN: 0, RED: 3}
    stage.event("LeftButtonReleaseEvent", path[-1], control=True)
    stage.effect.onCancel()
    stage.settle()
    assert stage.drawn() == {GREEN: 0, RED: 0}


def test_prompts_of_all_four_tools_add_up_on_one_segment(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.choose("InteractiveScribble")
    draw(a_stage, (K, J + 5, COLUMN - 3), (K, J + 5, COLUMN + 3))
    a_stage.choose("InteractiveBox")
    a_stage.drag((8, 20, 44), (8, 40, 63))
    a_stage.choose("InteractiveLasso")
    k, j, i = NEIGHBOUR_KJI
    draw(a_stage, (k, j - 9, i), (k, j, i + 8), (k, j + 9, i), (k, j, i - 8))
    a_stage.settle()
    assert [type(prompt) for prompt in prompts(a_stage)] == [Click, Scribble, Box, Lasso]
    assert len(workbench()._segments) == 1
    assert a_stage.mask()[CENTRE_KJI]
    assert a_stage.mask()[NEIGHBOUR_KJI]


def test_a_stroke_in_a_tilted_view_goes_to_the_nearest_slice(make_stage):
    stage = make_stage(effect="InteractiveScribble")
    stage.show_slice_of(CENTRE_KJI, tilt_degrees=20)
    draw(stage, (K, J, COLUMN - 4), (K, J, COLUMN + 4))
    stage.settle()
    assert prompts(stage)[0].mask.shape[0] == 1
    assert "tilted by 20°" in " ".join(stage.application.status)


def test_a_painted_stroke_is_outlined_where_it_lies_in_any_view(make_stage):
    stage = make_stage(effect="InteractiveScribble")
    draw(stage, (K, J, COLUMN - 4), (K, J, COLUMN + 4))
    stage.settle()
    rim = stage.drawn()[GREEN]
    assert rim > 10, "an outline and a plus"
    stage.show_slice_of((K + 1, J, COLUMN))
    assert stage.drawn()[GREEN] == 0
    stage.show_slice_of(CENTRE_KJI, axis=2)
    assert 0 < stage.drawn()[GREEN] < rim, "the cut of the stroke in the view across"
