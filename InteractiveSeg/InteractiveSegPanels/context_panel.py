"""The examples from which a model learns a structure: looked at, checked, switched off, removed."""
from __future__ import annotations

import shutil

import qt
from InteractiveSegBridge import examples as bridge

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.types import counted

from .widgets import button, label, row

THUMBNAIL_PIXELS = 96
MOST_SHOWN = 60  # the latest


class ContextPanel:
    """A list with a picture for each example. say: shows one sentence. do(work, told): in the worker, then in the window."""

    def __init__(self, say, do) -> None:
        self._say, self._do = say, do
        self.context, self._model, self._names, self._odd = None, "", {}, {}
        self.widget = qt.QGroupBox("Examples")
        layout = qt.QFormLayout(self.widget)
        self.countLabel = label()
        layout.addRow(self.countLabel)
        self.list = qt.QListWidget()
        self.list.setIconSize(qt.QSize(THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
        layout.addRow(self.list)
        self.useButton = button("Use or leave out", "Predictions read this example, or not", self.onUse)
        self.removeButton = button("Remove", "Forget this example", self.onRemove)
        odd = "Predict each example from the others; one that they contradict may have a wrong mask"
        self.checkButton = button("Find odd ones", odd, self.onCheck)
        layout.addRow(row(self.useButton, self.removeButton, self.checkButton))

    def choose(self, context, model: str = "", names: dict[str, str] | None = None) -> None:
        """Show this ContextSet of a family; None hides the list. names: of the cases by their hashes."""
        self.context, self._model, self._names, self._odd = context, model, names or {}, {}
        self.show()

    def show(self) -> None:
        """The examples as they are now; their pictures follow."""
        self.widget.setVisible(self.context is not None)
        self.list.clear()
        self._ids, self._items = [], []  # the items are kept here because not every PythonQt does
        if self.context is None:
            return
        infos = self.context.infos()
        used = sum(info.enabled for info in infos)
        self.countLabel.text = f"{counted(len(infos), 'example')}, {used} in use."
        for info in infos[-MOST_SHOWN:]:
            case = self._names.get(info.provenance.case)
            notes = [f"{info.provenance.time}, slice {info.provenance.index}" + (f" of {case}" if case else "")]
            notes += [] if info.enabled else ["left out"]
            notes += [self._odd[info.id]] if info.id in self._odd else []
            item = qt.QListWidgetItem("; ".join(notes))
            self.list.addItem(item)
            self._items.append(item)
            self._ids.append(info.id)
        if self._ids:
            context, ids = self.context, list(self._ids)
            self._do(lambda progress: bridge.draw_pictures(context, ids, progress), self._drawn)

    def onUse(self) -> None:
        self._change(lambda info: self.context.set_enabled(info.id, not info.enabled))

    def onRemove(self) -> None:
        self._change(lambda info: self.context.remove(info.id))

    def onCheck(self) -> None:
        context, model = self.context, self._model
        self._do(lambda progress: bridge.find_outliers(context, model, progress), self._checked)

    def _drawn(self, paths) -> None:
        for example, item in zip(self._ids, self._items):
            if example in paths:
                item.setIcon(qt.QIcon(qt.QPixmap(str(paths[example]))))
        for path in paths.values():
            shutil.rmtree(path.parent, ignore_errors=True)

    def _checked(self, odd) -> None:
        self._odd = odd
        self.show()
        named = f"{counted(len(odd), 'example')} {'disagrees' if len(odd) == 1 else 'disagree'} with the others"
        self._say(f"{named}: look, and leave out what is wrong." if odd else "No example disagrees with the others.")

    def _change(self, what) -> None:
        if self.context is None or not 0 <= self.list.currentRow < len(self._ids):
            self._say("Choose an example in the list first.")
            return
        wanted = self._ids[self.list.currentRow]
        try:
            what(next(info for info in self.context.infos() if info.id == wanted))
        except (InteractiveSegError, StopIteration) as error:
            self._say(str(error) or "This example is no longer there.")
        self.show()
