"""A beating heart: read from files and DICOM, its phases, volumes and mass, and the report."""
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import save_file
from shapes import affine_of, ellipsoid

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.cine import area_curve, find_phases, implausible, measure, middle_slices, millilitres
from InteractiveSegLib.cli import main
from InteractiveSegLib.demo_study import write_dicom_series
from InteractiveSegLib.io import read_cine, read_image
from InteractiveSegLib.models.verse.network import VerSeConfig, build
from InteractiveSegLib.phantoms import Phantom
from InteractiveSegLib.terminology import HEART

SPACING = (8.0, 1.5, 1.5)
AFFINE = affine_of((31, -17, 52), SPACING[::-1])
RADII = (16, 15, 12, 9, 10, 14)  # of the cavity, by time point


def beating(radii=RADII, shape=(4, 64, 72)):
    """(frames int16, cavity, ring): a bright cavity that shrinks and grows in a dark ring."""
    cavity = np.stack([ellipsoid(shape, (1.5, 30, 36), (9, r, r)) for r in radii])
    ring = np.stack([ellipsoid(shape, (1.5, 30, 36), (9, r + 7, r + 7)) for r in radii]) & ~cavity
    image = np.random.default_rng(0).normal(80, 5, cavity.shape) + 120 * cavity - 60 * ring
    return image.astype(np.int16), cavity, ring


def a_phantom(volume):
    return Phantom(volume, np.zeros(volume.shape, np.uint8), AFFINE, {}, "MR", (0.0, 255.0))


def write_4d(path, frames):
    volumes = [sitk.GetImageFromArray(volume) for volume in frames]
    lps = np.diag([-1.0, -1, 1, 1]) @ AFFINE
    for volume in volumes:
        volume.SetSpacing(SPACING[::-1])
        volume.SetDirection((lps[:3, :3] / SPACING[::-1]).ravel().tolist())
        volume.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(sitk.JoinSeries(volumes), str(path))


def write_dicom_cine(folder, frames, a_series_per_slice):
    """Every slice position once per time point; in one series, or each slice in its own as many scanners have it."""
    for t, volume in enumerate(frames):
        write_dicom_series(folder / f"t{t}", a_phantom(volume))
        for path in sorted((folder / f"t{t}").iterdir()):
            header = pydicom.dcmread(path)
            place = f"{header.ImagePositionPatient[2]:.1f}"
            header.SeriesInstanceUID = f"1.2.3.{abs(hash(place)) % 10**9}" if a_series_per_slice else "1.2.3.4"
            header.SeriesNumber = 7
            header.TriggerTime = 40.0 * t
            header.save_as(path)


@pytest.mark.parametrize("kind", ["nii.gz", "nrrd", "dicom", "dicom, a series per slice"])
def test_a_cine_is_the_same_volumes_at_the_same_place_from_every_format(tmp_path, kind):
    frames = beating()[0]
    path = tmp_path / ("folder" if "dicom" in kind else f"cine.{kind}")
    if "dicom" in kind:
        write_dicom_cine(path, frames, "per slice" in kind)
    else:
        write_4d(path, frames)
    cine = read_cine(path)
    assert np.array_equal(cine.frames, frames)
    np.testing.assert_allclose(cine.affine, AFFINE, atol=1e-3)
    np.testing.assert_allclose(cine.spacing, SPACING, rtol=1e-4)


def test_what_is_no_cine_is_refused_in_one_sentence(tmp_path):
    frames = beating()[0]
    sitk.WriteImage(sitk.GetImageFromArray(frames[0]), str(tmp_path / "still.nii.gz"))
    write_dicom_series(tmp_path / "still", a_phantom(frames[0]))
    reasons = {"still.nii.gz": "give a 4D image", "still": "short-axis cine series", "none.nrrd": "does not exist"}
    for path, reason in reasons.items():
        with pytest.raises(InteractiveSegError, match=reason):
            read_cine(tmp_path / path)


def images_at(folder, place):
    """The files of one slice, by time; slices are numbered along the patient."""
    headers = [(path, pydicom.dcmread(path, stop_before_pixels=True)) for path in folder.rglob("IM*.dcm")]
    heights = sorted({h.ImagePositionPatient[2] for _, h in headers})
    here = [(h.TriggerTime, path) for path, h in headers if h.ImagePositionPatient[2] == heights[place]]
    return [path for _, path in sorted(here)]


