"""The command `interactive-seg segment`, as a user types it."""
import os

import numpy as np
import pytest
import SimpleITK as sitk
from shapes import affine_of, ellipsoid

from InteractiveSegLib import Box, Click, InteractiveSession
from InteractiveSegLib.cli import main
from InteractiveSegLib.demo_study import write_dicom_series, write_volume
from InteractiveSegLib.io import read_image, write_segmentation
from InteractiveSegLib.phantoms import Phantom

AFFINE = affine_of((12, -7, 30), (1, 1, 3))
SHAPE = (14, 60, 72)
CENTRE = (7, 28, 40)


@pytest.fixture
def files(tmp_path, a_volume, monkeypatch):
    """A folder, made the current one, with the same oblique volume as NIfTI and as DICOM, and a picture."""
    monkeypatch.chdir(tmp_path)
    phantom = Phantom(a_volume[0], np.zeros(SHAPE, np.uint8), AFFINE, {}, "MR", (0.0, 300.0))
    write_volume(tmp_path / "a.nii.gz", phantom)
    write_dicom_series(tmp_path / "series", phantom)
    write_segmentation("a_stroke.nrrd", ellipsoid(SHAPE, (7, 28, 40), (6, 3, 3)), AFFINE, [])
    sitk.WriteImage(sitk.GetImageFromArray(np.clip(a_volume[0][7], 0, 255).astype(np.uint8)), "a.png")
    return tmp_path


def segment(*words):
    return main(["segment", *map(str, words)])


def mask_of(path):
    return read_image(path).array > 0


def test_the_mask_of_the_session_is_written_with_the_geometry_of_the_image(files, a_volume, capsys):
    assert segment("a.nii.gz", "--click", "6,28,40", "--click", "8,28,40", "-o", "out/a.seg.nrrd", "--name", "my lesion") == 0
    written = read_image("out/a.seg.nrrd")
    session = InteractiveSession(a_volume[0], affine=read_image("a.nii.gz").affine)
    for k in (6, 8):
        session.add(Click((k, 28, 40)))
    assert np.array_equal(written.array > 0, session.mask) and session.mask[6].any() and session.mask[8].any()
    assert np.allclose(written.affine, AFFINE, atol=1e-5)
    said, voxels = capsys.readouterr().out, np.count_nonzero(session.mask)
    assert f"{voxels} voxels, {voxels * 0.003:.4g} ml, slices along K: 2" in said and "out/a.seg.nrrd" in said
    assert sitk.ReadImage("out/a.seg.nrrd").GetMetaData("Segment0_Name") == "my lesion"


def test_a_click_in_ras_millimetres_is_the_click_on_that_voxel(files):
    ras = (AFFINE @ [CENTRE[2], CENTRE[1], CENTRE[0], 1])[:3]
    assert ras[0] < 0  # a leading minus must not be taken for an option
    assert segment("a.nii.gz", "--click", "7,28,40", "-o", "kji.nrrd") == 0
    assert segment("a.nii.gz", "--click-ras", ",".join(f"{v:.3f}" for v in ras), "-o", "ras.nrrd") == 0
    assert mask_of("kji.nrrd").any() and np.array_equal(mask_of("kji.nrrd"), mask_of("ras.nrrd"))


def test_a_dicom_folder_gives_the_same_mask_as_the_nifti_of_it(files):
    for image, out in (("a.nii.gz", "nifti.nrrd"), ("series", "dicom.nrrd")):
        assert segment(image, "--click", "7,28,40", "--negative-click", "7,28,60", "-o", out) == 0
    assert np.array_equal(mask_of("nifti.nrrd"), mask_of("dicom.nrrd")) and mask_of("dicom.nrrd").any()


def test_prompts_are_given_in_the_order_of_the_command_line(files, monkeypatch):
    from InteractiveSegLib import session

    given, add = [], session.InteractiveSession.add

    def record(self, prompt):
        given.append((type(prompt).__name__, getattr(prompt, "positive", None)))
        return add(self, prompt)

    monkeypatch.setattr(session.InteractiveSession, "add", record)
    write_segmentation("stroke.nrrd", ellipsoid(SHAPE, (7, 28, 60), (0.5, 6, 1)), AFFINE, [])
    words = ["--negative-click", "7,5,5", "--box", "7,13,24,8,44,56", "--click", "7,28,40", "--negative-scribble", "stroke.nrrd"]
    assert segment("a.nii.gz", *words, "-o", "a.nrrd") == 0
    assert given == [("Click", False), ("Box", None), ("Click", True), ("Scribble", False)]


def test_a_thick_box_speaks_to_every_slice_it_covers_and_to_no_other(files, a_volume, capsys):
    assert segment("a.nii.gz", "--box", "6,13,24,99,44,56", "--initial-mask", "a_stroke.nrrd", "-o", "a.nrrd") == 0
    session = InteractiveSession(a_volume[0], affine=read_image("a.nii.gz").affine)
    session.set_mask(mask_of("a_stroke.nrrd"))
    session.add(Box((6, 13, 24), (14, 44, 56)))
    assert np.array_equal(mask_of("a.nrrd"), session.mask)
    assert "prompts  1, slices touched: 8" in capsys.readouterr().out


def test_an_axis_other_than_k_works_in_its_slices(files):
    assert segment("a.nii.gz", "--axis", "coronal", "--click", "7,28,40", "-o", "a.nrrd") == 0
    assert np.flatnonzero(mask_of("a.nrrd").any(axis=(0, 2))).tolist() == [28]


def test_an_initial_mask_stays_where_no_prompt_speaks(files):
    start = ellipsoid(SHAPE, (3, 20, 20), (1.5, 5, 5))
    write_segmentation("start.nii.gz", start, AFFINE, [])
    assert segment("a.nii.gz", "--initial-mask", "start.nii.gz", "--click", "7,28,40", "-o", "a.nrrd") == 0
    assert np.array_equal(mask_of("a.nrrd")[:7], start[:7]) and mask_of("a.nrrd")[7].any()


