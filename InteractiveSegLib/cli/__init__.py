"""The command `interactive-seg`. Each sub-command is one module of this package with `add_parser` and `run`."""
from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from ..types import InteractiveSegError

log = logging.getLogger(__name__)
COMMANDS = ("segment", "annotate", "context", "cine", "models", "data", "train", "evaluate", "experiment", "volumes", "refine",
            "hearts", "benchmark", "demo")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="interactive-seg",
        description="Segment medical images with clicks, boxes and scribbles.",
        epilog="`interactive-seg COMMAND --help` teaches each command.",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f".{name}", __package__)
        module.add_parser(commands).set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the input cannot be used (one sentence on stderr), 2 wrong arguments, 130 interrupted."""
    args = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        code = args.run(args) or 0
        sys.stdout.flush()
        return code
    except InteractiveSegError as error:
        print(f"interactive-seg: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; what Python still holds goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # what no command foresaw: a folder in a file's place, a full disk
        log.info("where it happened", exc_info=True)
        where, why = error.filename or "A file", error.strerror or error
        print(f"interactive-seg: {where} cannot be read or written ({why}): choose another place.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interactive-seg: interrupted", file=sys.stderr)
        return 130
