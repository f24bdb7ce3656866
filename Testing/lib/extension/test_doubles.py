"""The doubles refuse what Slicer refuses, and our code uses no name that Slicer does not have (contract.json)."""
from __future__ import annotations

import ast
from pathlib import Path

import pytest
import qSlicerSegmentationsEditorEffectsPythonQt as effects
import qt
import slicer
from PySide6 import QtCore
from scripted_effect import EffectInEditor, ScriptedEffectDouble
from scripted_module import ModuleDouble
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slice_widget import SliceViewDouble, SliceWidgetDouble
from strict import CONTRACT

SOURCES = sorted((Path(__file__).resolve().parents[3] / "InteractiveSeg").rglob("*.py"))


def attributes_of(owner: str) -> set[str]:
    """Names that our code reads from anything called `owner`, e.g. `self.scriptedEffect.NAME`."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in (owner, f"self.{owner}"):
                found.add(node.attr)
    return found


@pytest.mark.parametrize("double", [ScriptedEffectDouble, SliceWidgetDouble, SliceViewDouble, ModuleDouble])
def test_a_double_has_no_name_that_the_real_class_lacks(double):
    own = {name for name in vars(double) if not name.startswith("_") and name not in ("QT_CLASS", "PROPERTIES")}
    assert own | set(double.PROPERTIES) <= set(CONTRACT[double.QT_CLASS]) | {"className"}


@pytest.mark.parametrize(("owner", "real"), [
    ("scriptedEffect", "qSlicerSegmentEditorScriptedEffect"),
    ("scripted_effect", "qSlicerSegmentEditorScriptedEffect"),
    ("viewWidget", "qMRMLSliceWidget"),
    ("editor", "qMRMLSegmentEditorWidget"),
    ("parent", "qSlicerScriptedLoadableModule"),
])
def test_our_code_uses_only_names_that_slicer_has(owner, real):
    node_methods = set(dir(slicer.vtkMRMLSegmentEditorNode)) if owner == "editor" else set()
    used = attributes_of(owner) - node_methods
    assert used, f"nothing of {owner} is used: the test looks at the wrong name"
    assert used <= set(CONTRACT[real]) | {"className"}


def test_qt_names_are_properties_methods_and_signals_as_in_slicer(qt_application):
    for name in sorted(set(CONTRACT) & set(vars(qt))):
        obj = getattr(qt, name)()
        for member, kind in CONTRACT[name].items():
            if kind == "signal":
                assert obj.connect(member, lambda *_: None), f"{name}.{member}"
            else:
                assert callable(getattr(obj, member)) is (kind == "method"), f"{name}.{member}"


def test_qt_refuses_what_pythonqt_refuses(qt_application, capfd):
    button, combo, timer = qt.QPushButton("Go"), qt.QComboBox(), qt.QTimer()
    for statement, error in (
        ("button.txt = 'x'", AttributeError),
        ("button.width = 5", AttributeError),
        ("button.setText = 1", AttributeError),
        ("button.text()", TypeError),
        ("button.setText(text='x')", ValueError),
        ("qt.QPushButton(text='x')", ValueError),
        ("combo.currentIndex = 'two'", AttributeError),
        ("combo.count()", TypeError),
        ("timer.singleShot = True", AttributeError),
        ("qt.QThread", AttributeError),
        ("qt.Qt.AlignmentFlag.AlignLeft", AttributeError),
    ):
        with pytest.raises(error):
            exec(statement, {"button": button, "combo": combo, "timer": timer, "qt": qt})
    assert button.connect("clicked", print) is False
    assert "does not exist" in capfd.readouterr().err
    button.text = 5
    assert button.text == "5"


def test_a_signal_gives_a_slot_only_as_many_arguments_as_it_takes(qt_application):
    button, heard = qt.QPushButton("Go"), []
    button.checkable = True
    button.connect("clicked()", lambda: heard.append("clicked"))
    button.connect("toggled(bool)", heard.append)
    button.click()
    assert sorted(map(str, heard)) == ["True", "clicked"]


class Small(AbstractScriptedSegmentEditorEffect):
    """As little as an effect can be."""

    answer = True

    def clone(self):
        copy = effects.qSlicerSegmentEditorScriptedEffect(None)
        copy._python = type(self)(copy)
        return copy

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
        return self.answer


@pytest.fixture()
def a_small_effect(application):
    def make(cls=Small):
        logic = slicer.vtkSlicerSegmentEditorLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
        registered = effects.qSlicerSegmentEditorScriptedEffect(None)
        registered._python = cls(registered)
        return EffectInEditor(registered, logic)

    return make


@pytest.mark.parametrize(("value", "text"), [(5, "5"), (5.0, "5"), (1 / 3, "0.333333"), (True, "True"), (None, "None")])
def test_numbers_become_text_as_in_qt(a_small_effect, value, text):
    scripted = a_small_effect().scripted
    scripted.setCommonParameter("P", value)
    assert scripted.parameter("P") == text


def test_an_effect_without_clone_is_refused(application):
    class NoClone(AbstractScriptedSegmentEditorEffect):
        pass

    scripted = effects.qSlicerSegmentEditorScriptedEffect(None)
    scripted._python = NoClone(scripted)
    with pytest.raises(TypeError, match="no clone"):
        scripted._python.register()


def test_only_a_real_true_stops_an_event_and_anything_but_a_bool_is_an_error(a_small_effect, application, no_hidden_error):
    editor = a_small_effect()
    view = SliceWidgetDouble(application.application_logic, application.scene, "Red")
    editor.observe(view)
    editor.activate()
    interactor, seen = view.sliceView().interactor(), []
    interactor.AddObserver("LeftButtonPressEvent", lambda *_: seen.append(1), 0.0)
    for answer, stops, wrong in ((True, True, False), (False, False, False), (1, False, True), (None, False, True)):
        editor.effect.answer = answer
        seen.clear()
        interactor.InvokeEvent("LeftButtonPressEvent")
        assert (not seen, bool(no_hidden_error)) == (stops, wrong), answer
        no_hidden_error.clear()


def test_the_effect_double_refuses_what_slicer_refuses(a_small_effect):
    scripted = a_small_effect().scripted
    for statement, error in (
        ("e.addOptionsWidget(None)", ValueError),
        ("e.foo = 1", AttributeError),
        ("e.commonParameter", AttributeError),
        ("e.rasToXy", NotImplementedError),
        ("e.modifySegmentByLabelmap(None, 'A', None, 1)", TypeError),
        ("e.addActor2D(None, None)", ValueError),
    ):
        with pytest.raises(error):
            exec(statement, {"e": scripted})
    assert isinstance(scripted.optionsFrame(), QtCore.QObject)
