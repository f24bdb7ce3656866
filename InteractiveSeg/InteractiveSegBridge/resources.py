"""Where this extension keeps its icons and lists, in a checkout and in an installed package."""
from __future__ import annotations

from pathlib import Path


def resource_path(name: str) -> Path:
    """Full path of a file of the folder Resources, e.g. "Icons/InteractiveSeg.png".

    A checkout has Resources beside the module's folder, a package beside the module's file. Qt takes a missing icon
    without a word, so this does not.
    """
    module_folder = Path(__file__).resolve().parents[1]
    for root in (module_folder, module_folder.parent):
        if (root / "Resources" / name).is_file():
            return root / "Resources" / name
    raise FileNotFoundError(f"Resources/{name} is neither in {module_folder} nor beside it: reinstall the extension.")
