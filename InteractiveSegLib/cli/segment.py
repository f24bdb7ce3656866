"""`interactive-seg segment`: an image and prompts in, a segmentation that Slicer opens out."""

from __future__ import annotations

import argparse
import math
import re
import time
from pathlib import Path

import numpy as np

from ..types import InteractiveSegError

EXAMPLES = """prompts are used in the order in which they are given; positions are voxels counted from 0:
  in a volume K,J,I (slice, row, column), in a picture R,C (row, column); --click-ras takes millimetres R,A,S as Slicer
  shows them. A click or a scribble speaks to its slice, a box to every slice between its corners. A model that knows its
  target by name answers for all slices first, and prompts correct that.

examples:
  interactive-seg segment liver.nii.gz --click 40,120,88 -o liver.seg.nrrd --overlay liver.png
  interactive-seg segment dicom_folder --series 4 --window -160,240 --box 38,90,60,43,180,150 -o liver.seg.nrrd
  interactive-seg segment heart.nrrd --axis axial --click-ras -12.5,3,40 --negative-click-ras -30,3,40 -o lv.seg.nrrd
  interactive-seg segment polyp.png --box 20,35,140,190 --scribble stroke.png -o polyp.seg.nrrd
  interactive-seg segment scan.mha --initial-mask first.nii.gz --negative-click 12,80,77 -o better.nii.gz
  interactive-seg segment scan.nrrd --click 40,120,88 --click 52,118,90 --propagate -o organ.seg.nrrd
  interactive-seg segment short_axis.nrrd --model verse --target LV,myocardium,RV -o heart.seg.nrrd
  interactive-seg segment short_axis.nrrd --model verse --target RV --click 3,90,61 -o rv.seg.nrrd
  interactive-seg segment scan.nrrd --interactive-rounds 6 --reference truth.nrrd -o robot.seg.nrrd"""


class AddPrompt(argparse.Action):
    """Collects prompts of all kinds in one list, so that their order is the order of the command line."""

    def __call__(self, parser, namespace, values, option_string=None):
        namespace.prompts = [*(namespace.prompts or []), (self.dest, values)]


