"""`interactive-seg context`: look at the accepted examples of a study, switch some off, hand them on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..types import InteractiveSegError

EXAMPLES = """STORE is the file that `interactive-seg annotate` keeps: STUDY/annotations/context.sqlite. A store with several sets
needs --task, or --study with the beginning of its hash; ENTRY is the beginning of an entry's id, as `list` and `show` give it.

examples:
  interactive-seg context list scans/annotations/context.sqlite
  interactive-seg context show scans/annotations/context.sqlite --task "left atrium" -o context.png
  interactive-seg context check scans/annotations/context.sqlite
  interactive-seg context disable scans/annotations/context.sqlite 3fa94c 81d0
  interactive-seg context export scans/annotations/context.sqlite -o left_atrium.context
  interactive-seg context import other/annotations/context.sqlite left_atrium.context"""


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = commands.add_parser("context", help="look at, switch off and hand on accepted examples", description=__doc__,
                                 epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, words in (
        ("list", "sets and entries"), ("show", "a contact sheet: slices with the outlines of their masks"),
        ("check", "which entries disagree with the others: each is predicted from the rest"),
        ("disable", "keep entries, but let no prediction use them"), ("enable", "use them again"),
        ("remove", "forget entries for good"), ("export", "write a set to one file"), ("import", "add an exported file to a set"),
    ):  # fmt: skip
        action = actions.add_parser(name, help=words, description=words)
        action.add_argument("store", type=Path, metavar="STORE")
        action.add_argument("--task", metavar="NAME", help="the set's structure")
        action.add_argument("--study", metavar="HASH", help="the beginning of the set's study, as `list` gives it")
        if name in ("disable", "enable", "remove"):
            action.add_argument("entries", nargs="+", metavar="ENTRY", help="the beginning of an entry's id")
        if name == "import":
            action.add_argument("file", type=Path, metavar="FILE", help="written by `export`")
        if name in ("export", "show"):
            kind = "FILE.png" if name == "show" else "FILE"
            action.add_argument("-o", "--output", type=Path, required=True, metavar=kind, help="the file to write")
        if name == "check":
            action.add_argument("--weights", type=Path, help="MultiverSeg's weights file (default: the shipped one)")
        if name == "show":
            action.add_argument("--most", type=int, default=60, metavar="N", help="the newest N entries (default: 60)")
    return parser


def run(args: argparse.Namespace) -> int:
    from ..context import ContextStore, export_context, import_context

    if not args.store.is_file():
        raise InteractiveSegError(f"{args.store} does not exist: give the context.sqlite that `interactive-seg annotate` keeps.")
    store = ContextStore(args.store)
    if args.action == "list":
        list_sets(store, args)
        return 0
    chosen = store.find(args.study, args.task)
    if args.action == "show":
        show(chosen, args.output, args.most, names_beside(store))
    elif args.action == "check":
        check(chosen, args.weights, names_beside(store))
    elif args.action == "export":
        if args.output.resolve() == args.store.resolve():
            raise InteractiveSegError(f"-o {args.output} is the store itself, which would be overwritten: give another name.")
        print(f"{args.output}: {export_context(chosen, args.output)} entries")
    elif args.action == "import":
        print(f"{import_context(args.file, chosen)} new entries, {len(chosen)} altogether")
    else:
        entries = dict.fromkeys(find_entry(chosen, text) for text in args.entries)
        if args.action == "remove":
            chosen.remove(*entries)
        for entry in entries if args.action != "remove" else ():
            chosen.set_enabled(entry, args.action == "enable")
        infos = chosen.infos()
        print(f"{sum(info.enabled for info in infos)} of {len(infos)} entries are used")
    return 0


def list_sets(store, args: argparse.Namespace) -> None:
    """Every set that the options name, with its entries."""
    sets = [row for row in store.sets() if row[0].startswith(args.study or "") and args.task in (None, row[1])]
    if not sets:
        print("no set")
    names = names_beside(store)
    for study, task, count in sets:
        print(f"{task}  (study {study[:8]}, {count} entries)")
        for info in store.find(study, task).infos():
            source = info.provenance
            where = "picture" if info.affine is None else f"{'KJI'[source.axis]} = {source.index}"
            said = ", ".join(f"{count} {kind}" for kind, count in source.prompts.items()) or "no prompt"
            print(f"  {info.id[:8]}  {'used' if info.enabled else 'off ':5} case {source.case[:6] or '-':6}  {where:9}  "
                  f"{info.shape[0]} x {info.shape[1]}  {said}  {source.model}  {source.time}"
                  f"  {names.get(source.case, '')}".rstrip())  # fmt: skip


def names_beside(store) -> dict[str, str]:
    """Hash -> name of the cases of the study whose file lies beside the store: for the screen, the store holds no names."""
    from ..annotation.cases import STATE
    from ..annotation.results import keep_outputs
    from ..annotation.state import StudyState

    file = store.path.parent / STATE
    if not file.is_file():
        return {}

    def rescue(mark: str) -> str:
        keep_outputs(file.parent, mark)
        return "; the prompts and tables beside it are kept under the same mark"

    try:
        return {store.digest(case.name): case.name for case in StudyState(file, rescue).records("")}
    except InteractiveSegError as error:
        print(f"The cases have no names here: {error}", file=sys.stderr)
        return {}


def show(chosen, path: Path, most: int, names: dict[str, str]) -> None:
    """Write the contact sheet. names: of cases by their hashes, which the sheet itself does not show."""
    from ..context.sheet import contact_sheet

    if path.suffix.lower() != ".png":
        raise InteractiveSegError(f"{path} is no PNG: end the picture's name with .png.")
    infos = chosen.infos()[-max(most, 1):]
    if not infos:
        raise InteractiveSegError("The set has no entries yet, so there is nothing to show: accept a case first.")
    sheet = contact_sheet(list(chosen.whole(info.id for info in infos)))
    try:
        sheet.save(path)
    except OSError as error:
        raise InteractiveSegError(f"{path} cannot be written ({error.strerror}): choose another place.") from error
    print(f"{path}: {len(infos)} of {len(chosen)} entries")
    for info in infos:
        if info.provenance.case in names:
            print(f"  {info.id[:8]}  {names[info.provenance.case]}")


def check(chosen, weights: Path | None, names: dict[str, str]) -> None:
    """Print one sentence per entry that the others contradict. names: of cases by their hashes."""
    from ..context.outliers import FEWEST, asking, count_cases, find_outliers

    entries = chosen.enabled()
    cases = count_cases(entry.info for entry in entries)
    if cases < FEWEST:
        raise InteractiveSegError(f"The set has entries of {cases} cases in use, which is too few to tell who is wrong: accept "
                                  f"cases until there are {FEWEST}.")  # fmt: skip
    found = find_outliers(entries, asking("multiverseg", weights))
    cases = {entry.info.id: names.get(entry.info.provenance.case) for entry in entries}
    for outlier in found:
        print(f"{cases[outlier.id]}: {outlier.message}" if cases[outlier.id] else outlier.message)
    print(f"{len(found)} of {len(entries)} entries disagree with the others")


def find_entry(chosen, text: str) -> str:
    """The id that begins so."""
    found = [entry_id for entry_id in chosen.ids() if entry_id.startswith(text)]
    if len(found) != 1:
        raise InteractiveSegError(f"{len(found)} entries begin with {text!r}: `interactive-seg context list` gives the ids.")
    return found[0]
