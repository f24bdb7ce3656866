"""Stand-in for slicer.ScriptedLoadableModule: the base classes a module file imports, and the objects Slicer hands to it."""
from __future__ import annotations

import sys
import types
import unittest

import qt
from strict import Strict


class ModuleDouble(Strict):
    """qSlicerScriptedLoadableModule: what the module's `parent` is."""

    QT_CLASS = "qSlicerScriptedLoadableModule"
    PROPERTIES = {
        "title": str,
        "categories": tuple,
        "dependencies": tuple,
        "contributors": tuple,
        "helpText": str,
        "acknowledgementText": str,
        "icon": qt.QIcon,
        "hidden": bool,
    }

    def __init__(self):
        self._values = {}


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        self.parent = parent or qt.QWidget()
        self.layout = qt.QVBoxLayout(self.parent)

    def setup(self):
        pass


class ScriptedLoadableModuleLogic:
    pass


class ScriptedLoadableModuleTest(unittest.TestCase):
    pass


def install():
    """Make `from slicer.ScriptedLoadableModule import ...` work."""
    module = types.ModuleType("slicer.ScriptedLoadableModule")
    for cls in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(module, cls.__name__, cls)
    sys.modules[module.__name__] = module
