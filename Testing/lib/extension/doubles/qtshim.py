"""Stand-in for Slicer's `qt` module on top of PySide6: it accepts what PythonQt accepts and refuses what PythonQt refuses.

Measured against Slicer 5.8.1 (Qt 5.15): properties are attributes beside their setters, signals are connected by text,
no method takes keyword arguments, and a misspelt property is an error. Importing this module installs `qt`.
"""
from __future__ import annotations

import inspect
import os
import sys
import types

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
from PySide6 import QtCore, QtGui, QtWidgets
from strict import refuse_keywords

ABSENT = {"QThread", "QTest"}  # what PythonQt in Slicer does not wrap
HIDDEN_PROPERTIES = {"singleShot"}  # hidden by a slot of the same name: only the setter works
TEXT_SETTERS = {"setText", "setTitle", "setToolTip", "setWindowTitle", "addItem"}
NOT_TEXT = (str, QtCore.QObject, QtGui.QIcon, QtWidgets.QListWidgetItem)
NUMBER_SETTERS = {"setValue", "setMinimum", "setMaximum", "setInterval", "setCurrentIndex"}
_property_tables = {}


def _properties(obj):
    """{name: (type name, writable)} of the real Qt class."""
    meta = QtCore.QObject.metaObject(obj)
    if meta.className() not in _property_tables:
        found = (meta.property(index) for index in range(meta.propertyCount()))
        _property_tables[meta.className()] = {
            p.name(): (p.typeName(), p.isWritable()) for p in found if p.name() not in HIDDEN_PROPERTIES
        }
    return _property_tables[meta.className()]


def _converted(name, type_name, value):
    """The value as PythonQt would store it, or its refusal."""
    number_wanted = type_name in ("int", "uint", "double", "float")
    if type_name == "QString":
        return str(value)
    if type_name == "bool":
        return bool(value)
    if number_wanted and (isinstance(value, str) or not hasattr(value, "__float__")):
        raise AttributeError(f"Property '{name}' of type '{type_name}' does not accept {type(value).__name__} ({value!r})")
    if type_name.startswith("Q") and isinstance(value, (str, int, float, tuple, list, type(None))):
        raise AttributeError(f"Property '{name}' of type '{type_name}' does not accept {type(value).__name__} ({value!r})")
    return int(value) if type_name in ("int", "uint") else float(value) if number_wanted else value


def _signals(obj):
    meta = QtCore.QObject.metaObject(obj)
    methods = (meta.method(index) for index in range(meta.methodCount()))
    return [
        m.methodSignature().data().decode() for m in methods if m.methodType() == QtCore.QMetaMethod.MethodType.Signal
    ]


def _connect(obj, text, slot):
    """True, or False and a line on stderr when there is no such signal: PythonQt raises nothing."""
    wanted = QtCore.QMetaObject.normalizedSignature(text).data().decode()
    if wanted not in _signals(obj):
        print(f"PythonQt: signal '{text}' does not exist on {type(obj).__name__}", file=sys.stderr)
        return False
    name, arguments = wanted[:-1].split("(", 1)
    given = len(arguments.split(",")) if arguments else 0
    taken = _arguments_taken(slot)
    count = given if taken is None else min(given, taken)
    signal = QtCore.QObject.__getattribute__(obj, name)
    if name == "clicked" or not given:
        types_wanted = ()
    else:
        kinds = {"int": int, "bool": bool, "double": float, "QString": str}
        types_wanted = tuple(kinds[a] for a in arguments.split(",") if a in kinds)
    if types_wanted and len(_overloads(obj, name)) > 1:
        signal = signal[types_wanted]

    def call(*args):
        slot(*args[:count])  # surplus arguments are cut

    signal.connect(call)
    obj.__dict__.setdefault("_connections", []).append((wanted, slot, signal, call))
    return True


def _overloads(obj, name):
    return [signature for signature in _signals(obj) if signature.split("(")[0] == name]


def _arguments_taken(slot):
    """How many positional arguments a Python slot takes; None for any number."""
    parameters = inspect.signature(slot).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _disconnect(obj, text, slot):
    wanted = QtCore.QMetaObject.normalizedSignature(text).data().decode()
    for entry in obj.__dict__.get("_connections", []):
        if entry[0] == wanted and entry[1] == slot:
            entry[2].disconnect(entry[3])
            obj.__dict__["_connections"].remove(entry)
            return True
    return False


class Mixin:
    """PythonQt's way of reading and writing attributes, in front of a PySide6 class."""

    def __init__(self, *args, **keywords):
        refuse_keywords(type(self).__name__, keywords)
        super().__init__(*args)

    def __getattribute__(self, name):
        if name.startswith("_"):
            return super().__getattribute__(name)
        if name == "connect":
            return lambda signal, slot: _connect(self, signal, slot)
        if name == "disconnect":
            return lambda signal, slot: _disconnect(self, signal, slot)
        if name == "className":
            return lambda: type(self).__name__
        if name in _properties(self):
            value = QtCore.QObject.property(self, name)
            return int(value.value) if hasattr(type(value), "__members__") else value
        value = super().__getattribute__(name)
        return _Method(name, value) if callable(value) and not isinstance(value, QtCore.SignalInstance) else value

    def __setattr__(self, name, value):
        if name.startswith("_"):
            return super().__setattr__(name, value)
        if name in _properties(self):
            type_name, writable = _properties(self)[name]
            if not writable:
                raise AttributeError(f"Property '{name}' of {type(self).__name__} object is not writable")
            QtCore.QObject.setProperty(self, name, _converted(name, type_name, value))
            return None
        if hasattr(type(self), name):
            raise AttributeError(f"Slot/Signal '{name}' can not be overwritten on {type(self).__name__} object")
        raise AttributeError(
            f"'{name}' does not exist on {type(self).__name__} and creating new attributes on C++ objects is not allowed"
        )


class _Method:
    """A C++ method: positional arguments only; numbers become text where text is asked for, and floats whole numbers."""

    def __init__(self, name, function):
        self._name, self._function = name, function

    def __call__(self, *args, **keywords):
        refuse_keywords(self._name, keywords)
        if self._name in TEXT_SETTERS and args and not isinstance(args[0], NOT_TEXT):
            args = (str(args[0]), *args[1:])
        if self._name in NUMBER_SETTERS and len(args) == 1 and isinstance(args[0], float):
            args = (int(args[0]),)
        try:
            result = self._function(*args)
        except TypeError as error:
            raise ValueError(f"Called {self._name}(...) with wrong arguments: {args!r}") from error
        return tuple(result) if isinstance(result, list) else result


class _Unscoped:
    """Qt 5 enums: qt.Qt.AlignLeft exists, qt.Qt.AlignmentFlag.AlignLeft does not."""

    def __getattr__(self, name):
        value = getattr(QtCore.Qt, name)
        if isinstance(value, type):
            raise AttributeError(f"type object '{name}': use the unscoped name")
        return value


def _install():
    qt = types.ModuleType("qt")
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):
            cls = getattr(module, name)
            if not name.startswith("Q") or name in ABSENT:
                continue
            if isinstance(cls, type) and issubclass(cls, (QtWidgets.QWidget, QtWidgets.QLayout, QtCore.QTimer)):
                cls = type(name, (Mixin, cls), {"__module__": "qt"})
            setattr(qt, name, cls)
    qt.Qt = _Unscoped()
    sys.modules["qt"] = qt


_install()
