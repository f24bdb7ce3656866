"""Where this extension keeps its icons, in a checkout and in an installed package."""
from __future__ import annotations

from pathlib import Path


def icon_path(name: str) -> Path:
    """Full path of a file of Resources/Icons.

    A checkout has Resources beside the module's folder, a package beside the module's file. Qt takes a missing icon
    without a word, so this does not.
    """
    package = Path(__file__).resolve().parent
    folders = [root / "Resources" / "Icons" for root in package.parents[:2]]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"The icon {name} is in none of {', '.join(map(str, folders))}: reinstall the extension.")