def edited(paths, **values):
    for path in paths:
        data = pydicom.dcmread(path)
        for keyword, value in values.items():
            setattr(data, keyword, value)
        data.save_as(path)


@pytest.mark.parametrize("per_slice", [True, False])
@pytest.mark.parametrize("wanted", [None, "7"])
def test_the_short_axis_is_found_beside_other_series(tmp_path, per_slice, wanted):
    frames = beating()[0]
    write_dicom_cine(tmp_path / "cine", frames, per_slice)
    write_dicom_series(tmp_path / "localiser", a_phantom(frames[0][:1]))
    assert np.array_equal(read_cine(tmp_path, wanted).frames, frames)


def test_two_stacks_of_one_plane_are_a_choice(tmp_path):
    frames = beating()[0]
    for number, name in ((7, "a"), (8, "b")):
        write_dicom_cine(tmp_path / name, frames, a_series_per_slice=False)
        edited((tmp_path / name).rglob("*.dcm"), SeriesInstanceUID=f"1.2.3.{number}", SeriesNumber=number)
    with pytest.raises(InteractiveSegError, match="holds 2 series, choose one"):
        read_cine(tmp_path)
    assert np.array_equal(read_cine(tmp_path, "8").frames, frames)


@pytest.mark.parametrize("per_slice", [True, False])
def test_a_slice_that_lost_an_image_is_named(tmp_path, per_slice):
    write_dicom_cine(tmp_path, beating()[0], per_slice)
    images_at(tmp_path, 2)[1].unlink()
    with pytest.raises(InteractiveSegError, match=r"6 images at most .*, but slice 2 \(ImagePositionPatient .*has 5"):
        read_cine(tmp_path)


def test_slices_that_each_lost_another_phase_are_refused_and_another_heart_rate_is_not(tmp_path):
    frames = beating()[0]
    write_dicom_cine(tmp_path, frames, a_series_per_slice=True)
    for t, path in enumerate(images_at(tmp_path, 1)):
        edited([path], TriggerTime=55.0 * t)
    assert np.array_equal(read_cine(tmp_path).frames, frames)
    for place, phase in enumerate((0, 3, 3, 3)):
        images_at(tmp_path, place)[phase].unlink()
    with pytest.raises(InteractiveSegError, match=r"other time points \(TriggerTime\) in slice 0 \(.*\) than in most") as caught:
        read_cine(tmp_path)
    assert "slice 1" not in str(caught.value)


def test_images_of_one_slice_whose_order_is_unknown_are_refused(tmp_path):
    write_dicom_cine(tmp_path, beating()[0], a_series_per_slice=False)
    edited(tmp_path.rglob("*.dcm"), TriggerTime=0, InstanceNumber=1)
    with pytest.raises(InteractiveSegError, match="their order is unknown"):
        read_cine(tmp_path)


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_are_no_time_points(tmp_path, channels):
    picture = np.zeros((3, 20, 20, channels), np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(picture, isVector=True), str(tmp_path / "colour.nrrd"))
    with pytest.raises(InteractiveSegError, match="holds colours"):
        read_cine(tmp_path / "colour.nrrd")


def test_phases_are_where_the_cavity_is_largest_and_least():
    cavity = beating()[1]
    areas = area_curve(cavity, SPACING)
    assert find_phases(areas) == (0, 3)
    assert find_phases(np.roll(areas, 2)) == (2, 5)
    assert areas[0] == pytest.approx(np.count_nonzero(cavity[0]) * 1.5 * 1.5 / 100)


def test_one_time_point_that_was_misread_is_not_the_phase():
    areas = np.array([50, 48, 40, 30, 24, 22, 25, 33, 9, 46, 49, 50.0])  # 9: a slice was lost there
    assert find_phases(areas)[1] in (4, 5, 6)
    assert find_phases(np.array([5, 0, 3.0])) == (0, 2), "a time point without any cavity is not end-systole"
    with pytest.raises(InteractiveSegError, match="found in 1 of 3 time points"):
        find_phases(np.array([0, 4.0, 0]))


