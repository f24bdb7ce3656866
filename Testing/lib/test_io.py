"""Files: what is read, where it lies, what is written, what is refused."""
import gzip
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from shapes import affine_of
from slicer_reading import read_node, segments_in_slicer, to_ras, values_at, volume_in_slicer

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.demo_study import write_dicom_series, write_volume
from InteractiveSegLib.io import Segment, read_image, read_mask, read_structures, write_segmentation
from InteractiveSegLib.phantoms import Phantom

PLACES = {
    "axial as scanned": (affine_of((0, 0, 0), (0.9, 0.9, 3), (-1, -1, 1)), (7, 11, 13)),
    "oblique, anisotropic": (affine_of((31, -17, 52), (0.7, 1.3, 6)), (5, 9, 12)),
    "left-handed": (affine_of((-8, 4, 100), (1.1, 0.8, 2.5), (1, -1, 1)), (6, 8, 10)),
    "head last, sagittal": (affine_of((90, 0, 90), (1, 1, 4), (1, 1, -1)), (5, 10, 8)),
    "one slice": (affine_of((20, 10, 5), (0.6, 0.6, 5)), (1, 14, 9)),
}


def a_phantom(affine, shape, modality="MR"):
    """Every voxel has its own value, so that a value tells which voxel it is."""
    image = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    return Phantom(image, np.zeros(shape, np.uint8), affine, {}, modality, (0.0, 1000.0))


