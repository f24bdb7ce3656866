"""DICOM files of many frames, and files that differ in how they rescale: every value where it belongs, or one sentence."""
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage
from shapes import affine_of

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.demo_study import write_dicom_series
from InteractiveSegLib.io import read_cine, read_dicom_seg, read_image, write_dicom_seg
from InteractiveSegLib.phantoms import Phantom

AFFINE = affine_of((31, -17, 52), (0.7, 1.3, 3))
SHAPE = (6, 9, 12)
VALUES = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
FILE_ORDERS = {"upwards": [0, 1, 2, 3, 4, 5], "downwards": [5, 4, 3, 2, 1, 0], "shuffled": [0, 2, 1, 3, 5, 4]}


def item(**values):
    data = Dataset()
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def enhanced(folder, places, slopes=None, change=lambda data: None):
    """One file in a folder: VALUES[k] for each k of `places`, where slice k of a series would lie."""
    write_dicom_series(folder, Phantom(VALUES, np.zeros(SHAPE, np.uint8), AFFINE, {}, "MR", (0.0, 900.0)))
    slices = sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda data: data.InstanceNumber)
    for path in folder.iterdir():
        path.unlink()
    data = slices[0]
    origin = np.array(data.ImagePositionPatient, float)
    step = np.array(slices[1].ImagePositionPatient, float) - origin
    measures = item(PixelSpacing=data.PixelSpacing, SliceThickness=3)
    orientation = item(ImageOrientationPatient=data.ImageOrientationPatient)
    data.SharedFunctionalGroupsSequence = [item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[orientation])]
    for keyword in ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient"):
        delattr(data, keyword)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    data.NumberOfFrames = len(places)
    data.PerFrameFunctionalGroupsSequence = frames = []
    for n, k in enumerate(places):
        position = item(ImagePositionPatient=[f"{v:.8g}" for v in origin + k * step])
        frames.append(item(PlanePositionSequence=[position]))
        if slopes is not None:
            frames[n].PixelValueTransformationSequence = [item(RescaleSlope=slopes[n], RescaleIntercept=-n, RescaleType="US")]
    data.PerFrameFunctionalGroupsSequence = frames
    data.PixelData = np.stack([VALUES[int(k) % len(VALUES)] for k in places]).astype("<u2").tobytes()
    change(data)
    data.save_as(folder / "enhanced.dcm")
    return folder / "enhanced.dcm"


def values_by_place(image, k):
    """The slice of an image that lies where slice k of the patient does."""
    corner = np.linalg.solve(image.affine, AFFINE @ [0, 0, k, 1])
    assert np.allclose(corner, np.rint(corner), atol=1e-4) and np.allclose(corner[:2], 0, atol=1e-4)
    return image.array[int(np.rint(corner[2]))]


@pytest.mark.parametrize("order", FILE_ORDERS)
@pytest.mark.parametrize("give", ["file", "folder"])
def test_every_frame_lies_where_its_own_header_says(tmp_path, order, give):
    path = enhanced(tmp_path / "a", FILE_ORDERS[order])
    image = read_image(path if give == "file" else path.parent)
    assert image.array.shape == SHAPE and image.array.dtype == np.uint16 and image.spacing == pytest.approx((3, 1.3, 0.7))
    for k in range(len(VALUES)):
        assert np.array_equal(values_by_place(image, k), VALUES[k])
    if order != "shuffled":
        assert np.array_equal(image.array, VALUES[FILE_ORDERS[order]]), "a regular file keeps its own order"


def without_position(data):
    del data.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


def turned(data):
    data.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence = [item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])]


def with_two_coordinates(data):
    data.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient = [1, 2]


def with_two_slopes(data):
    values = item(RescaleSlope=[1, 2], RescaleIntercept=0)
    data.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence = [values]


def with_a_frame_too_few(data):
    data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:5]


@pytest.mark.parametrize(("places", "change", "words"), [
    ([0, 1, 2, 4, 5, 6], None, r"3\.00 mm apart but 6\.00 between 2 and 3: a slice is missing"),
    (range(6), without_position, "does not say where its images lie .* export its frames as files"),
    (range(6), turned, "several orientations"),
    (range(6), with_a_frame_too_few, "holds 6 frames and describes 5"),
    (range(6), with_two_coordinates, "no usable ImagePositionPatient"),
    (range(6), with_two_slopes, "describes its frames in a way that cannot be read"),
], ids=["gap", "no position", "turned", "too few", "2 coordinates", "2 slopes"])  # fmt: skip
def test_frames_that_make_no_volume_are_refused_in_one_sentence(tmp_path, places, change, words):
    path = enhanced(tmp_path, places, change=change or (lambda data: None))
    for given in (path, tmp_path):
        with pytest.raises(InteractiveSegError, match=words) as caught:
            read_image(given)
        assert str(caught.value).count(". ") == 0


def test_one_of_several_time_points_in_a_file_is_chosen(tmp_path):
    path = enhanced(tmp_path, [0, 1, 2, 0, 1, 2])
    data = pydicom.dcmread(path)
    data.PixelData = VALUES.astype("<u2").tobytes()
    data.save_as(path)
    with pytest.raises(InteractiveSegError, match=r"2 images at each of its 3 slice positions .* --frame 0 to 1"):
        read_image(path)
    assert np.array_equal(read_image(path, frame=0).array, VALUES[:3])
    assert np.array_equal(read_image(path, frame=1).array, VALUES[3:])
    with pytest.raises(InteractiveSegError, match="frame 2 was asked for"):
        read_image(path, frame=2)


