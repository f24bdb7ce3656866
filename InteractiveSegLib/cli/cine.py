"""`interactive-seg cine`: a beating heart in; phases, volumes, ejection fraction, mass, segmentations and a page out."""
from __future__ import annotations

import argparse
import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ..types import InteractiveSegError

if TYPE_CHECKING:
    from ..cine import Function
    from ..io import LoadedCine

TARGETS = ("LV", "myocardium", "RV")
EXAMPLES = """examples:
  interactive-seg cine short_axis.nii.gz -o report
  interactive-seg cine dicom_folder --series 12 -o report
  interactive-seg cine short_axis.nrrd --ed 0 --es 9 -o report
  interactive-seg cine short_axis.nrrd --masks report/ED.seg.nrrd report/ES.seg.nrrd -o corrected

slices are the image's first axis, as in a short-axis stack. report/ gets report.html, function.csv, area.csv and the
segmentations ED.seg.nrrd and ES.seg.nrrd: look at them, correct them in Slicer, and give them back with --masks for the
figures of the corrected contours. Not for clinical decisions."""
NUMBERS = "function.csv"
PHASES = ("end-diastole", "end-systole")


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = commands.add_parser("cine", help="volumes and ejection fraction of a cine heart MR", description=__doc__,
                                 epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cine", type=Path, metavar="CINE", help="4D NIfTI, NRRD, MHA, or a DICOM folder")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the report")
    parser.add_argument("--series", help="number or UID of the series in a DICOM folder")
    parser.add_argument("--ed", type=int, help="time point of end-diastole, from 0 (default: where the cavity is largest)")
    parser.add_argument("--es", type=int, help="time point of end-systole, from 0 (default: where the cavity is least)")
    parser.add_argument("--masks", type=Path, nargs=2, metavar=("ED", "ES"), help="corrected segmentations (.seg.nrrd) to "
                        "measure instead of the network's; time points from --ed and --es, or from the report beside them")
    parser.add_argument("--weights", type=Path, help="weights file (default: the shipped ones)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: one less than the machine has)")
    return parser


def run(args: argparse.Namespace) -> int:
    from ..annotation.results import make_folder
    from ..cine import doubts, empty_frames, measure
    from ..device import set_threads
    from ..io import read_cine

    set_threads(args.threads)
    cine = read_cine(args.cine, args.series)
    empty = empty_frames(cine.frames)
    if len(cine.frames) - len(empty) < 2:
        raise InteractiveSegError(f"{cine.source} {words_of(empty)}, and at least 2 others are needed: export it again.")
    phases = (args.ed, args.es)
    if args.masks and None in phases:
        phases = tuple(own if own is not None else earlier for own, earlier in zip(phases, earlier_phases(args.masks[0].parent)))
    check_phases(phases, cine, empty)
    make_folder(args.out)
    left_out = f"{cine.source} {words_of(empty)}: left out." if empty else ""
    if empty:
        print(left_out)
    areas = None
    if None in phases:
        areas, phases = find_missing(phases, cine, empty, args)
        check_phases(phases, cine, empty)
    masks = [structures(path, cine, frame) for path, frame in zip(args.masks, phases)] if args.masks else [
        heart_masks(cine.frames[frame], cine, args) for frame in phases]
    function = measure(phases, *masks, cine.spacing)
    source = f"Contours corrected by hand, from {args.masks[0]} and {args.masks[1]}." if args.masks else (
        "Automatic; check the contours below before you use a number.")
    write_report(args.out, cine, function, masks, areas, " ".join(filter(None, (source, left_out, doubts(function)))))
    if not args.masks:
        write_segmentations(args.out, cine, masks)
    for name, value in figures(function):
        print(f"{name}: {value}")
    if doubts(function):
        print(f"{doubts(function)} Look at report.html.")
    print(f"saved in {args.out}")
    return 0


def words_of(empty: list[int]) -> str:
    points = f"time point{'s' * (len(empty) > 1)} {', '.join(map(str, empty))}"
    return f"shows nothing (one value everywhere, or none) at {points}"


def check_phases(phases: tuple[int | None, int | None], cine: LoadedCine, empty: list[int]) -> None:
    """Refuse time points that are not there, show nothing, or are the same."""
    given = [frame for frame in phases if frame is not None]
    said = f"Got the time points {' and '.join(map(str, given))} for end-diastole and end-systole"
    if any(not 0 <= frame < len(cine.frames) for frame in given):
        raise InteractiveSegError(f"{said}, but {cine.source} has the time points 0 to {len(cine.frames) - 1}: choose of them.")
    if set(given) & set(empty):
        raise InteractiveSegError(f"{said}, but {cine.source} {words_of(empty)}: choose others with --ed and --es.")
    if len(given) == 2 and given[0] == given[1]:
        raise InteractiveSegError(f"{said}, expected two different ones: give both --ed and --es.")


def earlier_phases(folder: Path) -> tuple[int, int]:
    """End-diastole and end-systole of the report in a folder."""
    path = folder / NUMBERS
    try:
        with path.open(newline="") as file:
            values = {row["measure"]: row["value"] for row in csv.DictReader(file)}
        return tuple(int(values[phase]) for phase in PHASES)
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise InteractiveSegError(f"{path} does not tell which time points the masks are of: give --ed and --es.") from error


def find_missing(phases: tuple[int | None, int | None], cine: LoadedCine, empty: list[int],
                 args: argparse.Namespace) -> tuple[np.ndarray, tuple[int, int]]:
    """The cavity's area in cm2 at each time point, NaN at the empty ones, and both phases: those that were given, else found."""
    from ..cine import area_curve, find_phases

    shown = [t for t in range(len(cine.frames)) if t not in empty]
    areas = np.full(len(cine.frames), np.nan)
    areas[shown] = area_curve(cavities(cine.frames[shown], cine, args), cine.spacing)
    return areas, tuple(own if own is not None else found for own, found in zip(phases, find_phases(areas)))


