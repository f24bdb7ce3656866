"""One SQLite file that many processes share and that survives kills and damage. Knows nothing of what is kept in it.

Each change is one transaction on a connection of its own, so that nothing is open or locked between them.
"""
from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path

from .types import InteractiveSegError

BUSY = 30  # seconds to wait for another process's transaction


def now() -> str:
    """UTC to the second, ISO 8601."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Database:
    """A file of tables. path: ends in .sqlite; made when it is not there.

    A damaged file is renamed, never overwritten: the error says to what, and the next use starts an empty one.
    title: for sentences. application: a number that tells this kind of file from others. schema: its version.
    tables: the statements that make it.
    """

    title: str
    application: int
    schema: int
    tables: tuple[str, ...]

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if self.path.suffix != ".sqlite":
            raise InteractiveSegError(f"Got the {self.title} {self.path}, expected a file that ends in .sqlite: name it so.")
        with self.transaction():
            pass

    def fill(self, db: sqlite3.Connection) -> None:
        """What a new file holds besides its tables."""

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
                raise InteractiveSegError(f"The {self.title} {self.path} cannot be used ({error}): see that its folder is there "
                                          "and writable, and that no other program holds the file.") from error
            aside = self.set_aside(file)
            raise InteractiveSegError(f"The {self.title} {self.path} is damaged ({error}): it was set aside{aside}, and the "
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
                for table in self.tables:
                    db.execute(table)
                self.fill(db)
                db.execute(f"PRAGMA application_id = {self.application}")
                db.execute(f"PRAGMA user_version = {self.schema}")
            db.execute("COMMIT")
        application, schema = self.versions(db)
        if application != self.application:
            raise InteractiveSegError(f"{self.path} is another program's file, not a {self.title}: choose another name.")
        if schema != self.schema:
            raise InteractiveSegError(f"The {self.title} {self.path} has version {schema}, not {self.schema}: "
                                      "update the program.")

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


def identity(path: Path) -> tuple[int, int] | None:
    """Which file it is, whatever its name; None where there is none."""
    return (path.stat().st_dev, path.stat().st_ino) if path.exists() else None
