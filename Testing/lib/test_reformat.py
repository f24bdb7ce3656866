"""Planes through a volume: the picture is that of the plane, and labels made on it come back to the voxels it cuts."""
from __future__ import annotations

import numpy as np
import pytest

from InteractiveSegLib import reformat
from InteractiveSegLib.reformat import MOST_PIXELS, Plane, plane_through

SHAPE = (24, 40, 50)
MIDDLE_KJI = (12, 20, 25)


def turned(degrees: float) -> np.ndarray:
    """Anisotropic voxels, turned about R and flipped along i."""
    angle = np.deg2rad(degrees)
    affine = np.eye(4)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine[:3, :3] = turn @ np.diag([-0.8, 0.9, 2.5])
    affine[:3, 3] = (12, -7, 30)
    return affine


def place_of(affine, kji) -> np.ndarray:
    return (affine @ [*kji[::-1], 1.0])[:3]


def axial_plane(affine, kji=MIDDLE_KJI, shape=SHAPE):
    """As an axial view shows it, however the volume lies."""
    return plane_through(shape, affine, place_of(affine, kji), (-1, 0, 0), (0, -1, 0))


def ramp(affine, shape=SHAPE) -> np.ndarray:
    """A volume whose values are a linear function of the place in the patient."""
    k, j, i = np.indices(shape)
    mm = np.stack([i, j, k], axis=-1) @ affine[:3, :3].T + affine[:3, 3]
    return mm @ [1.0, 2.0, 3.0]


def pixel_places(plane, affine) -> np.ndarray:
    """(rows, columns, 3) mm."""
    rows, columns = np.indices(plane.shape)
    to_mm = affine @ plane.to_ijk
    return np.stack([columns, rows], axis=-1) @ to_mm[:3, :2].T + to_mm[:3, 3]


@pytest.mark.parametrize("degrees", [20.0, -35.0, 60.0])
def test_the_picture_shows_what_lies_on_the_plane(degrees):
    affine = turned(degrees)
    plane = axial_plane(affine)
    places = pixel_places(plane, affine)
    assert np.allclose(places[..., 2], place_of(affine, MIDDLE_KJI)[2]), "all pixels at the height of the axial plane"
    assert (np.diff(places[..., 0], axis=1) < 0).all(), "columns run to the patient's left"
    assert (np.diff(places[..., 1], axis=0) < 0).all(), "rows run backwards"
    within = np.all([(c > 0) & (c < n - 1) for c, n in zip(plane._kji(*np.indices(plane.shape)), SHAPE)], axis=0)
    assert within.sum() > 300
    assert np.allclose(plane.sample(ramp(affine))[within], (places @ [1.0, 2.0, 3.0])[within], atol=1e-3)


def test_the_picture_covers_all_that_the_plane_cuts_with_pixels_as_small_as_the_smallest_voxel_side():
    affine = turned(25.0)
    plane = axial_plane(affine)
    covered = np.unique(plane.cut(np.arange(1, np.prod(SHAPE) + 1).reshape(SHAPE)))
    heights = np.abs(ramp(affine) * 0 + np.moveaxis(np.indices(SHAPE)[::-1], 0, -1) @ affine[2, :3] + affine[2, 3]
                     - place_of(affine, MIDDLE_KJI)[2])
    deeply_cut = heights < 0.25 * np.abs(affine[2, :3]).max()
    assert set(np.flatnonzero(deeply_cut) + 1) <= set(covered.tolist())
    assert np.allclose(np.linalg.norm((affine @ plane.to_ijk)[:3, :2], axis=0), 0.8)


