"""Masks go wrong as the paper says: six ways, each with its probability, all to be seen on a sheet."""
import numpy as np
import pytest
from scipy import ndimage
from shapes import ellipsoid

from InteractiveSegLib.training.defects import DEFECTS, SIDE, defective

DISK = ellipsoid((SIDE, SIDE), (240, 220), (70, 90))
BY_NAME = {defect.__name__: defect for defect in DEFECTS}


def repeated(name, count=12, mask=DISK):
    return [BY_NAME[name](mask, np.random.default_rng(seed)) for seed in range(count)]


def reach(a, b):
    """How far the farthest pixel of a lies from b, pixels to the four neighbours."""
    return ndimage.distance_transform_cdt(~b, "taxicab")[a].max()


def test_there_are_six_with_the_probabilities_of_the_paper():
    assert list(DEFECTS.values()) == [0.1, 0.1, 0.3, 0.2, 0.1, 0.2]


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("mask", [DISK, ellipsoid((60, 90), (20, 40), (2, 9)), np.eye(64, dtype=bool)])
def test_every_defect_spoils_some_masks_and_wipes_out_none(name, mask):
    spoilt = repeated(name, mask=mask)
    assert all(s.dtype == bool and s.shape == mask.shape and s.any() for s in spoilt)
    assert any((s != mask).any() for s in spoilt)


@pytest.mark.parametrize("name", ["add_shapes", "merge_shapes"])
def test_added_and_merged_shapes_leave_the_mask_whole(name):
    spoilt = repeated(name)
    assert all(s[DISK].all() for s in spoilt)
    assert any(s.sum() > 1.05 * DISK.sum() for s in spoilt)


def test_a_merged_shape_touches_the_mask_and_an_added_one_need_not():
    assert all(ndimage.label(s, np.ones((3, 3)))[1] == 1 for s in repeated("merge_shapes", 40))
    assert any(ndimage.label(s, np.ones((3, 3)))[1] > 1 for s in repeated("add_shapes", 40))


def test_removed_shapes_add_nothing():
    spoilt = repeated("remove_shapes")
    assert not any(s[~DISK].any() for s in spoilt)
    assert all(s.sum() < DISK.sum() for s in spoilt)


def test_masks_are_dilated_by_10_to_30_pixels_or_eroded_by_10():
    for spoilt in repeated("dilate_or_erode", 20):
        if spoilt.sum() > DISK.sum():
            assert 9 <= reach(spoilt, DISK) <= 30
            assert spoilt[DISK].all()
        else:
            assert reach(DISK & ~spoilt, ~DISK) == 10
    small = ellipsoid((SIDE, SIDE), (100, 100), (4, 4))
    assert all(s[100, 100] for s in repeated("dilate_or_erode", 20, small)), "an erosion leaves the core"


def test_edges_move_by_30_pixels_at_most_and_become_jagged():
    for spoilt in repeated("displace_edge"):
        assert (spoilt & ~DISK).any()
        assert (DISK & ~spoilt).any()
        assert reach(spoilt, DISK) <= 60  # 30 along each axis
        assert (spoilt ^ ndimage.binary_erosion(spoilt)).sum() > 1.1 * (DISK ^ ndimage.binary_erosion(DISK)).sum()


def test_smoothing_takes_thin_parts_away():
    thin = DISK.copy()
    thin[238:242, 310:400] = True
    assert all(s[238:242, 340:380].mean() < 0.5 for s in repeated("smooth", mask=thin))


def test_lengths_shrink_with_the_slice():
    small = ellipsoid((96, 96), (48, 44), (14, 18))
    grown = [s for s in repeated("dilate_or_erode", 20, small) if s.sum() > small.sum()]
    assert grown
    assert all(reach(s, small) <= 6 for s in grown)


def test_defects_come_as_often_as_they_should():
    rng = np.random.default_rng(0)
    small = DISK[::8, ::8]
    shrunk = np.mean([not (defective(small, rng) & ~small).any() for _ in range(600)])
    # Erosions (half of 0.1), removals (0.1) and some smoothings (0.2) add nothing, all others do.
    assert 0.1 < shrunk < 0.4
    assert not defective(np.zeros((8, 8), bool), rng).any()
