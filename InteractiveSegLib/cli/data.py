"""`interactive-seg data`: pack all training sets into one file, and see what training makes of them."""
from __future__ import annotations

import argparse
from pathlib import Path

LIMIT = 45_000_000  # bytes; what must travel to a machine with a GPU


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = commands.add_parser("data", help="pack training data into one bundle, draw what is made of it", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    pack = actions.add_parser("pack", help="make the bundle that `interactive-seg train` reads")
    pack.add_argument("folders", metavar="FOLDER", type=Path, nargs="+",
                      help="folder of .npz packs with a manifest.json, or one pack of such a folder")
    pack.add_argument("-o", "--output", type=Path, required=True, help="the bundle to write")
    pack.add_argument("--licence", choices=("commercial",), help="only sets whose stated licence clearly allows commercial use")
    pack.add_argument("--without", metavar="WHAT", action="append", default=[],
                      help="leave a kind of image out: ultrasound, microscopy, 'cardiac MR', or a glob on a set's name or "
                           "modality; may be given several times")
    for name, what in (("defects", "the six kinds of defective masks"), ("clips", "objects followed through clips")):
        sheet = actions.add_parser(name, help=f"draw a contact sheet: {what}")
        sheet.add_argument("--bundle", type=Path, required=True, help="training data made by `interactive-seg data pack`")
        sheet.add_argument("-o", "--output", type=Path, required=True, help="the picture to write, .png")
        sheet.add_argument("--columns", type=int, default=8, help="examples of each defect, slices of each clip (default: 8)")
        sheet.add_argument("--seed", type=int, default=0)
    return parser


def run(args: argparse.Namespace) -> int:
    return {"pack": run_pack, "defects": run_sheet, "clips": run_sheet}[args.action](args)


def run_pack(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..training.bundle import list_packs, read_pack, write_bundle
    from ..training.sets import chosen

    packs, left = chosen([pack for folder in args.folders for pack in list_packs(folder)], bool(args.licence), args.without)
    for name, why in left:
        print(f"left out: {name} ({why})")
    sets = (read_pack(pack["path"], pack["licence"], pack["modality"]) for pack in tqdm(packs, "pack", unit="set"))
    size = write_bundle(sets, args.output)
    print(f"{args.output}: {len(packs)} sets, {size / 1e6:.1f} MB")
    if size > LIMIT:
        print(f"warning: over the limit of {LIMIT / 1e6:.0f} MB")
    return 0


def run_sheet(args: argparse.Namespace) -> int:
    import numpy as np

    from ..training.bundle import read_bundle
    from ..training.sheets import clip_sheet, defect_sheet
    from ..types import InteractiveSegError

    if args.columns < 2:
        raise InteractiveSegError(f"--columns {args.columns} leaves nothing to compare: give 2 or more.")
    draw = defect_sheet if args.action == "defects" else clip_sheet
    figure = draw(read_bundle(args.bundle), args.columns, np.random.default_rng(args.seed))
    try:
        figure.savefig(args.output, dpi=100)
    except (OSError, ValueError) as error:
        raise InteractiveSegError(f"The sheet cannot be written to {args.output} ({error}): give a .png file.") from error
    print(args.output)
    return 0
