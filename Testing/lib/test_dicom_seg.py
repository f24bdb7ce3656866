"""A mask as DICOM SEG: it comes back as it was, on the images it was drawn on, and what cannot be written is said."""
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from annotating import AFFINE, SHAPE, body
from pydicom.uid import generate_uid

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.demo_study import write_dicom_series
from InteractiveSegLib.io import read_dicom_seg, read_image, write_dicom_seg
from InteractiveSegLib.io.dicom_seg import header_of, pixels_of


@pytest.fixture
def series(tmp_path):
    """A folder with a series whose files are not in the order of its slices."""
    write_dicom_series(tmp_path / "series", body(0)[0])
    return tmp_path / "series"


@pytest.fixture
def a_mask():
    """Random voxels, but none in the slices 1 and 3."""
    mask = np.random.default_rng(2).random(SHAPE) > 0.6
    mask[[1, 3]] = False
    return mask


def write(path, mask, series, affine=None, name="left atrium"):
    image = read_image(series)
    write_dicom_seg(path, mask, image.affine if affine is None else affine, series, "", None, name, "MultiverSeg")
    return pydicom.dcmread(path)


def planes(path, sources):
    return pixels_of(hd.seg.segread(path), sources, [1])


def headers_by_height(series):
    headers = [header_of(path) for path in series.glob("*.dcm")]
    cosines = np.array(headers[0].ImageOrientationPatient, float).reshape(2, 3)
    return sorted(headers, key=lambda header: float(np.cross(*cosines) @ np.array(header.ImagePositionPatient, float)))


def test_every_voxel_comes_back_on_the_image_that_it_was_drawn_on(series, a_mask, tmp_path):
    data = write(tmp_path / "seg.dcm", a_mask, series)
    sources = headers_by_height(series)
    assert np.array_equal(planes(tmp_path / "seg.dcm", sources), a_mask)
    stored = data.pixel_array > 0
    assert len(stored) == 3, "frames without a voxel are left out"
    for frame, pixels in zip(data.PerFrameFunctionalGroupsSequence, stored):
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        k = int(np.argmin([np.linalg.norm(place - np.array(s.ImagePositionPatient, float)) for s in sources]))
        assert np.linalg.norm(place - np.array(sources[k].ImagePositionPatient, float)) < 1e-4
        assert np.array_equal(pixels, a_mask[k])
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == sources[k].SOPInstanceUID


def test_it_belongs_to_the_same_study_and_patient_and_is_a_series_of_its_own(series, a_mask, tmp_path):
    first, second = (write(tmp_path / name, a_mask, series) for name in ("a.dcm", "b.dcm"))
    source = headers_by_height(series)[0]
    for tag in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert first[tag].value == source[tag].value
    assert len({first.SeriesInstanceUID, second.SeriesInstanceUID, source.SeriesInstanceUID}) == 3
    assert first.Modality == "SEG" and first.SegmentationType == "BINARY"


@pytest.mark.parametrize(("name", "category", "kind"), [
    ("left atrium", "91723000", "82471001"), ("Liver", "91723000", "10200004"),
    ("brain tumour", "49755003", "52988006"), ("thing 7", "91723000", "91723000"),
])
def test_words_that_snomed_knows_are_coded(series, a_mask, tmp_path, name, category, kind):
    segment = write(tmp_path / "seg.dcm", a_mask, series, name=name).SegmentSequence[0]
    assert segment.SegmentLabel == name and segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == category
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == kind


def test_a_mask_whose_slices_run_the_other_way_lands_on_the_same_images(series, a_mask, tmp_path):
    affine = read_image(series).affine
    turned = affine @ np.diag([1, 1, -1, 1.0])
    turned[:3, 3] += (SHAPE[0] - 1) * affine[:3, 2]
    write(tmp_path / "seg.dcm", a_mask[::-1], series, turned)
    assert np.array_equal(planes(tmp_path / "seg.dcm", headers_by_height(series)), a_mask)


@pytest.mark.parametrize("step", [1, -1])
def test_it_is_read_back_as_the_image_lies(series, a_mask, tmp_path, step):
    write(tmp_path / "seg.dcm", a_mask, series)
    image = read_image(series)
    affine = image.affine.copy()
    if step < 0:
        affine = affine @ np.diag([1, 1, -1, 1.0])
        affine[:3, 3] += (SHAPE[0] - 1) * image.affine[:3, 2]
    shown = replace(image, array=image.array[::step], affine=affine)
    assert np.array_equal(read_dicom_seg(tmp_path / "seg.dcm", shown, series, "", None), a_mask[::step])


def test_a_dicom_seg_of_other_images_or_without_that_segment_is_one_sentence(series, a_mask, tmp_path):
    write(tmp_path / "seg.dcm", a_mask, series)
    with pytest.raises(InteractiveSegError, match="no segment 2"):
        read_dicom_seg(tmp_path / "seg.dcm", read_image(series), series, "", None, 2)
    for path in series.glob("*.dcm"):
        data = pydicom.dcmread(path)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.save_as(path)
    with pytest.raises(InteractiveSegError, match="does not refer to the images"):
        read_dicom_seg(tmp_path / "seg.dcm", read_image(series), series, "", None)
    (tmp_path / "seg.dcm").write_bytes(b"broken")
    with pytest.raises(InteractiveSegError, match="cannot be read as DICOM SEG"):
        read_dicom_seg(tmp_path / "seg.dcm", read_image(series), series, "", None)


def test_an_empty_mask_can_be_written(series, tmp_path):
    write(tmp_path / "seg.dcm", np.zeros(SHAPE, bool), series)
    assert not planes(tmp_path / "seg.dcm", headers_by_height(series)).any()


@pytest.mark.parametrize("affine", [AFFINE @ np.diag([1, 1.1, 1, 1]), AFFINE + np.array(
    [[0, 0, 0, 1.0], [0] * 4, [0] * 4, [0] * 4])], ids=["other spacing", "1 mm aside"])
def test_a_mask_on_another_grid_is_refused(series, a_mask, tmp_path, affine):
    with pytest.raises(InteractiveSegError, match="does not lie on the images"):
        write(tmp_path / "seg.dcm", a_mask, series, affine)
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_images_that_lack_what_dicom_demands_are_said_and_nothing_is_left(series, a_mask, tmp_path):
    for path in series.glob("*.dcm"):
        data = pydicom.dcmread(path)
        data.StudyInstanceUID = data.SOPInstanceUID = ""
        data.save_as(path)
    with pytest.raises(InteractiveSegError, match=r"use the other file"):
        write(tmp_path / "seg.dcm", a_mask, series)
    assert [path.name for path in tmp_path.iterdir()] == ["series"]


def test_what_comes_back_otherwise_is_not_kept(series, a_mask, tmp_path, monkeypatch):
    monkeypatch.setattr("InteractiveSegLib.io.dicom_seg.pixels_of", lambda *_: ~a_mask)
    with pytest.raises(InteractiveSegError, match="came back with other pixels"):
        write(tmp_path / "seg.dcm", a_mask, series)
    assert [path.name for path in tmp_path.iterdir()] == ["series"]
