"""The module's page outside of the application, with its own Segment Editor and one slice view."""
from __future__ import annotations

from InteractiveSegSelfTest.phantom import CENTRE_KJI
from InteractiveSegSelfTest.stage import Stage

TASK = "left atrium"


class PageStage(Stage):
    """The page with its own Segment Editor, and one slice view."""

    def __init__(self, page, view):
        self.page, self.view = page, view

    @property
    def panel(self):
        return self.page.studyPanel

    @property
    def volume(self):
        return self.panel.segment.volume

    @property
    def segmentation(self):
        return self.panel.segment.segmentation

    @property
    def segment_id(self):
        return self.page.logic.editorNode().GetSelectedSegmentID()

    def event(self, name, xy, control=False):
        interactor = self.view.sliceView().interactor()
        interactor.SetEventInformation(*map(int, xy), int(control), 0, "\0", 0, None)
        interactor.InvokeEvent(name)

    def open(self, folder, task=TASK):
        self.panel.folderEdit.text, self.panel.taskEdit.text = str(folder), task
        self.panel.familyCombo.setCurrentIndex(self.panel.familyCombo.findData("flood"))
        self.panel.openButton.click()
        self.settle()

    def press(self, button):
        button.click()
        self.settle()
        if self.panel.segment is not None:
            self.show_slice_of(CENTRE_KJI)

    def rows(self):
        table = self.panel.caseTable
        return [[table.item(row, column).text() for column in range(3)] for row in range(table.rowCount)]
