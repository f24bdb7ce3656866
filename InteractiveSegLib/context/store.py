"""Context sets in one SQLite file, for many studies and tasks, many processes, and processes that are killed.

Each change is one transaction on a connection of its own, so that nothing is open or locked between them.
"""
from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from ..types import InteractiveSegError
from .entry import ContextEntry, EntryInfo, from_bytes, info_from_json, info_to_json, now, require, to_bytes
from .memory import ContextSet, unknown

APPLICATION = 0x43545853  # tells our files from other SQLite files
SCHEMA = 1
BUSY = 30  # seconds to wait for another process's transaction
TABLES = (
    "CREATE TABLE secret (salt BLOB NOT NULL)",
    "CREATE TABLE sets (id INTEGER PRIMARY KEY, study TEXT NOT NULL, task TEXT NOT NULL, UNIQUE (study, task))",
    "CREATE TABLE entries (position INTEGER PRIMARY KEY AUTOINCREMENT, context INTEGER NOT NULL REFERENCES sets (id), "
    "id TEXT NOT NULL, enabled INTEGER NOT NULL, info TEXT NOT NULL, UNIQUE (context, id))",
    # Apart from the rest, so that listing 500 entries reads no pixels.
    "CREATE TABLE pixels (entry INTEGER PRIMARY KEY REFERENCES entries (position) ON DELETE CASCADE, "
    "image BLOB NOT NULL, mask BLOB NOT NULL)",
)


class ContextStore:
    """A file with context sets. path: ends in .sqlite; made when it is not there.

    A damaged file is renamed, never overwritten: the error says to what, and the next use starts an empty store.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if self.path.suffix != ".sqlite":
            raise InteractiveSegError(f"Got the context store {self.path}, expected a file that ends in .sqlite: name it so.")
        with self.transaction() as db:
            row = db.execute("SELECT salt FROM secret").fetchone()
            require(row is not None and isinstance(row[0], bytes), "no secret in its store")
            self.salt = row[0]

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

    def sets(self) -> list[tuple[str, str, int]]:
        """Every set: the study's hash, the task, the number of entries."""
        with self.transaction() as db:
            return db.execute("SELECT study, task, COUNT(entries.id) FROM sets LEFT JOIN entries ON entries.context = sets.id "
                              "GROUP BY sets.id ORDER BY sets.id").fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. SQLite's own words become one sentence, and damage sets the file aside."""
        file = identity(self.path)
        try:
            with closing(sqlite3.connect(str(self.path), timeout=BUSY, isolation_level=None)) as db:
                db.text_factory = lambda text: text.decode("utf8", "replace")  # what reads an entry tells what is wrong with it
                self.begin(db)
                yield db
                db.execute("COMMIT")  # closing without it rolls back
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter when SQLite quotes harmed bytes in its message
            if isinstance(error, sqlite3.DatabaseError) and type(error) is not sqlite3.DatabaseError:
                # Its subclasses tell of locks, disks and statements, not of damage.
                raise InteractiveSegError(f"The context store {self.path} cannot be used ({error}): see that its folder is there "
                                          "and writable, and that no other program holds the file.") from error
            aside = self.set_aside(file)
            raise InteractiveSegError(f"The context store {self.path} is damaged ({error}): it was set aside{aside}, and the "
                                      "next use starts an empty one.") from error

    def begin(self, db: sqlite3.Connection) -> None:
        """Start a transaction. SQLite does not wait by itself while another process turns the journal on, so this does."""
        deadline = time.monotonic() + BUSY
        while True:
            try:
                self.prepare(db)
                db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                db.rollback()
                time.sleep(0.01)

    def prepare(self, db: sqlite3.Connection) -> None:
        """Make the tables in a new file; refuse another program's file and a newer version's."""
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA secure_delete = ON")  # what is removed is overwritten
        if self.blank(db):
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            if self.blank(db):  # still: another process may have been first
                for table in TABLES:
                    db.execute(table)
                db.execute("INSERT INTO secret VALUES (?)", (secrets.token_bytes(16),))
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {SCHEMA}")
            db.execute("COMMIT")
        application, schema = self.versions(db)
        if application != APPLICATION:
            raise InteractiveSegError(f"{self.path} is another program's file, not a context store: choose another name.")
        if schema != SCHEMA:
            raise InteractiveSegError(f"The context store {self.path} has version {schema}, not {SCHEMA}: update the program.")

    def blank(self, db: sqlite3.Connection) -> bool:
        return self.versions(db) == (0, 0) and db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,)

    @staticmethod
    def versions(db: sqlite3.Connection) -> tuple[int, int]:
        return db.execute("PRAGMA application_id").fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0]

    def set_aside(self, file: tuple[int, int] | None) -> str:
        """Rename the file with its journal, unless another process did and a new one is there; " as NAME" for the message."""
        if identity(self.path) != file:
            return ""
        stem = f"{self.path.stem}.damaged-{now().replace(':', '')}-{secrets.token_hex(2)}.sqlite"
        for ending in ("", "-wal", "-shm"):
            part = Path(f"{self.path}{ending}")
            if part.exists():
                part.rename(self.path.with_name(stem + ending))
        return f" as {stem}"


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

    def change(self, statement: str, values: tuple, entry_id: str) -> None:
        with self.store.transaction() as db:
            if db.execute(statement, values).rowcount == 0:
                raise unknown(entry_id)


def identity(path: Path) -> tuple[int, int] | None:
    """Which file it is, whatever its name; None where there is none."""
    return (path.stat().st_dev, path.stat().st_ino) if path.exists() else None


def info_of(entry_id: str, text: str, enabled: int) -> EntryInfo:
    """The row of an entry, or an error by which it can be removed."""
    try:
        return replace(info_from_json(text), id=entry_id, enabled=bool(enabled))
    except InteractiveSegError as error:
        raise InteractiveSegError(f"The entry {entry_id} of the context is damaged: remove it.") from error


def inflate(packed: bytes, size: int) -> bytes:
    """At most the promised size, whatever the bytes say."""
    try:
        return zlib.decompressobj().decompress(packed, size + 1)
    except (zlib.error, TypeError) as error:
        raise InteractiveSegError(f"Got a context entry with pixels that cannot be read ({error}): remove it.") from error
