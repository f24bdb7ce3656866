"""`interactive-seg evaluate`: the robot user works through labelled data, with our model and with Slicer's tools."""
from __future__ import annotations

import argparse
import datetime
import json
import platform
import shlex
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from ..annotation.results import make_folder
from ..device import choose_device, set_threads
from ..evaluation import report
from ..evaluation.calibration import Reliability
from ..evaluation.metrics import TOLERANCE, WORSE_TOLERANCE
from ..evaluation.peers import PEERS, available_peers
from ..evaluation.protocol import CAP, Segmenter, SessionSegmenter, evaluate
from ..evaluation.tasks import MIN_PIXELS, SLICES_PER_VOLUME, load_items
from ..models import find_family
from ..robot import HABITS, Robot
from ..types import InteractiveSegError
from ..weights import sha256, shipped_file

EXAMPLES = """examples:
  interactive-seg evaluate --data ../shared/data/dev --task '*acdc*/*' --out results/acdc
  interactive-seg evaluate --data ../shared/data/dev --robot scribbles --jitter 2 --out results/scribbles
  interactive-seg evaluate --data ../shared/data/dev --robot all --peers none --max-images 2 --out results/habits
  interactive-seg evaluate --data pack.npz --model none --peers watershed,grow-from-seeds --out results/peers

measures:
  Dice(n) after n prompts; NoC90: prompts to a Dice of 0.90, a failure counts as --max-prompts; boundary(n): Dice of the
  borders, within {tolerance:g} pixels of the image; HD95 in mm, or px where the data knows no spacing; got worse: share of the
  prompts after the first that made Dice fall by more than 0.001; [95 % interval of the mean, over subjects]. --out gets
  rows.csv, summary.csv, summary.md, curve.png and run.json.

robot users:
{habits}""".format(tolerance=TOLERANCE, habits="\n".join(f"  {name:15}{what}" for name, what in HABITS.items()))


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        "evaluate",
        help="count the prompts a robot user needs, for our model and for Slicer's own tools",
        description="A robot user prompts each object until it is right, or the prompts are used up.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="a folder of packs, or one pack (.npz)")
    add("--out", type=Path, required=True, help="folder for the results")
    add("--model", default="scribbleprompt", help="model family, or 'none' for the peers alone")
    add("--weights", type=Path, help="weights file (default: the shipped ones)")
    add("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    add("--threads", type=int, help="CPU threads (default: one less than the machine has)")
    add("--task", default="*", metavar="GLOB", help="which pack/label to run, as '*acdc*/*' (default: all)")
    add("--robot", default="clicks", metavar="HABIT", help="what the robot user draws, several with commas between, or all; see "
        "below (default: clicks)")
    add("--jitter", type=float, default=0.0, metavar="PX", help="how far the robot's hand misses (default: 0)")
    add("--peers", default="all", help=f"all, none, or some of {','.join(PEERS)} (default: all)")
    add("--max-images", type=int, metavar="N", help="images per task, spread over subjects (default: all)")
    add("--max-prompts", type=int, default=CAP, metavar="N", help=f"prompts per object (default: {CAP})")
    add("--calibration", action="store_true", help="also compare the model's probability with what is there, around the object: "
        "a table, calibration.csv and .png")
    add("--seed", type=int, default=0, help="chooses the images and moves the robot's hand (default: 0)")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.max_prompts < 1 or (args.max_images is not None and args.max_images < 1):
        raise InteractiveSegError("--max-prompts and --max-images count from 1: give more, or leave them out.")
    habits = _habits(args.robot)
    if args.calibration and args.model == "none":
        raise InteractiveSegError("--calibration needs a probability, which the peers have none of: give a --model.")
    threads = set_threads(args.threads)
    segmenters = _segmenters(args)
    items = load_items(args.data, args.task, args.max_images, args.seed)
    make_folder(args.out)
    record = _provenance(args, threads, len(items))
    (args.out / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    reliability = Reliability() if args.calibration else None
    rows = chain.from_iterable(
        _named(evaluate(segmenters, items, Robot(habit, args.jitter), args.max_prompts, args.seed, reliability), habit, habits)
        for habit in habits
    )
    progress = tqdm(rows, total=len(items) * len(segmenters) * len(habits), desc="evaluate", unit="run")
    rows = report.write_rows(progress, args.out / "rows.csv")
    summary = report.summarise(rows)
    means = [entry for entry in summary if entry["group"] == report.ALL_TASKS] if len(habits) > 1 else []
    tables = [report.markdown_table(means or summary), report.comparison_table(summary, args.model)]
    if reliability is not None:
        reliability.write(args.out)
        tables.append(reliability.table())
    text = "\n\n".join(table for table in tables if table)
    (args.out / "summary.md").write_text(text + "\n", encoding="utf-8")
    report.write_summary(summary, args.out / "summary.csv")
    report.plot_curves(rows, args.out / "curve.png", f"{args.robot}, jitter {args.jitter:g} px, {len(items)} images")
    print(text)
    print(f"\n{len(items)} images, {args.robot} robot, jitter {args.jitter:g} px; saved in {args.out}")
    return 0


def _habits(words: str) -> list[str]:
    names = list(HABITS) if words == "all" else words.split(",")
    unknown = [name for name in names if name not in HABITS]
    if unknown:
        raise InteractiveSegError(f"There is no robot {unknown[0]!r}: choose all, or some of {', '.join(HABITS)}.")
    return names


def _named(rows: Iterator[dict], habit: str, habits: list[str]) -> Iterator[dict]:
    """Where there are several habits, each is a method of its own in the tables."""
    for row in rows:
        yield row if len(habits) == 1 else {**row, "method": f"{row['method']}, {habit}"}


def _segmenters(args: argparse.Namespace) -> list[Segmenter]:
    names = {"all": list(PEERS), "none": []}.get(args.peers, args.peers.split(","))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise InteractiveSegError(f"There is no peer '{unknown[0]}': choose all, none, or some of {', '.join(PEERS)}.")
    peers = available_peers()
    for name in set(names) - set(peers):
        print(f"{name} is left out: it needs the package slicer-core.", file=sys.stderr)
    ours = [] if args.model == "none" else [SessionSegmenter(args.model, args.weights, args.device)]
    segmenters = ours + [peers[name]() for name in names if name in peers]
    if not segmenters:
        raise InteractiveSegError("Nothing is left to evaluate: give a --model, or some --peers.")
    return segmenters


def _provenance(args: argparse.Namespace, threads: int, images: int) -> dict:
    weights = None if args.model == "none" else args.weights or shipped_file(find_family(args.model).networks[0])
    return {
        "command": shlex.join(["interactive-seg", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "images": images,
        "model": args.model,
        "weights": weights and weights.name,
        "weights_sha256": weights and sha256(weights),
        "device": choose_device(args.device),
        "machine": platform.machine(),
        "threads": threads,
        "robot": args.robot,
        "jitter_px": args.jitter,
        "seed": args.seed,
        "max_prompts": args.max_prompts,
        "min_pixels": MIN_PIXELS,
        "slices_per_volume": SLICES_PER_VOLUME,
        "worse_tolerance": WORSE_TOLERANCE,
        "boundary_tolerance_px": TOLERANCE,
    }
