"""`interactive-seg experiment`: what a context is worth. The paper's two experiments and the choice of examples."""
from __future__ import annotations

import argparse
import datetime
import json
import shlex
import sys
from pathlib import Path

from tqdm import tqdm

from ..annotation.results import make_folder
from ..device import choose_device, set_threads
from ..evaluation import sequence_report as report
from ..evaluation.annotators import Alone, Growing, MultiverSeg, Soft, UniverSeg, UniverSegStart
from ..evaluation.context_curve import SIZES, run_contexts
from ..evaluation.forest import PixelForest
from ..evaluation.sequence import run_sequences
from ..evaluation.tasks import load_items
from ..evaluation.volume_context import run_volumes, volume_table
from ..evaluation.volumes.items import load_volumes
from ..robot import Robot
from ..types import InteractiveSegError
from ..weights import sha256, shipped_file

METHODS = {
    "scribbleprompt": lambda args: Alone(args.device),
    "multiverseg": lambda args: Growing(args.device, args.weights),
    "always": lambda args: Growing(args.device, args.weights, always=True),
    "truth": lambda args: Growing(args.device, args.weights, ideal=True),
    "soft": lambda args: Soft(args.device, args.weights),
    "sp+uvs": lambda args: UniverSegStart(args.device, args.universeg),
    "forest": lambda args: PixelForest(),
}
NETWORKS = {"multiverseg": lambda args: MultiverSeg(args.device, args.weights),
            "universeg": lambda args: UniverSeg(args.device, args.universeg)}
