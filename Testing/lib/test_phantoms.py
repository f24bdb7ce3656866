"""The generated study: what makes it realistic is there, and its truth is true."""
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from InteractiveSegLib.demo_study import build_study
from InteractiveSegLib.io import read_image
from InteractiveSegLib.phantoms import SCENES, Scene, Tissue, make_ultrasound, make_volume


@pytest.fixture(scope="module")
def phantoms():
    return {name: make_volume(name, 3, 0.5) for name in SCENES} | {"ultrasound": make_ultrasound(3)}


@pytest.mark.parametrize("name", [*SCENES, "ultrasound"])
def test_the_same_seed_makes_the_same_patient_and_another_seed_another(phantoms, name):
    make = make_ultrasound if name == "ultrasound" else lambda seed: make_volume(name, seed, 0.5)
    again, other = make(3), make(4)
    assert np.array_equal(again.image, phantoms[name].image) and np.array_equal(again.labels, phantoms[name].labels)
    assert not np.array_equal(other.labels, again.labels)


@pytest.mark.parametrize("name", [*SCENES, "ultrasound"])
def test_every_structure_is_there_and_the_labels_follow_the_image(phantoms, name):
    phantom = phantoms[name]
    for label, words in phantom.names.items():
        inside = phantom.labels == label
        around = ndimage.binary_dilation(inside, iterations=3) & ~ndimage.binary_dilation(inside)
        assert inside.sum() >= 8, words
        assert abs(np.median(phantom.image[inside]) - np.median(phantom.image[around])) > 10, words


def test_the_myocardium_is_a_ring_around_the_left_ventricle(phantoms):
    labels = phantoms["heart"].labels
    rings = [k for k in range(labels.shape[0]) if (labels[k] == 3).any()]
    closed = [k for k in rings if np.all(ndimage.binary_fill_holes(np.isin(labels[k], (2, 3)))[labels[k] == 3])]
    wall = ndimage.binary_dilation(labels == 3, ndimage.generate_binary_structure(3, 1), mask=labels != 2) & (labels == 1)
    assert len(rings) >= 3 and closed == rings and not wall.any()


def test_a_voxel_on_an_edge_is_the_mean_of_what_it_covers(monkeypatch):
    """Partial volume: on a plane between two signals that cuts voxels in the middle, the voxels have the mean."""
    scene = Scene(lambda p: (p[0] > 0).astype(np.uint8), (Tissue(0.0), Tissue(100.0, 0, 1)), {1: "half"}, "CT", (0, 100),
                  (4, 9, 9), (1.0, 1.0, 1.0), (0, 0, 0), 0.0, 0.0, 0.0)  # fmt: skip
    monkeypatch.setitem(SCENES, "abdomen", scene)
    row = make_volume("abdomen", 0).image[2, 4].tolist()
    assert row[0] == 100 and row[-1] == 0 and row[4] == 50


def test_mr_has_a_bias_field_and_rician_noise(monkeypatch, phantoms):
    monkeypatch.setitem(SCENES, "head", replace(SCENES["head"], bias=0.0))
    ratio = ndimage.gaussian_filter(phantoms["head"].image, 3.0) / ndimage.gaussian_filter(make_volume("head", 3, 0.5).image, 3.0)
    white = ratio[phantoms["head"].labels == 1]
    assert white.max() / white.min() > 1.1
    air = phantoms["head"].image[:, :4, :4]
    assert air.min() >= 0 and air.mean() / air.std() < 2.5  # a magnitude: no negative values, near a Rayleigh distribution


def test_ultrasound_is_speckle_and_a_cyst_is_black(phantoms):
    us = phantoms["ultrasound"]
    cyst, nodule = (np.median(us.image[us.labels == label]) for label in (1, 2))
    assert cyst < 20 < nodule
    assert us.image[60:80, 90:134].astype(float).std() > 15


def test_the_study_on_disk_is_the_phantom_in_three_formats_and_its_truth_lies_on_it(tmp_path):
    cases = {case.name: case for case in build_study(tmp_path, seed=3, detail=0.5)}
    assert [cases[n].image.name for n in cases] == ["abdomen_ct", "head_mr.nii.gz", "heart_mr.nrrd", "ultrasound.png"]
    for name in SCENES:
        phantom, image, truth = make_volume(name, 3, 0.5), read_image(cases[name].image), read_image(cases[name].reference)
        assert np.array_equal(image.array, phantom.image) and np.array_equal(truth.array, phantom.labels)
        assert np.allclose(image.affine, phantom.affine, atol=1e-4) and np.allclose(truth.affine, phantom.affine, atol=1e-9)
    spacing = [read_image(cases[name].image).spacing for name in SCENES]
    assert all(s[0] > 2 * s[1] for s in spacing)
    turned = [np.abs(read_image(cases[name].image).affine[:3, :3]) / 2.0 for name in ("head", "heart")]
    assert all((np.sort(direction, axis=0)[1] > 0.05).all() for direction in turned)


def test_the_dicom_series_is_a_valid_ct_in_no_order(tmp_path):
    build_study(tmp_path, seed=3, detail=0.4)
    files = sorted((tmp_path / "abdomen_ct").iterdir())
    data = [pydicom.dcmread(file) for file in files]
    assert {d.SOPClassUID.name for d in data} == {"CT Image Storage"} and len({d.SeriesInstanceUID for d in data}) == 1
    assert len({d.SOPInstanceUID for d in data}) == len(files) and {d.FrameOfReferenceUID for d in data}
    assert all(d.file_meta.MediaStorageSOPInstanceUID == d.SOPInstanceUID for d in data)
    numbers = [d.InstanceNumber for d in data]
    assert numbers != sorted(numbers) and sorted(numbers) == list(range(1, len(files) + 1))
    assert data[0].RescaleIntercept == -1024 and data[0].pixel_array.max() > 1100
