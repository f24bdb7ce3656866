"""The Slicer module: registers the Segment Editor effects, explains them, installs what they need. Knows no model by name."""
from __future__ import annotations

import logging
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
from slicer.util import VTKObservationMixin

HERE = Path(__file__).resolve().parent
# The library lies beside this file in an installed package and beside this folder in a checkout.
sys.path[:0] = [str(HERE), str(HERE if (HERE / "InteractiveSegLib").is_dir() else HERE.parent)]

EDITOR_TAG = "InteractiveSeg"  # of this page's own editor node: two editors on one node would both activate an effect
UNDO_STATES = 10
AUTOSAVE_MS = 2000  # edits by hand are in the study's journal after this long

INSTALLING = "Installing: torch alone is hundreds of megabytes. The Python console shows how far it is; wait for this page."

HELP = """
<p>Segment with a few clicks: choose a volume and a segment above or in the <b>Segment Editor</b>, then one of these
effects.</p>
<ul>
<li><b>Interactive click</b>: left click adds what you point at, Ctrl + left click (Cmd on macOS) removes it.</li>
<li><b>Interactive scribble</b>: paint through the object, with Ctrl through what is not the object.</li>
<li><b>Interactive box</b> and <b>lasso</b>: draw around the object.</li>
</ul>
<p>All four add to the same prompts. In a slice view the key <b>p</b> chooses the next tool, <b>x</b> swaps add and remove,
<b>Return</b> chooses the next segment, <b>g</b> shows or hides it, <b>a</b> starts it over. Undo, masking and the overwrite
mode work as for every other effect. Each prompt works in the slice you look at, however the view is turned.</p>
<p>For many cases: open a folder as a <b>study</b>, accept case by case, and a model that learns from examples needs fewer
prompts from case to case.</p>
<p>For research only, not for clinical decisions.</p>
"""


ACKNOWLEDGEMENT = """
<p>The networks follow ScribblePrompt (H. E. Wong et al., ECCV 2024), MultiverSeg (H. E. Wong et al., ICCV 2025), VerSe, TIS
(Liu et al., MICCAI 2022) and LIM-Net; the model cards beside the weights name the training data and their licences.</p>
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
        self.parent.acknowledgementText = ACKNOWLEDGEMENT
        self.parent.icon = qt.QIcon(str(resource_path("Icons/InteractiveSeg.png")))
        slicer.app.connect("startupCompleted()", register_effects)


def register_effects() -> None:
    """Once, when Slicer has started: the Segment Editor's factory is not there before."""
    import InteractiveSegEffects  # imports the library, which start-up should not wait for
    from InteractiveSegBridge.sample_data import register_sample_data

    InteractiveSegEffects.register_effects()
    register_sample_data()


class InteractiveSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """A page with a Segment Editor of its own, the study, the lesions, and three buttons for installation."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)

    def setup(self) -> None:
        from InteractiveSegBridge.workbench import workbench
        from InteractiveSegPanels.lesion_panel import LesionPanel

        super().setup()
        self.logic = InteractiveSegLogic()
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.setMaximumNumberOfUndoStates(UNDO_STATES)
        self.editor.setMRMLScene(slicer.mrmlScene)
        self.editor.setMRMLSegmentEditorNode(self.logic.editorNode())
        self.studyPanel = None
        self.studyPlace = qt.QGroupBox("Study")
        qt.QVBoxLayout(self.studyPlace)
        self.lesionPanel = LesionPanel(self.logic.editorNode)
        self._autosave = qt.QTimer()
        self._autosave.setInterval(AUTOSAVE_MS)
        self._autosave.connect("timeout()", self.onAutosave)
        self._entered = False
        workbench().listeners.append(self.onWork)
        for widget in (self.studyPlace, self.editor, self.lesionPanel.widget, self._installation()):
            self.layout.addWidget(widget)
        self.layout.addStretch(1)
        self._addStudy()
        slicer.app.connect("startupCompleted()", self.onStarted)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)

    def enter(self) -> None:
        self.editor.setMRMLSegmentEditorNode(self.logic.editorNode())
        self.editor.updateWidgetFromMRML()
        self.editor.setupViewObservations()
        self.editor.installKeyboardShortcuts()
        self._autosave.start()
        self._entered = True

    def exit(self) -> None:
        self._entered = False
        self._autosave.stop()
        self.onAutosave()
        self.editor.setActiveEffect(None)
        self.editor.uninstallKeyboardShortcuts()
        self.editor.removeViewObservations()

    def cleanup(self) -> None:
        from InteractiveSegBridge.workbench import workbench

        self.removeObservers()
        self._autosave.stop()
        if self.onWork in workbench().listeners:
            workbench().listeners.remove(self.onWork)
        self.editor.setMRMLSegmentEditorNode(None)

    def onSceneStartClose(self, *_) -> None:
        self.editor.setActiveEffect(None)
        self.editor.setSegmentationNode(None)
        self.editor.removeViewObservations()

    def onSceneEndClose(self, *_) -> None:
        if self.studyPanel is not None:
            self.studyPanel.sceneClosed()
        self.lesionPanel.clear()
        if self._entered:  # a page that is not shown leaves the views alone
            self.editor.setMRMLSegmentEditorNode(self.logic.editorNode())
            self.editor.setupViewObservations()

    def onStarted(self) -> None:
        """The effects are registered only now: a page that was there before, as Slicer's first module, lacks them."""
        self.editor.updateEffectList()

    def onWork(self) -> None:
        if self.studyPanel is not None:
            self.studyPanel.showProgress()

    def onAutosave(self) -> None:
        if self.studyPanel is not None:
            self.studyPanel.keep()

    def onInstall(self) -> None:
        self._sayInstalling()
        self._tell(self.logic.install())

    def onInstallOffline(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self.parent, "Folder with wheels and weights", "")
        if folder:
            self._sayInstalling()
            self._tell(self.logic.installFrom(folder))

    def onDiagnose(self) -> None:
        self.report.setPlainText(self.logic.diagnosis())

    def _sayInstalling(self) -> None:
        self.report.setPlainText(INSTALLING)
        slicer.app.processEvents()

    def _tell(self, reason: str) -> None:
        if reason:
            slicer.util.errorDisplay(reason)
        self._addStudy()
        self.onDiagnose()

    def _addStudy(self) -> None:
        """The study's panel, once the packages that it needs are there."""
        missing = [name for name in self.logic.missingPackages() if name != "torch"]  # a study can be looked at without it
        self.studyPlace.title = f"Study (needs {', '.join(missing)}: install below)" if missing else "Study"
        if missing or self.studyPanel is not None:
            return
        from InteractiveSegPanels.study_panel import StudyPanel

        self.studyPanel = StudyPanel(self.editor, self.logic.editorNode)
        self.studyPlace.layout().addWidget(self.studyPanel.widget)

    def _installation(self):
        box = qt.QGroupBox("Help and installation")
        layout = qt.QVBoxLayout(box)
        label = qt.QLabel(HELP)
        label.wordWrap = True
        layout.addWidget(label)
        offline = "For computers without internet: a folder with wheels and weights that another computer made"
        self.installButton = _button("Install what prediction needs", "Asks before it installs", self.onInstall)
        self.offlineButton = _button("Install from a folder...", offline, self.onInstallOffline)
        self.diagnoseButton = _button("Diagnosis", "Versions, memory, weights, to paste into a forum thread", self.onDiagnose)
        for button in (self.installButton, self.offlineButton, self.diagnoseButton):
            layout.addWidget(button)
        self.report = qt.QPlainTextEdit()
        self.report.readOnly = True
        layout.addWidget(self.report)
        return box


def _button(text, tip, slot):
    button = qt.QPushButton(text)
    button.toolTip = tip
    button.connect("clicked()", slot)
    return button


class InteractiveSegLogic(ScriptedLoadableModuleLogic):
    """What the page's buttons do, without the page."""

    def install(self) -> str:
        """The reason why packages could not be installed, or ''."""
        from InteractiveSegBridge.install import install_missing

        return install_missing()

    def missingPackages(self) -> list:
        """Names of the packages that are not there."""
        from InteractiveSegBridge.install import missing_packages

        return missing_packages()

    def installFrom(self, folder: str) -> str:
        """The same from a folder with wheels and weights."""
        from InteractiveSegBridge.install import install_from

        return install_from(folder)

    def editorNode(self):
        """What this page's Segment Editor shows; made again after the scene was closed."""
        node = slicer.mrmlScene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(EDITOR_TAG)
            node = slicer.mrmlScene.AddNode(node)
        return node

    def diagnosis(self) -> str:
        """See InteractiveSegBridge.install.diagnosis."""
        from InteractiveSegBridge.install import diagnosis

        return diagnosis()


class InteractiveSegTest(ScriptedLoadableModuleTest):
    """Self-test in the application, with the shipped weights: the same assertions as the tests on slicer-core."""

    def runTest(self) -> None:  # the only test_ or runTest method: unittest would run others a second time
        from InteractiveSegSelfTest import desktop, scenarios

        for effect_name, scenario, family in scenarios.cases():
            with self.subTest(f"{scenario.__name__}, {family}"):
                slicer.mrmlScene.Clear(0)
                stage = desktop.DesktopStage(effect_name, family)
                try:
                    scenario(stage)
                finally:
                    stage.close()
                logging.info("InteractiveSeg self-test: %s with %s passed", scenario.__name__, family)
        with self.subTest("study"):
            slicer.mrmlScene.Clear(0)
            logging.info("InteractiveSeg self-test: the study %s", desktop.annotate_a_study())
