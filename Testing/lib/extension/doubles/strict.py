"""Base of the stand-ins for Slicer's C++ objects: a name that the real class lacks is refused, with PythonQt's message.

contract.json holds the names of the real classes, read out of Slicer 5.8.1.
"""
from __future__ import annotations

import json
from pathlib import Path

CONTRACT = json.loads(Path(__file__).with_name("contract.json").read_text())


def refuse_keywords(name, keywords):
    """No Qt method takes keyword arguments in PythonQt."""
    if keywords:
        raise ValueError(f"Called {name}(...) with keyword arguments, but called slot does not support kwargs.")


class Strict:
    """No attribute beyond the properties listed; names that only the real class has raise NotImplementedError."""

    QT_CLASS = ""
    PROPERTIES = {}  # name: type, all writable

    def __setattr__(self, name, value):
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        elif name in self.PROPERTIES:
            self._values[name] = self.PROPERTIES[name](value)
        elif hasattr(type(self), name):
            raise AttributeError(f"Slot '{name}' can not be overwritten on {self.QT_CLASS} object")
        else:
            raise AttributeError(
                f"'{name}' does not exist on {self.QT_CLASS} and creating new attributes on C++ objects is not allowed"
            )

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if name in type(self).PROPERTIES:
            return self._values[name]
        if name in CONTRACT[self.QT_CLASS]:
            raise NotImplementedError(f"{self.QT_CLASS}.{name} exists in Slicer but this double does not have it")
        raise AttributeError(f"{self.QT_CLASS} has no attribute named '{name}'")

    def className(self):
        return self.QT_CLASS
