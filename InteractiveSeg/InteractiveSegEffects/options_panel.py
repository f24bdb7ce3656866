"""The options that all interactive effects show. Widgets only: knows no MRML and no session."""
from __future__ import annotations

import qt

from InteractiveSegLib.models import list_families

DEVICES = (("Automatic", "auto"), ("Graphics card (CUDA)", "cuda"), ("Processor", "cpu"))


class OptionsPanel:
    """Model, device, add or remove, start over, cancel, and one line of status."""

    def __init__(self, toggle_key: str) -> None:
        self.widget = qt.QWidget()
        layout = qt.QFormLayout(self.widget)
        self.familyCombo = _combo((family.title, family.name) for family in list_families())
        self.familyCombo.toolTip = "The network that answers the prompts"
        layout.addRow("Model:", self.familyCombo)
        self.deviceCombo = _combo(DEVICES)
        self.deviceCombo.toolTip = "Where the network runs"
        layout.addRow("Device:", self.deviceCombo)
        self.removeButton = qt.QPushButton(f"Remove instead of add ({toggle_key})")
        self.removeButton.checkable = True
        self.removeButton.toolTip = "While this is down a plain click removes and Ctrl + click adds"
        layout.addRow(self.removeButton)
        self.startOverButton = qt.QPushButton("Start over")
        self.startOverButton.toolTip = "Forget all prompts of this segment and what they made; Undo brings it back"
        self.cancelButton = qt.QPushButton("Cancel")
        self.cancelButton.toolTip = "Nothing is running"
        self.cancelButton.enabled = False
        buttons = qt.QHBoxLayout()
        buttons.addWidget(self.startOverButton)
        buttons.addWidget(self.cancelButton)
        layout.addRow(buttons)
        self.statusLabel = qt.QLabel()
        self.statusLabel.wordWrap = True
        layout.addRow(self.statusLabel)

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

    def show(self, family: str, device: str, removes: bool) -> None:
        """Set all three without telling the effect."""
        controls = (self.familyCombo, self.deviceCombo, self.removeButton)
        before = [control.blockSignals(True) for control in controls]
        self.familyCombo.setCurrentIndex(max(0, self.familyCombo.findData(family)))
        self.deviceCombo.setCurrentIndex(max(0, self.deviceCombo.findData(device)))
        self.removeButton.checked = removes
        for control, blocked in zip(controls, before):
            control.blockSignals(blocked)

    def showPending(self, count: int) -> None:
        """How many prompts have no answer yet."""
        self.cancelButton.enabled = count > 0
        self.cancelButton.toolTip = "Forget the prompts that have no answer yet" if count else "Nothing is running"
        self.cancelButton.text = f"Cancel ({count})" if count else "Cancel"


def _combo(items):
    combo = qt.QComboBox()
    for text, data in items:
        combo.addItem(text, data)
    return combo
