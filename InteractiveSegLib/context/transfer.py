"""A context set as one file to hand on: a ZIP with a list and raw pixels, in which nothing is believed when it is read."""
from __future__ import annotations

import json
import secrets
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..types import InteractiveSegError
from .entry import ContextEntry, EntryInfo, from_bytes, info_from_json, info_to_json, to_bytes
from .memory import ContextSet

FORMAT = "interactive-seg context 1"
LIST = "context.json"
MAX_ENTRIES = 100_000
MAX_LINE = 4096  # bytes of the list for each entry; an entry's own pixels are bounded by its sides
MAX_PIXELS = 64 * 2**30  # bytes of all entries together


def names(index: int) -> tuple[str, str]:
    """The two members of an entry."""
    return f"{index:05}.image", f"{index:05}.mask"


def export_context(context: ContextSet, path: Path | str) -> int:
    """Write all entries of a set to one file, and give their number. Nothing is there until all of it is.

    Damaged entries are left out with a warning. InteractiveSegError for more than `import_context` would take.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    infos = context.infos()
    if too_much(infos):
        raise InteractiveSegError(f"The set has {len(infos)} entries of {pixels(infos) / 2**30:.1f} GiB, expected up to "
                                  f"{MAX_ENTRIES} of {MAX_PIXELS / 2**30:.0f} GiB in one file: hand on a copy of the store "
                                  "itself, or remove some.")
    entries = []
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
            for index, entry in enumerate(context.whole(info.id for info in infos)):
                entries.append(json.loads(info_to_json(entry.info)))
                for name, data in zip(names(index), to_bytes(entry.image, entry.mask)):
                    file.writestr(name, data)
            file.writestr(LIST, json.dumps({"format": FORMAT, "entries": entries}, indent=1))
        part.replace(path)
    except OSError as error:
        raise InteractiveSegError(f"{path} cannot be written ({error.strerror}): choose another place.") from error
    finally:
        part.unlink(missing_ok=True)
    return len(entries)


def import_context(path: Path | str, context: ContextSet) -> int:
    """Add the entries of an exported file that the set does not have, all or none, and give their number.

    Members, sizes, counts and types are checked before anything is unpacked, hashes as it is; only one entry is unpacked at a
    time, and nothing to disk but into the set.
    """
    path = Path(path)
    with refusing(path):
        file = zipfile.ZipFile(path)
    with file:
        with refusing(path):
            infos = read_list(file)
        known = set(context.ids())
        fresh = [(names(index), info) for index, info in enumerate(infos) if info.id not in known]
        context.put(unpacked(file, path, fresh))
    return len(fresh)


def read_list(file: zipfile.ZipFile) -> list[EntryInfo]:
    """The entries of a file, checked against its members."""
    members = {member.filename: member.file_size for member in file.infolist()}
    most = MAX_LINE * len(members)
    if members.get(LIST, most + 1) > most:
        raise InteractiveSegError(f"it has no {LIST}, or one that is too long")
    try:
        table = json.loads(file.read(LIST))
        listed = table["entries"] if table["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InteractiveSegError(f"its {LIST} is not a list of entries") from error
    if not isinstance(listed, list) or len(listed) > MAX_ENTRIES:
        raise InteractiveSegError(f"its {LIST} is of another format, or has more than {MAX_ENTRIES} entries")
    infos = [info_from_json(json.dumps(item)) for item in listed]
    expected = {name: size for index, info in enumerate(infos) for name, size in zip(names(index), info.sizes)}
    if members != {LIST: members[LIST], **expected} or len(members) != len(file.infolist()):
        raise InteractiveSegError("its members or their sizes are not the listed ones")
    if len({info.id for info in infos}) != len(infos) or too_much(infos):
        raise InteractiveSegError("an entry is listed twice, or all together are too large")
    return infos


def unpacked(file: zipfile.ZipFile, path: Path, wanted: Sequence[tuple[tuple[str, str], EntryInfo]]) -> Iterator[ContextEntry]:
    """Entries with their pixels, one after the other."""
    for members, info in wanted:
        with refusing(path):
            entry = from_bytes(info, *map(file.read, members))
        yield entry


def pixels(infos: Sequence[EntryInfo]) -> int:
    """Bytes of all entries, unpacked."""
    return sum(sum(info.sizes) for info in infos)


def too_much(infos: Sequence[EntryInfo]) -> bool:
    return len(infos) > MAX_ENTRIES or pixels(infos) > MAX_PIXELS


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """What is wrong with a file as one sentence."""
    try:
        yield
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise refused(path, str(error)) from error
    except InteractiveSegError as error:
        raise refused(path, str(error).rstrip(".")) from error


def refused(path: Path, reason: str) -> InteractiveSegError:
    return InteractiveSegError(f"{path} is not a context file that can be taken ({reason}): export it again.")
