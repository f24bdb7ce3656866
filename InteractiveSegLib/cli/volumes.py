"""`interactive-seg volumes`: the robot user makes whole volumes with a few clicks, and so do Slicer's tools."""
from __future__ import annotations

import argparse
import datetime
import json
import shlex
import sys
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ..annotation.results import make_folder
from ..device import choose_device, set_threads
from ..evaluation.report import write_rows
from ..evaluation.volumes import reach, report
from ..evaluation.volumes.items import load_volumes
from ..evaluation.volumes.peers import has_slicer
from ..evaluation.volumes.protocol import (
    ROUNDS,
    Contouring,
    Growing,
    Interpolating,
    Method,
    Naming,
    Propagating,
    Refining,
    evaluate,
)
from ..models.tis import TARGETS
from ..types import InteractiveSegError
from ..weights import sha256, shipped_file

SCRIBBLEPROMPT, LIMNET = "ScribblePrompt, propagated", "LIM-Net"


def propagating(model: str, fuse: bool, args: argparse.Namespace) -> Propagating:
    """Clicks of one family, carried on by LIM-Net's memory. --weights are RITM's."""
    name = (LIMNET if model == "limnet" else SCRIBBLEPROMPT) + (", MRF" if fuse else "")
    return Propagating(name, model, fuse, args.device, args.weights if model == "limnet" else None, args.memory_weights)