def test_volumes_ejection_fraction_and_mass_follow_from_the_masks():
    _, cavity, ring = beating()
    function = measure((0, 3), {"LV": cavity[0], "myocardium": ring[0]}, {"LV": cavity[3], "myocardium": ring[3]}, SPACING)
    voxel = 8 * 1.5 * 1.5 / 1000
    assert function.lv_edv == pytest.approx(np.count_nonzero(cavity[0]) * voxel) == millilitres(cavity[0], SPACING)
    assert function.lv_ef == pytest.approx(100 * (1 - np.count_nonzero(cavity[3]) / np.count_nonzero(cavity[0])))
    assert function.stroke_volume == pytest.approx(function.lv_edv - function.lv_esv)
    assert function.mass == pytest.approx(1.05 * np.count_nonzero(ring[0]) * voxel)
    assert np.isnan(function.rv_ef), "what was not segmented has no number"
    assert middle_slices(1) == [0] and middle_slices(10) == [2, 3, 4, 5, 6]


def test_figures_that_no_heart_has_are_named():
    cavity, ring = np.zeros((10, 60, 60), bool), np.zeros((10, 60, 60), bool)
    cavity[:, 10:36, 10:36], ring[:, 8:38, 8:38] = True, True
    ring &= ~cavity
    small = cavity.copy()
    small[4:] = False
    masks = {"LV": cavity, "myocardium": ring}
    assert implausible(measure((0, 1), masks, {"LV": small}, SPACING)) == []
    assert implausible(measure((0, 1), masks, masks, SPACING)) == ["LV ejection fraction"], "a heart that does not beat"
    nothing = {"LV": cavity & False, "myocardium": ring & False}
    assert len(implausible(measure((0, 1), nothing, nothing, SPACING))) == 3


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = build(VerSeConfig(base=8, width=64, feedforward=64, rounds=1))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return path


def test_the_command_writes_page_numbers_and_coded_segments_at_the_right_place(tmp_path, weights, capsys):
    write_4d(tmp_path / "cine.nii.gz", beating((16, 12, 9))[0])
    out = tmp_path / "report"
    assert main(["cine", str(tmp_path / "cine.nii.gz"), "-o", str(out), "--ed", "0", "--es", "2", "--weights", str(weights)]) == 0
    printed = capsys.readouterr().out
    assert "LV ejection fraction: " in printed and "time points): 0, 2" in printed
    assert "LV myocardial mass" in (out / "function.csv").read_text()
    assert "data:image/png" in (out / "report.html").read_text()
    np.testing.assert_allclose(read_image(out / "ED.seg.nrrd").affine, AFFINE, atol=1e-3)
    header = sitk.ReadImage(str(out / "ES.seg.nrrd"))
    assert header.GetMetaData("Segment1_Name") == "myocardium"
    assert HEART["RV"].entry in header.GetMetaData("Segment2_Tags") and "SCT^53085002^" in HEART["RV"].entry


@pytest.mark.parametrize(("out", "words"), [("file", "The folder file cannot be made"), ("file/below", "cannot be made"),
                                            ("taken", "function.csv cannot be read or written")])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, weights, monkeypatch, capsys, out, words):
    monkeypatch.chdir(tmp_path)
    write_4d(tmp_path / "cine.nrrd", beating((16, 12, 9))[0])
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "taken" / "function.csv").mkdir(parents=True)
    assert main(["cine", "cine.nrrd", "-o", out, "--ed", "0", "--es", "2", "--weights", str(weights)]) == 1
    said = capsys.readouterr().err
    assert words in said and said.count("interactive-seg: ") == 1 and "Traceback" not in said


@pytest.mark.parametrize("count", ["0", "-1", "100000"])
def test_so_many_threads_are_refused_before_any_work(tmp_path, capsys, count):
    assert main(["cine", str(tmp_path / "none.nrrd"), "-o", str(tmp_path), "--threads", count]) == 1
    assert f"Got {count} threads, expected 1 to" in capsys.readouterr().err


def test_a_time_point_that_is_not_there_is_refused(tmp_path, capsys):
    write_4d(tmp_path / "cine.nrrd", beating((16, 12))[0])
    assert main(["cine", str(tmp_path / "cine.nrrd"), "-o", str(tmp_path), "--es", "9"]) == 1
    assert "time points 0 to 1" in capsys.readouterr().err
