"""`interactive-seg data`: pack all training sets into one file."""
from __future__ import annotations

import argparse
from pathlib import Path

LIMIT = 45_000_000  # bytes; what must travel to a machine with a GPU


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = commands.add_parser("data", help="pack training data into one bundle", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    pack = actions.add_parser("pack", help="make the bundle that `interactive-seg train` reads")
    pack.add_argument("folder", type=Path, help="folder of .npz packs with a manifest.json")
    pack.add_argument("-o", "--output", type=Path, required=True, help="the bundle to write")
    return parser


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..training.bundle import read_folder, write_bundle

    packs = len(list(args.folder.glob("*.npz")))
    size = write_bundle(tqdm(read_folder(args.folder), "pack", packs, unit="set"), args.output)
    print(f"{args.output}: {size / 1e6:.1f} MB")
    if size > LIMIT:
        print(f"warning: over the limit of {LIMIT / 1e6:.0f} MB")
    return 0
