"""A folder of cases, one after the other: open, predict, correct, accept, next. The work itself is the library's Study."""
from __future__ import annotations

from pathlib import Path

import qt
import slicer
from InteractiveSegBridge import study as bridge
from InteractiveSegBridge.tasks import Cancelled, Job, Prediction
from InteractiveSegBridge.workbench import workbench

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.annotation import Study
from InteractiveSegLib.models import list_families
from InteractiveSegLib.types import counted

from .context_panel import ContextPanel
from .widgets import button, fill, label, row, table

COLUMNS = ("case", "status", "prompts", "minutes", "ml")
SETTING = "InteractiveSeg/LastStudy"  # folder, newline, structure


class StudyPanel:
    """Widgets, and one open Study. editor(): the Segment Editor widget and its node."""

    def __init__(self, editor, editor_node) -> None:
        self._editor, self._editor_node = editor, editor_node
        self.study, self.segment = None, None
        self._keeping = None  # the last task that reads or writes the study
        self.widget = qt.QWidget()
        layout = qt.QFormLayout(self.widget)
        self.folderEdit = qt.QLineEdit()
        self.folderEdit.toolTip = "A folder with one image or DICOM series for each case, at any depth"
        layout.addRow("Folder:", row(self.folderEdit, button("Choose...", "Choose the folder", self.onChoose)))
        self.taskEdit = qt.QLineEdit()
        self.taskEdit.toolTip = "The structure to segment in each case, such as: left atrium"
        layout.addRow("Structure:", self.taskEdit)
        self.familyCombo = qt.QComboBox()
        for family in list_families():
            self.familyCombo.addItem(family.title, family.name)
        layout.addRow("Model:", self.familyCombo)
        self.openButton = button("Open the study", "Results go into its folder 'annotations'", self.onOpen)
        layout.addRow(self.openButton)
        self.caseTable = table(COLUMNS)
        self.caseTable.connect("cellDoubleClicked(int,int)", self.onRow)
        layout.addRow(self.caseTable)
        self.previousButton = button("Previous", "Open the case before this one", self.onPrevious)
        self.nextButton = button("Next", "Open the case in work, else the first one to do", self.onNext)
        self.skipButton = button("Skip", "Leave this case out", self.onSkip)
        layout.addRow(row(self.previousButton, self.nextButton, self.skipButton))
        self.predictButton = button("Predict", "What the model says of the whole case, before any prompt", self.onPredict)
        self.acceptButton = button("Accept", "Keep the segment: file, table, curve, examples; open the next case", self.onAccept)
        self.cancelButton = button("Cancel", "Give up what is running", self.onCancel)
        layout.addRow(row(self.predictButton, self.acceptButton, self.cancelButton))
        self.curveButton = button("Show the curve", "Prompts for each accepted case, in Slicer's plot view", self.onCurve)
        layout.addRow(self.curveButton)
        self.progressBar = qt.QProgressBar()
        self.progressBar.setVisible(False)
        layout.addRow(self.progressBar)
        self.statusLabel = label()
        layout.addRow(self.statusLabel)
        self.contextPanel = ContextPanel(self.say, self._do)
        layout.addRow(self.contextPanel.widget)
        self._readSetting()
        self.show()

    # Buttons

    def onChoose(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self.widget, "Folder of the study", self.folderEdit.text)
        if folder:
            self.folderEdit.text = folder

    def onOpen(self) -> None:
        if self._isBusy():
            return
        folder, task, model = self.folderEdit.text, self.taskEdit.text, self.familyCombo.currentData
        self.close()
        self._keep(lambda _: Study(Path(folder), task, model=model), self._opened)

    def onRow(self, number: int, _column: int) -> None:
        self._open(self.study.cases[number].name)

    def onNext(self) -> None:
        self._open(None)

    def onPrevious(self) -> None:
        if self._isBusy():
            return
        record = self.study.previous()
        if record is None:
            self.say("This is the first case.")
        else:
            self._open(record.name)

    def onSkip(self) -> None:
        if self._caseIsOpen():
            study = self.study
            self._closeCase()
            self._keep(lambda _: study.skip(), lambda record: self.show(f"{record.name} is left out."))

    def onPredict(self) -> None:
        if not self._caseIsOpen():
            return
        effect = self._editor.effectByName(self._effectName()).self()
        axis, count = self.study.case.axis, self.segment.shape[self.study.case.axis]
        workbench().worker.submit(Prediction(self.segment, self.segment.choice, effect, axis, (0, count)))

    def onAccept(self) -> None:
        if not self._caseIsOpen():
            return
        study, segment = self.study, self.segment
        seen = segment.look(segment.choice)

        def accept(_):
            segment.catch_up(segment.choice, seen)  # what was edited by hand comes along
            return study.accept()

        self._keep(accept, self._accepted)

    def onCancel(self) -> None:
        workbench().worker.cancel()
        self.say("The study is being read or written; that goes on." if self._isBusy() else "Cancelled.")

    def onCurve(self) -> None:
        if self.study is not None:
            slicer.modules.plots.logic().ShowChartInLayout(bridge.draw_curve(self.study.cases))

    # What happens

    def close(self) -> None:
        """Let go of the study; everything is in its files."""
        self._closeCase()
        self.study = None
        self.contextPanel.choose(None)

    def sceneClosed(self) -> None:
        """The nodes are gone; the case stays in work."""
        self.segment = None
        if self.study is not None:
            self.study.case = None
        self.show()

    def say(self, text: str) -> None:
        self.statusLabel.text = text

    def show(self, text: str = "") -> None:
        """Everything as it is now."""
        records = self.study.cases if self.study is not None else []
        self._items = fill(self.caseTable, [
            (r.name, r.status, r.prompts, f"{r.seconds / 60:.1f}", "" if r.volume_ml is None else f"{r.volume_ml:.1f}")
            for r in records
        ])
        following = self.study.next() if self.study is not None else None
        resumes = following is not None and following.prompts > 0 and self.segment is None
        self.nextButton.text = f"Go on with {following.name}" if resumes else "Next"
        self._showButtons()
        if text or resumes:
            self.say(text or f"{following.name} was in work: its {counted(following.prompts, 'prompt')} and its mask are kept.")
        self.contextPanel.show()

    def _showButtons(self) -> None:
        """What can be pressed now."""
        busy = self._isBusy()
        self.openButton.enabled = not busy
        self.curveButton.enabled = self.study is not None
        for widget in (self.previousButton, self.nextButton):
            widget.enabled = self.study is not None and not busy
        for widget in (self.skipButton, self.predictButton, self.acceptButton):
            widget.enabled = self.segment is not None and not busy

    def showProgress(self) -> None:
        """Called whenever the worker gets on."""
        self._showButtons()
        progress = workbench().progress
        self.progressBar.setVisible(progress is not None)
        if progress is not None:
            self.progressBar.setRange(0, progress[1])
            self.progressBar.setValue(progress[0])

    def keep(self) -> None:
        """Write what was edited by hand into the journal, when nothing else is going on."""
        if self.segment is None or not self.segment.alive or workbench().worker.busy:
            return
        segment = self.segment
        seen = segment.look(segment.choice)
        if seen is not None:
            self._do(lambda _: segment.catch_up(segment.choice, seen), lambda _: None)

    def _opened(self, study: Study) -> None:
        self.study = study
        names = {study.context.digest(record.name): record.name for record in study.cases}
        self.contextPanel.choose(study.context if study.family.contextual else None, study.family.name, names)
        qt.QSettings().setValue(SETTING, f"{study.folder}\n{study.task}")
        done = sum(record.rank is not None for record in study.cases)
        self.show()
        if not self.statusLabel.text.endswith("kept."):
            self.say(f"{len(study.cases)} cases, {done} accepted: press Next.")

    def _open(self, name: str | None, before: str = "") -> None:
        """Open a case. before: what to say before it is said to be open."""
        if self._isBusy():
            return
        study = self.study
        self._closeCase()

        def work(_):
            if name is not None:
                study.reopen(name)
            return bridge.open_case(study, name)

        self._keep(work, lambda case: self._caseRead(study, case, before))

    def _caseRead(self, study: Study, case, before: str) -> None:
        if self.study is not study or study.case is not case:  # the scene was closed meanwhile
            return
        node = self._editor_node()
        self.segment = bridge.load_case(self.study, case, node)
        workbench().put(self.segment)
        self._editor.setSegmentationNode(self.segment.segmentation)
        self._editor.setSourceVolumeNode(self.segment.volume)
        self._editor.setCurrentSegmentID(self.segment.segment_ids[0])
        if slicer.app.layoutManager() is not None:  # the views may still look at where the last case lay
            slicer.util.setSliceViewerLayers(background=self.segment.volume, fit=True, rotateToVolumePlane=True)
        self._editor.setActiveEffectByName(self._effectName())
        self._editor.activeEffect().self().useModel(study.family.name)
        more = " Press Predict, or give prompts." if case.can_predict else " Give prompts."
        self.show(f"{before}{case.name} is open.{more}")

    def _accepted(self, record) -> None:
        goes_on = self.segment is not None  # not after the scene was closed
        self._closeCase()
        bridge.draw_curve(self.study.cases)
        self.show(f"{record.name} is accepted after {counted(record.prompts, 'prompt')}. {record.note}")
        if goes_on and self.study.next() is not None:
            self._open(None, f"{record.name}: {record.note}. " if record.note else "")

    def _closeCase(self) -> None:
        segment, self.segment = self.segment, None
        if segment is not None:
            self._editor.setActiveEffect(None)
            bridge.unload_case(segment)

    def _do(self, work, told) -> None:
        workbench().worker.submit(Job(work, told, self._failed))

    def _keep(self, work, told) -> None:
        """Queue what reads or writes the study: it cannot be cancelled, and nothing else of the study is begun meanwhile."""
        self._keeping = Job(work, told, self._failed, stays=True)
        workbench().worker.submit(self._keeping)

    def _isBusy(self) -> bool:
        """True while the study is being read or written."""
        return self._keeping in workbench().worker.pending

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, Cancelled):
            return
        if isinstance(error, InteractiveSegError):
            self.show(str(error))
        else:
            self.show(f"This did not work ({type(error).__name__}: {error}); the details are in the error log.")

    def _caseIsOpen(self) -> bool:
        if self.segment is None:
            self.say("No case is open: press Next.")
            return False
        if not self.segment.alive:
            self.say("The case's nodes were removed, moved or changed: double-click its row to open it as it was last kept.")
            return False
        return not self._isBusy()

    def _effectName(self) -> str:
        return "InteractiveClick"

    def _readSetting(self) -> None:
        folder, _, task = (qt.QSettings().value(SETTING) or "").partition("\n")
        self.folderEdit.text, self.taskEdit.text = folder, task
