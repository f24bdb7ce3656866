"""Positions: a pixel of a slice view and a voxel of the volume are the same place, however volume and view are turned."""
from __future__ import annotations

import numpy as np
import pytest
import slicer
from geometries import GEOMETRIES, put_under_transform, put_under_warp
from InteractiveSegBridge import mrml
from InteractiveSegSelfTest.phantom import CENTRE_KJI, SHAPE

from InteractiveSegLib import InteractiveSegError

VOXELS_KJI = [CENTRE_KJI, (0, 0, 0), (15, 63, 71), (3, 50, 11)]


@pytest.fixture(params=GEOMETRIES.values(), ids=GEOMETRIES.keys())
def a_turned_stage(make_stage, request):
    return make_stage(request.param)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("voxel_kji", VOXELS_KJI)
def test_the_pixel_that_shows_a_voxel_leads_back_to_it(a_turned_stage, axis, voxel_kji):
    a_turned_stage.show_slice_of(voxel_kji, axis)
    node, volume = a_turned_stage.view.mrmlSliceNode(), a_turned_stage.volume
    kji = mrml.xy_to_kji(node, mrml.grid_of(volume), a_turned_stage.xy_of(voxel_kji))
    assert kji[axis] == pytest.approx(voxel_kji[axis], abs=1e-4), "the slice is exact"
    assert mrml.nearest_voxel(kji) == voxel_kji


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_view_along_an_array_axis_works_on_that_axis(a_turned_stage, axis):
    a_turned_stage.show_slice_of(CENTRE_KJI, axis)
    found, tilt = mrml.working_axis(a_turned_stage.view.mrmlSliceNode(), mrml.grid_of(a_turned_stage.volume))
    assert (found, round(tilt, 3)) == (axis, 0)


@pytest.mark.parametrize("tilt", [10.0, 25.0, -40.0])
def test_a_tilted_view_works_on_the_nearest_axis_and_says_how_far_off_it_is(a_stage, tilt):
    a_stage.show_slice_of(CENTRE_KJI, 0, tilt)
    found, measured = mrml.working_axis(a_stage.view.mrmlSliceNode(), mrml.grid_of(a_stage.volume))
    assert found == 0
    assert measured == pytest.approx(abs(tilt), abs=1e-3)


def test_a_parent_transform_moves_the_voxels_with_the_volume(make_stage):
    stage = make_stage(GEOMETRIES["as DICOM"])
    own = mrml.ijk_to_ras(stage.volume)
    turn = put_under_transform(stage.volume)
    assert np.allclose(mrml.ijk_to_ras(stage.volume), turn @ own)
    stage.show_slice_of(CENTRE_KJI)
    kji = mrml.xy_to_kji(stage.view.mrmlSliceNode(), mrml.grid_of(stage.volume), stage.xy_of(CENTRE_KJI))
    assert mrml.nearest_voxel(kji) == CENTRE_KJI


def test_the_bridge_agrees_with_slicers_own_xy_to_ras(a_turned_stage):
    node, ras = a_turned_stage.view.mrmlSliceNode(), [0.0] * 3
    slicer.vtkSlicerSegmentEditorLogic.XyToRas([37, 190], ras, node)
    kji = mrml.xy_to_kji(node, mrml.grid_of(a_turned_stage.volume), (37, 190))
    assert np.allclose(a_turned_stage.ras_of(kji), ras, atol=1e-4)


@pytest.mark.parametrize(("kji", "inside"), [
    ((0, 0, -0.49), True), ((0, 0, -0.51), False), ((0, 0, -1.4), False), ((0, 0, 71.49), True), ((0, 0, 71.51), False),
])
def test_a_position_belongs_to_the_voxel_it_lies_in_also_below_the_first(a_stage, kji, inside):
    assert mrml.is_inside(mrml.nearest_voxel(kji), mrml.grid_of(a_stage.volume)) is inside


def test_a_warping_transform_is_refused_in_one_sentence(a_stage):
    put_under_warp(a_stage.volume)
    with pytest.raises(InteractiveSegError, match=r"'Phantom' is under the non-linear transform 'Warp'.*harden"):
        mrml.ijk_to_ras(a_stage.volume)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_rectangle_covers_the_voxels_between_its_corners(a_turned_stage, axis):
    low, high = [4, 20, 25], [9, 44, 60]
    low[axis] = high[axis] = CENTRE_KJI[axis]
    a_turned_stage.show_slice_of(CENTRE_KJI, axis)
    start, stop = mrml.box_between(
        a_turned_stage.view.mrmlSliceNode(), mrml.grid_of(a_turned_stage.volume), *map(a_turned_stage.xy_of, (low, high))
    )
    assert start == tuple(low)
    assert stop == tuple(value + 1 for value in high)


def test_a_rectangle_is_cut_at_the_border_and_is_nothing_outside(a_stage):
    a_stage.show_slice_of(CENTRE_KJI)
    node, grid = a_stage.view.mrmlSliceNode(), mrml.grid_of(a_stage.volume)
    beyond, within = a_stage.xy_of((8, -30, -40)), a_stage.xy_of((8, 10, 12))
    assert mrml.box_between(node, grid, beyond, within) == ((8, 0, 0), (9, 11, 13))
    assert mrml.box_between(node, grid, beyond, a_stage.xy_of((8, -10, -20))) is None


def test_points_are_drawn_where_they_are_and_only_in_their_slice(a_turned_stage):
    a_turned_stage.show_slice_of((5, 20, 30))
    points = [(5, 20, 30), (5, 40, 10), (6, 20, 30)]
    points_xy, shown = mrml.kji_to_xy(a_turned_stage.view.mrmlSliceNode(), mrml.grid_of(a_turned_stage.volume), points)
    assert shown.tolist() == [True, True, False]
    assert np.allclose(points_xy[1], a_turned_stage.xy_of((5, 40, 10)), atol=0.51)


def test_the_array_is_the_volumes_own_and_colour_volumes_are_refused(a_stage):
    assert mrml.volume_array(a_stage.volume).shape == SHAPE
    colour = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Photo")
    slicer.util.updateVolumeFromArray(colour, np.zeros((*SHAPE, 3), np.uint8))
    with pytest.raises(InteractiveSegError, match="'Photo' has 3 components"):
        mrml.volume_array(colour)
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    with pytest.raises(InteractiveSegError, match="'Nothing' holds no voxels"):
        mrml.volume_array(empty)
