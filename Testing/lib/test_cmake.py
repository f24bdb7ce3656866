"""The lists in the CMake files name every file there is, or it works in a checkout and is missing in the package."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def listed(folder: str, variable: str) -> list[str]:
    """The entries of `set(variable ...)` in a folder's CMakeLists.txt."""
    text = (ROOT / folder / "CMakeLists.txt").read_text(encoding="utf8")
    body = re.search(rf"set\({variable}\s(.*?)\)", text, re.DOTALL).group(1)
    return body.split()


def on_disk(folder: str) -> list[str]:
    paths = (ROOT / folder).rglob("*.py")
    return sorted(path.relative_to(ROOT / folder).as_posix() for path in paths)


@pytest.mark.parametrize(("folder", "variable"), [
    ("InteractiveSeg", "MODULE_PYTHON_SCRIPTS"),
    ("InteractiveSegLib", "LIBRARY_PYTHON_SCRIPTS"),
])
def test_every_python_file_is_listed_once_and_every_listed_file_exists(folder, variable):
    assert sorted(listed(folder, variable)) == on_disk(folder)


def test_the_desktop_tests_are_registered():
    text = (ROOT / "Testing" / "CMakeLists.txt").read_text(encoding="utf8")
    for path in (ROOT / "Testing" / "slicer").glob("*TestCase.py"):
        assert f"slicer/{path.name}" in text


def test_the_top_level_names_what_the_extension_index_asks_for():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf8")
    values = dict(re.findall(r'set\((EXTENSION_\w+) "(.*?)"\)', text))
    for name in ("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "DEPENDS"):
        assert values[f"EXTENSION_{name}"], name
    assert values["EXTENSION_DEPENDS"] == "PyTorch", "torch comes through the PyTorch extension"
    assert (ROOT / values["EXTENSION_ICONURL"].split("/main/")[1]).is_file()
    for folder in ("InteractiveSeg", "InteractiveSegLib", "Testing"):
        assert f"add_subdirectory({folder})" in text
    assert re.search(r"file\(COPY Resources models ", text), "icons and weights travel with the modules"


def test_an_effects_file_is_named_like_its_class_and_every_effect_has_an_icon():
    for path in (ROOT / "InteractiveSeg" / "InteractiveSegEffects").glob("Interactive*.py"):
        assert path.stem.endswith("Effect")
        assert f"class {path.stem}(" in path.read_text(encoding="utf8")
        assert (ROOT / "Resources" / "Icons" / f"{path.stem[: -len('Effect')]}.png").is_file()