TIMES = {"TemporalPositionIndex": ("FrameContentSequence", 1), "NominalCardiacTriggerDelayTime":
         ("CardiacSynchronizationSequence", 40.0)}  # fmt: skip


@pytest.mark.parametrize("keyword", TIMES)
@pytest.mark.parametrize("give", ["file", "folder"])
def test_a_beating_heart_in_one_file_is_sorted_by_place_and_time(tmp_path, keyword, give):
    moments = (0, 2, 1, 0, 2, 1)  # of the frames, which lie at two places
    group, step = TIMES[keyword]

    def change(data):
        data.PixelData = VALUES.astype("<u2").tobytes()
        for t, frame in zip(moments, data.PerFrameFunctionalGroupsSequence):
            setattr(frame, group, [item(**{keyword: type(step)(1 + t * step)})])

    path = enhanced(tmp_path / "a", [1, 1, 1, 0, 0, 0], slopes=(1, 1, 1, 1, 2, 1), change=change)
    cine = read_cine(path if give == "file" else path.parent)
    values = [VALUES[n] * (2 if n == 4 else 1) - n for n in range(6)]
    wanted = [[values[3], values[0]], [values[5], values[2]], [values[4], values[1]]]  # upwards, by time
    assert np.allclose(cine.frames, wanted) and cine.spacing == pytest.approx((3, 1.3, 0.7))
    np.testing.assert_allclose(cine.affine, AFFINE, atol=1e-3)


def test_a_beating_heart_in_one_file_that_lacks_a_frame_is_refused(tmp_path):
    with pytest.raises(InteractiveSegError, match=r"enhanced.dcm .*2 images at most slice positions, but slice 2 .* has 1"):
        read_cine(enhanced(tmp_path, [0, 1, 2, 0, 1]))


@pytest.mark.parametrize("slopes", [(1, 2, 0.5, 4, 1, 3), (0.25, 2, 0.5, 4, 1, 3)])
def test_every_frame_is_rescaled_as_it_demands(tmp_path, slopes):
    image = read_image(enhanced(tmp_path, FILE_ORDERS["shuffled"], slopes))
    for n, k in enumerate(FILE_ORDERS["shuffled"]):
        assert np.allclose(values_by_place(image, k), VALUES[k] * slopes[n] - n)


def test_a_dicom_seg_comes_back_on_the_frames_of_a_regular_file_and_is_refused_for_a_shuffled_one(tmp_path):
    mask = np.random.default_rng(0).random(SHAPE) > 0.6
    for order in FILE_ORDERS:
        folder = enhanced(tmp_path / order, FILE_ORDERS[order]).parent
        image = read_image(folder)
        given = (tmp_path / "seg.dcm", mask, image.affine, folder, "", None, "left atrium", "MultiverSeg")
        if order == "shuffled":
            with pytest.raises(InteractiveSegError, match="not lie in the order of the slices"):
                write_dicom_seg(*given)
        else:
            write_dicom_seg(*given)
            assert np.array_equal(read_dicom_seg(tmp_path / "seg.dcm", image, folder, "", None), mask)


def rescaled(folder, slopes, intercepts):
    """A series of files, each with its own slope and intercept."""
    write_dicom_series(folder, Phantom(VALUES, np.zeros(SHAPE, np.uint8), AFFINE, {}, "MR", (0.0, 900.0)))
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        k = data.InstanceNumber - 1
        data.RescaleSlope, data.RescaleIntercept = slopes[k], intercepts[k]
        data.save_as(path)
    return VALUES * np.array(slopes)[:, None, None] + np.array(intercepts)[:, None, None]


@pytest.mark.parametrize(("slopes", "intercepts"), [((1, 0.0031, 0.25, 0.5, 2, 0.1), (0,) * 6), ((1,) * 6, (0, *(-1024,) * 5))],
                         ids=["fractional", "negative"])  # fmt: skip
def test_every_file_of_a_series_is_rescaled_as_it_demands(tmp_path, slopes, intercepts):
    wanted = rescaled(tmp_path, slopes, intercepts)
    assert np.allclose(read_image(tmp_path).array, wanted)


def test_every_file_of_a_beating_heart_is_rescaled_as_it_demands(tmp_path):
    wanted = [rescaled(tmp_path / name, (1, 0.5, 0.25, 0.5, 2, 0.1), (n,) * 6) for n, name in enumerate("ab")]
    for n, name in enumerate("ab"):
        for path in (tmp_path / name).iterdir():
            data = pydicom.dcmread(path)
            data.TriggerTime, data.SOPInstanceUID = 40 * n, f"1.2.{n}.{data.InstanceNumber}"
            data.save_as(path)
    assert np.allclose(read_cine(tmp_path).frames, wanted)


def test_a_series_of_one_type_keeps_it(tmp_path):
    rescaled(tmp_path, (1,) * 6, (-1024,) * 6)
    assert np.issubdtype(read_image(tmp_path).array.dtype, np.signedinteger)
