"""TIS (Liu et al. 2022): an automatic 3D segmentation, and its correction by clicks, all classes at once."""
from __future__ import annotations

import json
from pathlib import Path

# The shipped networks and the names of their labels 1, 2, ...; read without torch.
TARGETS = {
    "tis-hippocampus": ("anterior", "posterior"),
    "tis-cardiac": ("RV", "myocardium", "LV cavity"),
    "tis-atrium": ("left atrium",),
}


def read_spacing(path: Path) -> tuple[float, ...] | None:
    """The spacing, mm (k, j, i), at which a .safetensors file's network works, read without torch; None of any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            about = file.get_tensor("about")
        return tuple(json.loads(bytes(about.astype("uint8")))["spacing"])
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
