"""The options that all interactive effects show. Widgets only: knows no MRML and no session."""
from __future__ import annotations

import qt

from InteractiveSegLib.models import list_families

from . import keys

DEVICES = (("Automatic", "auto"), ("Graphics card (CUDA)", "cuda"), ("Processor", "cpu"))
BRUSH_PIXELS = (1, 5, 60)  # least, at first, most


class OptionsPanel:
    """Tools, model, device, brush, add or remove, segments, start over, cancel, and one line of status."""

    def __init__(self, effect_name: str) -> None:
        self.widget = qt.QWidget()
        layout = qt.QFormLayout(self.widget)
        self.toolButtons = {tool.effect: _button(f"{tool.word} ({tool.key})", "") for tool in keys.TOOLS}
        for name, button in self.toolButtons.items():
            button.toolTip = "All tools add to the same prompts"
            button.enabled = name != effect_name
        layout.addRow(_row(self.toolButtons.values()))
        self.familyCombo = _combo((family.title, family.name) for family in list_families())
        self.familyCombo.toolTip = "The network that answers the prompts"
        layout.addRow("Model:", self.familyCombo)
        self.deviceCombo = _combo(DEVICES)
        self.deviceCombo.toolTip = "Where the network runs"
        layout.addRow("Device:", self.deviceCombo)
        self.brushRow = self._brush()
        layout.addRow(self.brushRow)
        self.removeButton = _button(f"Remove instead of add ({keys.REMOVE})", "")
        self.removeButton.checkable = True
        self.removeButton.toolTip = "While this is down a plain click removes and Ctrl + click adds"
        layout.addRow(self.removeButton)
        self.nextButton = _button(f"Next segment ({keys.NEXT_SEGMENT})", "Choose the next segment of the list")
        self.visibilityButton = _button(f"Show or hide ({keys.VISIBILITY})", "Show or hide the chosen segment")
        layout.addRow(_row((self.nextButton, self.visibilityButton)))
        forget = "Forget all prompts of this segment and what they made; Undo brings it back"
        self.startOverButton = _button(f"Start over ({keys.START_OVER})", forget)
        self.cancelButton = _button("Cancel", "Nothing is running")
        self.cancelButton.enabled = False
        layout.addRow(_row((self.startOverButton, self.cancelButton)))
        self.statusLabel = qt.QLabel()
        self.statusLabel.wordWrap = True
        layout.addRow(self.statusLabel)
        hint = qt.QLabel(f"Drag a prompt's + or − to move it; {keys.DELETE} removes the one under the mouse.")
        hint.wordWrap = True
        layout.addRow(hint)

    def _brush(self):
        self.brushSpin = qt.QSpinBox()
        least, first, most = BRUSH_PIXELS
        self.brushSpin.setRange(least, most)
        self.brushSpin.setValue(first)
        row = _row((qt.QLabel("Brush, pixels on the screen:"), self.brushSpin))
        row.setVisible(False)  # the tool that paints shows it
        return row

    @property
    def defaultFamily(self) -> str:
        """The first family of the library's list."""
        return self.familyCombo.itemData(0)

    @property
    def family(self) -> str:
        return self.familyCombo.currentData

    @property
    def device(self) -> str:
        return self.deviceCombo.currentData

    @property
    def removes(self) -> bool:
        return self.removeButton.checked

    @property
    def brushPixels(self) -> int:
        return self.brushSpin.value

    def show(self, family: str, device: str, removes: bool, brush_pixels: int) -> None:
        """Set them all without telling the effect."""
        controls = (self.familyCombo, self.deviceCombo, self.removeButton, self.brushSpin)
        before = [control.blockSignals(True) for control in controls]
        self.familyCombo.setCurrentIndex(max(0, self.familyCombo.findData(family)))
        self.deviceCombo.setCurrentIndex(max(0, self.deviceCombo.findData(device)))
        self.removeButton.checked = removes
        self.brushSpin.setValue(brush_pixels)
        for control, blocked in zip(controls, before):
            control.blockSignals(blocked)

    def showPending(self, count: int) -> None:
        """How many prompts have no answer yet."""
        self.cancelButton.enabled = count > 0
        self.cancelButton.toolTip = "Forget the prompts that have no answer yet" if count else "Nothing is running"
        self.cancelButton.text = f"Cancel ({count})" if count else "Cancel"


def _button(text: str, tip: str):
    button = qt.QPushButton(text)
    button.toolTip = tip
    return button


def _row(widgets):
    row = qt.QWidget()
    layout = qt.QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return row


def _combo(items):
    combo = qt.QComboBox()
    for text, data in items:
        combo.addItem(text, data)
    return combo
