"""`interactive-seg hearts`: VerSe's Table 2 on labelled hearts, beside peers in the same run."""
from __future__ import annotations

import argparse
import datetime
import json
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..types import InteractiveSegError

PARTS = ("automatic", "auto+click", "click", "scribbles", "peers")
EXAMPLES = """examples:
  interactive-seg hearts --data ../shared/data/dev/3d_acdc_cine_dev.npz --out results/acdc
  interactive-seg hearts --data ../shared/data/dev/3d_la2018_lge_dev.npz --slices 4 --out results/la
  interactive-seg hearts --data ../shared/data/dev/3d_acdc_cine_dev.npz --parts click \\
    --weights runs/verse-a1/weights.safetensors --out results/a1

Dice(n) after n clicks, Dice(0) of the automatic result; NoC: clicks to that Dice, a failure counts as 20. The robot clicks the
middle of the largest error. Slices that show the structure count, as in the paper; the automatic table adds all the others."""


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = commands.add_parser("hearts", help="measure VerSe on labelled hearts", description=__doc__, epilog=EXAMPLES,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="a pack of volumes (.npz) with LV, myocardium, RV or left atrium")
    add("--out", type=Path, required=True, help="folder for the results")
    add("--volumes", type=int, metavar="N", help="the first N volumes (default: all)")
    add("--slices", type=int, default=3, metavar="N", help="slices per volume and structure that are clicked (default: 3)")
    add("--parts", default=",".join(PARTS), help="what to measure (default: %(default)s)")
    add("--weights", type=Path, help="VerSe's weights (default: the shipped ones)")
    add("--unet", type=Path, metavar="FILE", help="weights of `train unet-peer`: an automatic U-Net beside it")
    add("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    add("--threads", type=int, help="CPU threads (default: one less than the machine has)")
    return parser


def run(args: argparse.Namespace) -> int:
    from ..annotation.results import make_folder
    from ..device import choose_device, set_threads
    from ..evaluation import cardiac, cardiac_report
    from ..evaluation.report import write_rows

    parts = args.parts.split(",")
    if not set(parts) <= set(PARTS):
        raise InteractiveSegError(f"Got --parts {args.parts}: choose some of {','.join(PARTS)}.")
    threads, options = set_threads(args.threads), {"weights": args.weights, "device": choose_device(args.device)}
    hearts = cardiac.read_hearts(args.data, args.volumes)
    make_folder(args.out)
    tables = []
    if "automatic" in parts:
        rows = []
        for method, segment in automatic_methods(args, options).items():
            bar = tqdm(cardiac.automatic_rows(hearts, method, segment), desc=method, unit="structure")
            rows += write_rows(bar, args.out / f"{method.replace(' ', '-')}.csv")
        tables.append(cardiac_report.automatic_table(rows))
        tables += ejection_fraction_lines([row for row in rows if row["method"] == "VerSe auto"], args.out)
    clicked = []
    for method, session, named in click_methods(parts, options):
        bar = tqdm(cardiac.click_rows(hearts, method, session, args.slices, named), desc=method, unit="structure")
        clicked += write_rows(bar, args.out / f"{method.replace(' ', '-')}.csv")
    if clicked:
        tables.append(cardiac_report.click_table(clicked, args.data.stem))
    if "scribbles" in parts and any(heart.scribbles is not None for heart in hearts):
        stroked = partial(cardiac.scribble_rows, hearts, {"model": "verse", "mode": "click", **options}, args.slices)
        tables.append(cardiac_report.scribble_table(write_rows(tqdm(stroked(), desc="scribbles"), args.out / "scribbles.csv")))
    text = "\n\n".join(tables)
    (args.out / "summary.md").write_text(text + "\n", encoding="utf8")
    about = {"command": shlex.join(["interactive-seg", *sys.argv[1:]]), "date": datetime.date.today().isoformat(),
             "device": options["device"], "threads": threads, "volumes": len(hearts), "pack": args.data.stem}
    (args.out / "run.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf8")
    print(f"{text}\n\n{len(hearts)} volumes; saved in {args.out}")
    return 0


def automatic_methods(args: argparse.Namespace, options: dict) -> dict[str, Callable]:
    from ..session import InteractiveSession

    def verse(heart) -> dict[str, np.ndarray]:
        session = InteractiveSession(heart.image, spacing=heart.spacing, model="verse", mode="auto", targets=tuple(heart.truth),
                                     axis="K", **options)
        session.predict()
        return {target: session.mask_of(target) for target in heart.truth}

    methods = {"VerSe auto": verse}
    if args.unet:
        from ..evaluation.unet_peer import UNetPeer

        methods["U-Net"] = UNetPeer(args.unet, options["device"]).segment
    return methods


def click_methods(parts: list[str], options: dict) -> list[tuple[str, dict, bool]]:
    """(name, options of the session, whether it begins from the automatic result and is told the target)."""
    from ..weights import read_manifest

    methods = [(f"VerSe {mode}", {"model": "verse", "mode": mode, **options}, mode != "click")
               for mode in ("auto+click", "click") if mode in parts]
    shipped = {entry["family"] for entry in read_manifest()}
    peers = (("ScribblePrompt", "scribbleprompt", "scribbleprompt"), ("RITM", "limnet", "limnet-click"))
    for title, model, network in peers if "peers" in parts else ():
        if network in shipped:
            methods.append((title, {"model": model, "device": options["device"]}, False))
        else:
            print(f"{title} is left out: no weights of {network} are shipped.", file=sys.stderr)
    return methods


def ejection_fraction_lines(rows: list[dict], out: Path) -> list[str]:
    from ..evaluation import cardiac, cardiac_report

    fractions = cardiac.ejection_fractions(rows)
    if len(fractions) < 2:
        return []
    cardiac_report.plot_agreement(fractions, out / "ejection_fraction.png")
    mean, low, high = cardiac_report.agreement(fractions)
    return [f"LV ejection fraction, automatic - reference: {mean:+.1f} percentage points, limits of agreement {low:+.1f} to "
            f"{high:+.1f}, {len(fractions)} subjects."]
