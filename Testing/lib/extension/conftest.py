"""The extension under test outside of the application: slicer-core is real, Qt and the effect's C++ half are doubles."""
from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LIBRARIES = "libgl1 libegl1 libxkbcommon0 libfontconfig1 libdbus-1-3 libglib2.0-0"
left_out = ""
if importlib.util.find_spec("slicer") is None or importlib.util.find_spec("PySide6") is None:
    left_out = "slicer-core or PySide6 has no wheel for this Python: use 3.10 to 3.13"
else:
    sys.path[:0] = [str(HERE), str(HERE / "doubles"), str(ROOT / "InteractiveSeg"), str(ROOT)]
    try:
        import qtshim  # installs `qt`  # noqa: F401
    except ImportError as error:
        left_out = f"Qt's system libraries are missing ({error}): apt install {LIBRARIES}"
if left_out:
    collect_ignore_glob = ["test_*.py"]


def pytest_terminal_summary(terminalreporter):
    if left_out:
        terminalreporter.write_line(f"NOT RUN: the tests of the Slicer extension; {left_out}", yellow=True)


@pytest.fixture(scope="session")
def qt_application(tmp_path_factory):
    import qt

    settings = tmp_path_factory.mktemp("settings")  # not the user's own
    qt.QSettings.setPath(qt.QSettings.NativeFormat, qt.QSettings.UserScope, str(settings))
    return qt.QApplication.instance() or qt.QApplication([])


@pytest.fixture(autouse=True)
def no_hidden_error(monkeypatch):
    """VTK and Qt print an exception of a callback and go on: here it fails the test."""
    errors = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: errors.append(error[1]))
    yield errors
    assert not errors, errors


@pytest.fixture()
def application(qt_application, monkeypatch):
    """A fresh scene, a fresh workbench, fresh list of effects, and messages kept instead of shown."""
    import flood
    import headless
    import qSlicerSegmentationsEditorEffectsPythonQt as effects
    import segment_editor
    import slicer
    from InteractiveSegBridge import workbench as bench

    from InteractiveSegLib import models, predictors

    application = headless.install()
    application.status, application.dialogs = [], []
    monkeypatch.setattr(slicer.util, "showStatusMessage", lambda text, duration=0: application.status.append(text))
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, **_: application.dialogs.append(text))
    shipped = models.load
    monkeypatch.setitem(models.FAMILIES, "flood", flood.SPEC)
    monkeypatch.setitem(predictors.PREDICTORS, "flood", "slices:SlicePredictor")

    def load(name, *rest):
        return flood.FloodNetwork() if name == "flood" else shipped(name, *rest)

    load.cache_clear = shipped.cache_clear
    monkeypatch.setattr(models, "load", load)
    monkeypatch.setattr(effects.qSlicerSegmentEditorEffectFactory, "_instance", None)
    monkeypatch.setattr(slicer, "qMRMLSegmentEditorWidget", segment_editor.SegmentEditorWidgetDouble, raising=False)
    yield application
    if bench._shared:
        bench._shared.pop().close()


@pytest.fixture()
def registered(application):
    """The effects, registered as at Slicer's start."""
    import InteractiveSegEffects
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    InteractiveSegEffects.register_effects()
    return effects.qSlicerSegmentEditorEffectFactory.instance().registered


@pytest.fixture()
def make_stage(application, registered):
    """A stage for a volume of this geometry, with the click effect active."""
    from stage import CoreStage

    def make(ijk_to_ras=None, effect="InteractiveClick", family="flood"):
        stage = CoreStage(application, registered, ijk_to_ras)
        stage.editor_node.SetAttribute("InteractiveSeg.Model", family)
        stage.choose(effect)
        return stage

    return make


@pytest.fixture()
def a_stage(make_stage):
    return make_stage()


@pytest.fixture()
def folder(tmp_path):
    """Two cases that differ in brightness."""
    import numpy as np
    import SimpleITK as sitk
    from InteractiveSegSelfTest.phantom import phantom_array

    for number, name in enumerate("ab"):
        image = sitk.GetImageFromArray(phantom_array() + np.int16(10 * number))
        image.SetSpacing((0.7, 0.8, 2.5))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    return tmp_path


@pytest.fixture()
def make_page(application, registered, monkeypatch):
    """The module's page, entered; two of them share a view."""
    import scripted_module
    import segment_editor
    from InteractiveSegBridge.resources import resource_path
    from page_stage import PageStage
    from slice_widget import SliceWidgetDouble

    from InteractiveSegLib import acceptance

    monkeypatch.setattr(acceptance, "shipped_file", lambda name: resource_path("measured.json"))
    scripted_module.install()
    view = SliceWidgetDouble(application.application_logic, application.scene, "Red")
    monkeypatch.setattr(segment_editor.SegmentEditorWidgetDouble, "views", (view,))

    def make():
        sys.modules.pop("InteractiveSeg", None)
        page = importlib.import_module("InteractiveSeg").InteractiveSegWidget()
        page.setup()
        page.enter()
        return PageStage(page, view)

    path = list(sys.path)
    yield make
    sys.path[:] = path


@pytest.fixture()
def a_page(make_page, folder):
    """The page with the study of `folder` open."""
    stage = make_page()
    stage.open(folder)
    return stage
