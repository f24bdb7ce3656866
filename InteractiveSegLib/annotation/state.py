"""What is known of each case of a study, on disk after every action: status, journal, mask, time. Beside the user's own data,
so it holds file names, relative to the study. Knows no images."""
from __future__ import annotations

import json
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..database import Database, now
from ..types import InteractiveSegError
from .cases import IMAGES, CaseFile

TODO, PROGRESS, ACCEPTED, SKIPPED = "todo", "in progress", "accepted", "skipped"
EDITED = "edited by hand"  # in the note of such a case
UPDATE = "UPDATE work SET {} WHERE file = ? AND task = ?"


@dataclass(frozen=True)
class CaseRecord:
    """A case and how far it is.

    name, source, series, title: see CaseFile. status: "todo", "in progress", "accepted", "skipped". prompts: given so far,
    undone ones too. seconds: of work. rank: its place in the order of first acceptance, None before that. voxels, volume_ml,
    dice: of the accepted mask; volume_ml is None for a picture, dice without a reference. note: why it was skipped or could not
    be opened, or a warning.
    """

    name: str
    source: str
    series: str
    title: str
    status: str = TODO
    prompts: int = 0
    seconds: float = 0.0
    rank: int | None = None
    voxels: int | None = None
    volume_ml: float | None = None
    dice: float | None = None
    note: str = ""
    changed: str = ""

    @property
    def file(self) -> CaseFile:
        return CaseFile(self.name, self.source, self.series, self.title)

    @property
    def by_hand(self) -> bool:
        """Whether its accepted mask was drawn or edited by hand, too: its prompts do not tell what it took."""
        return self.status == ACCEPTED and EDITED in self.note.split("; ")

    @property
    def is_dicom(self) -> bool:
        return not self.source.lower().endswith(IMAGES)


COLUMNS = tuple(field.name for field in fields(CaseRecord))