def some_labels(shape):
    labels = np.zeros(shape, np.uint8)
    labels[: max(1, shape[0] // 2), 1:4, 2:7] = 1
    labels[shape[0] // 2 :, 5:, 0:2] = 2
    return labels


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["nrrd", "nii.gz", "mha", "dicom"])
def test_slicer_finds_the_segment_on_the_very_voxels_of_the_image(tmp_path, kind, place):
    pytest.importorskip("slicer")
    affine, shape = PLACES[place]
    if kind == "dicom" and np.linalg.det(affine[:3, :3]) < 0:
        affine = affine @ np.diag([1, 1, -1, 1])  # DICOM stacks its slices along the normal
    phantom = a_phantom(affine, shape)
    path = tmp_path / ("series" if kind == "dicom" else f"image.{kind}")
    (write_dicom_series if kind == "dicom" else write_volume)(path, phantom)
    files = [path]
    if kind == "dicom":
        files = sorted(path.iterdir(), key=lambda file: pydicom.dcmread(file).InstanceNumber)

    image = read_image(path)
    assert np.array_equal(image.array, phantom.image)
    labels = some_labels(shape)
    write_segmentation(tmp_path / "out.seg.nrrd", labels, image.affine, [Segment("tumour", 1), Segment("vessel", 2)])

    volume = volume_in_slicer(files)
    assert np.array_equal(values_at(volume, to_ras(np.argwhere(image.array >= 0), image.affine)), image.array.ravel())
    for name, (_, ras) in segments_in_slicer(tmp_path / "out.seg.nrrd").items():
        label = {"tumour": 1, "vessel": 2}[name]
        assert sorted(values_at(volume, ras)) == sorted(phantom.image[labels == label])
        assert len(ras) == (labels == label).sum() > 0


def test_slicer_shows_the_names_and_colours_that_were_written(tmp_path):
    pytest.importorskip("slicer")
    affine, shape = PLACES["oblique, anisotropic"]
    segments = [Segment("left\nåtrium", 1, (1.0, 0.5, 0.25)), Segment("vein", 2, (0, 0, 1)), Segment("nothing", 3)]
    write_segmentation(tmp_path / "a.seg.nrrd", some_labels(shape), affine, segments)
    read = segments_in_slicer(tmp_path / "a.seg.nrrd")
    assert list(read) == ["left åtrium", "vein", "nothing"]
    assert read["left åtrium"][0] == pytest.approx((1.0, 0.5, 0.25)) and read["vein"][0] == pytest.approx((0, 0, 1))
    assert len(read["nothing"][1]) == 0


@pytest.mark.parametrize("suffix", ["nrrd", "nii.gz", "nii", "mha", "seg.nrrd"])
def test_a_label_map_comes_back_as_it_was_written(tmp_path, suffix):
    affine, shape = PLACES["oblique, anisotropic"]
    write_segmentation(tmp_path / f"a.{suffix}", some_labels(shape), affine, [Segment("a", 1), Segment("b", 2)])
    back = read_image(tmp_path / f"a.{suffix}")
    assert np.array_equal(back.array, some_labels(shape))
    assert np.allclose(back.affine, affine, atol=1e-5 if "nii" in suffix else 1e-12)
    assert [file.name for file in tmp_path.iterdir()] == [f"a.{suffix}"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    affine, shape = PLACES["one slice"]
    path = tmp_path / "a.seg.nrrd"
    write_segmentation(path, some_labels(shape), affine, [])
    before = path.read_bytes()

    def full_disk(image, name, useCompression):
        Path(name).write_bytes(b"half")
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full_disk)
    with pytest.raises(InteractiveSegError, match="could not be written"):
        write_segmentation(path, some_labels(shape), affine, [])
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_the_longest_name_that_a_file_can_have_can_be_written(tmp_path):
    affine, shape = PLACES["one slice"]
    path = tmp_path / f"{'n' * 246}.seg.nrrd"
    write_segmentation(path, some_labels(shape), affine, [])
    assert np.array_equal(read_image(path).array, some_labels(shape))


@pytest.mark.parametrize("name", ["a.png", "a", "missing.stl"])
def test_an_output_that_is_no_segmentation_file_is_refused(tmp_path, name):
    with pytest.raises(InteractiveSegError, match=r"end it with one of \.seg\.nrrd"):
        write_segmentation(tmp_path / name, np.zeros((2, 3, 4), bool), np.eye(4), [])


def test_the_names_of_dicom_files_do_not_order_the_slices(tmp_path):
    affine, shape = PLACES["axial as scanned"]
    write_dicom_series(tmp_path, a_phantom(affine, shape, "CT"))
    by_name = [int(pydicom.dcmread(file).InstanceNumber) for file in sorted(tmp_path.iterdir())]
    assert by_name != sorted(by_name)
    image = read_image(tmp_path)
    assert np.array_equal(image.array, a_phantom(affine, shape).image) and np.allclose(image.affine, affine, atol=1e-6)
    assert image.modality == "CT" and image.spacing == pytest.approx((3, 0.9, 0.9))


def edited(folder, change):
    """The series of a CT phantom of 7 slices after `change(dataset, number of the slice)` on each file."""
    affine, shape = PLACES["axial as scanned"]
    write_dicom_series(folder, a_phantom(affine, shape, "CT"))
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        change(data, data.InstanceNumber - 1)
        data.save_as(file)
    return folder


def test_a_lost_slice_is_named(tmp_path):
    edited(tmp_path, lambda data, k: None)
    next(f for f in tmp_path.iterdir() if pydicom.dcmread(f).InstanceNumber == 4).unlink()
    with pytest.raises(InteractiveSegError, match=r"3\.00 mm apart but 6\.00 between 2 and 3: a slice is missing"):
        read_image(tmp_path)


def move(data, millimetres):
    data.ImagePositionPatient = [v + d for v, d in zip(data.ImagePositionPatient, millimetres)]


def turn(data, k):
    if k == 3:
        data.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def one(keyword, value):
    """Change a value in one file of a series."""
    return lambda data, k: setattr(data, keyword, value) if k == 3 else None


@pytest.mark.parametrize(
    "change, words",
    [
        (turn, "several orientations"),
        (lambda data, k: move(data, (0, 0.8 * k, 0)), r"tilted gantry \(slices lean by 14\.9 degrees\)"),
        (lambda data, k: setattr(data, "PixelSpacing", [1 + k, 1]), "several pixel sizes"),
        (lambda data, k: data.__delattr__("ImagePositionPatient"), "does not say where its images lie"),
        (one("ImagePositionPatient", [0, 1]), r"where its images lie .*no usable ImagePositionPatient in IM\d+\.dcm"),
        (one("ImagePositionPatient", [0, 1, 2, 3, 4, 5]), "no usable ImagePositionPatient"),
        (one("ImageOrientationPatient", [1, 0, 0]), "no usable ImageOrientationPatient"),
        (one("ImageOrientationPatient", [0] * 6), "no usable ImageOrientationPatient"),
        (one("PixelSpacing", 1), "no usable PixelSpacing"),
        (one("PixelSpacing", [0, 0]), "no usable PixelSpacing"),
        (one("Rows", None), "no usable Rows"),
    ],
    ids=["orientations", "tilt", "pixel sizes", "no position", "2 coordinates", "6 coordinates", "3 cosines", "no direction",
         "1 pixel size", "pixels of 0 mm", "no rows"],
)
def test_a_series_that_makes_no_volume_is_refused_in_one_sentence(tmp_path, change, words):
    with pytest.raises(InteractiveSegError, match=words) as caught:
        read_image(edited(tmp_path, change))
    assert str(caught.value).count(". ") == 0


def test_one_of_several_series_is_chosen_by_number_or_uid(tmp_path):
    affine, shape = PLACES["axial as scanned"]
    write_dicom_series(tmp_path / "a", a_phantom(affine, shape, "CT"))
    edited(tmp_path / "b", lambda data, k: (setattr(data, "SeriesNumber", 12), setattr(data, "SeriesInstanceUID", "1.2.77")))
    with pytest.raises(InteractiveSegError, match=r"2 series, choose one with --series .*series 3 .*series 12 .*UID 1\.2\.77"):
        read_image(tmp_path)
    assert "series 12" in read_image(tmp_path, series="12").source
    assert "series 12" in read_image(tmp_path, series="1.2.77").source
    with pytest.raises(InteractiveSegError, match="no series called 5"):
        read_image(tmp_path, series="5")


def test_the_first_of_several_words_counts_where_dicom_allows_one(tmp_path):
    folder = edited(tmp_path, lambda data, k: (setattr(data, "Modality", ["CT", "MR"]), setattr(data, "SeriesNumber", [5, 6])))
    image = read_image(folder, series="5")
    assert image.modality == "CT" and "series 5 " in image.source


def test_a_copy_of_a_series_in_a_folder_of_its_own_is_seen_only_by_who_looks_there(tmp_path):
    folder = edited(tmp_path / "series", lambda data, k: None)
    alone = read_image(folder)
    shutil.copytree(folder, folder / "copy")
    assert np.array_equal(read_image(folder, nested=False).array, alone.array)
    with pytest.raises(InteractiveSegError, match="2 images at each of its 7 slice positions"):
        read_image(folder)


def test_a_series_number_is_not_the_end_of_another_series_uid(tmp_path):
    for number, uid in ((2, "1.2.840.1.14"), (3, "1.2.840.1.1"), (4, "1.2.840.1.20260101")):
        edited(tmp_path / str(number), lambda data, k, number=number, uid=uid: (
            setattr(data, "SeriesNumber", number), setattr(data, "SeriesInstanceUID", uid)))
    for wanted, number in (("4", 4), ("3", 3), ("1.2.840.1.1", 3), ("1.14", 2), (".1", 3), ("20260101", 4)):
        assert f"series {number} " in read_image(tmp_path, series=wanted).source
    for wanted in ("1", "14", "0101"):
        with pytest.raises(InteractiveSegError, match=f"no series called {wanted}"):
            read_image(tmp_path, series=wanted)


def test_a_frame_of_a_cine_series_is_chosen(tmp_path):
    affine, shape = PLACES["axial as scanned"]
    for frame in range(3):

        def stamp(data, k, frame=frame):
            data.TriggerTime, data.SOPInstanceUID = 40 * frame, f"1.2.{frame}.{k}"
            data.RescaleIntercept = -1024 + 5000 * frame

        edited(tmp_path / f"t{2 - frame}", stamp)
    with pytest.raises(InteractiveSegError, match=r"3 images at each of its 7 slice positions .* --frame 0 to 2"):
        read_image(tmp_path)
    assert np.array_equal(read_image(tmp_path, frame=0).array, a_phantom(affine, shape).image)
    assert np.array_equal(read_image(tmp_path, frame=1).array, a_phantom(affine, shape).image + 5000)


def test_notes_and_other_files_beside_dicom_images_do_no_harm(tmp_path):
    affine, shape = PLACES["axial as scanned"]
    write_dicom_series(tmp_path, a_phantom(affine, shape))
    (tmp_path / "notes.txt").write_text("seen by the radiologist")
    (tmp_path / "broken.dcm").write_bytes(next(tmp_path.glob("IM*")).read_bytes()[:200])
    assert read_image(tmp_path).array.shape == shape


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("empty.nii.gz", b"", r"is empty \(0 bytes\)"),
        ("letter.txt", b"Dear colleague", "is not an image that can be read: expected NIfTI"),
        ("junk.nrrd", b"NRRD0004\ntype: short\nsizes: 9 9\n", "damaged or incomplete"),
        ("junk.png", b"\x89PNG\r\n\x1a\n" + bytes(40), "damaged or incomplete|not an image"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path, name, content, words, capfd):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InteractiveSegError, match=words):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_a_truncated_image_is_refused_and_not_filled_up(tmp_path, name, share, capfd):
    affine, shape = PLACES["oblique, anisotropic"]
    write_volume(tmp_path / name, a_phantom(affine, shape))
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InteractiveSegError, match="damaged or incomplete"):
        read_image(tmp_path / name)


