"""Context sets in one SQLite file, for many studies and tasks, many processes, and processes that are killed."""
from __future__ import annotations

import hashlib
import secrets
import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..database import Database
from ..types import InteractiveSegError
from .entry import ContextEntry, EntryInfo, from_bytes, info_from_json, info_to_json, require, to_bytes
from .memory import ContextSet, unknown

TABLES = (
    "CREATE TABLE secret (salt BLOB NOT NULL)",
    "CREATE TABLE sets (id INTEGER PRIMARY KEY, study TEXT NOT NULL, task TEXT NOT NULL, UNIQUE (study, task))",
    "CREATE TABLE entries (position INTEGER PRIMARY KEY AUTOINCREMENT, context INTEGER NOT NULL REFERENCES sets (id), "
    "id TEXT NOT NULL, enabled INTEGER NOT NULL, info TEXT NOT NULL, UNIQUE (context, id))",
    # Apart from the rest, so that listing 500 entries reads no pixels.
    "CREATE TABLE pixels (entry INTEGER PRIMARY KEY REFERENCES entries (position) ON DELETE CASCADE, "
    "image BLOB NOT NULL, mask BLOB NOT NULL)",
)
# Made when it is missing: the files of earlier versions have none, and those do not mind one.
NUMBERS = ("CREATE TABLE IF NOT EXISTS numbers (entry INTEGER NOT NULL REFERENCES entries (position) ON DELETE CASCADE, "
           "key TEXT NOT NULL, number REAL NOT NULL, PRIMARY KEY (entry, key))")


class ContextStore(Database):
    """A file with context sets. path: ends in .sqlite; made when it is not there. Damage: see Database."""

    title = "context store"
    application = 0x43545853
    schema = 1
    tables = TABLES

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        with self.transaction() as db:
            db.execute(NUMBERS)
            row = db.execute("SELECT salt FROM secret").fetchone()
            require(row is not None and isinstance(row[0], bytes), "no secret in its store")
            self.salt = row[0]

    def fill(self, db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO secret VALUES (?)", (secrets.token_bytes(16),))

    def digest(self, text: str) -> str:
        """A hash for a study's or a case's name or path, keyed with this store's secret."""
        return hashlib.sha256(self.salt + text.encode("utf8")).hexdigest()[:32]

    def open(self, study: str, task: str) -> StoredContextSet:
        """The context set of a study (only the hash of its name is kept) and a task, such as "liver"; made when it is new."""
        key = (self.digest(study), task)
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO sets (study, task) VALUES (?, ?)", key)
            number = db.execute("SELECT id FROM sets WHERE study = ? AND task = ?", key).fetchone()[0]
        return StoredContextSet(self, number)

    def find(self, study: str | None = None, task: str | None = None) -> StoredContextSet:
        """The one set that is there with this beginning of its study's hash and this task, either of them left out."""
        with self.transaction() as db:
            rows = db.execute("SELECT id, study, task FROM sets ORDER BY id").fetchall()
        found = [row for row in rows if row[1].startswith(study or "") and task in (None, row[2])]
        if len(found) != 1:
            there = ", ".join(f"{name} (study {key[:8]})" for _, key, name in rows) or "none"
            raise InteractiveSegError(f"{len(found)} sets of {self.path} are meant, expected one: choose by task and study among "
                                      f"{there}.")
        return StoredContextSet(self, found[0][0])

    def sets(self) -> list[tuple[str, str, int]]:
        """Every set: the study's hash, the task, the number of entries."""
        with self.transaction() as db:
            return db.execute("SELECT study, task, COUNT(entries.id) FROM sets LEFT JOIN entries ON entries.context = sets.id "
                              "GROUP BY sets.id ORDER BY sets.id").fetchall()


class StoredContextSet(ContextSet):
    """The set of one study and task in a store. Every change is on disk when its method returns."""

    def __init__(self, store: ContextStore, number: int) -> None:
        self.store, self.number, self.salt = store, number, store.salt

    def put(self, entries: Sequence[ContextEntry]) -> None:
        with self.store.transaction() as db:
            for entry in entries:
                image, mask = (zlib.compress(part, 1) for part in to_bytes(entry.image, entry.mask))
                info = entry.info
                row = db.execute("INSERT INTO entries (context, id, enabled, info) VALUES (?, ?, ?, ?)",
                                 (self.number, info.id, info.enabled, info_to_json(info)))
                db.execute("INSERT INTO pixels VALUES (?, ?, ?)", (row.lastrowid, image, mask))

    def infos(self) -> tuple[EntryInfo, ...]:
        with self.store.transaction() as db:
            rows = db.execute("SELECT id, info, enabled FROM entries WHERE context = ? ORDER BY position",
                              (self.number,)).fetchall()
        return tuple(info_of(*row) for row in rows)

    def read(self, entry_id: str) -> ContextEntry:
        with self.store.transaction() as db:
            row = db.execute("SELECT id, info, enabled, image, mask FROM entries JOIN pixels ON pixels.entry = position "
                             "WHERE context = ? AND id = ?", (self.number, entry_id)).fetchone()
        if row is None:
            raise unknown(entry_id)
        info = info_of(*row[:3])
        return from_bytes(info, *(inflate(part, size) for part, size in zip(row[3:], info.sizes)))

    def set_enabled(self, entry_id: str, enabled: bool) -> None:
        self.change("UPDATE entries SET enabled = ? WHERE id = ? AND context = ?", (enabled, entry_id, self.number), entry_id)

    def remove(self, entry_id: str) -> None:
        self.change("DELETE FROM entries WHERE id = ? AND context = ?", (entry_id, self.number), entry_id)

    def recall(self, entry_id: str, key: str) -> float | None:
        with self.store.transaction() as db:
            row = db.execute("SELECT number FROM numbers JOIN entries ON entry = position WHERE context = ? AND id = ? "
                             "AND key = ?", (self.number, entry_id, key)).fetchone()
        return row[0] if row is not None and isinstance(row[0], float) else None

    def remember(self, entry_id: str, key: str, number: float) -> None:
        with self.store.transaction() as db:  # nothing where another process has removed the entry
            db.execute("INSERT OR REPLACE INTO numbers SELECT position, ?, ? FROM entries WHERE context = ? AND id = ?",
                       (key, number, self.number, entry_id))

    def change(self, statement: str, values: tuple, entry_id: str) -> None:
        with self.store.transaction() as db:
            if db.execute(statement, values).rowcount == 0:
                raise unknown(entry_id)


def info_of(entry_id: str, text: str, enabled: int) -> EntryInfo:
    """The row of an entry, or an error by which it can be removed."""
    try:
        return info_from_json(text, id=entry_id, enabled=bool(enabled))
    except InteractiveSegError as error:
        raise InteractiveSegError(f"The entry {entry_id} of the context is damaged: remove it.") from error


def inflate(packed: bytes, size: int) -> bytes:
    """At most the promised size, whatever the bytes say."""
    try:
        return zlib.decompressobj().decompress(packed, size + 1)
    except (zlib.error, TypeError) as error:
        raise InteractiveSegError(f"Got a context entry with pixels that cannot be read ({error}): remove it.") from error
