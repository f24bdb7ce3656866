"""The examples from which a model learns a structure: looked at, switched off, removed."""
from __future__ import annotations

import tempfile
from pathlib import Path

import qt
from InteractiveSegBridge.thumbnails import write_thumbnail

from InteractiveSegLib import InteractiveSegError

from .widgets import button, label, row

THUMBNAIL_PIXELS = 96
MOST_SHOWN = 60  # the latest


class ContextPanel:
    """A list with a picture for each example. say: shows one sentence."""

    def __init__(self, say) -> None:
        self._say, self._context = say, None
        self.widget = qt.QGroupBox("Examples")
        layout = qt.QFormLayout(self.widget)
        self.countLabel = label()
        layout.addRow(self.countLabel)
        self.list = qt.QListWidget()
        self.list.setIconSize(qt.QSize(THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        layout.addRow(self.list)
        self.useButton = button("Use or leave out", "Predictions read this example, or not", self.onUse)
        self.removeButton = button("Remove", "Forget this example", self.onRemove)
        layout.addRow(row(self.useButton, self.removeButton))

    def choose(self, context) -> None:
        """Show this ContextSet; None hides the list."""
        self._context = context
        self.show()

    def show(self) -> None:
        """The examples as they are now."""
        self.widget.setVisible(self._context is not None)
        self.list.clear()
        self._ids, self._items = [], []  # the items are kept here because not every PythonQt does
        if self._context is None:
            return
        infos = self._context.infos()
        used = sum(info.enabled for info in infos)
        self.countLabel.text = f"{len(infos)} examples, {used} in use."
        with tempfile.TemporaryDirectory() as folder:
            for info in infos[-MOST_SHOWN:]:
                path = Path(folder) / f"{info.id}.png"
                write_thumbnail(self._context.read(info.id), path)
                item = qt.QListWidgetItem(f"{info.provenance.time}, slice {info.provenance.index}{self._note(info)}")
                item.setIcon(qt.QIcon(qt.QPixmap(str(path))))
                self.list.addItem(item)
                self._items.append(item)
                self._ids.append(info.id)

    def onUse(self) -> None:
        self._change(lambda info: self._context.set_enabled(info.id, not info.enabled))

    def onRemove(self) -> None:
        self._change(lambda info: self._context.remove(info.id))

    def _change(self, what) -> None:
        if self._context is None or not 0 <= self.list.currentRow < len(self._ids):
            self._say("Choose an example in the list first.")
            return
        wanted = self._ids[self.list.currentRow]
        try:
            what(next(info for info in self._context.infos() if info.id == wanted))
        except (InteractiveSegError, StopIteration) as error:
            self._say(str(error) or "This example is no longer there.")
        self.show()

    def _note(self, info) -> str:
        return "" if info.enabled else " (left out)"