def test_an_image_that_was_cut_before_it_was_compressed_is_refused(tmp_path):
    write_volume(tmp_path / "a.nii", a_phantom(*PLACES["oblique, anisotropic"]))
    whole = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(whole[: len(whole) // 2]))
    with pytest.raises(InteractiveSegError, match="damaged or incomplete"):
        read_image(tmp_path / "b.nii.gz")


def test_missing_paths_and_empty_folders_are_one_sentence(tmp_path):
    with pytest.raises(InteractiveSegError, match="does not exist"):
        read_image(tmp_path / "no.nii")
    with pytest.raises(InteractiveSegError, match="holds no DICOM images"):
        read_image(tmp_path)


def test_a_sheared_nifti_is_refused_in_one_sentence(tmp_path):
    affine, shape = PLACES["axial as scanned"]
    write_volume(tmp_path / "a.nii", a_phantom(affine, shape))
    header = bytearray((tmp_path / "a.nii").read_bytes())
    header[252:256] = np.array([0, 1], "<i2").tobytes()  # qform off, sform on
    header[280:328] = np.array([[-0.9, 0.3, 0, 0], [0, -0.9, 0, 0], [0, 0, 3, 0]], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(header)
    with pytest.raises(InteractiveSegError, match="axes that are not perpendicular"):
        read_image(tmp_path / "a.nii")


def test_a_colour_picture_becomes_its_luminance_and_keeps_rows_and_columns(tmp_path):
    rgb = np.zeros((5, 8, 3), np.uint8)
    rgb[1, 2], rgb[3, 6] = (255, 0, 0), (0, 255, 0)
    sitk.WriteImage(sitk.GetImageFromArray(rgb, isVector=True), str(tmp_path / "a.png"))
    image = read_image(tmp_path / "a.png")
    assert image.array.shape == (5, 8) and image.array[1, 2] == 76 and image.array[3, 6] == 150 and image.array.sum() == 226


def test_a_4d_image_needs_a_frame_and_gives_that_one(tmp_path):
    frames = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    joined = sitk.JoinSeries([sitk.GetImageFromArray(frame) for frame in frames])
    sitk.WriteImage(joined, str(tmp_path / "a.nii.gz"))
    with pytest.raises(InteractiveSegError, match=r"2 frames or channels, .* --frame 0 to 1"):
        read_image(tmp_path / "a.nii.gz")
    assert np.array_equal(read_image(tmp_path / "a.nii.gz", frame=1).array, frames[1])
    with pytest.raises(InteractiveSegError, match="frame 2 was asked for"):
        read_image(tmp_path / "a.nii.gz", frame=2)


def test_a_mask_of_another_grid_is_refused(tmp_path):
    affine, shape = PLACES["oblique, anisotropic"]
    write_volume(tmp_path / "image.nrrd", a_phantom(affine, shape))
    image = read_image(tmp_path / "image.nrrd")
    write_segmentation(tmp_path / "right.nii.gz", some_labels(shape), affine, [])
    assert np.array_equal(read_mask(tmp_path / "right.nii.gz", image), some_labels(shape) > 0)
    moved = affine.copy()
    moved[:3, 3] += 10
    write_segmentation(tmp_path / "moved.nrrd", some_labels(shape), moved, [])
    with pytest.raises(InteractiveSegError, match=r"lies 17\.3 mm away"):
        read_mask(tmp_path / "moved.nrrd", image)
    write_segmentation(tmp_path / "small.nrrd", some_labels((5, 9, 11)), affine, [])
    with pytest.raises(InteractiveSegError, match=r"shape \(5, 9, 11\) and the image \(5, 9, 12\)"):
        read_mask(tmp_path / "small.nrrd", image)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_segments_that_overlap_and_lie_in_layers_are_one_mask(tmp_path, count):
    layers = np.zeros((count, 6, 20, 24), np.uint8)
    for number, layer in enumerate(layers):
        layer[2:4, 3 + 3 * number : 9 + 3 * number, 5:15] = 1 + number % 2
    image = sitk.GetImageFromArray(np.ascontiguousarray(np.moveaxis(layers, 0, -1)), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "a.seg.nrrd"))
    sitk.WriteImage(sitk.GetImageFromArray(layers[0]), str(tmp_path / "a.nrrd"))
    image = read_image(tmp_path / "a.nrrd")
    assert np.array_equal(read_mask(tmp_path / "a.seg.nrrd", image), (layers != 0).any(axis=0))
    assert np.array_equal(read_mask(tmp_path / "a.seg.nrrd", image, 2), (layers == 2).any(axis=0))


@pytest.mark.parametrize("place", PLACES)
def test_a_segmentation_that_slicer_saved_without_its_margins_is_read_on_the_whole_image(tmp_path, place):
    slicer = pytest.importorskip("slicer")
    affine, shape = PLACES[place][0].copy(), PLACES[place][1]
    labels = np.zeros(shape, np.uint8)
    labels[-2:, 3:6, 1:5], labels[-1, 6, 6] = 1, 2
    write_volume(tmp_path / "image.nrrd", a_phantom(affine, shape))
    image, saved = read_image(tmp_path / "image.nrrd"), tmp_path / "saved.seg.nrrd"
    write_segmentation(tmp_path / "own.seg.nrrd", labels, affine, [Segment.of("LV", 1), Segment.of("RV", 2)])
    storage = slicer.vtkMRMLSegmentationStorageNode()
    node, _scene = read_node(slicer.vtkMRMLSegmentationNode(), storage, [tmp_path / "own.seg.nrrd"])
    storage.SetFileName(str(saved))
    assert storage.WriteData(node)
    assert sitk.ReadImage(str(saved)).GetSize() == (6, 4, min(2, shape[0])), "Slicer keeps what is not empty"
    assert np.array_equal(read_mask(saved, image), labels != 0)
    found = read_structures(saved, image, ("LV", "RV"))
    assert np.array_equal(found["LV"], labels == 1) and np.array_equal(found["RV"], labels == 2)
    affine[:3, 3] += affine[:3, 2]
    write_segmentation(saved, labels[:, 1:], affine, [Segment("a slice beyond the image")])
    with pytest.raises(InteractiveSegError, match="draw it on this image"):
        read_mask(saved, image)