@pytest.mark.parametrize("degrees", [20.0, 45.0])
def test_labels_that_were_not_changed_on_the_plane_stay_and_a_change_is_seen_there(degrees):
    affine = turned(degrees)
    plane = axial_plane(affine)
    labels = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    assert (plane.put(plane.cut(labels), labels) == labels).all()
    picture = plane.cut(labels)
    rows, columns = plane.shape
    picture[rows // 3 : rows // 2, columns // 3 : columns // 2] = 2
    changed = plane.put(picture, labels)
    assert (changed != labels).any()
    assert (plane.cut(changed)[rows // 3 + 4 : rows // 2 - 4, columns // 3 + 4 : columns // 2 - 4] == 2).all()
    k, j, i = np.nonzero(changed != labels)
    heights = np.abs(np.stack([i, j, k], axis=1) @ affine[2, :3] + affine[2, 3] - place_of(affine, MIDDLE_KJI)[2])
    assert heights.max() <= 0.5 * np.abs(affine[2, :3]).sum(), "only voxels that the plane passes through"


def tilted(shape, spacing_ijk, tilt, turn):
    """(plane, heights): a plane through the middle, turned about two axes; and how far each voxel's centre is from it, in voxels
    thickness along the plane's normal."""
    affine = np.diag([*spacing_ijk, 1.0])
    (s, t), (c, d) = np.sin(np.deg2rad([tilt, turn])), np.cos(np.deg2rad([tilt, turn]))
    right, down = np.array([d, t, 0.0]), np.array([-t * c, d * c, s])
    point = affine[:3, :3] @ (np.array(shape[::-1]) / 2 + [0.13, 0.21, 0.34])
    normal = np.cross(right, down) @ affine[:3, :3]
    k, j, i = np.indices(shape)
    heights = np.stack([i, j, k], axis=-1) @ normal - np.cross(right, down) @ point
    return plane_through(shape, affine, point, right, down), heights / np.abs(normal).sum()


@pytest.mark.parametrize("tilt", [8, 20, 33, 45, 70, 85])
@pytest.mark.parametrize("turn", [0, 25])
@pytest.mark.parametrize("shape, spacing_ijk", [
    ((24, 40, 50), (0.8, 0.9, 2.5)), ((30, 30, 30), (1, 1, 1)), ((12, 60, 60), (0.5, 0.5, 5)), ((30, 20, 40), (3, 1, 0.7)),
])
def test_every_voxel_that_the_plane_cuts_is_filled_and_no_other(shape, spacing_ijk, tilt, turn):
    plane, heights = tilted(shape, spacing_ijk, tilt, turn)
    filled = plane.put(np.ones(plane.shape, np.uint8), np.zeros(shape, np.uint8)) != 0
    assert (filled == (np.abs(heights) < 0.5)).all()
    assert set(plane.reaches(shape).tolist()) == set(np.flatnonzero(filled).tolist())
    emptied = plane.put(np.zeros(plane.shape, np.uint8), filled.astype(np.uint8))
    assert not emptied.any()


@pytest.mark.parametrize("spacing_ijk", [(1, 1, 1), (0.5, 0.5, 5), (3, 1, 0.7)])
def test_a_disc_on_the_plane_is_a_disc_of_the_voxels_that_it_cuts_without_holes(spacing_ijk):
    shape = (30, 44, 40)
    plane, heights = tilted(shape, spacing_ijk, 35, 20)
    middle, radius = np.array(plane.shape) / 2, min(plane.shape) / 3

    def away(rows, columns):
        return np.hypot(rows - middle[0], columns - middle[1])

    filled = plane.put((away(*np.indices(plane.shape)) < radius).astype(np.uint8), np.zeros(shape, np.uint8)) != 0
    # The same plane in ten times finer pixels tells where on it each voxel is cut.
    fine = Plane((plane.shape[0] * 10, plane.shape[1] * 10), plane.to_ijk @ np.diag([0.1, 0.1, 0.1, 1]))
    voxels, distances = fine.voxels(shape), away(*np.indices(fine.shape) / 10)
    nearest, farthest = np.full(filled.size, np.inf), np.full(filled.size, -np.inf)
    np.minimum.at(nearest, voxels[voxels >= 0], distances[voxels >= 0])
    np.maximum.at(farthest, voxels[voxels >= 0], distances[voxels >= 0])
    inside, outside = (farthest > 0) & (farthest < radius - 1.5), nearest > radius + 1.5
    assert inside.sum() > 200
    assert filled.ravel()[inside].all()
    assert not filled.ravel()[outside & np.isfinite(nearest)].any()
    assert not filled[np.abs(heights) >= 0.5].any()


def test_a_coarse_picture_of_a_large_plane_reaches_every_voxel_too(monkeypatch):
    monkeypatch.setattr(reformat, "MOST_PIXELS", 16)
    plane, heights = tilted((24, 40, 50), (0.8, 0.9, 2.5), 30, 10)
    assert max(plane.shape) == 16
    filled = plane.put(np.ones(plane.shape, np.uint8), np.zeros((24, 40, 50), np.uint8)) != 0
    assert (filled == (np.abs(heights) < 0.5)).all()


def test_a_picture_smaller_than_the_volume_reaches_nothing_beyond_its_border():
    plane, _ = tilted((24, 40, 50), (0.8, 0.9, 2.5), 30, 10)
    rows, columns = (n // 2 for n in plane.shape)
    part = Plane((rows, columns), plane.to_ijk)
    filled = part.put(np.ones(part.shape, np.uint8), np.zeros((24, 40, 50), np.uint8)) != 0
    to_plane = np.linalg.inv(plane.to_ijk)
    places = np.moveaxis(np.indices((24, 40, 50))[::-1], 0, -1) @ to_plane[:2, :3].T + to_plane[:2, 3]
    reach = np.abs(to_plane[:2, :3]).sum(axis=1) / 2 + 1.5
    assert filled.any()
    assert (places[filled] < np.array([columns, rows]) + reach).all()


def test_slivers_beside_a_hand_drawn_mask_stay_unless_the_picture_is_the_whole_truth():
    plane, _ = tilted(SHAPE, (1, 1, 1), 45, 0)
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[MIDDLE_KJI[0], 10:30, 10:30] = 1
    picture = plane.cut(drawn)
    picture[:5, :5] = 1
    assert (plane.put(picture, drawn)[MIDDLE_KJI[0] + 1, 10:30, 10:30] == 0).all(), "nothing changed there"
    whole = plane.put(np.ones_like(picture), drawn, whole=True)
    assert (whole != 0).ravel()[plane.reaches(SHAPE)].all()


def test_the_same_view_gives_the_same_pixels_wherever_it_was_panned_to():
    affine = turned(20.0)
    point = place_of(affine, MIDDLE_KJI)
    one = plane_through(SHAPE, affine, point, (-1, 0, 0), (0, -1, 0))
    assert one.is_same(plane_through(SHAPE, affine, point + [31.3, -12.7, 0], (-1, 0, 0), (0, -1, 0)))
    assert not one.is_same(plane_through(SHAPE, affine, point + [0, 0, 0.4], (-1, 0, 0), (0, -1, 0)))
    assert not one.is_same(None)


@pytest.mark.parametrize("degrees", [0.0, 90.0, 0.4])
def test_a_plane_along_the_volumes_slices_is_none(degrees):
    assert axial_plane(turned(degrees)) is None


def test_a_plane_beside_the_volume_is_none():
    assert axial_plane(turned(20.0), (400, 20, 25)) is None


def test_a_single_slice_can_be_cut_and_a_large_plane_gets_coarser_pixels():
    affine = turned(30.0)
    plane = axial_plane(affine, (0, 20, 25), (1, 40, 50))
    assert plane.sample(ramp(affine, (1, 40, 50))).shape == plane.shape
    large = axial_plane(np.diag([0.1, 1, 1, 1]) @ turned(30.0), (1000, 1000, 1000), (2000, 2000, 2000))
    assert max(large.shape) <= MOST_PIXELS