def session_of(volume: np.ndarray, cine: LoadedCine, targets: tuple[str, ...], args: argparse.Namespace):
    from ..session import InteractiveSession

    return InteractiveSession(volume, affine=cine.affine, model="verse", mode="auto", targets=targets, weights=args.weights,
                              axis="K", device=args.device)


def cavities(frames: np.ndarray, cine: LoadedCine, args: argparse.Namespace) -> list[np.ndarray]:
    """The left ventricle's cavity on the middle slices of every time point, bool (k, j, i). frames: (t, k, j, i)."""
    from ..cine import middle_slices

    masks = []
    for volume in tqdm(frames, desc="phases", unit="time point"):
        session = session_of(volume, cine, ("LV",), args)
        session.predict(middle_slices(len(volume)))
        masks.append(session.mask)
    return masks


def heart_masks(volume: np.ndarray, cine: LoadedCine, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Bool (k, j, i) per target, from the network."""
    session = session_of(volume, cine, TARGETS, args)
    session.predict()
    return {name: session.mask_of(name) for name in TARGETS}


def structures(path: Path, cine: LoadedCine, frame: int) -> dict[str, np.ndarray]:
    """Bool (k, j, i) per target that a segmentation holds, at least the left ventricle."""
    from ..io import LoadedImage, read_structures
    from ..terminology import HEART

    masks = read_structures(path, LoadedImage(cine.frames[frame], cine.affine, "MR", cine.source), TARGETS)
    if "LV" not in masks:
        raise InteractiveSegError(f"{path} has no segment that is the left ventricle: name it so in Slicer, others are "
                                  f"{' and '.join(HEART[name].title for name in TARGETS[1:])}.")
    return masks


def table(function: Function) -> list[tuple[str, float, str]]:
    """Measure, value and unit; NaN for what was not found."""
    return [
        (PHASES[0], function.ed, "time point"),
        (PHASES[1], function.es, "time point"),
        ("LV end-diastolic volume", function.lv_edv, "ml"),
        ("LV end-systolic volume", function.lv_esv, "ml"),
        ("LV stroke volume", function.stroke_volume, "ml"),
        ("LV ejection fraction", function.lv_ef, "%"),
        ("LV myocardial mass", function.mass, "g"),
        ("RV end-diastolic volume", function.rv_edv, "ml"),
        ("RV end-systolic volume", function.rv_esv, "ml"),
        ("RV ejection fraction", function.rv_ef, "%"),
    ]


def figures(function: Function) -> list[tuple[str, str]]:
    """Name and value with its unit, as they are printed and shown."""
    measured = [(name, "not found" if math.isnan(value) else f"{value:.0f} {unit}") for name, value, unit in table(function)[2:]]
    return [(f"{', '.join(PHASES)} (time points)", f"{function.ed}, {function.es}"), *measured]


def write_segmentations(out: Path, cine: LoadedCine, masks: list[dict[str, np.ndarray]]) -> None:
    from ..io import Segment, write_segmentation

    segments = [Segment.of(name, n) for n, name in enumerate(TARGETS, start=1)]
    for phase, found in zip(("ED", "ES"), masks):
        labels = sum(np.uint8(n) * found[name] for n, name in enumerate(TARGETS, start=1))
        write_segmentation(out / f"{phase}.seg.nrrd", labels, cine.affine, segments)


def write_report(out: Path, cine: LoadedCine, function: Function, masks: list[dict[str, np.ndarray]], areas: np.ndarray | None,
                 notes: str) -> None:
    """The page and the tables. notes: where the contours come from, and what is wrong with them."""
    from ..io import LoadedImage
    from ..report import Picture, html_page, overlay

    pictures = []
    if areas is not None:
        caption = "Area over time; dots: end-diastole and end-systole."
        pictures.append(Picture("Cavity of the left ventricle", caption, curve(areas, function)))
    for phase, frame, found in zip(("ED", "ES"), (function.ed, function.es), masks):
        image = LoadedImage(cine.frames[frame], cine.affine, "MR", cine.source)
        shown = np.flatnonzero(found["LV"].any(axis=(1, 2)))
        pictures.append(Picture(f"{phase}, time point {frame}", "Solid: left ventricle; dashed: myocardium and cavities.",
                                overlay(image, found["LV"], (), 0, reference=np.any(list(found.values()), axis=0),
                                        indices=shown.tolist())))
    numbers = [(name, "" if math.isnan(value) else round(value, 3), unit) for name, value, unit in table(function)]
    write_table(out / NUMBERS, ("measure", "value", "unit"), numbers)
    if areas is not None:
        rows = [(t, "" if math.isnan(area) else f"{area:.2f}") for t, area in enumerate(areas)]
        write_table(out / "area.csv", ("time point", "cm2"), rows)
    intro = f"{cine.source}: {len(cine.frames)} time points of {cine.frames.shape[1]} slices. {notes} Not for clinical decisions."
    page = html_page("Heart function", intro, ("measure", "value"), figures(function), pictures)
    (out / "report.html").write_text(page, encoding="utf8")


def write_table(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def curve(areas: np.ndarray, function: Function) -> bytes:
    """PNG of the area curve with both phases."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(areas, marker=".")
    axes.plot([function.ed, function.es], areas[[function.ed, function.es]], "o", markersize=9)
    axes.set(xlabel="time point", ylabel="area of the middle slices, cm2", ylim=(0, None))
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
