"""The options that all interactive effects show. Widgets only: knows no MRML and no session."""
from __future__ import annotations

import sys

import qt
from InteractiveSegBridge.advice import can_fuse, missing_weights
from InteractiveSegPanels.context_panel import ContextPanel
from InteractiveSegPanels.widgets import row

from InteractiveSegLib.models import find_family, list_families

from . import keys

GRAPHICS = ("Graphics (Apple Metal)", "mps") if sys.platform == "darwin" else ("Graphics card (CUDA)", "cuda")
DEVICES = (("Automatic", "auto"), GRAPHICS, ("Processor", "cpu"))
BRUSH_PIXELS = (1, 5, 60)  # least, at first, most


class OptionsPanel:
    """Tools, model, device, prompts, segments, volume-wide actions, and what is going on. say, do: see ContextPanel."""

    def __init__(self, effect_name: str, say, do) -> None:
        self.widget = qt.QWidget()
        self._layout = qt.QFormLayout(self.widget)
        self._effect_name, self._slices = effect_name, 0
        self._addTools()
        self._addModel(ContextPanel(say, do))
        self._addPrompts()
        self._addVolume()
        self.statusLabel = self._line()
        hint = self._line()
        drag = "Drag" if effect_name == keys.TOOLS[0].effect else "Alt + drag"
        hint.text = f"{drag} a prompt's + or − to move it; {keys.DELETE} removes the one under the mouse."

    def _addTools(self) -> None:
        self.toolButtons = {tool.effect: _button(tool.word, "All tools add to the same prompts") for tool in keys.TOOLS}
        self._layout.addRow(row(*self.toolButtons.values()))

    def _addModel(self, context_panel: ContextPanel) -> None:
        self.adviceLabel = self._line()
        self.familyCombo = _combo(
            (family.title if not missing_weights(family) else f"{family.title} (weights are not shipped)", family.name)
            for family in list_families()
        )
        self.familyCombo.toolTip = "The network that answers the prompts"
        self._layout.addRow("Model:", self.familyCombo)
        self.deviceCombo = _combo(DEVICES)
        self.deviceCombo.toolTip = "Where the network runs"
        self._layout.addRow("Device:", self.deviceCombo)
        self.measuredLabel = self._line()
        self.structureCombo = _combo(())
        self.structureCombo.toolTip = "What the chosen segment is, among the structures that the model knows by name"
        every = "A segment for each structure that the model knows; all of them are predicted and corrected together"
        self.structuresButton = _button("Add the others", every)
        self.structureLabel, self.structureRow = qt.QLabel("Structure:"), row(self.structureCombo, self.structuresButton)
        self._layout.addRow(self.structureLabel, self.structureRow)
        self.examplesLabel = self._line()
        self.examplesButton = _button("Show these examples", "Look at them, leave one out, remove one, find odd ones")
        self.examplesButton.checkable = True
        self.contextPanel = context_panel
        self.contextPanel.choose(None)
        self._layout.addRow(self.examplesButton)
        self._layout.addRow(self.contextPanel.widget)
        self.memoryLabel = self._line()
        self.releaseButton = _button("Give memory back", "")
        self._layout.addRow(self.releaseButton)

    def _addPrompts(self) -> None:
        self.brushSpin = _spin(*BRUSH_PIXELS)
        self.brushRow = row(qt.QLabel("Brush, pixels on the screen:"), self.brushSpin)
        self.brushRow.setVisible(False)  # the tool that paints shows it
        self._layout.addRow(self.brushRow)
        swap = "While this is down a plain click removes and Ctrl + click adds"
        self.removeButton = _button(f"Remove instead of add ({keys.REMOVE})", swap)
        self.removeButton.checkable = True
        self.nextButton = _button(f"Next segment ({keys.NEXT_SEGMENT})", "Choose the next segment of the list")
        self.visibilityButton = _button(f"Show or hide ({keys.VISIBILITY})", "Show or hide the chosen segment")
        forget = "Forget all prompts of this segment and what they made; Undo brings it back"
        self.startOverButton = _button(f"Start over ({keys.START_OVER})", forget)
        self.cancelButton = _button("Cancel", "Nothing is running")
        self.cancelButton.enabled = False
        self._layout.addRow(self.removeButton)
        self._layout.addRow(row(self.nextButton, self.visibilityButton))
        self._layout.addRow(row(self.startOverButton, self.cancelButton))

    def _addVolume(self) -> None:
        self.firstSpin, self.lastSpin = _spin(0, 0, 0), _spin(0, 0, 0)
        self.fuseBox = qt.QCheckBox("keep the better of two rounds")
        self.fuseBox.enabled = self.fuseBox.checked = can_fuse()
        self.fuseBox.toolTip = (
            "A network compares each slice with what the round before gave" if can_fuse()
            else "The network that compares two rounds has no shipped weights: the newer round is taken"
        )
        self._layout.addRow("Slices:", row(self.firstSpin, qt.QLabel("to"), self.lastSpin, self.fuseBox))
        carry = "Carry the masks of the slices you worked on through these slices; correct one and propagate again"
        self.propagateButton = _button("Propagate", carry)
        self.predictButton = _button("Predict slice", "What the model says of the slice shown, before any prompt")
        every = "What the model says of these slices, before any prompt; one that learns from examples answers on every fourth"
        self.predictRangeButton = _button("Predict slices", f"{every}, and the others are filled from these")
        accept = "Make this segment's slices examples from which the model learns; named after the segment"
        self.acceptButton = _button("Accept", accept)
        self._layout.addRow(row(self.propagateButton, self.predictButton, self.predictRangeButton, self.acceptButton))
        self.roundsLabel = self._line()
        self.progressBar = qt.QProgressBar()
        self.progressBar.setVisible(False)
        self._layout.addRow(self.progressBar)

    @property
    def family(self) -> str:
        return self.familyCombo.currentData

    @property
    def device(self) -> str:
        return self.deviceCombo.currentData

    @property
    def structure(self) -> str | None:
        """What the user says that the chosen segment is."""
        return self.structureCombo.currentData

    @property
    def structures(self) -> tuple:
        """The names that the model knows, one list for each of its networks; () where it segments anything."""
        return find_family(self.family).lists

    @property
    def structureNames(self) -> tuple:
        """The same in one list."""
        return tuple(dict.fromkeys(name for names in self.structures for name in names))

    @property
    def seesVolume(self) -> bool:
        """True when the model looks at the whole volume and not at a slice."""
        return find_family(self.family).volumetric

    @property
    def learns(self) -> bool:
        """True when the model learns from examples."""
        return find_family(self.family).contextual

    @property
    def nextTool(self) -> str | None:
        """The effect of the tool after this one that the model understands; None where there is no other."""
        names = [tool.effect for tool in keys.TOOLS]
        own = names.index(self._effect_name)
        return next((name for name in names[own + 1 :] + names[:own] if self.toolButtons[name].enabled), None)

    @property
    def removes(self) -> bool:
        return self.removeButton.checked

    @property
    def brushPixels(self) -> int:
        return self.brushSpin.value

    @property
    def fuses(self) -> bool:
        return self.fuseBox.checked

    @property
    def extent(self) -> tuple[int, int]:
        """[first, stop) of the slices for actions on many."""
        first, last = sorted((self.firstSpin.value, self.lastSpin.value))
        return first, last + 1

    def show(self, family: str, device: str, removes: bool, brush_pixels: int) -> None:
        """Set them all without telling the effect."""
        controls = (self.familyCombo, self.deviceCombo, self.removeButton, self.brushSpin)
        before = [control.blockSignals(True) for control in controls]
        self.familyCombo.setCurrentIndex(max(0, self.familyCombo.findData(family)))
        self.deviceCombo.setCurrentIndex(max(0, self.deviceCombo.findData(device)))
        self._showFamily()
        self.removeButton.checked = removes
        self.brushSpin.setValue(brush_pixels)
        for control, blocked in zip(controls, before):
            control.blockSignals(blocked)

    def _showFamily(self) -> None:
        """What this family can do."""
        spec = find_family(self.family)
        for name, word in keys.TOOLS:
            self.toolButtons[name].enabled = name != self._effect_name and word in spec.prompts
        for name, word in keys.TOOLS:
            self.toolButtons[name].text = f"{word} ({keys.NEXT_TOOL})" if name == self.nextTool else word
        self.structureCombo.clear()
        for name in self.structureNames:
            self.structureCombo.addItem(spec.word(name), name)
        for widget in (self.structureLabel, self.structureRow):
            widget.setVisible(bool(spec.lists))
        self.predictButton.setVisible(spec.automatic and not spec.volumetric)
        self.predictRangeButton.setVisible(spec.automatic)
        self.propagateButton.setVisible(not spec.volumetric)
        for widget in (self.acceptButton, self.examplesLabel, self.examplesButton):
            widget.setVisible(spec.contextual)

    def showStructure(self, name: str | None) -> None:
        """What the chosen segment is; None where that is not known."""
        self.structureCombo.setCurrentIndex(self.structureCombo.findData(name) if name is not None else -1)

    def showPending(self, count: int, progress, busy: bool) -> None:
        """How many prompts have no answer yet. progress: (done, total) of a long action, or None. busy: the model is in use."""
        self.releaseButton.enabled = not busy
        self.releaseButton.toolTip = (
            "The model is in use: wait, or press Cancel" if busy
            else "Take the model out of the graphics card's and the computer's memory; the next prompt loads it again"
        )
        self.cancelButton.enabled = count > 0
        self.cancelButton.toolTip = "Forget the prompts that have no answer yet" if count else "Nothing is running"
        self.cancelButton.text = f"Cancel ({count})" if count else "Cancel"
        self.progressBar.setVisible(progress is not None)
        if progress is not None:
            self.progressBar.setRange(0, progress[1])
            self.progressBar.setValue(progress[0])

    def showAdvice(self, text: str, measured: str) -> None:
        """The model recommended for this image, and what was measured of the chosen one."""
        self.adviceLabel.text, self.measuredLabel.text = text, measured

    def showRounds(self, text: str) -> None:
        """Which round of propagation each slice came from."""
        self.roundsLabel.text = text
        self.roundsLabel.setVisible(bool(text))

    def showExamples(self, text: str) -> None:
        """From which accepted examples the model learns."""
        self.examplesLabel.text = text

    def showContext(self, context) -> None:
        """The examples themselves, None to hide them. Their pictures are drawn when they are others than before."""
        if context is not self.contextPanel.context:
            self.contextPanel.choose(context, self.family)

    def showMemory(self, text: str) -> None:
        """What the model needs, and where it runs."""
        self.memoryLabel.text = text

    def showSlices(self, count: int) -> None:
        """How many slices there are along the axis of the last prompt; all of them are chosen when that changes."""
        if count == self._slices:
            return
        self._slices = count
        for spin in (self.firstSpin, self.lastSpin):
            spin.setRange(0, count - 1)
        self.firstSpin.setValue(0)
        self.lastSpin.setValue(count - 1)

    def _line(self):
        """A label over the whole width that breaks its lines."""
        label = qt.QLabel()
        label.wordWrap = True
        self._layout.addRow(label)
        return label


def _button(text: str, tip: str):
    button = qt.QPushButton(text)
    button.toolTip = tip
    return button


def _spin(least: int, first: int, most: int):
    spin = qt.QSpinBox()
    spin.setRange(least, most)
    spin.setValue(first)
    return spin


def _combo(items):
    combo = qt.QComboBox()
    for text, data in items:
        combo.addItem(text, data)
    return combo
