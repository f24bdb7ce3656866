"""The Slicer module: registers the Segment Editor effects, explains them, installs what they need. Knows no model by name."""
from __future__ import annotations

import sys
from pathlib import Path

import qt
import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

HERE = Path(__file__).resolve().parent
# The library lies beside this file in an installed package and beside this folder in a checkout.
sys.path[:0] = [str(HERE), str(HERE if (HERE / "InteractiveSegLib").is_dir() else HERE.parent)]

HELP = """
<p>Segment with a few clicks: choose a volume and a segment in the <b>Segment Editor</b>, then one of these effects.</p>
<ul>
<li><b>Interactive click</b>: left click adds what you point at, Ctrl + left click (Cmd on macOS) removes it.</li>
<li><b>Interactive box</b>: drag a box around the object.</li>
</ul>
<p>The key <b>x</b> swaps add and remove. Undo, masking and the overwrite mode work as for every other effect.
Each prompt works in the slice you look at.</p>
<p>Not for clinical decisions.</p>
"""


class InteractiveSeg(ScriptedLoadableModule):
    """What Slicer lists."""

    def __init__(self, parent) -> None:
        from InteractiveSegBridge.resources import resource_path

        super().__init__(parent)
        self.parent.title = "Interactive Segmentation"
        self.parent.categories = ["Segmentation"]
        self.parent.dependencies = ["Segmentations", "SegmentEditor"]
        self.parent.contributors = ["The InteractiveSeg developers"]
        self.parent.helpText = HELP
        self.parent.acknowledgementText = "ScribblePrompt: H. E. Wong et al., ECCV 2024. The model cards name the training data."
        self.parent.icon = qt.QIcon(str(resource_path("Icons/InteractiveSeg.png")))
        slicer.app.connect("startupCompleted()", register_effects)


def register_effects() -> None:
    """Once, when Slicer has started: the Segment Editor's factory is not there before."""
    import InteractiveSegEffects  # imports the library, which start-up should not wait for

    InteractiveSegEffects.register_effects()


class InteractiveSegWidget(ScriptedLoadableModuleWidget):
    """A page of help with three buttons; the work itself happens in the Segment Editor."""

    def setup(self) -> None:
        super().setup()
        self.logic = InteractiveSegLogic()
        label = qt.QLabel(HELP)
        label.wordWrap = True
        self.layout.addWidget(label)
        self.openButton = self._button("Open the Segment Editor", self.onOpen)
        self.installButton = self._button("Install what prediction needs", self.onInstall)
        self.diagnoseButton = self._button("Diagnosis", self.onDiagnose)
        self.diagnoseButton.toolTip = "Versions, graphics card and weights, to paste into a forum thread"
        self.report = qt.QPlainTextEdit()
        self.report.readOnly = True
        self.layout.addWidget(self.report)
        self.layout.addStretch(1)

    def onOpen(self) -> None:
        slicer.util.selectModule("SegmentEditor")

    def onInstall(self) -> None:
        reason = self.logic.install()
        if reason:
            slicer.util.errorDisplay(reason)
        self.onDiagnose()

    def onDiagnose(self) -> None:
        self.report.setPlainText(self.logic.diagnosis())

    def _button(self, text, slot):
        button = qt.QPushButton(text)
        button.connect("clicked()", slot)
        self.layout.addWidget(button)
        return button


class InteractiveSegLogic(ScriptedLoadableModuleLogic):
    """What the page's buttons do, without the page."""

    def install(self) -> str:
        """The reason why packages could not be installed, or ''."""
        from InteractiveSegBridge.install import install_missing

        return install_missing()

    def diagnosis(self) -> str:
        """See InteractiveSegBridge.install.diagnosis."""
        from InteractiveSegBridge.install import diagnosis

        return diagnosis()


class InteractiveSegTest(ScriptedLoadableModuleTest):
    """Self-test in the application, with the shipped weights: the same assertions as the tests on slicer-core."""

    def runTest(self) -> None:  # the only test_ or runTest method: unittest would run others a second time
        from InteractiveSegSelfTest import desktop, scenarios

        for effect_name, scenario in scenarios.ALL:
            with self.subTest(scenario.__name__):
                slicer.mrmlScene.Clear(0)
                stage = desktop.DesktopStage(effect_name)
                try:
                    scenario(stage)
                finally:
                    stage.close()
