"""`interactive-seg refine`: the robot user corrects automatic 3D results, all classes at once, with TIS and with its peers."""
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
from ..evaluation import refinement
from ..evaluation.report import write_rows
from ..session import InteractiveSession
from ..types import InteractiveSegError

EXAMPLES = """examples:
  interactive-seg refine --data ../shared/data/dev/3d_msd_hippocampus_dev.npz --out results/refine-hippocampus
  interactive-seg refine --data ../shared/data/dev/3d_acdc_cine_dev.npz --starts all --max-volumes 5 --out results/refine-bad

A round is one click for every class: at the centre of its largest error, missed by up to 10 voxels in plane (less on a small
object), saying what is there. Every method starts from TIS's automatic result, or from that result damaged."""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        "refine",
        help="measure how clicks of all classes correct an automatic 3D result",
        description="TIS's protocol: the automatic Dice, then after 1 to 10 clicks per class.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="one pack of labelled volumes (.npz)")
    add("--out", type=Path, required=True, help="folder for rows.csv, summary.md, curve.png and run.json")
    add("--starts", default="automatic", help=f"all, or some of {','.join(refinement.STARTS)} (default: automatic)")
    add("--peers", default="scribbleprompt", help="2D families: scribbleprompt corrects slice by slice, limnet carries each "
        "correction on; or none (default: scribbleprompt)")
    add("--clicks", type=int, default=10, metavar="N", help="clicks per class (default: 10)")
    add("--max-volumes", type=int, metavar="N", help="volumes, evenly through the pack (default: all)")
    add("--weights", type=Path, help="TIS's weights file (default: the shipped one)")
    add("--ablations", type=Path, nargs="*", default=[], help="weights of TIS trained without one of its parts")
    add("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    add("--threads", type=int, help="CPU threads (default: one less than the machine has)")
    return parser


def run(args: argparse.Namespace) -> int:
    starts = refinement.STARTS if args.starts == "all" else tuple(args.starts.split(","))
    if args.clicks < 1 or not set(starts) <= set(refinement.STARTS):
        raise InteractiveSegError(f"Got --clicks {args.clicks} --starts {args.starts}: give at least 1 click, and all or some of "
                                  f"{', '.join(refinement.STARTS)}.")
    threads, device = set_threads(args.threads), choose_device(args.device)
    names, cases = refinement.load_cases(args.data, args.max_volumes)
    make = partial(make_session, device=device)
    ours = partial(make, model="tis", weights=args.weights)
    methods = {"TIS": ours, **{named(path): partial(make, model="tis", weights=path) for path in args.ablations}}
    methods.update((peer, partial(make, model=peer)) for peer in args.peers.split(",") if peer != "none")
    make_folder(args.out)
    about = {"command": shlex.join(["interactive-seg", *sys.argv[1:]]), "date": datetime.date.today().isoformat(),
             "volumes": len(cases), "subjects": len({case.subject for case in cases}), "device": device, "threads": threads}
    (args.out / "run.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    rows = refinement.evaluate(cases, names, ours, methods, starts, args.clicks)
    total = len(cases) * len(starts) * len(methods) * len(names)
    rows = write_rows(tqdm(rows, total=total, desc="refine", unit="run"), args.out / "rows.csv")
    text = "\n".join([refinement.table(rows), "", *(refinement.harm(rows, method) for method in methods)])
    (args.out / "summary.md").write_text(text + "\n", encoding="utf-8")
    refinement.plot(rows, args.out / "curve.png")
    print(text)
    print(f"\n{about['volumes']} volumes of {about['subjects']} subjects, {device}, {threads} thread(s); saved in {args.out}")
    return 0


def named(weights: Path) -> str:
    """What a file of weights is called in the table; in a run's folder all are called alike."""
    return weights.parent.name if weights.stem == "weights" else weights.stem


def make_session(
    case: refinement.Case, names: tuple[str, ...], model: str, device: str, weights: Path | None = None
) -> InteractiveSession:
    """A session on a case, all classes at once."""
    return InteractiveSession(case.image, case.spacing, model=model, targets=names, device=device, weights=weights)
