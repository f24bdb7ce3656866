"""Stand-in for Slicer's package of effects: the Python base class as 5.8.1 has it, without cleanup()."""
from __future__ import annotations


class AbstractScriptedSegmentEditorEffect:
    """Holds the C++ half and registers it."""

    def __init__(self, scriptedEffect):
        self.scriptedEffect = scriptedEffect

    def register(self):
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        effects.qSlicerSegmentEditorEffectFactory.instance().registerEffect(self.scriptedEffect)