def numbers(*counts: int):
    """A parser of `1,2.5,-3` with one of these counts of numbers."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(word) for word in text.split(","))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} should be numbers with commas between") from error
        if len(values) not in counts or not np.isfinite(values).all():
            expected = " or ".join(str(count) for count in counts)
            raise argparse.ArgumentTypeError(f"{text!r} should be {expected} numbers with commas between")
        return values

    return parse


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "segment", help="segment an image with clicks, boxes and scribbles", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    # Without this, argparse takes `-12.5,3,40` for an option; it has no public way to say so.
    parser._negative_number_matcher = re.compile(r"^-\.?\d")
    parser.add_argument("image", type=Path, metavar="IMAGE", help="NIfTI, NRRD, MHA, DICOM file or folder, PNG, JPEG, TIFF")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.seg.nrrd",
                        help="where the mask goes: .seg.nrrd for Slicer, or .nrrd, .nii.gz, .nii, .mha")  # fmt: skip
    parser.add_argument("--overlay", type=Path, metavar="OUT.png", help="also draw the prompted slices with the mask")
    prompts = parser.add_argument_group("prompts (each may be repeated)")
    place, corners = numbers(2, 3), numbers(4, 6)
    for option, kind, metavar, words in (
        ("--click", place, "K,J,I", "a voxel inside the object"),
        ("--negative-click", place, "K,J,I", "a voxel outside of it"),
        ("--click-ras", numbers(3), "R,A,S", "a point inside, in mm"),
        ("--negative-click-ras", numbers(3), "R,A,S", "a point outside, in mm"),
        ("--box", corners, "K0,J0,I0,K1,J1,I1", "a box around it; the second corner is outside"),
        ("--scribble", Path, "FILE", "a stroke inside: a mask of the image's size, not 0 where drawn"),
        ("--negative-scribble", Path, "FILE", "a stroke outside"),
    ):
        prompts.add_argument(option, type=kind, action=AddPrompt, metavar=metavar, help=words)
    parser.set_defaults(prompts=[])
    parser.add_argument("--initial-mask", type=Path, metavar="FILE",
                        help="start from this mask; of a .seg.nrrd from the segments called as the targets, if any")  # fmt: skip
    volume = parser.add_argument_group("through the whole volume")
    volume.add_argument("--propagate", action="store_true", help="carry the prompted slices' masks to all other slices")
    volume.add_argument("--interactive-rounds", type=int, metavar="N",
                        help="let a robot user click N times where the mask is most wrong, and propagate after each")  # fmt: skip
    volume.add_argument("--reference", type=Path, metavar="FILE", help="the right mask, which the robot user knows")
    volume.add_argument("--memory-weights", type=Path, metavar="FILE", help="XMem's weights instead of the shipped ones")
    parser.add_argument("--model", default="scribbleprompt", help="see `interactive-seg models` (default: %(default)s)")
    parser.add_argument("--target", metavar="NAME,NAME", help="what to segment, of a model that knows names (default: all)")
    parser.add_argument("--mode", help="how a model with several ways is used, as click, auto+click or auto of verse")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="other weights than the shipped ones")
    parser.add_argument("--axis", help="slices to work in: axial, coronal, sagittal, K, J, I (default: as they were scanned)")
    parser.add_argument("--window", type=numbers(2), metavar="LOW,HIGH", help="intensities that matter, as HU in CT")
    parser.add_argument("--series", metavar="N", help="of a DICOM folder with several: its number or UID")
    parser.add_argument("--frame", type=int, metavar="N", help="time point or channel, from 0, if there are several")
    parser.add_argument("--name", default="segment", help="the segment's name in Slicer (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: one core less than there are)")
    return parser


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..device import set_threads
    from ..io import Segment, check_output_path, read_image, read_mask, write_segmentation
    from ..report import overlay, prompts_by_slice, write_png
    from ..session import InteractiveSession

    check_output_path(args.output)
    check_nothing_is_overwritten(args)
    if args.overlay and args.overlay.suffix.lower() != ".png":
        raise InteractiveSegError(f"{args.overlay} is no PNG file name: end the overlay's name with .png.")
    if args.threads is not None and args.threads < 1:
        raise InteractiveSegError(f"Got {args.threads} threads, expected at least 1: leave --threads out.")
    rounds = args.interactive_rounds
    if (rounds is None) != (args.reference is None) or (rounds is not None and rounds < 1):
        raise InteractiveSegError("--interactive-rounds counts from 1 and needs --reference, and the reverse: give both or none.")
    image = read_image(args.image, args.series, args.frame)
    prompts = [make_prompt(kind, value, image) for kind, value in args.prompts]
    started = time.perf_counter()
    session = InteractiveSession(
        image.array, affine=image.affine, model=args.model, device=args.device,
        weights=args.weights, window=args.window, axis=args.axis, mode=args.mode,
        targets=args.target.split(",") if args.target else None,
    )  # fmt: skip
    if len(session.targets) > 1 and prompts:
        raise InteractiveSegError(f"Prompts speak of one target, but there are {', '.join(session.targets)}: give one --target.")
    if args.initial_mask:
        start_from(session, args.initial_mask, image)
    set_threads(args.threads)
    by_name = session.family.sweeps and session.mode != "click"
    if not args.initial_mask and (by_name or not (prompts or args.reference)):
        session.predict()
    steps = [step for prompt in prompts for step in slice_by_slice(prompt, session)]
    for step in tqdm(steps, unit="step", leave=False, disable=True if len(steps) < 4 else None):
        session.add(step)
    if args.propagate:
        propagate(session, args.memory_weights)
    if args.reference:
        play_rounds(session, read_mask(args.reference, image), args)
    seconds = time.perf_counter() - started
    named = args.target or len(session.targets) > 1
    segments = [Segment.of(name, n) for n, name in enumerate(session.targets, start=1)] if named else [Segment(args.name)]
    write_segmentation(args.output, session.labels, image.affine, segments)
    if args.overlay:
        write_png(args.overlay, overlay(image, session.mask, session.prompts, session.axis, args.window))
    touched = len(prompts_by_slice(session.prompts, session.shape, session.axis))
    print(summary(args, image, session, touched, seconds))
    return 0


def check_nothing_is_overwritten(args: argparse.Namespace) -> None:
    """One sentence where a result would take the place of what is read, or of the other result."""
    overlay = [("--overlay", args.overlay)] if args.overlay else []
    read = [("the image", args.image), ("the reference", args.reference), ("the weights", args.weights)]
    for name, path in [("-o", args.output), *overlay]:
        for what, other in [*read, *(one for one in overlay if one[0] != name)]:
            if other is not None and path.resolve() == other.resolve():
                raise InteractiveSegError(f"{name} {path} is {what} too, which would be overwritten: give another name.")


def start_from(session, path: Path, image) -> None:
    """Put a file's masks into the session: of a Slicer segmentation the segments that are its targets, else all that is not 0."""
    from ..io import read_mask, read_structures

    found = read_structures(path, image, session.targets) if path.name.lower().endswith(".seg.nrrd") else {}
    if not found and len(session.targets) > 1:
        raise InteractiveSegError(f"{path} has no segment that is one of {', '.join(session.targets)}: give a .seg.nrrd whose "
                                  "segments are called so, or one --target.")
    for target, mask in (found or {session.targets[0]: read_mask(path, image)}).items():
        session.set_mask(mask, target)


