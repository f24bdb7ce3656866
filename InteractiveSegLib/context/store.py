"""Context sets in one SQLite file, for many studies and tasks, many processes, and processes that are killed."""
from __future__ import annotations

import hashlib
import logging
import re
import secrets
import shlex
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..database import Database
from ..types import InteractiveSegError
from .entry import ContextEntry, EntryInfo, from_bytes, info_from_json, info_to_json, require, to_bytes
from .memory import ContextSet, unknown

log = logging.getLogger(__name__)
TASK = re.compile(r"\w[\w .,()+-]{0,59}")
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
    """A file with context sets. path: ends in .sqlite; made when it is not there. Damage: see Database.

    It holds the key of its hashes, so whoever has it can check guesses of names: keep it like the images that are in it.
    """

    title = "context store"
    application = 0x43545853
    schema = 1
    tables = TABLES

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        with self.transaction() as db:
            self.remembers = self.writable
            if self.remembers:
                db.execute(NUMBERS)
            row = db.execute("SELECT salt FROM secret").fetchone()
            require(row is not None and isinstance(row[0], bytes), "no secret in its store")
            self.salt = row[0]

    def fill(self, db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO secret VALUES (?)", (secrets.token_bytes(16),))

    def digest(self, text: str) -> str:
        """A hash for a study's or a case's name or path, keyed with the secret that lies in this store."""
        return hashlib.sha256(self.salt + text.encode("utf8")).hexdigest()[:32]

    def open(self, study: str, task: str) -> StoredContextSet:
        """The context set of a study (only the hash of its name is kept) and a task, such as "liver"; made when it is new."""
        key = (self.digest(study), check_task(task))
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO sets (study, task) VALUES (?, ?)", key)
            number = db.execute("SELECT id FROM sets WHERE study = ? AND task = ?", key).fetchone()[0]
        return StoredContextSet(self, number, *key)

    def find(self, study: str | None = None, task: str | None = None) -> StoredContextSet:
        """The one set that is there with this beginning of its study's hash and this task, either of them left out."""
        with self.transaction() as db:
            rows = db.execute("SELECT id, study, task FROM sets ORDER BY id").fetchall()
        found = [row for row in rows if row[1].startswith(study or "") and task in (None, row[2])]
        if len(found) != 1:
            there = ", ".join(f"{name} (study {key[:8]})" for _, key, name in rows) or "none"
            raise InteractiveSegError(f"{len(found)} sets of {self.path} are meant, expected one: choose by task and study among "
                                      f"{there}.")
        return StoredContextSet(self, *found[0])

    def sets(self) -> list[tuple[str, str, int]]:
        """Every set: the study's hash, the task, the number of entries."""
        with self.transaction() as db:
            return db.execute("SELECT study, task, COUNT(entries.id) FROM sets LEFT JOIN entries ON entries.context = sets.id "
                              "GROUP BY sets.id ORDER BY sets.id").fetchall()


class StoredContextSet(ContextSet):
    """The set of one study and task in a store. Every change is on disk when its method returns."""

    def __init__(self, store: ContextStore, number: int, study: str, task: str) -> None:
        self.store, self.number, self.study, self.task, self.salt = store, number, study, task, store.salt
        self.told: set[str] = set()  # damaged entries of which the user knows

    def put(self, entries: Iterable[ContextEntry]) -> None:
        with self.store.transaction() as db:
            for entry in entries:
                image, mask = (zlib.compress(part, 1) for part in to_bytes(entry.image, entry.mask))
                info = entry.info
                row = db.execute("INSERT INTO entries (context, id, enabled, info) VALUES (?, ?, ?, ?)",
                                 (self.number, info.id, info.enabled, info_to_json(info)))
                db.execute("INSERT INTO pixels VALUES (?, ?, ?)", (row.lastrowid, image, mask))

    def ids(self) -> tuple[str, ...]:
        with self.store.transaction() as db:
            rows = db.execute("SELECT id FROM entries WHERE context = ? ORDER BY position", (self.number,)).fetchall()
        return tuple(row[0] for row in rows)

    def infos(self) -> tuple[EntryInfo, ...]:
        with self.store.transaction() as db:
            rows = db.execute("SELECT id, info, enabled FROM entries WHERE context = ? ORDER BY position",
                              (self.number,)).fetchall()
        infos, damaged = [], []
        for row in rows:
            try:
                infos.append(info_of(*row))
            except InteractiveSegError:
                damaged.append(row[0])
        self.tell(damaged)
        return tuple(infos)

    def read(self, entry_id: str) -> ContextEntry:
        row = self.row(entry_id)
        if row is None:
            raise unknown(entry_id)
        return entry_of(*row)

    def whole(self, ids: Iterable[str]) -> Iterator[ContextEntry]:
        damaged = []
        for row in map(self.row, ids):
            try:
                if row is not None:
                    yield entry_of(*row)
            except InteractiveSegError:
                damaged.append(row[0])
        self.tell(damaged)

    def row(self, entry_id: str) -> tuple | None:
        with self.store.transaction() as db:
            return db.execute("SELECT id, info, enabled, image, mask FROM entries LEFT JOIN pixels ON pixels.entry = position "
                              "WHERE context = ? AND id = ?", (self.number, entry_id)).fetchone()

    def set_enabled(self, entry_id: str, enabled: bool) -> None:
        self.change("UPDATE entries SET enabled = ? WHERE id = ? AND context = ?", [(enabled, entry_id, self.number)])

    def remove(self, *entry_ids: str) -> None:
        self.change("DELETE FROM entries WHERE id = ? AND context = ?", [(entry_id, self.number) for entry_id in entry_ids])

    def recall(self, entry_id: str, key: str) -> float | None:
        if not self.store.remembers:
            return None
        with self.store.transaction() as db:
            row = db.execute("SELECT number FROM numbers JOIN entries ON entry = position WHERE context = ? AND id = ? "
                             "AND key = ?", (self.number, entry_id, key)).fetchone()
        return row[0] if row is not None and isinstance(row[0], float) else None

    def remember(self, entry_id: str, key: str, number: float) -> None:
        if not self.store.remembers:
            return
        with self.store.transaction() as db:  # nothing where another process has removed the entry
            db.execute("INSERT OR REPLACE INTO numbers SELECT position, ?, ? FROM entries WHERE context = ? AND id = ?",
                       (key, number, self.number, entry_id))

    def change(self, statement: str, values: Iterable[tuple]) -> None:
        """For several entries, all or none. values: for the statement; the last but one is the entry's id."""
        with self.store.transaction() as db:
            for row in values:
                if db.execute(statement, row).rowcount == 0:
                    raise unknown(row[-2])

    def tell(self, damaged: Iterable[str]) -> None:
        """One sentence on entries that are damaged, once."""
        new = [str(entry_id) for entry_id in damaged if str(entry_id) not in self.told]
        self.told.update(new)
        if new:
            command = ["interactive-seg", "context", "remove", str(self.store.path), *new, "--task", self.task, "--study",
                       self.study[:8]]
            log.warning("%s damaged and left out, all others are used: `%s` removes what is damaged.", "The context's entry "
                        f"{new[0]} is" if len(new) == 1 else f"{len(new)} entries of the context are", shlex.join(command))


def check_task(task: str) -> str:
    """The name of a structure, or one sentence."""
    if not TASK.fullmatch(task):
        raise InteractiveSegError(f"Got the task {task!r}, expected the name of a structure: use letters, digits and spaces.")
    return task


def as_task(name: str) -> str:
    """The task that is nearest to any name, as that of a segment."""
    task = re.sub(r"[^\w .,()+-]", "_", name)[:60]
    return task if TASK.fullmatch(task) else f"_{task}"[:60]


def info_of(entry_id: str, text: str, enabled: int) -> EntryInfo:
    """The row of an entry, or an error by which it can be removed."""
    try:
        return info_from_json(text, id=entry_id, enabled=bool(enabled))
    except InteractiveSegError as error:
        raise InteractiveSegError(f"The entry {entry_id} of the context is damaged: remove it.") from error


def entry_of(entry_id: str, text: str, enabled: int, image: bytes, mask: bytes) -> ContextEntry:
    """The same with its pixels."""
    info = info_of(entry_id, text, enabled)
    return from_bytes(info, *(inflate(part, size) for part, size in zip((image, mask), info.sizes)))


def inflate(packed: bytes, size: int) -> bytes:
    """At most the promised size, whatever the bytes say."""
    try:
        return zlib.decompressobj().decompress(packed, size + 1)
    except (zlib.error, TypeError) as error:
        raise InteractiveSegError(f"Got a context entry with pixels that cannot be read ({error}): remove it.") from error
