"""The module file: it loads without torch, registers its effects at Slicer's start, and its page works."""
from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import qt
import scripted_module
import slicer
from InteractiveSegBridge import install
from InteractiveSegBridge.resources import resource_path

from InteractiveSegLib import InteractiveSegError, phantoms
from InteractiveSegLib import weights as weight_files


@pytest.fixture()
def module_file(application):
    """InteractiveSeg.py, loaded as Slicer loads it."""
    scripted_module.install()
    sys.modules.pop("InteractiveSeg", None)
    path = list(sys.path)
    yield importlib.import_module("InteractiveSeg")
    sys.path[:] = path


@pytest.fixture()
def a_page(module_file):
    page = module_file.InteractiveSegWidget()
    page.setup()
    return page


def test_the_effects_are_registered_when_slicer_has_started_and_not_before(module_file, application):
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    parent = scripted_module.ModuleDouble()
    module_file.InteractiveSeg(parent)
    registered = effects.qSlicerSegmentEditorEffectFactory.instance().registered
    assert registered == {}
    slicer.app.start()
    assert list(registered) == ["InteractiveClick", "InteractiveScribble", "InteractiveBox", "InteractiveLasso"]
    assert not parent.icon.isNull()
    assert parent.title == "Interactive Segmentation"


def test_the_sample_data_module_offers_images_that_are_made_here(module_file, application, monkeypatch):
    offered = []
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **fields: offered.append(fields))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    module_file.register_effects()
    assert [source["sampleDescription"] for source in offered] == [
        "Generated abdomen CT", "Generated head MR", "Generated heart MR",
    ]
    assert {source["uris"] for source in offered} == {"generated"}, "nothing is downloaded"
    make = phantoms.make_volume
    monkeypatch.setattr(phantoms, "make_volume", lambda name, seed: make(name, seed, 0.3))
    [volume] = offered[2]["customDownloader"](None)
    assert volume.GetName() == "Generated heart MR"
    assert slicer.util.arrayFromVolume(volume).std() > 0


def test_each_effect_in_the_editor_is_a_clone_with_its_own_class_icon_and_help(a_stage, registered):
    classes = {type(editor.effect).__name__ for editor in a_stage.editor.values()}
    assert classes == {f"Interactive{kind}Effect" for kind in ("Click", "Scribble", "Box", "Lasso")}
    for name, editor in a_stage.editor.items():
        assert editor.scripted is not registered[name]
        assert not editor.effect.icon().pixmap(32, 32).isNull()
        assert "left" in editor.scripted.self().helpText().lower()


def test_an_effect_that_slicer_cannot_load_is_reported(application, monkeypatch):
    import InteractiveSegEffects

    monkeypatch.delattr(InteractiveSegEffects, "InteractiveBoxEffect")
    with pytest.raises(InteractiveSegError, match="could not load the effect InteractiveBoxEffect"):
        InteractiveSegEffects.register_effects()


