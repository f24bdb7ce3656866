"""`interactive-seg demo`: build a small study, segment it as a user would, and show what came out."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..types import InteractiveSegError

EXAMPLES = """examples:
  interactive-seg demo                      # writes demo/report.html, demo/study, demo/segmentations, demo/overlays
  interactive-seg demo -o out --seed 7      # another patient

A robot user prompts each slice in turn, three times: in the middle of the object (or with a stroke along it, or a box
around it), then in the middle of the largest mistake. The same `read_image`, `InteractiveSession` and
`write_segmentation` run as for `interactive-seg segment`."""

ROUNDS = 3
TASKS = (
    ("abdomen", "liver", "clicks"),
    ("abdomen", "spleen", "scribbles"),
    ("head", "ventricles", "clicks"),
    ("head", "tumour rim", "box"),
    ("heart", "left ventricle", "clicks"),
    ("heart", "myocardium", "scribbles"),
    ("heart", "right ventricle", "box"),
    ("ultrasound", "cyst", "clicks"),
    ("ultrasound", "nodule", "box"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Outcome:
    """One structure segmented. dice: after each round, over the whole image. seconds: for all prompts together."""

    mask: np.ndarray
    prompts: tuple
    dice: tuple[float, ...]
    seconds: float


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = commands.add_parser("demo", help="generate a study, segment it, write a report", description=__doc__,
                                 epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder to write (default: demo)")
    parser.add_argument("--model", default="scribbleprompt", help="see `interactive-seg models` (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="other weights than the shipped ones")
    parser.add_argument("--seed", type=int, default=0, help="another study (default: 0)")
    parser.add_argument("--detail", type=float, default=1.0, help="below 1: smaller images (default: 1)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: one core less than there are)")
    return parser


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..demo_study import build_study
    from ..device import set_threads
    from ..io import check_output_path, read_image, write_segmentation
    from ..report import Picture, html_page, overlay, write_png

    if not 0.25 <= args.detail <= 2:
        raise InteractiveSegError(f"Got a detail of {args.detail}, expected 0.25 to 2: 1 is the usual size.")
    outputs = {name: check_output_path(args.output / "segmentations" / f"{name}.seg.nrrd") for name, _, _ in TASKS}
    set_threads(args.threads)
    rows, pictures = [], []
    with tqdm(total=1 + len(TASKS), desc="study", leave=False) as bar:
        cases = build_study(args.output / "study", args.seed, args.detail)
        bar.update()
        for case in cases:
            image = read_image(case.image)
            truth = read_image(case.reference).array.reshape(image.array.shape)
            labels, done = np.zeros(truth.shape, np.uint8), []
            for segment, habit in chosen(case):
                bar.set_description(f"{case.name}, {segment.name}")
                outcome = prompt_by_slice(args, image, case.window, truth == segment.label, habit)
                labels[outcome.mask] = segment.label
                done.append(segment)
                png = overlay(image, outcome.mask, outcome.prompts, 0, case.window, truth == segment.label)
                write_png(args.output / "overlays" / f"{case.name}_{segment.name.replace(' ', '_')}.png", png)
                rows.append(table_row(image, segment.name, habit, outcome))
                pictures.append(Picture(f"{case.name}: {segment.name}", CAPTION, png))
                bar.update()
            write_segmentation(outputs[case.name], labels, image.affine, done)
    page = args.output / "report.html"
    page.write_text(html_page("A generated study, segmented with prompts", INTRO, HEADER, rows, pictures), encoding="utf8")
    print(plain_table([HEADER, *rows]))
    print(f"\nreport: {page}\nfor 3D Slicer: {args.output / 'study'} and {args.output / 'segmentations'}")
    return 0


def chosen(case) -> list[tuple]:
    """The case's segments that TASKS names, each with the habit of its robot user."""
    habits = {structure: habit for name, structure, habit in TASKS if name == case.name}
    return [(segment, habits[segment.name]) for segment in case.segments if segment.name in habits]


def prompt_by_slice(args: argparse.Namespace, image, window: tuple[float, float], truth: np.ndarray, habit: str) -> Outcome:
    """A robot user of that habit goes ROUNDS times through the slices that hold the object, and prompts each once."""
    from ..evaluation.metrics import dice
    from ..robot import Robot, in_volume
    from ..session import InteractiveSession

    session = InteractiveSession(
        image.array, affine=image.affine, model=args.model, weights=args.weights, device=args.device, window=window
    )
    robot, rng, scores = Robot(habit), np.random.default_rng(args.seed), []
    planes = truth[None] if truth.ndim == 2 else truth
    session.warm_up()
    started = time.perf_counter()
    for turn in range(ROUNDS):
        for k in np.flatnonzero(planes.any(axis=(1, 2))):
            mask = session.mask[None] if truth.ndim == 2 else session.mask
            prompt = robot.prompt(planes[k], mask[k], rng, first=turn == 0)
            if prompt is not None:
                session.add(prompt if truth.ndim == 2 else in_volume(prompt, 0, int(k)))
        scores.append(dice(session.mask, truth))
    return Outcome(np.array(session.mask), session.prompts, tuple(scores), time.perf_counter() - started)


INTRO = (
    "Generated phantoms, written as a DICOM series, NIfTI, NRRD and PNG, and read back as any user's images are. "
    "A robot user prompted each slice once in every round. Dice is over the whole image, against the phantom's truth."
)
CAPTION = "Orange: the mask. Blue, dashed: the truth. Green circle or stroke: inside; red cross or stroke: outside; dotted: box."
HEADER = ("image", "voxels", "mm", "structure", "prompts", *(f"Dice, round {n + 1}" for n in range(ROUNDS)), "s per prompt")


def table_row(image, structure: str, habit: str, outcome: Outcome) -> tuple[str, ...]:
    """One line of the report's table, by HEADER."""
    return (
        image.source,
        " x ".join(str(n) for n in image.array.shape),
        " x ".join(f"{mm:.3g}" for mm in image.spacing),
        structure,
        f"{len(outcome.prompts)} ({habit})",
        *(f"{score:.3f}" for score in outcome.dice),
        f"{outcome.seconds / max(len(outcome.prompts), 1):.2f}",
    )


def plain_table(rows: list[tuple[str, ...]]) -> str:
    """The rows with aligned columns, for a terminal."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
