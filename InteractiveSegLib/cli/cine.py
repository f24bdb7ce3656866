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

slices are the image's first axis, as in a short-axis stack. report/ gets report.html, function.csv, area.csv and the
segmentations ED.seg.nrrd and ES.seg.nrrd: look at them, correct them in Slicer. Not for clinical decisions."""


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = commands.add_parser("cine", help="volumes and ejection fraction of a cine heart MR", description=__doc__,
                                 epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cine", type=Path, metavar="CINE", help="4D NIfTI, NRRD, MHA, or a DICOM folder")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the report")
    parser.add_argument("--series", help="number or UID of the series in a DICOM folder")
    parser.add_argument("--ed", type=int, help="time point of end-diastole, from 0 (default: where the cavity is largest)")
    parser.add_argument("--es", type=int, help="time point of end-systole, from 0 (default: where the cavity is least)")
    parser.add_argument("--weights", type=Path, help="weights file (default: the shipped ones)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: one less than the machine has)")
    return parser


def run(args: argparse.Namespace) -> int:
    from ..annotation.results import make_folder
    from ..cine import area_curve, find_phases, implausible, measure
    from ..device import set_threads
    from ..io import read_cine

    set_threads(args.threads)
    cine = read_cine(args.cine, args.series)
    count = len(cine.frames)
    if any(not 0 <= frame < count for frame in (args.ed, args.es) if frame is not None):
        raise InteractiveSegError(f"Got --ed {args.ed} --es {args.es}, but {cine.source} has the time points 0 to {count - 1}.")
    make_folder(args.out)
    areas, phases = None, (args.ed, args.es)
    if None in phases:
        areas = area_curve(cavities(cine, args), cine.spacing)
        found = find_phases(areas)
        phases = tuple(given if given is not None else own for given, own in zip(phases, found))
    labels = [heart_labels(cine.frames[frame], cine, args) for frame in phases]
    diastole, systole = ({name: label == n for n, name in enumerate(TARGETS, start=1)} for label in labels)
    function = measure(phases, diastole, systole, cine.spacing)
    write_report(args.out, cine, function, labels, areas)
    for name, value in figures(function):
        print(f"{name}: {value}")
    if implausible(function):
        print(f"{', '.join(implausible(function))}: no heart is like that, so the contours are wrong; look at report.html.")
    print(f"saved in {args.out}")
    return 0


def session_of(volume: np.ndarray, cine: LoadedCine, targets: tuple[str, ...], args: argparse.Namespace):
    from ..session import InteractiveSession

    return InteractiveSession(volume, affine=cine.affine, model="verse", mode="auto", targets=targets, weights=args.weights,
                              device=args.device)


def cavities(cine: LoadedCine, args: argparse.Namespace) -> list[np.ndarray]:
    """The left ventricle's cavity on the middle slices of every time point, bool (k, j, i)."""
    from ..cine import middle_slices

    masks = []
    for volume in tqdm(cine.frames, desc="phases", unit="time point"):
        session = session_of(volume, cine, ("LV",), args)
        session.predict(middle_slices(len(volume)))
        masks.append(session.mask)
    return masks


def heart_labels(volume: np.ndarray, cine: LoadedCine, args: argparse.Namespace) -> np.ndarray:
    """uint8 (k, j, i), n for TARGETS[n - 1]."""
    session = session_of(volume, cine, TARGETS, args)
    session.predict()
    return session.labels


def figures(function: Function) -> list[tuple[str, str]]:
    """Name and value with its unit, as they are printed and written."""
    def number(value: float, unit: str) -> str:
        return "not found" if math.isnan(value) else f"{value:.0f} {unit}"

    return [
        ("end-diastole, end-systole (time points)", f"{function.ed}, {function.es}"),
        ("LV end-diastolic volume", number(function.lv_edv, "ml")),
        ("LV end-systolic volume", number(function.lv_esv, "ml")),
        ("LV stroke volume", number(function.stroke_volume, "ml")),
        ("LV ejection fraction", number(function.lv_ef, "%")),
        ("LV myocardial mass", number(function.mass, "g")),
        ("RV end-diastolic volume", number(function.rv_edv, "ml")),
        ("RV end-systolic volume", number(function.rv_esv, "ml")),
        ("RV ejection fraction", number(function.rv_ef, "%")),
    ]


def write_report(out: Path, cine: LoadedCine, function: Function, labels: list[np.ndarray], areas: np.ndarray | None) -> None:
    from ..cine import implausible
    from ..io import LoadedImage, Segment, write_segmentation
    from ..report import Picture, html_page, overlay

    segments = [Segment.of(name, n) for n, name in enumerate(TARGETS, start=1)]
    pictures = []
    if areas is not None:
        caption = "Area over time; dots: end-diastole and end-systole."
        pictures.append(Picture("Cavity of the left ventricle", caption, curve(areas, function)))
    for phase, frame, label in zip(("ED", "ES"), (function.ed, function.es), labels):
        write_segmentation(out / f"{phase}.seg.nrrd", label, cine.affine, segments)
        image = LoadedImage(cine.frames[frame], cine.affine, "MR", cine.source)
        shown = np.flatnonzero((label == 1).any(axis=(1, 2)))
        pictures.append(Picture(f"{phase}, time point {frame}", "Solid: left ventricle; dashed: myocardium and cavities.",
                                overlay(image, label == 1, (), 0, reference=label > 0, indices=shown.tolist())))
    with (out / "function.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("measure", "value"), *figures(function)])
    if areas is not None:
        with (out / "area.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("time point", "cm2"), *((t, f"{area:.2f}") for t, area in enumerate(areas))])
    intro = (f"{cine.source}: {len(cine.frames)} time points of {cine.frames.shape[1]} slices. Automatic; check the contours "
             "below before you use a number. Not for clinical decisions.")
    if implausible(function):
        intro += f" {', '.join(implausible(function))}: no heart is like that, so the contours are wrong."
    page = html_page("Heart function", intro, ("measure", "value"), figures(function), pictures)
    (out / "report.html").write_text(page, encoding="utf8")


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
