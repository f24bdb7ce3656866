"""The rules of the layout, so that the tree keeps telling the architecture."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

from InteractiveSegLib.models import list_families

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = sorted((ROOT / "InteractiveSegLib").rglob("*.py"))
EXTENSION = sorted((ROOT / "InteractiveSeg").rglob("*.py"))
DESKTOP = {"slicer", "qt", "ctk", "vtk"}
LOW = {"types", "prompts", "geometry", "rasterise", "placement"}


def imported(path):
    """(level, dotted name, in a function) of every import in a file."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, id(node) in inner) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((node.level, name, id(node) in inner) for name in names)


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_the_library_never_imports_the_desktop(path):
    allowed = DESKTOP if path.name == "peers.py" else set()  # Slicer's own tools, through slicer-core, as a peer
    found = {name.split(".")[0] for level, name, _ in imported(path) if level == 0} & DESKTOP
    assert found <= allowed


@pytest.mark.parametrize("path", [p for p in LIBRARY if "models" in p.parent.parts], ids=name_of)
def test_networks_know_nothing_above_them(path):
    above = len(path.parent.relative_to(ROOT / "InteractiveSegLib").parts) + 1
    assert not {name for level, name, _ in imported(path) if level == above} - {"types", "weights", "terminology", "device"}


@pytest.mark.parametrize("path", [p for p in LIBRARY if p.stem in LOW and p.parent.name == "InteractiveSegLib"], ids=name_of)
def test_the_words_below_import_nothing_of_ours_above(path):
    assert {name for level, name, _ in imported(path) if level == 1} <= LOW


@pytest.mark.parametrize("path", EXTENSION, ids=name_of)
def test_effects_know_the_session_and_no_family(path):
    for level, name, late in imported(path):
        assert level or not name.startswith("InteractiveSegLib.models.")
        assert late or name.split(".")[0] != "torch", "Slicer loads the module before torch is installed"
    text = path.read_text(encoding="utf8")
    named = [family.name for family in list_families() if f'"{family.name}"' in text]
    assert not named, "families come from list_families()"


def test_importing_the_library_needs_no_torch_and_little_else():
    heavy = {"torch", "scipy", "skimage", "SimpleITK", "monai", "matplotlib"}
    code = f"import sys, InteractiveSegLib; print(*{heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.strip() == ""


@pytest.mark.parametrize("path", LIBRARY + EXTENSION, ids=name_of)
def test_files_and_functions_stay_small_and_silent(path):
    text = path.read_text(encoding="utf8")
    tree = ast.parse(text)
    assert text.count("\n") <= 400
    assert ast.get_docstring(tree) or not text.strip(), "a file opens by saying what it is"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno <= 60, node.name
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            assert "cli" in path.parts, "the library logs, the command prints"


def test_the_top_level_is_the_given_one():
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    allowed = {"CMakeLists.txt", "InteractiveSeg", "InteractiveSegLib", "Resources", "Testing", "models", "README.md", "LICENSE",
               "pyproject.toml", "Makefile"}
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= allowed
