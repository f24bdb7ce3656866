"""`interactive-seg demo`, whole: what a newcomer finds in the folder after the README's first command."""
import re

import numpy as np
import pytest
from slicer_reading import segments_in_slicer, values_at, volume_in_slicer

from InteractiveSegLib.cli import main
from InteractiveSegLib.cli.demo import TASKS
from InteractiveSegLib.io import read_image


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    assert main(["demo", "-o", str(folder), "--detail", "0.3"]) == 0
    return folder


def test_the_report_shows_every_structure_and_needs_no_other_file(demo):
    page = (demo / "report.html").read_text(encoding="utf8")
    assert page.count("src='data:image/png;base64,") == len(TASKS) == len(list((demo / "overlays").glob("*.png")))
    assert not re.search(r"(src|href)=['\"](?!data:)", page)
    rows = re.findall(r"<tr><td>(.*?)</tr>", page)
    assert len(rows) == len(TASKS)
    for row in rows:
        cells = re.split(r"</td>(?:<td>)?", row)
        assert all(0 <= float(score) <= 1 for score in cells[5:8])
        assert int(cells[4].split()[0]) > 0
    assert {"DICOM series", "(NIfTI)", "(NRRD)", "(PNG)"} <= set(re.findall(r"DICOM series|\((?:NIfTI|NRRD|PNG)\)", page))


def test_corrections_make_the_masks_better(demo):
    page = (demo / "report.html").read_text(encoding="utf8")
    scores = np.array([[float(v) for v in re.findall(r"<td>([01]\.\d{3})</td>", row)] for row in page.split("<tr>")[2:]])
    assert scores[:, 2].mean() > scores[:, 0].mean()


def test_slicer_opens_the_segments_at_the_place_of_the_image(demo):
    pytest.importorskip("slicer")
    for case, file in (("head", "head_mr.nii.gz"), ("heart", "heart_mr.nrrd")):
        names = {structure for name, structure, _ in TASKS if name == case}
        segments = segments_in_slicer(demo / "segmentations" / f"{case}.seg.nrrd")
        assert set(segments) == names
        image, labels = read_image(demo / "study" / file), read_image(demo / "segmentations" / f"{case}.seg.nrrd")
        volume = volume_in_slicer([demo / "study" / file])
        ras = np.concatenate([points for _, points in segments.values()])
        assert len(ras) and sorted(values_at(volume, ras)) == sorted(image.array[labels.array > 0])


def test_a_detail_that_makes_no_sense_is_one_sentence(tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path / "d"), "--detail", "9"]) == 1
    assert "expected 0.25 to 2" in capsys.readouterr().err and not (tmp_path / "d").exists()


def test_an_output_folder_that_is_a_file_is_one_sentence(tmp_path, capsys):
    (tmp_path / "d").write_text("notes")
    assert main(["demo", "-o", str(tmp_path / "d")]) == 1
    assert "cannot be made" in capsys.readouterr().err
