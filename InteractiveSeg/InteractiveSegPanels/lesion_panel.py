"""Many lesions in one image: each click may begin a new segment; a list with volumes, next and previous, written as a table."""
from __future__ import annotations

from pathlib import Path

import qt
import slicer
from InteractiveSegBridge import lesions as bridge
from InteractiveSegBridge.workbench import workbench

from InteractiveSegLib import InteractiveSegError

from .widgets import button, fill, label, row, table


class LesionPanel:
    """editor_node(): the Segment Editor's node."""

    def __init__(self, editor_node) -> None:
        self._editor_node = editor_node
        self._rows = []
        self.widget = qt.QGroupBox("Lesions")
        layout = qt.QFormLayout(self.widget)
        self.newButton = qt.QPushButton("Each click is a new segment")
        self.newButton.checkable = True
        self.newButton.toolTip = "Every adding click begins a segment of its own; Ctrl + click corrects the last one"
        self.newButton.connect("toggled(bool)", self.onNew)
        layout.addRow(self.newButton)
        self.table = table(("segment", "ml"))
        self.table.connect("cellClicked(int,int)", self.onRow)
        layout.addRow(self.table)
        self.previousButton = button("Previous", "Choose the segment before and go there", lambda: self._step(-1))
        self.nextButton = button("Next", "Choose the next segment and go there", lambda: self._step(1))
        self.refreshButton = button("Measure", "Volumes of all segments", self.show)
        self.exportButton = button("Export table...", "Write names and volumes for a spreadsheet", self.onExport)
        layout.addRow(row(self.previousButton, self.nextButton, self.refreshButton, self.exportButton))
        self.statusLabel = label()
        layout.addRow(self.statusLabel)

    def onNew(self, on: bool) -> None:
        workbench().new_segment_per_click = on

    def onRow(self, number: int, _column: int) -> None:
        self._choose(self._rows[number][0])

    def onExport(self) -> None:
        path = qt.QFileDialog.getSaveFileName(self.widget, "Table of segments", "lesions.csv", "CSV (*.csv)")
        if path:
            self.export(Path(path))

    def export(self, path: Path) -> None:
        """Write the table."""
        self.show()
        try:
            bridge.write_lesions(path, self._rows)
            self.statusLabel.text = f"{len(self._rows)} segments are in {path.name}."
        except InteractiveSegError as error:
            self.statusLabel.text = str(error)

    def show(self) -> None:
        """All segments with their volumes now."""
        node = self._editor_node()
        segmentation, volume = node.GetSegmentationNode(), node.GetSourceVolumeNode()
        self._rows = bridge.lesions(segmentation, volume) if segmentation is not None and volume is not None else []
        self._items = fill(self.table, [(name, f"{millilitres:.2f}") for _, name, millilitres in self._rows])

    def clear(self) -> None:
        """The segments are gone."""
        self._rows = []
        self._items = fill(self.table, [])

    def _step(self, by: int) -> None:
        segmentation = self._editor_node().GetSegmentationNode()
        ids = list(segmentation.GetSegmentation().GetSegmentIDs()) if segmentation is not None else []
        if ids:
            chosen = self._editor_node().GetSelectedSegmentID()
            self._choose(ids[(ids.index(chosen) + by) % len(ids) if chosen in ids else 0])

    def _choose(self, segment_id: str) -> None:
        node = self._editor_node()
        segmentation, volume = node.GetSegmentationNode(), node.GetSourceVolumeNode()
        if segmentation is None or volume is None or segmentation.GetSegmentation().GetSegment(segment_id) is None:
            self.show()  # the list was of other segments
            return
        node.SetSelectedSegmentID(segment_id)
        centre = bridge.centre_of(segmentation, segment_id, volume)
        if centre is not None:
            slicer.modules.markups.logic().JumpSlicesToLocation(*centre, True)