def test_a_picture_takes_row_and_column_and_reports_an_area(files, capsys):
    assert segment("a.png", "--box", "13,24,44,56", "--click", "28,40", "-o", "a.seg.nrrd", "--overlay", "over.png") == 0
    session = InteractiveSession(read_image("a.png").array)
    session.add(Box((13, 24), (44, 56)))
    session.add(Click((28, 40)))
    assert np.array_equal(mask_of("a.seg.nrrd"), session.mask[None])
    pixels = np.count_nonzero(session.mask)
    assert pixels and f"{pixels} pixels, {pixels * 0.01:.4g} cm²" in capsys.readouterr().out


def test_the_overlay_shows_prompts_and_contour_where_they_are(files):
    words = ["--click", "7,28,40", "--negative-click", "7,50,10"]
    assert segment("a.nii.gz", *words, "-o", "a.nrrd", "--overlay", "a.png.png") == 0
    picture = sitk.GetArrayFromImage(sitk.ReadImage("a.png.png"))[..., :3].astype(int)
    green = (picture[..., 1] > 180) & (picture[..., 0] < 110) & (picture[..., 2] < 150)
    red = (picture[..., 0] > 200) & (picture[..., 1] < 110) & (picture[..., 2] < 100)
    orange = (picture[..., 0] > 220) & (abs(picture[..., 1] - 176) < 30) & (picture[..., 2] < 60)
    assert green.any() and red.any() and orange.any()
    # J and I run to the front and right by the affine, so the view of the radiologist turns both round.
    between = np.argwhere(red).mean(axis=0) - np.argwhere(green).mean(axis=0)
    assert between[0] < 0 < between[1]
    assert between[1] / -between[0] == pytest.approx(30 / 22, rel=0.1)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["no.nii", "--click", "1,2,3"], "no.nii does not exist"),
        (["a.nii.gz", "--click", "7,28"], "--click got 2 numbers, but positions in this image of shape (14, 60, 72) are K,J,I"),
        (["a.nii.gz", "--click", "99,0,0"], "lies outside the image"),
        (["a.nii.gz", "--box", "5,5,5,5,9,9"], "is empty"),
        (["a.nii.gz"], "needs a prompt"),
        (["a.nii.gz", "--click", "7,28,40", "--model", "magic"], "no model 'magic'"),
        (["a.nii.gz", "--click", "7,28,40", "--axis", "up"], "axis 'up'"),
        (["a.nii.gz", "--click", "7,28,40", "--window", "50,50"], "window (50.0, 50.0) is empty"),
        (["a.nii.gz", "--click", "7,28,40", "--threads", "0"], "Got 0 threads"),
        (["a.nii.gz", "--scribble", "a.png"], "shape"),
        (["a.nii.gz", "--click", "7,28,40", "--overlay", "a.pdf"], "a.pdf is no PNG"),
        ([os.fsdecode(b"sch\xe4del.nrrd"), "--click", "7,28,40"], "sch?del.nrrd is not UTF-8"),
        (["n" * 300, "--click", "7,28,40"], "has 300 bytes, expected up to 255"),
    ],
)
def test_a_mistake_is_one_sentence_exit_code_1_and_no_file(files, words, sentence, capsys):
    assert segment(*words, "-o", "new.seg.nrrd") == 1
    said = capsys.readouterr().err
    assert sentence in said and said.startswith("interactive-seg: ") and said.count("\n") == 1
    assert not (files / "new.seg.nrrd").exists()


@pytest.mark.parametrize("words", [["--click", "one"], ["--click", "nan,1,1"], ["--box", "1,2,3"], ["--clik", "1,2,3"]])
def test_words_that_do_not_parse_are_exit_code_2(files, words, capsys):
    with pytest.raises(SystemExit) as caught:
        segment("a.nii.gz", *words, "-o", "a.nrrd")
    assert caught.value.code == 2 and words[0] in capsys.readouterr().err


def test_the_output_s_name_is_checked_before_the_work(files, capsys):
    assert segment("a.nii.gz", "--click", "7,28,40", "-o", "a.txt") == 1
    assert "end it with one of .seg.nrrd" in capsys.readouterr().err
    assert segment("a.nii.gz", "--click", "7,28,40", "-o", os.fsdecode(b"sch\xe4del.seg.nrrd")) == 1
    assert "is not UTF-8" in capsys.readouterr().err
    assert segment("a.nii.gz", "--click", "7,28,40", "-o", f"{'n' * 247}.seg.nrrd") == 1
    assert "has 256 bytes" in capsys.readouterr().err
    assert {path.name for path in files.iterdir()} == {"a.nii.gz", "series", "a_stroke.nrrd", "a.png"}


@pytest.mark.parametrize(("words", "sentence"), [
    (["a.nrrd", "--click", "7,28,40", "-o", "./a.nrrd"], "is the image too"),
    (["a.png", "--click", "28,40", "-o", "new.seg.nrrd", "--overlay", "a.png"], "--overlay a.png is the image too"),
    (["a.nii.gz", "--reference", "a_stroke.nrrd", "--interactive-rounds", "1", "-o", "a_stroke.nrrd"], "is the reference too"),
])
def test_no_result_takes_the_place_of_what_was_read(files, words, sentence, capsys):
    sitk.WriteImage(sitk.ReadImage("a.nii.gz"), "a.nrrd")
    before = {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}
    assert segment(*words) == 1
    said = capsys.readouterr().err
    assert sentence in said and "would be overwritten: give another name" in said and said.count("\n") == 1
    assert {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()} == before
