"""`interactive-seg annotate`: a folder of cases in, a mask of one structure in each of them out; each case helps the next one."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..types import InteractiveSegError, counted
from .segment import numbers

EXAMPLES = """Without prompts or a robot it lists the cases and what is done. Prompts come from the Slicer panel, from a file, or
from the robot user, who looks at references. Everything is on disk after each prompt: interrupt it, and the same command goes on.

results, in STUDY/annotations or -o FOLDER:
  TASK/CASE.seg.nrrd      the accepted mask; CASE.dcm beside it is a DICOM SEG where the case is DICOM
  TASK/cases.csv          case, status, prompts, seconds, volume, Dice where there is a reference
  TASK/curve.png          prompts per case in the order of acceptance
  TASK/report.html        all of it on one page, with a picture of each case
  TASK/prompts.json       what was said, as --prompts reads it
  study.sqlite            the state; context.sqlite: the accepted examples (see `interactive-seg context`)

prompts file: positions are voxels K,J,I (R,C in a picture), in the order in which they are given; a named case is accepted
after its last prompt, one without any only where the model has an answer by itself.
  {"format": "interactive-seg prompts 1", "cases": {
    "patient01": [{"click": [12, 80, 77]}, {"click": [12, 20, 30], "positive": false}, {"undo": true}],
    "patient02": [{"box": [[9, 40, 40], [15, 96, 90]]}, {"scribble": [[12, 60, 61], [12, 60, 62], [12, 61, 63]]},
                  {"click_ras": [-12.5, 3, 40]}, {"lasso": [[12, 30, 30], [12, 30, 60], [12, 60, 45]]}]}}

