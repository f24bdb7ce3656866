"""Small widgets that the panels are made of."""
from __future__ import annotations

import qt


def button(text: str, tip: str, slot):
    """A push button with its slot."""
    made = qt.QPushButton(text)
    made.toolTip = tip
    made.connect("clicked()", slot)
    return made


def row(*widgets):
    """Widgets side by side."""
    made = qt.QWidget()
    layout = qt.QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return made


def label(text: str = ""):
    """Text that breaks its lines."""
    made = qt.QLabel(text)
    made.wordWrap = True
    return made


def table(columns):
    """A table to read and to choose rows in."""
    made = qt.QTableWidget()
    made.setColumnCount(len(columns))
    made.setHorizontalHeaderLabels(list(columns))
    made.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    made.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
    made.setSelectionMode(qt.QAbstractItemView.SingleSelection)
    return made


def fill(made, rows) -> list:
    """Put texts into a table, one tuple for each row. Keep the items that are returned: not every PythonQt does."""
    rows, items = list(rows), []
    made.setRowCount(len(rows))
    for number, texts in enumerate(rows):
        for column, text in enumerate(texts):
            items.append(qt.QTableWidgetItem(str(text)))
            made.setItem(number, column, items[-1])
    return items
