"""Stand-in for the module through which Python makes and registers effects in Slicer."""
from __future__ import annotations

from scripted_effect import ScriptedEffectDouble


class qSlicerSegmentEditorScriptedEffect(ScriptedEffectDouble):
    """What an effect's clone() must return."""


class qSlicerSegmentEditorEffectFactory:
    """The list of registered effects, by name; a second effect of the same name is refused."""

    _instance = None

    @classmethod
    def instance(cls):
        cls._instance = cls._instance or cls()
        return cls._instance

    def __init__(self):
        self.registered = {}

    def registerEffect(self, scripted_effect):
        if scripted_effect.name in self.registered:
            return False
        if not callable(getattr(scripted_effect.self(), "clone", None)):
            raise TypeError(f"{scripted_effect.name} has no clone(): Slicer prints an error and never shows the effect")
        self.registered[scripted_effect.name] = scripted_effect
        return True
