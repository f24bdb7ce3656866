"""`interactive-seg train`: train one family, or everything that is pending, for a given time; stop and resume at will."""
from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..training.loop import Trainer

EXAMPLES = """examples:
  interactive-seg data pack ../shared/data/train -o train.bundle
  interactive-seg train scribbleprompt --bundle train.bundle --minutes 60
  interactive-seg train all --bundle train.bundle --minutes 25 --device cuda --together
  interactive-seg train tis --data our_livers --minutes 120 --device cuda
  interactive-seg train tis --data our_livers --encoder fold_0/checkpoint_final.pth --minutes 60

A run lives in RUNS/FAMILY: checkpoint.pt, log.csv, curve.png and, in the end, weights.safetensors, which any command takes as
--weights. The same command again goes on where it stopped; when a cycle was finished, it starts another one from the weights
reached. `interactive-seg models export` ships the result. Beside the families there are parts left out, to compare: verse-a1,
verse-a2, verse-a3 (VerSe's Table 4; with --start they begin from the whole network's weights, less that part's) and tis-a0,
tis-a1, tis-a2 (TIS's Table 2, on the shipped encoder).

--data: your own labelled volumes, for tis: folders imagesTr and labelsTr (or images and labels) with files of one name, and
dataset.json with the labels' names if there is one, as nnU-Net and the Decathlon lay them out. The run, in RUNS/tis-FOLDER, ends
with weights.safetensors, for `InteractiveSession(..., model="tis", weights=..., targets=...)`."""


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = commands.add_parser("train", help="train a family, resumable", description=__doc__, epilog=EXAMPLES,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", help="a family's name, several with commas between, or `all`")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bundle", type=Path, help="training data made by `interactive-seg data pack`")
    source.add_argument("--data", type=Path, help="a folder of your own labelled volumes (family tis)")
    parser.add_argument("--encoder", type=Path, help="with --data: a checkpoint of your own nnU-Net (3d_fullres, version 1 or "
                        "2), or TIS's weights, whose automatic result is taken as it is; only the correction is trained")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="time for this call, shared by several families unless --together")
    length.add_argument("--steps", type=int, help="optimiser steps for this call, per family")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--threads", type=int, help="CPU threads of the network (default: one core less than there are)")
    parser.add_argument("--workers", type=int, default=1, help="processes that make samples (default: 1)")
    parser.add_argument("--simulators", type=int, default=0, help="processes that simulate prompts; worth it beside a GPU")
    parser.add_argument("--together", action="store_true", help="several families at the same time, each in a process of its own "
                                                                "that writes RUNS/FAMILY.log; for a GPU that one would not fill")
    parser.add_argument("--start", type=Path, help="weights that a new run begins from, such as models/FILE.safetensors")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def run(args: argparse.Namespace) -> int:
    from ..device import choose_device, set_threads
    from ..training.loop import Trainer
    from ..training.recipes import RECIPES, find_recipe
    from ..types import InteractiveSegError

    families = list(RECIPES) if args.family == "all" else args.family.split(",")
    if args.start and len(families) > 1:
        raise InteractiveSegError("--start holds one family's weights: name that family alone.")
    if (args.family == "tis") != (args.data is not None) or (args.encoder and args.data is None):
        raise InteractiveSegError("A folder of your own trains tis: give `tis --data FOLDER`, and --encoder for your nnU-Net.")
    set_threads(args.threads)
    if args.data is not None:
        return train_own(args)
    recipes = {family: find_recipe(family) for family in families}
    if args.together and len(families) > 1:
        return train_together(args, families)
    with ProcessPoolExecutor(args.simulators) if args.simulators else nullcontext() as pool:
        for family, make in recipes.items():
            recipe = make(args.bundle, pool=pool)
            trainer = Trainer(recipe, args.runs / family, choose_device(args.device), args.seed, args.start)
            finish(trainer, args, len(families))
    return 0


def train_together(args: argparse.Namespace, families: list[str]) -> int:
    """This command once per family, all at the same time; 1 when one of them failed."""
    from ..annotation.results import make_folder

    words = [f"--{name}={value}" for name in ("bundle", "minutes", "steps", "runs", "device", "threads", "workers", "simulators",
             "seed") if (value := getattr(args, name)) is not None]
    make_folder(args.runs)
    running = {}
    for family in families:
        with (args.runs / f"{family}.log").open("w") as log:
            command = [sys.executable, "-m", "InteractiveSegLib.cli", "train", family, *words]
            running[family] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        failed = [family for family, process in running.items() if process.wait()]
    except KeyboardInterrupt:
        for process in running.values():
            process.terminate()
        raise
    for family in families:
        lines = (args.runs / f"{family}.log").read_text().replace("\r", "\n").split("\n")
        print(f"{family}: {next((line for line in reversed(lines) if line.strip()), 'no word')}")
    return 1 if failed else 0


def train_own(args: argparse.Namespace) -> int:
    """TIS on a user's folder: the plan, the training, the weights."""
    from ..device import choose_device
    from ..training.loop import Trainer
    from ..training.recipes.tis import TISRecipe

    folder = args.runs / f"tis-{args.data.resolve().name}"
    recipe = TISRecipe(args.data, encoder=args.encoder)
    plan = recipe.config()
    print(f"{len(recipe.data().cases)} volumes, labels {', '.join(plan.targets)}; {'x'.join(f'{s:g}' for s in plan.spacing)} mm, "
          f"patches of {'x'.join(map(str, plan.patch))} voxels, stages of {', '.join(map(str, plan.features))} features, "
          f"intensities {'clipped as in CT' if plan.clip else 'of each volume by itself'}", flush=True)
    trainer = Trainer(recipe, folder, choose_device(args.device), args.seed, args.start)
    finish(trainer, args)
    return 0


def finish(trainer: Trainer, args: argparse.Namespace, share: int = 1) -> None:
    """Train for this family's share of the time, and write what it has learned."""
    from ..training.export import save_average

    trainer.train(args.minutes and args.minutes / share, args.steps, args.workers)
    path = trainer.folder / "weights.safetensors"
    save_average(trainer.folder, path)
    print(f"{path}: {trainer.step} steps, {trainer.seconds / 3600:.2f} h in all, on {trainer.device}")