examples:
  interactive-seg annotate scans --task "left atrium"
  interactive-seg annotate scans --task "left atrium" --prompts prompts.json
  interactive-seg annotate scans --task "left atrium" --robot --references masks --target-dice 0.9 -o out"""


def add_parser(commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = commands.add_parser("annotate", help="annotate a folder of cases, each helping the next", description=__doc__,
                                 epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    # Without this, argparse takes `-160,240` for an option; it has no public way to say so.
    parser._negative_number_matcher = re.compile(r"^-\.?\d")
    parser.add_argument("study", type=Path, metavar="STUDY", help="a folder with NIfTI, NRRD, MHA, PNG, DICOM at any depth")
    parser.add_argument("--task", required=True, metavar="NAME", help="the structure, such as \"left atrium\"")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="where results go (default: STUDY/annotations)")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--prompts", type=Path, metavar="FILE.json", help="prompts for cases by name")
    who.add_argument("--robot", nargs="?", const="clicks", choices=("clicks", "scribbles", "box"),
                     help="a robot user prompts, looking at the references (default: clicks)")  # fmt: skip
    parser.add_argument("--references", type=Path, metavar="FOLDER", help="masks that are called like the cases")
    parser.add_argument("--label", type=int, metavar="N", help="value of the references that counts (default: all but 0)")
    parser.add_argument("--target-dice", type=float, default=0.9, metavar="D", help="the robot stops there (default: 0.9)")
    parser.add_argument("--max-prompts", type=int, default=20, metavar="N", help="the robot's most in one slice (default: 20)")
    parser.add_argument("--propagate", action="store_true",
                        help="carry what a file's prompts made, after a case's last, through the volume")  # fmt: skip
    parser.add_argument("--every-slice", action="store_true",
                        help="answer and correct each slice of a volume by itself, and carry nothing")  # fmt: skip
    parser.add_argument("--jitter", type=float, default=0.0, metavar="PX", help="how unsteady its hand is (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the robot's hand (default: 0)")
    parser.add_argument("--skip", action="append", default=[], metavar="CASE", help="leave a case out (may be repeated)")
    parser.add_argument("--reopen", action="append", default=[], metavar="CASE", help="take a case back into work")
    parser.add_argument("--start-over", action="append", default=[], metavar="CASE", help="forget all that was done to a case")
    parser.add_argument("--context", type=Path, metavar="FILE.sqlite", help="another context store than the study's own")
    parser.add_argument("--model", default="multiverseg", help="see `interactive-seg models` (default: %(default)s)")
    parser.add_argument("--mode", help="of multiverseg: proven, or always, as published (default: proven)")
    parser.add_argument("--examples", type=int, metavar="N",
                        help="the most that a prediction uses, 1 to 256 (default: 16; on a graphics card 64)")  # fmt: skip
    parser.add_argument("--weights", type=Path, metavar="FILE", help="other weights than the shipped ones")
    parser.add_argument("--axis", help="slices to work in: axial, coronal, sagittal, K, J, I (default: as they were scanned)")
    parser.add_argument("--window", type=numbers(2), metavar="LOW,HIGH", help="intensities that matter, as HU in CT")
    parser.add_argument("--frame", type=int, metavar="N", help="time point or channel, from 0, if there are several")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: one core less than there are)")
    return parser


def run(args: argparse.Namespace) -> int:
    from ..annotation import Study
    from ..annotation.actions import read_prompts
    from ..device import set_threads

    if args.robot and args.references is None:
        raise InteractiveSegError("The robot user needs --references: give the folder with the masks.")
    if not 0 < args.target_dice <= 1 or args.max_prompts < 1:
        raise InteractiveSegError(f"Got --target-dice {args.target_dice} and --max-prompts {args.max_prompts}, expected up to 1 "
                                  "and at least 1.")
    set_threads(args.threads)
    options = {name: getattr(args, name) for name in ("model", "mode", "weights", "axis", "window", "device", "examples")}
    prompts = read_prompts(args.prompts) if args.prompts else {}
    study = Study(args.study, args.task, args.output, args.references, args.label, args.context, args.frame, args.every_slice,
                  **options)
    for name in [*prompts, *args.skip, *args.reopen, *args.start_over]:
        study.record(name)
    for name in args.start_over:
        study.start_over(name)
    for name in args.reopen:
        study.reopen(name)
    for name in args.skip:
        study.skip("by hand", name)
    put_off = 0
    told = nothing_to_learn_from(study) if args.context else ""
    if told:
        print(told, file=sys.stderr)
    try:
        for record in annotate_all(study, args, prompts):
            print(line_of(record, len(study.cases)), flush=True)
            put_off += record.status != "accepted"
    except KeyboardInterrupt:
        print(f"\n{args.study}: interrupted; the same command goes on from here", file=sys.stderr)
        raise
    finally:
        finish(study, args.prompts)
    return 1 if put_off else 0


def annotate_all(study, args: argparse.Namespace, prompts: dict) -> Iterator:
    """Open, predict, prompt and accept case after case; yields the record of each, also of those that cannot be worked on."""
    passed: set[str] = set()
    told = False
    while True:
        if args.robot:
            upcoming = [case for case in study.cases if case.status in ("in progress", "todo") and case.name not in passed]
            upcoming.sort(key=lambda case: case.status)  # what was begun comes first
            name = upcoming[0].name if upcoming else None
        else:
            name = next((name for name in prompts if name not in passed), None)
        if name is None:
            return
        passed.add(name)
        before = study.record(name).status  # now: another program may have accepted it meanwhile
        if before in ("accepted", "skipped"):
            continue
        try:
            case = study.open(name)
            afresh, actions = still_to_do(case, wanted_of(case, prompts.get(name, []), args.propagate))
            if args.robot and case.reference is None:
                raise InteractiveSegError("There is no reference, which the robot user needs: add one.")
        except InteractiveSegError as error:
            print(f"{name}: put off, {error}", file=sys.stderr)
            yield study.put_off(name, before, str(error))
            continue
        if not told:
            told = True
            print(case.session.plan.sentence, flush=True)
        if args.robot and args.label is not None and not case.reference.any():
            print(f"{name}: its reference has no voxel of --label {args.label}, and counts as empty", file=sys.stderr)
        prompt_case(case, args, actions, afresh)
        try:
            if not args.robot:
                check_answer(case)
            record = study.accept()
        except InteractiveSegError as error:
            print(f"{name}: put off, {error}", file=sys.stderr)
            record = study.put_off(name, "in progress" if case.actions else before, str(error))
        yield record


def check_answer(case) -> None:
    """One sentence where nothing says what a case's mask is, neither a prompt nor a model that needs none."""
    from ..annotation.actions import repeatable

    if not (repeatable(case.actions) or case.mask.any()) and (case.session.notice or not case.can_predict):
        raise InteractiveSegError("No prompt is given for it, and the model has no answer before one: add a prompt, or "
                                  '{"reset": true} if its mask is to be empty.')