class StudyState(Database):
    """The file of a study, for all its tasks. path: ends in .sqlite; made when it is not there. rescue: see Database."""

    title = "study file"
    application = 0x53545559
    schema = 1
    tables = (
        "CREATE TABLE study (identity TEXT NOT NULL)",
        "CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, source TEXT NOT NULL, series TEXT NOT NULL, "
        "title TEXT NOT NULL, UNIQUE (source, series))",
        "CREATE TABLE work (file INTEGER NOT NULL REFERENCES files (id), task TEXT NOT NULL, status TEXT NOT NULL, "
        "prompts INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0, rank INTEGER, voxels INTEGER, volume_ml REAL, "
        "dice REAL, note TEXT NOT NULL DEFAULT '', changed TEXT NOT NULL, mask TEXT, PRIMARY KEY (file, task))",
        "CREATE TABLE journal (file INTEGER NOT NULL REFERENCES files (id), task TEXT NOT NULL, position INTEGER NOT NULL, "
        "action TEXT NOT NULL, time TEXT NOT NULL, PRIMARY KEY (file, task, position))",
    )

    def __init__(self, path: Path | str, rescue: Callable[[str], str]) -> None:
        self.rescue = rescue
        super().__init__(path)

    def fill(self, db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO study VALUES (?)", (secrets.token_hex(16),))

    def identity(self) -> str:
        """A random name of the study, which stays when its folder is moved."""
        with self.transaction() as db:
            return db.execute("SELECT identity FROM study").fetchone()[0]

    def put_files(self, cases: list[CaseFile]) -> None:
        """Note the cases that were found. A known one keeps its name, whatever came beside it since."""
        with self.transaction() as db:
            for case in cases:
                key = (case.source, case.series)
                known = db.execute("SELECT 1 FROM files WHERE source = ? AND series = ?", key).fetchone()
                if known is None:
                    taken = db.execute("SELECT 1 FROM files WHERE name = ?", (case.name,)).fetchone()
                    name = case.name if taken is None else f"{case.name} ({secrets.token_hex(2)})"
                    db.execute("INSERT INTO files (name, source, series, title) VALUES (?, ?, ?, ?)",
                               (name, *key, case.title))

    def records(self, task: str) -> list[CaseRecord]:
        """Every case by name, 2 before 10, with the work on one task."""
        columns = ", ".join(COLUMNS[:4] + tuple(f"work.{name}" for name in COLUMNS[4:]))
        with self.transaction() as db:
            rows = db.execute(f"SELECT {columns} FROM files LEFT JOIN work ON work.file = files.id AND work.task = ?",
                              (task,)).fetchall()
        rows.sort(key=lambda row: natural(row[0]))
        return [CaseRecord(*row) if row[4] is not None else CaseRecord(*row[:4]) for row in rows]

    def record(self, name: str, task: str) -> CaseRecord:
        """One of them."""
        for record in self.records(task):
            if record.name == name:
                return record
        raise InteractiveSegError(f"The study has no case {name!r}: list the cases and choose one of them.")

    def journal(self, name: str, task: str) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """The actions of a case, oldest first, and its mask after them as `pack_mask` made it."""
        with self.transaction() as db:
            file = file_id(db, name)
            rows = db.execute("SELECT action FROM journal WHERE file = ? AND task = ? ORDER BY position", (file, task)).fetchall()
            mask = db.execute("SELECT mask FROM work WHERE file = ? AND task = ?", (file, task)).fetchone()
        try:
            return [json.loads(row[0]) for row in rows], json.loads(mask[0]) if mask is not None and mask[0] else None
        except (ValueError, TypeError) as error:
            raise InteractiveSegError(f"The journal of {name} is damaged: start the case over (--start-over).") from error

    def append(self, name: str, task: str, position: int, action: dict[str, Any], mask: dict[str, Any], prompts: int,
               seconds: float) -> None:
        """Write an action and what it led to. position: how many came before it, as far as the caller knows."""
        with self.transaction() as db:
            file = file_id(db, name)
            count = db.execute("SELECT COUNT(*) FROM journal WHERE file = ? AND task = ?", (file, task)).fetchone()[0]
            if count != position:
                raise InteractiveSegError(f"Another window or program works on {name} too: close one of them and open the case "
                                          "again.")
            db.execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?)", (file, task, position, json.dumps(action), now()))
            db.execute(UPDATE.format("mask = ?, prompts = ?, seconds = ?, changed = ?"),
                       (json.dumps(mask), prompts, seconds, now(), file, task))

    def tasks(self) -> list[str]:
        """The names of all structures on which there was work."""
        with self.transaction() as db:
            return [row[0] for row in db.execute("SELECT DISTINCT task FROM work")]

    def forget(self, name: str, task: str) -> None:
        """Everything that was done to a case."""
        with self.transaction() as db:
            file = file_id(db, name)
            for table in ("journal", "work"):
                db.execute(f"DELETE FROM {table} WHERE file = ? AND task = ?", (file, task))

    def set_status(self, name: str, task: str, status: str, **values: Any) -> None:
        """Change the status of a case, and other columns of CaseRecord with it. An accepted one gets its rank here."""
        with self.changing(name, task, status, **values):
            pass

    @contextmanager
    def changing(self, name: str, task: str, status: str, **values: Any) -> Iterator[None]:
        """The same, unless what is done meanwhile fails. Other processes see and change nothing before the end."""
        with self.transaction() as db:
            file = file_id(db, name)
            db.execute("INSERT OR IGNORE INTO work (file, task, status, changed) VALUES (?, ?, ?, ?)", (file, task, TODO, now()))
            if status == ACCEPTED:
                db.execute("UPDATE work SET rank = (SELECT COALESCE(MAX(rank), -1) + 1 FROM work WHERE task = ?) "
                           "WHERE file = ? AND task = ? AND rank IS NULL", (task, file, task))
            values = {**values, "status": status, "changed": now()}
            db.execute(UPDATE.format(", ".join(f"{column} = ?" for column in values)), (*values.values(), file, task))
            yield

    @contextmanager
    def unaccepted(self, task: str) -> Iterator[list[str]]:
        """The names of all cases that are not accepted. No process can change that before the end."""
        with self.transaction() as db:
            rows = db.execute("SELECT name FROM files WHERE id NOT IN (SELECT file FROM work WHERE task = ? AND status = ?)",
                              (task, ACCEPTED))
            yield [row[0] for row in rows]


def natural(name: str) -> tuple:
    """By which names are sorted as people do: p2 before p10."""
    return tuple(int(part) if n % 2 else part for n, part in enumerate(re.split(r"(\d+)", name))), name


def file_id(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT id FROM files WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise InteractiveSegError(f"The study has no case {name!r}: list the cases and choose one of them.")
    return row[0]
