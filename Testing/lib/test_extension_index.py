"""What the Extensions Index asks of an extension, as its own checker does, but without the network."""
from __future__ import annotations

import ast
import json
import re
import struct
from pathlib import Path

import pytest

from InteractiveSegLib.models import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
ENTRY = ROOT / "Resources" / "InteractiveSeg.json"
# Of the index's schema 1.0.1, which allows no other keys.
REQUIRED, OPTIONAL = {"$schema", "category", "scm_url"}, {
    "scm_revision", "scm_type", "build_dependencies", "build_subdirectory", "dicom_support_rule", "enabled", "tier",
}
CATEGORIES = {"Segmentation", "Registration", "Informatics", "IGT", "Quantification", "Utilities"}


@pytest.fixture(scope="module")
def entry():
    return json.loads(ENTRY.read_text(encoding="utf8"))


@pytest.fixture(scope="module")
def cmake():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf8")
    return dict(re.findall(r'set\(EXTENSION_(\w+) "(.*?)"\)', text))


def png_size(path):
    data = path.read_bytes()[:24]
    assert data[:8] == b"\x89PNG\r\n\x1a\n", f"{path} is no PNG"
    return struct.unpack(">II", data[16:24])


def in_repository(url):
    """The file of this checkout that a raw address leads to."""
    return ROOT / url.split("/main/", 1)[1]


def test_the_entry_has_the_keys_of_the_schema_and_no_other(entry):
    assert entry.keys() >= REQUIRED
    assert entry.keys() <= REQUIRED | OPTIONAL
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert entry["category"] in CATEGORIES
    assert entry["tier"] in range(1, 6)
    assert entry["build_subdirectory"] == "."


def test_extension_and_repository_are_named_as_the_index_wants(entry, cmake):
    name = ENTRY.stem
    assert not name.lower().startswith("slicer")
    repository = entry["scm_url"].rsplit("/", 1)[1]
    assert re.fullmatch(rf"Slicer{name}\.git", repository)
    assert entry["scm_url"].startswith("https://github.com/")
    assert cmake["HOMEPAGE"] + ".git" == entry["scm_url"]
    assert re.search(rf"^project\({name}\b", (ROOT / "CMakeLists.txt").read_text(encoding="utf8"), re.MULTILINE)


def test_entry_and_cmake_agree(entry, cmake):
    assert entry["category"] == cmake["CATEGORY"]
    assert entry["build_dependencies"] == cmake["DEPENDS"].split()


def test_icon_and_screenshots_are_pictures_of_this_repository(cmake):
    assert png_size(in_repository(cmake["ICONURL"])) == (128, 128)
    assert in_repository(cmake["ICONURL"]).with_suffix(".svg").is_file(), "the drawing itself is kept"
    screenshots = cmake["SCREENSHOTURLS"].split()
    assert screenshots
    for url in screenshots:
        assert url.startswith("https://raw.githubusercontent.com/")
        width, height = png_size(in_repository(url))
        assert min(width, height) >= 200


def test_the_description_is_one_or_two_plain_sentences(cmake):
    assert 40 < len(cmake["DESCRIPTION"]) < 300
    assert 1 <= len(re.findall(r"\.(?:\s|$)", cmake["DESCRIPTION"])) <= 2


def test_licence_and_readme_have_what_reviewers_look_for():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf8")
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    for words in ("Apache-2.0", "not for clinical", "Sample Data", "Cite", "![", "Troubleshooting", "Keys", "tour"):
        assert words in readme, words


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_the_readme_says_how_to_cite_the_paper_of_every_family(family):
    citations = (ROOT / "README.md").read_text(encoding="utf8").split("## Licences and citations")[1]
    assert family.title.split("-UNet")[0] in citations


def test_the_module_names_its_people_help_and_sources():
    tree = ast.parse((ROOT / "InteractiveSeg" / "InteractiveSeg.py").read_text(encoding="utf8"))
    assigned = {ast.unparse(node.targets[0]) for node in ast.walk(tree) if isinstance(node, ast.Assign)}
    for name in ("title", "categories", "contributors", "helpText", "acknowledgementText", "icon"):
        assert f"self.parent.{name}" in assigned


@pytest.mark.parametrize("path", sorted((ROOT / "InteractiveSeg").rglob("*.py")), ids=lambda p: p.name)
def test_nothing_is_installed_downloaded_or_shown_while_a_file_is_imported(path):
    tree = ast.parse(path.read_text(encoding="utf8"))
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            continue
        called = {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}
        assert not {name for name in called if re.search(r"pip|download|urlopen|Display|subprocess|selectModule", name)}
    assert "pip install torch" not in path.read_text(encoding="utf8"), "torch comes through the PyTorch extension"


def test_no_line_of_the_extension_opens_a_connection():
    for path in (ROOT / "InteractiveSeg").rglob("*.py"):
        text = path.read_text(encoding="utf8")
        assert not re.search(r"urlopen|requests\.|socket\.|urlretrieve|http\.client", text), path


def test_every_test_that_the_readme_names_exists():
    readme = (ROOT / "README.md").read_text(encoding="utf8")
    named = set(re.findall(r"`(test_\w+)`", readme))
    sources = "\n".join(path.read_text(encoding="utf8") for path in (ROOT / "Testing").rglob("test_*.py"))
    assert len(named) >= 25
    assert not {name for name in named if f"def {name}(" not in sources}
