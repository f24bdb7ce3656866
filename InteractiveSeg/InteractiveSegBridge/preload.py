"""torch's largest library, loaded while the window lives on.

Python's import keeps the interpreter lock while the system loads a library, here for a fifth of a second in one piece; a call
through ctypes does not. On Windows torch loads its libraries in this way itself.
"""
from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path

LIBRARY = "libtorch_cpu.so"


def preload_torch() -> None:
    """Once, before torch is imported, in the thread that will do so. Where it does not work the import does it all."""
    if sys.platform != "linux" or "torch" in sys.modules:
        return
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None:
        return
    load = ctypes.CDLL(None).dlopen
    load.restype = ctypes.c_void_p
    load(os.fsencode(Path(torch.origin).parent / "lib" / LIBRARY), os.RTLD_NOW)
