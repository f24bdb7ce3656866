"""A beating heart: read from files and DICOM, its phases, volumes and mass, and the report."""
import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import save_file
from shapes import affine_of, ellipsoid

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.cine import area_curve, doubts, empty_frames, find_phases, implausible, measure, middle_slices, millilitres
from InteractiveSegLib.cli import main
from InteractiveSegLib.demo_study import write_dicom_series
from InteractiveSegLib.io import Segment, read_cine, read_image, write_segmentation
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
    assert find_phases(np.array([50, 45, np.nan, 44, 40, 38, 40, 45.0])) == (0, 5), "nor is what lies beside one"
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


def test_a_heart_that_grows_in_systole_has_its_phases_swapped():
    _, cavity, ring = beating()
    large, small = ({"LV": cavity[t], "myocardium": ring[t]} for t in (0, 3))
    assert "are the phases swapped?" in doubts(measure((3, 0), small, large, SPACING))
    assert "fraction: no heart" not in doubts(measure((3, 0), small, large, SPACING))
    assert "swapped" not in doubts(measure((0, 3), large, small, SPACING))
    assert "LV ejection fraction: no heart is like that" in doubts(measure((0, 1), large, large, SPACING))


def test_time_points_that_show_nothing_are_found():
    frames = np.random.default_rng(0).random((5, 2, 3, 3))
    frames[1], frames[2], frames[3, 0] = np.nan, 7, np.inf
    frames[4] = np.where(np.arange(3) > 0, np.nan, 1.0)
    assert empty_frames(frames) == [1, 2, 4]


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


def rows_of(path):
    with path.open(newline="") as file:
        return {row["measure"]: (row["value"], row["unit"]) for row in csv.DictReader(file)}


def cine_with(path, empty, value=np.nan):
    """A cine whose time points in `empty` show nothing."""
    frames = beating()[0].astype(np.float32)
    frames[empty] = value
    write_4d(path, frames)
    return str(path)


@pytest.mark.parametrize("value", [np.nan, 0])
def test_an_empty_time_point_is_told_and_never_a_phase(tmp_path, weights, capsys, monkeypatch, value):
    monkeypatch.setattr("InteractiveSegLib.cli.cine.cavities", lambda frames, *_: list(frames > 150))
    path = cine_with(tmp_path / "cine.nii.gz", [3], value)
    assert main(["cine", path, "-o", str(tmp_path), "--weights", str(weights)]) == 0
    assert "shows nothing (one value everywhere, or none) at time point 3: left out." in capsys.readouterr().out
    numbers = rows_of(tmp_path / "function.csv")
    assert numbers["end-diastole"] == ("0", "time point") and numbers["end-systole"] == ("4", "time point")
    assert (tmp_path / "area.csv").read_text().splitlines()[4] == "3,"
    assert "at time point 3" in (tmp_path / "report.html").read_text()
    assert main(["cine", path, "-o", str(tmp_path), "--ed", "0", "--es", "3", "--weights", str(weights)]) == 1
    assert "choose others with --ed and --es" in capsys.readouterr().err


def test_a_file_that_shows_nothing_is_refused(tmp_path, weights, capsys):
    for value in (np.nan, 5):
        path = cine_with(tmp_path / "cine.nii.gz", slice(1, None), value)
        assert main(["cine", path, "-o", str(tmp_path / "out"), "--weights", str(weights)]) == 1
        assert "at time points 1, 2, 3, 4, 5, and at least 2 others are needed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_time_point_is_not_both_phases(tmp_path, capsys):
    write_4d(tmp_path / "cine.nrrd", beating()[0])
    assert main(["cine", str(tmp_path / "cine.nrrd"), "-o", str(tmp_path), "--ed", "0", "--es", "0"]) == 1
    assert "Got the time points 0 and 0 for end-diastole and end-systole, expected two different" in capsys.readouterr().err


def corrected(folder, names=("left ventricle", "myocardium"), affine=AFFINE, entries=("", "")):
    """A report's folder with masks of the true contours at the time points 0 and 3, as Slicer saves them."""
    folder.mkdir(exist_ok=True)
    _, cavity, ring = beating()
    segments = [Segment(name, n, terminology=entry) for n, (name, entry) in enumerate(zip(names, entries), start=1)]
    for phase, t in (("ED", 0), ("ES", 3)):
        write_segmentation(folder / f"{phase}.seg.nrrd", cavity[t] + np.uint8(2) * ring[t], affine, segments)
    (folder / "function.csv").write_text("measure,value,unit\nend-diastole,0,time point\nend-systole,3,time point\n")
    return [str(folder / "ED.seg.nrrd"), str(folder / "ES.seg.nrrd")]


@pytest.mark.parametrize(("names", "entries"), [(("Left Ventricle", "Myocardium"), ("", "")), (("LV", "myocardium"), ("", "")),
                                                (("mine", "ring"), (HEART["LV"].entry, HEART["myocardium"].entry))])
def test_corrected_contours_are_measured_and_stay_as_they_are(tmp_path, capsys, names, entries):
    frames, cavity, ring = beating()
    write_4d(tmp_path / "cine.nii.gz", frames)
    masks = corrected(tmp_path / "report", names, entries=entries)
    before = [Path(path).read_bytes() for path in masks]
    assert main(["cine", str(tmp_path / "cine.nii.gz"), "--masks", *masks, "-o", str(tmp_path / "report")]) == 0
    assert [Path(path).read_bytes() for path in masks] == before
    numbers, true = rows_of(tmp_path / "report" / "function.csv"), [millilitres(cavity[t], SPACING) for t in (0, 3)]
    for measure_, value, unit in (("end-systole", 3, "time point"), ("LV end-diastolic volume", true[0], "ml"),
                                  ("LV end-systolic volume", true[1], "ml"), ("LV myocardial mass", None, "g"),
                                  ("LV ejection fraction", 100 * (1 - true[1] / true[0]), "%")):
        value = 1.05 * millilitres(ring[0], SPACING) if value is None else value
        assert float(numbers[measure_][0]) == pytest.approx(value, abs=1e-3) and numbers[measure_][1] == unit
    assert numbers["RV ejection fraction"] == ("", "%"), "no segment was the right ventricle"
    assert "Contours corrected by hand" in (tmp_path / "report" / "report.html").read_text()
    assert "RV ejection fraction: not found" in capsys.readouterr().out


def test_corrected_contours_that_cannot_be_meant_are_refused(tmp_path, capsys):
    write_4d(tmp_path / "cine.nii.gz", beating()[0])
    away = AFFINE.copy()
    away[0, 3] += 20
    cases = {"20.0 mm away": {"affine": away}, "no segment that is the left ventricle": {"names": ("a", "b")},
             "two segments that are left ventricle": {"names": ("LV", "left ventricle")}}
    for words, options in cases.items():
        masks = corrected(tmp_path / "report", **options)
        assert main(["cine", str(tmp_path / "cine.nii.gz"), "--masks", *masks, "-o", str(tmp_path / "out")]) == 1
        assert words in capsys.readouterr().err
    (tmp_path / "report" / "function.csv").unlink()
    assert main(["cine", str(tmp_path / "cine.nii.gz"), "--masks", *masks, "-o", str(tmp_path / "out")]) == 1
    assert "does not tell which time points the masks are of: give --ed and --es" in capsys.readouterr().err


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