def propagate(session, weights: Path | None) -> None:
    """Carry the masks to the other slices, with a bar."""
    from tqdm import tqdm

    with tqdm(unit="slice", leave=False, disable=None) as bar:
        for progress in session.propagate(weights=weights):
            bar.total = progress.total
            bar.update()


def play_rounds(session, reference: np.ndarray, args: argparse.Namespace) -> None:
    """Let the robot user work, and print how good each round was."""
    from ..evaluation.metrics import dice
    from ..robot_rounds import play

    if len(session.shape) < 3:
        raise InteractiveSegError("A picture has no other slices: --interactive-rounds needs a volume.")
    rounds = play(session, reference, memory=args.memory_weights)
    for number, mask in zip(range(1, args.interactive_rounds + 1), rounds):
        print(f"round {number}  Dice {dice(mask, reference):.4f}")


def slice_by_slice(prompt, session) -> list:
    """A thick box as the boxes of its slices, which mean the same, so that the progress bar moves; else the prompt."""
    from ..prompts import Box

    if not isinstance(prompt, Box) or len(session.shape) < 3:
        return [prompt]
    axis = session.axis
    indices = range(max(prompt.start[axis], 0), min(prompt.stop[axis], session.shape[axis]))

    def moved(corner: tuple[int, ...], index: int) -> tuple[int, ...]:
        return (*corner[:axis], index, *corner[axis + 1 :])

    return [Box(moved(prompt.start, n), moved(prompt.stop, n + 1)) for n in indices] or [prompt]


def make_prompt(kind: str, value: object, image):
    """The library's prompt for an option's value; kind is the option's name with underscores."""
    from ..io import read_mask
    from ..prompts import Box, Click, Scribble

    positive = not kind.startswith("negative_")
    if kind.endswith("scribble"):
        return Scribble(read_mask(value, image), positive)
    if kind.endswith("ras"):
        return Click(position_ras=value, positive=positive)
    expected = image.array.ndim * (2 if kind == "box" else 1)
    if len(value) != expected:
        axes = "K,J,I" if image.array.ndim == 3 else "row,column"
        raise InteractiveSegError(
            f"--{kind.replace('_', '-')} got {len(value)} numbers, but positions in this image of shape "
            f"{image.array.shape} are {axes}: give {expected} numbers."
        )
    if kind == "box":
        half = len(value) // 2
        return Box(tuple(math.floor(v) for v in value[:half]), tuple(math.ceil(v) for v in value[half:]))
    return Click(value, positive)


def summary(args: argparse.Namespace, image, session, touched: int, seconds: float) -> str:
    """What was done, in five lines."""
    count = int(session.mask.sum())
    mm = image.spacing
    if min(image.array.shape[:-2], default=1) == 1:  # a picture or a lone slice has no depth to multiply with
        size = f"{count} pixels, {count * mm[-1] * mm[-2] / 100:.4g} cm²"
    else:
        held = np.flatnonzero(session.mask.any(axis=tuple(n for n in range(3) if n != session.axis)))
        size = f"{count} voxels, {count * np.prod(mm) / 1000:.4g} ml, slices along {'KJI'[session.axis]}: {held.size}"
    lines = {
        "image": f"{image.source}, {' x '.join(map(str, image.array.shape))}, {' x '.join(f'{s:.4g}' for s in mm)} mm",
        "prompts": f"{len(args.prompts) + (args.interactive_rounds or 0)}, slices touched: {touched}",
        "mask": size if count else "empty: add a click inside the object, or a box around it",
        "time": f"{seconds:.2f} s, {session.plan.sentence}",
        "written": ", ".join(str(path) for path in (args.output, args.overlay) if path),
    }
    return "\n".join(f"{name:8} {words}" for name, words in lines.items())