EXAMPLES = """examples:
  interactive-seg experiment sequence --data ../shared/data/dev --images 18 --orders 3 --out results/sequence
  interactive-seg experiment sequence --data ../shared/data/dev --robot scribbles --methods scribbleprompt,multiverseg \\
      --out results/sequence-scribbles
  interactive-seg experiment context-size --data ../shared/data/dev --targets 6 --draws 2 --out results/context-size
  interactive-seg experiment selection --data ../shared/data/dev --targets 6 --draws 3 --out results/selection
  interactive-seg experiment volumes --data ../shared/data/dev --targets 4 --out results/volumes-context

sequence: images of a task one after the other; each is prompted until its Dice is 0.90 (20 clicks or 10 scribbles at most),
and what was accepted is the next one's context. methods: scribbleprompt (no context), multiverseg, always (its answer is where
prompts start, whether that helps or not), truth (true masks as context), soft (probabilities as context, always), sp+uvs
(UniverSeg, then ScribblePrompt), forest (a random forest on pixels).
A run that was interrupted goes on where it stopped; more --orders or --methods add to what is there.
context-size: Dice from examples alone. selection: chosen against random examples. volumes: Dice of volumes from examples alone,
every slice answered, and key slices carried to the others."""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        "experiment",
        help="measure what a context of accepted images is worth",
        description="What a growing context saves, what its size brings, and what choosing from it brings.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("experiment", choices=tuple(EXPERIMENTS), help="which one")
    add("--data", type=Path, required=True, help="a folder of packs, or one pack (.npz)")
    add("--out", type=Path, required=True, help="folder for rows.csv, summary.md, run.json and a curve")
    add("--task", default="*", metavar="GLOB", help="which pack/label to run, as '*acdc*/*' (default: all)")
    add("--methods", help=f"sequence: some of {','.join(METHODS)}; else: {','.join(NETWORKS)} (default: all that have weights)")
    add("--images", type=int, default=18, metavar="N", help="sequence: images after the seed image (default: 18)")
    add("--orders", type=int, default=1, metavar="N", help="sequence: random orders (default: 1)")
    add("--robot", choices=("clicks", "scribbles", "box"), default="clicks", help="sequence: what the robot user draws")
    add("--jitter", type=float, default=0.0, metavar="PX", help="sequence: how far the robot's hand misses (default: 0)")
    add("--sizes", default=",".join(map(str, SIZES)), help="numbers of examples of the other experiments (default: %(default)s)")
    add("--targets", type=int, default=6, metavar="N", help="their images or volumes per task (default: 6)")
    add("--draws", type=int, default=2, metavar="N", help="their random contexts per image (default: 2)")
    add("--weights", type=Path, help="MultiverSeg's weights file (default: the shipped one)")
    add("--universeg", type=Path, help="UniverSeg's weights file (default: the shipped one)")
    add("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    add("--threads", type=int, help="CPU threads (default: one less than the machine has)")
    add("--seed", type=int, default=0, help="draws images, orders and contexts, and moves the robot's hand (default: 0)")
    return parser


def run(args: argparse.Namespace) -> int:
    if min(args.images, args.orders, args.targets, args.draws) < 1:
        raise InteractiveSegError("--images, --orders, --targets and --draws count from 1: give more, or leave them out.")
    args.device, threads = choose_device(args.device), set_threads(args.threads)
    make_folder(args.out)
    text = EXPERIMENTS[args.experiment](args)
    record = {"command": shlex.join(["interactive-seg", *sys.argv[1:]]), "date": datetime.date.today().isoformat(),
              "device": args.device, "threads": threads, "seed": args.seed, "weights_sha256": _hashes(args)}
    (args.out / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (args.out / "summary.md").write_text(text + "\n", encoding="utf-8")
    print(f"{text}\n\nsaved in {args.out}")
    return 0


def _sequence(args: argparse.Namespace) -> str:
    items = load_items(args.data, args.task)
    annotators = _make(args, METHODS)
    robot = Robot(args.robot, args.jitter)
    rows = run_sequences(annotators, items, robot, args.images, args.orders, args.out / "rows.csv", args.seed)
    rows = list(tqdm(rows, desc="sequence", unit="image"))
    title = f"{args.robot}, jitter {args.jitter:g} px, {args.orders} order(s) of up to {args.images} images"
    report.plot_sequence(rows, args.out / "curve.png", title)
    return f"{title}\n\n{report.sequence_table(rows)}\n\n{report.position_table(rows)}\n\n{report.task_table(rows)}"


def _context_size(args: argparse.Namespace) -> str:
    rows = _contexts(args, ("random",))
    report.plot_contexts(rows, args.out / "curve.png", f"random examples, {args.targets} images per task, {args.draws} draw(s)")
    return report.context_table(rows)


def _selection(args: argparse.Namespace) -> str:
    rows = _contexts(args, ("random", "chosen"))
    own = [row for row in rows if row["method"] == rows[0]["method"]]
    report.plot_contexts(own, args.out / "curve.png", f"{own[0]['method']}: which examples", by="way")
    return report.choice_table(rows)


def _volumes(args: argparse.Namespace) -> str:
    volumes = load_volumes(args.data, args.task)
    rows = list(tqdm(run_volumes(volumes, args.targets, args.out / "rows.csv", args.device, args.weights), unit="answer"))
    if not rows:
        raise InteractiveSegError(f"No task of {args.data} has volumes of two subjects: give more data.")
    return volume_table(rows)


def _contexts(args: argparse.Namespace, ways: tuple[str, ...]) -> list[dict]:
    items = load_items(args.data, args.task)
    sizes = sorted({int(size) for size in args.sizes.split(",") if size.isdigit() and int(size) > 0})
    if not sizes:
        raise InteractiveSegError(f"Got the sizes {args.sizes!r}, expected numbers from 1 with commas: give some as 1,4,16.")
    rows = run_contexts(_make(args, NETWORKS), items, sizes, ways, args.targets, args.draws, args.out / "rows.csv", args.seed)
    rows = list(tqdm(rows, desc="contexts", unit="prediction"))
    if not rows:
        raise InteractiveSegError(f"No task has {sizes[0]} slices of other subjects: give more data, or smaller --sizes.")
    return rows


def _make(args: argparse.Namespace, table: dict) -> list:
    """The methods that were asked for; by default those whose weights are there."""
    names = list(table) if args.methods is None else args.methods.split(",")
    unknown = [name for name in names if name not in table]
    if unknown:
        raise InteractiveSegError(f"There is no method {unknown[0]!r} here: choose some of {', '.join(table)}.")
    made = []
    for name in names:
        try:
            made.append(table[name](args))
        except InteractiveSegError as error:
            if args.methods is not None:
                raise
            print(f"{name} is left out: {error}", file=sys.stderr)
    if not made:
        raise InteractiveSegError("No method is left: train or give the weights that they need.")
    return made


def _hashes(args: argparse.Namespace) -> dict[str, str]:
    """SHA-256 of the weights that are there, by network."""
    found = {}
    for name, path in (("scribbleprompt", None), ("multiverseg", args.weights), ("universeg", args.universeg)):
        try:
            found[name] = sha256(path or shipped_file(name))
        except InteractiveSegError:
            continue
    return found


EXPERIMENTS = {"sequence": _sequence, "context-size": _context_size, "selection": _selection, "volumes": _volumes}