def nothing_to_learn_from(study) -> str:
    """A sentence where the store that was given holds examples and none of them is this study's; else ""."""
    store, task = study.context.store, study.task
    sets = store.sets()
    count = sum(row[2] for row in sets)
    if len(study.context) or not count:
        return ""
    other, called, _ = max(sets, key=lambda row: (row[1] == task and row[2] > 0, row[2]))
    file, own, theirs, ours = (shlex.quote(str(part)) for part in (store.path, study.output / "context.sqlite", called, task))
    export = f"interactive-seg context export {file} --task {theirs} --study {other[:8]} -o examples.context"
    return (f"0 of {count} examples in {store.path} belong to this study and the task {task!r}: to learn from another study's, "
            f"write them to a file with `{export}`, run this without --context, and add them with "
            f"`interactive-seg context import {own} examples.context --task {ours}`.")


def wanted_of(case, actions: list, propagate: bool) -> list:
    """A case's actions in the file, with the propagation that --propagate adds after the last."""
    if not propagate or not actions or len(case.session.shape) == 2 or "propagate" in actions[-1]:
        return actions
    return [*actions, {"propagate": True}]


def still_to_do(case, actions: list) -> tuple[bool, list]:
    """(False, what of a case's actions was not done before an interruption); (True, all of them) where the case is to be done
    afresh, because an undo among the rest reaches further back than that."""
    from ..annotation.actions import repeatable, said_at

    said, meant = repeatable(case.actions), said_at(actions)
    if not actions or not said:
        return False, actions
    if said != [actions[n] for n in meant[:len(said)]]:
        raise InteractiveSegError(f"{len(said)} actions were done to it that are not the first ones of the file: give "
                                  f"--start-over {shlex.quote(case.name)} to do the file's alone.")
    left, depth = actions[meant[len(said) - 1] + 1:], 0
    for action in left:
        depth += -1 if "undo" in action else 1
        if depth < 0:
            return True, actions
    return False, left


def prompt_case(case, args: argparse.Namespace, actions: list, afresh: bool) -> None:
    """Everything between opening and accepting a case. afresh: without what was done before."""
    from tqdm import tqdm

    from ..annotation.robot import prompt_until
    from ..robot import Robot

    if afresh:
        case.reset()
    if (afresh or not case.prompts) and case.can_predict:
        with tqdm(desc=f"{case.name}, from context", leave=False, disable=None) as bar:
            for step in case.predict():
                bar.total, bar.n = step.total, step.done
                bar.refresh()
        if case.session.notice:
            print(f"{case.name}: {case.session.notice}", file=sys.stderr)
    if args.robot:
        rng = np.random.default_rng([args.seed, len(case.actions)])
        robot = Robot(args.robot, args.jitter)
        with tqdm(desc=case.name, unit="prompt", leave=False, disable=None) as bar:
            for score in prompt_until(case, robot, args.target_dice, args.max_prompts, rng):
                bar.update()
                bar.set_postfix(dice=f"{score:.3f}")
        return
    for action in tqdm(actions, desc=case.name, unit="prompt", leave=False, disable=None):
        if not (args.propagate and "propagate" in action and not case.mask.any()):  # there is nothing to carry
            case.do(action)


def line_of(record, count: int) -> str:
    """One line on a case for the terminal."""
    size = "" if record.volume_ml is None else f"{record.volume_ml:.4g} ml"
    dice = "" if record.dice is None else f"Dice {record.dice:.3f}"
    order = "" if record.rank is None else f"{record.rank + 1}/{count}"
    words = (f"{order:>7}", f"{record.name:28}", f"{record.status:11}", f"{counted(record.prompts, 'prompt'):>11}",
             f"{record.seconds:7.1f} s", f"{size:>12}", dice, record.note)
    return "  ".join(words).rstrip()


def finish(study, given: Path | None) -> None:
    """Write the page and the prompts, and say where all of it lies. given: the user's file of prompts, which stays as it is."""
    from ..annotation.page import write_page
    from ..annotation.results import PROMPTS, TABLE

    study.write_results()
    page = write_page(study)
    said = study.results / PROMPTS
    if given is None or given.resolve() != said.resolve():
        study.write_prompts(said)
    cases = study.cases
    left = [case for case in cases if case.status in ("todo", "in progress")]
    if left:
        print(f"\n{len(left)} of {len(cases)} cases are left:")
        for case in left[:20]:
            print(line_of(case, len(cases)) + f"  {case.title}")
    print(f"\nreport: {page}\ntable:  {study.results / TABLE}")
