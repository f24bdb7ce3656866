"""Names of files: which ones every reader and writer can hold, and the one under which a file lies until it is whole."""
from __future__ import annotations

import os
from pathlib import Path

from .types import InteractiveSegError

LONGEST = 255  # of one name; bytes, on Windows characters


def check_path(path: Path) -> Path:
    """The path; or one sentence where a file system, SimpleITK or SQLite would fail on a name in it in words of its own."""
    for name in path.parts:
        shown = name.encode("utf8", "replace").decode()
        if shown != name:
            raise InteractiveSegError(f"The name {shown} is not UTF-8, which files of images need: rename it.")
        size = len(name) if os.name == "nt" else len(name.encode())
        if size > LONGEST:
            raise InteractiveSegError(f"The name {name[:40]}... has {size} bytes, expected up to {LONGEST}: shorten it.")
    return path


def partial(path: Path, suffix: str = "") -> Path:
    """Where a file is written before it takes its name: beside it, and short, as the name itself may be the longest there is.

    suffix: by which the writer knows the format.
    """
    return path.with_name(f".partial-{os.getpid()}{suffix}")