METHODS = {
    "mrf": partial(propagating, "limnet", True),
    "no-mrf": partial(propagating, "limnet", False),
    "scribbleprompt": partial(propagating, "scribbleprompt", False),
    "scribbleprompt-mrf": partial(propagating, "scribbleprompt", True),
    "filled": lambda args: Interpolating("ScribblePrompt, filled between", "scribbleprompt", args.device),
    "interpolation": lambda args: Interpolating("LIM-Net's clicks, filled between", "limnet", args.device, args.weights),
    "verse": lambda args: Naming("VerSe by name then click, propagated", True, args.device, memory=args.memory_weights),
    "verse-slices": lambda args: Naming("VerSe by name then click, slice by slice", False, args.device),
    "tis": lambda args: Refining("TIS by itself, then clicks", args.device),
    "seeds": lambda args: Growing(),
    "contours": lambda args: Contouring(),
}
SLICERS = ("filled", "interpolation", "seeds", "contours")  # need the package slicer-core
NEEDS = {
    "mrf": ("limnet-click", "limnet-memory", "limnet-fusion"), "no-mrf": ("limnet-click", "limnet-memory"),
    "scribbleprompt": ("limnet-memory",), "scribbleprompt-mrf": ("limnet-memory", "limnet-fusion"),
    "interpolation": ("limnet-click",), "verse": ("verse", "limnet-memory"), "verse-slices": ("verse",),
    "tis": tuple(TARGETS),
}
EXAMPLES = """examples:
  interactive-seg volumes --data ../shared/data/dev --max-volumes 5 --out results/volumes
  interactive-seg volumes --data ../shared/data/dev --task '*hippocampus*/*' --methods mrf,no-mrf --out results/hippocampus
  interactive-seg volumes --data ../shared/data/dev --reach --memory-weights runs/limnet-memory/weights.safetensors --out reach

A round is one click, on the slice with the largest error, in the middle of its largest part; then the volume is made anew.
methods: mrf and no-mrf (LIM-Net with and without multi-round fusion), scribbleprompt and scribbleprompt-mrf (its clicks,
LIM-Net's propagation), interpolation and filled (LIM-Net's or ScribblePrompt's clicks, Fill between slices), seeds (Grow
from seeds in 3D), contours (not clicks: as many slices as rounds, contoured perfectly, Fill between slices), verse and
verse-slices (hearts only: by name on all slices, then clicks, carried on or not), tis (what it knows: by itself, then
clicks). Those whose weights are not shipped are
left out by default. rounds worse: after which Dice fell by more than 0.005.

--reach: no clicks; each object's widest slice is given as it is in truth and carried both ways, beside a copy of its mask."""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        "volumes",
        help="measure what a few clicks make of whole volumes, beside Slicer's own tools",
        description="LIM-Net's protocol: one click a round, six rounds.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="a folder of packs, or one pack (.npz)")
    add("--out", type=Path, required=True, help="folder for rows.csv, summary.md, curve.png and run.json")
    add("--task", default="*", metavar="GLOB", help="which pack/label to run, as '*acdc*/*' (default: all)")
    add("--methods", help=f"some of {','.join(METHODS)} (default: all that can run)")
    add("--max-volumes", type=int, metavar="N", help="volumes per task, spread over subjects (default: all)")
    add("--rounds", type=int, default=ROUNDS, metavar="N", help=f"clicks per volume (default: {ROUNDS})")
    add("--reach", action="store_true", help="how far one true slice is carried, instead of clicks")
    add("--weights", type=Path, help="RITM's weights file (default: the shipped one)")
    add("--memory-weights", type=Path, help="XMem's weights file (default: the shipped one)")
    add("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    add("--threads", type=int, help="CPU threads (default: one less than the machine has)")
    add("--seed", type=int, default=0, help="chooses the volumes (default: 0)")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.rounds < 1 or (args.max_volumes is not None and args.max_volumes < 1):
        raise InteractiveSegError("--rounds and --max-volumes count from 1: give more, or leave them out.")
    args.device, threads = choose_device(args.device), set_threads(args.threads)
    methods = [] if args.reach else make_methods(args)
    volumes = load_volumes(args.data, args.task, args.max_volumes, args.seed)
    rows = reach.evaluate(volumes, args.memory_weights, args.device) if args.reach else evaluate(methods, volumes, args.rounds)
    total = len(volumes) * len(reach.METHODS) if args.reach else sum(method.knows(v) for method in methods for v in volumes)
    if not total:
        raise InteractiveSegError(f"No method of {args.methods} knows {volumes[0].label!r}: choose others, or a heart.")
    make_folder(args.out)
    rows = write_rows(tqdm(rows, total=total, unit="run"), args.out / "rows.csv")
    text = (reach if args.reach else report).table(rows)
    count = len({(row["task"], row["source"]) for row in rows})
    (args.out / "summary.md").write_text(text + "\n", encoding="utf-8")
    if not args.reach:
        report.plot(rows, args.out / "curve.png", f"{args.rounds} rounds, {count} volumes")
    record = {"command": shlex.join(["interactive-seg", *sys.argv[1:]]), "date": datetime.date.today().isoformat(),
              "device": args.device, "threads": threads, "seed": args.seed, "weights_sha256": hashes(args)}
    (args.out / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{text}\n\n{count} volumes, saved in {args.out}")
    return 0


def make_methods(args: argparse.Namespace) -> list[Method]:
    """The methods that were asked for, by default those that can run here."""
    there = hashes(args)
    possible = [name for name in METHODS if all(network in there for network in NEEDS.get(name, ()))]
    names = possible if args.methods is None else args.methods.split(",")
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise InteractiveSegError(f"There is no method {unknown[0]!r}: choose some of {', '.join(METHODS)}.")
    if not has_slicer():
        left_out = [name for name in names if name in SLICERS]
        if left_out:
            print(f"{', '.join(left_out)} left out: they need the package slicer-core.", file=sys.stderr)
        names = [name for name in names if name not in SLICERS]
    if not names:
        raise InteractiveSegError("No method is left: install slicer-core, or choose others.")
    return [METHODS[name](args) for name in names]


def hashes(args: argparse.Namespace) -> dict[str, str]:
    """SHA-256 of the weights that are there, by network."""
    found = {}
    for name, own in (("limnet-click", args.weights), ("limnet-memory", args.memory_weights), ("limnet-fusion", None),
                      ("verse", None), *((name, None) for name in TARGETS)):
        try:
            found[name] = sha256(own or shipped_file(name))
        except InteractiveSegError:
            continue
    return found
