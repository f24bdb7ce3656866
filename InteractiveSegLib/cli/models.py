"""`interactive-seg models`: the families, their weights, and how a training run becomes one of them."""
from __future__ import annotations

import argparse
from pathlib import Path


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = commands.add_parser("models", help="list the families and their weights", description=__doc__)
    actions = parser.add_subparsers(dest="action")
    actions.add_parser("list", help="families with weights, hash, licence, size and device (the default)")
    export = actions.add_parser("export", help="ship a run: half-precision weights, manifest entry, model card")
    export.add_argument("folder", metavar="RUN", type=Path, help="folder of the run, such as runs/scribbleprompt")
    export.add_argument("--bundle", type=Path, required=True, help="the bundle it was trained from, for the card")
    export.add_argument("--id", required=True, help="name of the weights, such as scribbleprompt-compact")
    export.add_argument("--report", type=Path, help="folder of an evaluation, for the card")
    export.add_argument("--notes", default="", help="a sentence for the card, on what its settings do not say")
    export.add_argument("--mean-with", metavar="FILE", type=Path, help="ship the mean of the run's weights and of these, "
                        "such as those that it began from")
    failures = actions.add_parser("failures", help="write into a card where its weights fail: words, and a plot beside the card")
    failures.add_argument("id", metavar="ID", help="name of the weights, such as scribbleprompt-compact")
    failures.add_argument("rows", metavar="CSV", type=Path, nargs="+", help="rows that evaluate, hearts, volumes, refine or "
                          "experiment wrote, such as results/clicks/rows.csv")
    failures.add_argument("--method", help="whose rows (default: the first method of each file)")
    failures.add_argument("--goal", type=float, default=0.9, metavar="DICE", help="what counts as a failure (default: below 0.9)")
    failures.add_argument("--notes", default="", help="what the rows do not say")
    fetch = actions.add_parser("fetch", help="download a published checkpoint, held to its hash, as .safetensors")
    fetch.add_argument("name", metavar="NAME", help="such as ritm-h18 or xmem-s012")
    fetch.add_argument("--out", type=Path, default=Path("published"), help="folder for it (default: published)")
    fetch.add_argument("--sha256", metavar="HEX", help="its hash, where its publisher states none")
    queries = actions.add_parser("queries", help="write a published VerSe's weights with what its object queries are")
    queries.add_argument("file", metavar="FILE", type=Path, help="its weights, which do not say it")
    queries.add_argument("order", metavar="NAME,NAME", help="targets in the order of the object queries, such as "
                         "LV,myocardium,RV,edema,scar,LA")
    queries.add_argument("-o", "--out", metavar="FILE", type=Path, required=True, help=".safetensors to write, for --weights")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.action == "export":
        from ..training.export import export

        print(export(args.folder, args.bundle, args.id, args.report, args.notes, args.mean_with))
        return 0
    if args.action == "failures":
        from ..evaluation.failures import describe, plot, read
        from ..training.export import write_failures

        rows = read(args.rows, args.method)
        words = " ".join(filter(None, (describe(rows, args.goal), args.notes)))
        plot(rows, write_failures(args.id, words), f"{args.id}: {rows[0]['method']}, {len(rows)} objects", args.goal)
        print(words)
        return 0
    if args.action == "fetch":
        from ..fetch import CHECKPOINTS, fetch

        path = fetch(args.name, args.out, args.sha256)
        print(f"{path}: give it with --weights; licence {CHECKPOINTS[args.name].licence}")
        return 0
    if args.action == "queries":
        from ..models.verse.network import name_queries

        name_queries(args.file, args.order.split(","), args.out)
        print(f"{args.out}: give it with --weights")
        return 0
    return show()


def show() -> int:
    """Print one block per family."""
    from ..device import choose_device
    from ..models import list_families
    from ..weights import read_manifest, sha256, weights_folder

    entries = read_manifest()
    print(f"device: {choose_device()}")
    for family in list_families():
        print(f"\n{family.name}: {family.title} ({family.paper})")
        print(f"  prompts: {', '.join(family.prompts)}" + ("; answers before any prompt" if family.automatic else ""))
        for names in family.lists:
            print(f"  targets: {', '.join(family.word(name) for name in names)}")
        for entry in (e for e in entries if e["family"] in family.networks):
            path = weights_folder() / entry["file"]
            state = "missing" if not path.exists() else "ok" if sha256(path) == entry["sha256"] else "damaged"
            size = f"{path.stat().st_size / 1e6:.1f} MB" if path.exists() else "-"
            print(f"  weights: {entry['id']}, {entry['parameters']:,} parameters, {size}, {state}")
            print(f"    sha256:  {entry['sha256']}")
            print(f"    licence: {entry['licence']}")
    return 0
