"""In the application: the effects are in the Segment Editor, with their icons, once Slicer has started."""
from __future__ import annotations

import unittest

import slicer


class RegistrationTestCase(unittest.TestCase):
    """Needs no window: a Segment Editor widget of its own lists the registered effects."""

    def setUp(self):
        slicer.mrmlScene.Clear(0)
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.setMRMLScene(slicer.mrmlScene)
        self.editor.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))

    def tearDown(self):
        self.editor.setMRMLSegmentEditorNode(None)

    def test_the_module_is_loaded(self):
        self.assertIn("InteractiveSeg", slicer.util.moduleNames())

    def test_every_effect_is_in_the_segment_editor(self):
        import InteractiveSegEffects

        names = {effect.NAME for effect in InteractiveSegEffects.EFFECTS}
        self.assertLessEqual(names, set(self.editor.availableEffectNames()))

    def test_every_effect_has_help_and_an_icon_file(self):
        import InteractiveSegEffects
        from InteractiveSegBridge.resources import resource_path

        for effect in InteractiveSegEffects.EFFECTS:
            self.assertTrue(resource_path(f"Icons/{effect.NAME}.png").is_file())
            self.assertIn("<html>", self.editor.effectByName(effect.NAME).helpText())
