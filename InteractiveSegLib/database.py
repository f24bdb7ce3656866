"""One SQLite file that many processes share and that survives kills and damage. Knows nothing of what is kept in it.

Each change is one transaction on a connection of its own, so that nothing is open or locked between them.
"""
from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from .files import partial
from .types import InteractiveSegError

BUSY = 30  # seconds to wait for another process's transaction


def now() -> str:
    """UTC to the second, ISO 8601."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Database:
    """A file of tables. path: ends in .sqlite; made when it is not there.

    A damaged or empty file is renamed, never overwritten: the error says to what, and the next use starts an empty one.
    Where the file or its folder cannot be written, it can still be read.
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
        file = None
        try:
            if not self.path.exists():
                self.make()
            file = identity(self.path)
            with closing(self.connect()) as db:
                db.text_factory = lambda text: text.decode("utf8", "replace")  # what reads an entry tells what is wrong with it
                self.begin(db)
                yield db
                db.execute("COMMIT")  # closing without it rolls back
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter when SQLite quotes harmed bytes in its message
            if isinstance(error, sqlite3.DatabaseError) and type(error) is not sqlite3.DatabaseError:
                # Its subclasses tell of locks, disks and statements, not of damage.
                raise InteractiveSegError(f"The {self.title} {self.path} cannot be used ({error}): see that its folder is there "
                                          "and writable, and that no other program holds the file.") from error
            raise InteractiveSegError(f"The {self.title} {self.path} is damaged ({error}): {self.set_aside(file)}.") from error

    @property
    def writable(self) -> bool:
        return os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)

    def connect(self) -> sqlite3.Connection:
        """To the file, which must be there. One that cannot be written is taken as it lies, unless it has a journal."""
        mode = "rw" if self.writable else "ro" if Path(f"{self.path}-wal").exists() else "ro&immutable=1"
        name = quote(os.fsencode(self.path.absolute().as_posix()), safe="/:")
        address = f"file://{name if name[0] == '/' else '/' + name}?mode={mode}"
        return sqlite3.connect(address, timeout=BUSY, isolation_level=None, uri=True)

    def make(self) -> None:
        """A new file, whole or not at all: another process may be making it too, and either may be killed."""
        part = partial(self.path, f"-{secrets.token_hex(4)}.sqlite")
        try:
            with closing(sqlite3.connect(str(part), isolation_level=None)) as db:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("BEGIN")
                for table in self.tables:
                    db.execute(table)
                self.fill(db)
                db.execute(f"PRAGMA application_id = {self.application}")
                db.execute(f"PRAGMA user_version = {self.schema}")
                db.execute("COMMIT")
            place(part, self.path)
        finally:
            with suppress(OSError):
                part.unlink()

    def begin(self, db: sqlite3.Connection) -> None:
        """Start a transaction. SQLite does not always wait by itself while another process cleans the journal, so this does."""
        deadline = time.monotonic() + BUSY
        while True:
            try:
                self.prepare(db)
                db.execute("BEGIN IMMEDIATE" if self.writable else "BEGIN")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                db.rollback()
                time.sleep(0.01)

    def prepare(self, db: sqlite3.Connection) -> None:
        """Refuse an empty file, another program's and a newer version's."""
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA secure_delete = ON")  # what is removed is overwritten
        application, schema = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if application == schema == 0 and db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() == (0,):
            raise sqlite3.DatabaseError("it is empty")
        if application != self.application:
            raise InteractiveSegError(f"{self.path} is another program's file, not a {self.title}: choose another name.")
        if schema != self.schema:
            raise InteractiveSegError(f"The {self.title} {self.path} has version {schema}, not {self.schema}: "
                                      "update the program.")

    def set_aside(self, file: tuple[int, int] | None) -> str:
        """Rename the file with its journal, unless another process did and a new one is there; in words for the message."""
        if identity(self.path) != file:
            return "another program set it aside, and the next use starts an empty one"
        mark = f"damaged-{now().replace(':', '')}-{secrets.token_hex(2)}"
        name = f"{self.path.stem}.{mark}.sqlite"
        try:
            for ending in ("", "-wal", "-shm"):
                part = Path(f"{self.path}{ending}")
                if part.exists():
                    part.rename(self.path.with_name(name + ending))
        except OSError as error:
            return f"it cannot be set aside as {name} ({error.strerror}), so move it away yourself"
        return f"it was set aside as {name}, and the next use starts an empty one{self.rescue(mark)}"

    def rescue(self, mark: str) -> str:
        """Set aside what lies beside the damaged file and would be lost with it; how to use that, in words. mark: for names."""
        return ""


def place(part: Path, path: Path) -> None:
    """Give a file its name, unless there is one of that name."""
    try:
        os.link(part, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links, as on a memory stick
        if not path.exists():
            part.rename(path)


def identity(path: Path) -> tuple[int, int] | None:
    """Which file it is, whatever its name; None where there is none."""
    return (path.stat().st_dev, path.stat().st_ino) if path.exists() else None