def test_loading_the_extension_imports_neither_torch_nor_other_heavy_packages():
    code = """
import sys
sys.path[:0] = sys.argv[1:]
import qtshim, qt
application = qt.QApplication([])
import headless, scripted_module
headless.install()
scripted_module.install()
import InteractiveSeg
InteractiveSeg.register_effects()
print(*({"torch", "skimage", "scipy", "matplotlib", "SimpleITK"} & set(sys.modules)))
"""
    root = Path(__file__).resolve().parents[3]
    folders = [str(Path(__file__).resolve().parent / "doubles"), str(root / "InteractiveSeg")]
    done = subprocess.run([sys.executable, "-c", code, *folders], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_the_page_opens_in_a_python_that_has_numpy_alone():
    code = """
import sys
sys.path[:0] = sys.argv[1:]
import qtshim, qt
application = qt.QApplication([])
for name in ("torch", "scipy", "skimage", "matplotlib", "SimpleITK", "pydicom", "highdicom", "safetensors"):
    sys.modules[name] = None
import headless, scripted_module, segment_editor, slicer
headless.install()
slicer.qMRMLSegmentEditorWidget = segment_editor.SegmentEditorWidgetDouble
scripted_module.install()
import InteractiveSeg
InteractiveSeg.register_effects()
page = InteractiveSeg.InteractiveSegWidget()
page.setup()
page.enter()
print(page.studyPlace.title)
page.onDiagnose()
print(page.report.plainText.count("MISSING"))
"""
    root = Path(__file__).resolve().parents[3]
    folders = [str(Path(__file__).resolve().parent / "doubles"), str(root / "InteractiveSeg")]
    done = subprocess.run([sys.executable, "-c", code, *folders], check=True, capture_output=True, text=True)
    title, missing = done.stdout.splitlines()[-2:]
    assert title.startswith("Study (needs safetensors, ")
    assert int(missing) >= 8


def test_the_diagnosis_names_versions_and_weights(a_page):
    a_page.diagnoseButton.click()
    text = a_page.report.plainText
    for word in ("Slicer 5.8.1", "Python", "torch: installed", "safetensors: installed", "Weights in"):
        assert word in text


def test_the_diagnosis_tells_nothing_of_proxy_addresses(a_page, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://name:secret@proxy.example:3128")
    a_page.diagnoseButton.click()
    assert "Proxy: https" in a_page.report.plainText
    assert "secret" not in a_page.report.plainText


def test_a_page_that_was_there_before_the_effects_gets_them_when_slicer_has_started(module_file, application):
    slicer.app.connect("startupCompleted()", module_file.register_effects)  # what Slicer's list of modules does first
    page = module_file.InteractiveSegWidget()
    page.setup()
    page.enter()
    assert page.editor.effectByName("InteractiveClick") is None
    application.status.clear()
    slicer.app.start()
    page.editor.setActiveEffectByName("InteractiveClick")
    panel = page.editor.activeEffect().self().panel
    assert (panel.family, panel.brushPixels) == ("scribbleprompt", 5)
    page.exit()


def test_monai_is_installed_without_the_torch_that_it_would_bring(a_page, monkeypatch):
    have, given = {"torch"} | set(install._requirement_names()) - {"monai", "scipy"}, []
    monkeypatch.setattr(install, "_installed", lambda name: name in have)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    monkeypatch.setattr(slicer.util, "pip_install", lambda arguments: given.append(arguments))
    a_page.installButton.click()
    assert [call for call in given if any(part.startswith("monai") for part in call)] == [["--no-deps", "monai>=1.3"]]
    assert any("scipy>=1.9" in call for call in given)


def test_the_list_of_packages_names_all_that_the_library_imports_inside_slicer():
    """Training, evaluation and the commands are not run there; PIL comes with matplotlib."""
    library, given = Path(install.__file__).parents[2] / "InteractiveSegLib", {"numpy", "torch", "PIL"}
    elsewhere = ("training", "evaluation", "cli")
    files = [path for path in library.rglob("*.py") if path.relative_to(library).parts[0] not in elsewhere]
    imported = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Import):
                imported.update(name.name.split(".")[0] for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    listed = {install.IMPORT_NAMES.get(name, name) for name in install._requirement_names()}
    assert imported - set(sys.stdlib_module_names) - given - {"InteractiveSegLib"} <= listed


def test_without_the_pytorch_extension_the_button_says_how_to_get_it(a_page, application, monkeypatch):
    monkeypatch.setattr(install, "_installed", lambda name: name != "torch")
    a_page.installButton.click()
    assert "install 'PyTorch' in the Extensions Manager" in application.dialogs[0]


def test_missing_packages_are_installed_only_after_the_user_agrees(a_page, application, monkeypatch):
    have, asked, installed = {"torch"} | set(install._requirement_names()) - {"safetensors", "scikit-image"}, [], []

    def pip_install(requirements):
        installed.extend(requirements)
        have.update(name.split(">=")[0] for name in requirements)

    monkeypatch.setattr(install, "_installed", lambda name: name in have)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: asked.append(text) or len(asked) > 1)
    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    a_page.installButton.click()
    assert installed == []
    assert "declined" in application.dialogs[0]
    a_page.installButton.click()
    assert {"safetensors", "scikit-image"} <= {name.split(">=")[0] for name in installed}
    assert len(application.dialogs) == 1


@pytest.mark.parametrize(("version", "missing"), [("0.3.9", ["safetensors"]), ("0.10.1", []), ("0.4", []), ("1.0rc1", [])])
def test_a_package_that_is_too_old_counts_as_missing(monkeypatch, version, missing):
    real = install.importlib.metadata.version
    versions = {"safetensors": version, "torch": "2.13.0+cu128"}
    monkeypatch.setattr(install, "_installed", lambda name: True)
    monkeypatch.setattr(install.importlib.metadata, "version", lambda name: versions.get(name) or real(name))
    assert install.missing_packages() == missing


def test_an_old_torch_is_to_be_taken_out_in_its_own_module(a_page, application, monkeypatch):
    real = install.importlib.metadata.version
    monkeypatch.setattr(install.importlib.metadata, "version", lambda name: "2.4.1" if name == "torch" else real(name))
    a_page.installButton.click()
    assert "This torch is older than 2.6: uninstall it in the module 'PyTorch Utils'" in application.dialogs[0]


def test_while_packages_are_installed_the_page_says_where_to_watch(a_page, monkeypatch):
    said = []
    monkeypatch.setattr(install, "_installed", lambda name: name != "safetensors")
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    monkeypatch.setattr(slicer.util, "pip_install", lambda requirements: said.append(a_page.report.plainText))
    a_page.installButton.click()
    assert "The Python console shows how far it is" in said[0]
    assert "safetensors: MISSING" in a_page.report.plainText, "the diagnosis follows"


def test_in_a_slicer_without_the_packages_the_page_still_opens_and_says_what_is_missing(module_file, monkeypatch):
    have = {"torch"} | set(install._requirement_names()) - {"highdicom"}
    monkeypatch.setattr(install, "_installed", lambda name: name in have)
    page = module_file.InteractiveSegWidget()
    page.setup()
    page.enter()
    assert page.studyPanel is None
    assert "needs highdicom" in page.studyPlace.title
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    monkeypatch.setattr(slicer.util, "pip_install", lambda requirements: have.add("highdicom"))
    page.installButton.click()
    assert page.studyPanel is not None
    assert page.studyPlace.title == "Study"
    page.exit()


@pytest.fixture()
def an_offline_folder(tmp_path, monkeypatch):
    """A folder with wheels and the shipped weights, for an installation whose own weights are gone."""
    own, offline = tmp_path / "own", tmp_path / "offline"
    offline.mkdir()
    shutil.copytree(weight_files.weights_folder(), own)
    shutil.copytree(own, offline / "models")
    for entry in weight_files.read_manifest():
        (own / entry["file"]).unlink(missing_ok=True)
    (offline / "safetensors-1.whl").write_bytes(b"wheel")
    monkeypatch.setenv("INTERACTIVESEG_MODELS", str(own))
    return offline


def test_an_offline_folder_brings_wheels_and_weights(a_page, application, monkeypatch, an_offline_folder):
    have, given = {"torch"} | set(install._requirement_names()) - {"safetensors"}, []
    monkeypatch.setattr(install, "_installed", lambda name: name in have)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    monkeypatch.setattr(slicer.util, "pip_install", lambda arguments: given.extend(arguments) or have.add("safetensors"))
    assert a_page.logic.installFrom(str(an_offline_folder)) == ""
    assert given[:3] == ["--no-index", "--find-links", str(an_offline_folder)]
    assert [name.split(">=")[0] for name in given[3:]] == ["safetensors"], "only what is missing"
    for entry in weight_files.read_manifest():
        assert weight_files.sha256(weight_files.weights_folder() / entry["file"]) == entry["sha256"]


def test_a_weight_file_that_is_not_the_listed_one_is_not_taken(a_page, monkeypatch, an_offline_folder):
    monkeypatch.setattr(install, "missing_packages", list)
    (an_offline_folder / "safetensors-1.whl").unlink()
    for path in (an_offline_folder / "models").glob("*.safetensors"):
        path.write_bytes(b"something else")
    assert "neither wheels (*.whl) nor weights that this version knows" in a_page.logic.installFrom(str(an_offline_folder))


def test_a_missing_icon_is_an_error_and_not_an_empty_button():
    with pytest.raises(FileNotFoundError, match=r"Icons/Nothing\.png"):
        resource_path("Icons/Nothing.png")
    assert qt.QIcon(str(resource_path("Icons/InteractiveSeg.png"))).pixmap(128, 128).width() == 128
