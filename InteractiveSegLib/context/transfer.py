"""A context set as one file to hand on: a ZIP with a list and raw pixels, in which nothing is believed when it is read."""
from __future__ import annotations

import json
import secrets
import zipfile
import zlib
from pathlib import Path

from ..types import InteractiveSegError
from .entry import ContextEntry, from_bytes, info_from_json, info_to_json, to_bytes
from .memory import ContextSet

FORMAT = "interactive-seg context 1"
LIST = "context.json"
MAX_ENTRIES = 10_000
MAX_LIST = 64 * 2**20  # bytes
MAX_PIXELS = 2 * 2**30  # bytes of all entries together


def names(index: int) -> tuple[str, str]:
    """The two members of an entry."""
    return f"{index:05}.image", f"{index:05}.mask"


def export_context(context: ContextSet, path: Path | str) -> int:
    """Write all entries of a set to one file, and give their number. Nothing is there until all of it is."""
    path = Path(path)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    infos = context.infos()
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as file:
            entries = [json.loads(info_to_json(info)) for info in infos]
            file.writestr(LIST, json.dumps({"format": FORMAT, "entries": entries}, indent=1))
            for index, info in enumerate(infos):
                entry = context.read(info.id)
                for name, data in zip(names(index), to_bytes(entry.image, entry.mask)):
                    file.writestr(name, data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InteractiveSegError(f"{path} cannot be written ({error.strerror}): choose another place.") from error
    return len(infos)


def import_context(path: Path | str, context: ContextSet) -> int:
    """Add the entries of an exported file that the set does not have, all or none, and give their number.

    Members, sizes, counts, types and hashes are checked before anything is kept; nothing is unpacked to disk.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as file:
            entries = read_entries(file, {info.id for info in context.infos()})
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise refused(path, str(error)) from error
    except InteractiveSegError as error:
        raise refused(path, str(error).rstrip(".")) from error
    context.put(entries)
    return len(entries)


def read_entries(file: zipfile.ZipFile, known: set[str]) -> list[ContextEntry]:
    """The entries that are not known, checked."""
    members = {member.filename: member.file_size for member in file.infolist()}
    if members.get(LIST, MAX_LIST + 1) > MAX_LIST:
        raise InteractiveSegError(f"it has no {LIST}")
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
    if len({info.id for info in infos}) != len(infos) or sum(expected.values()) > MAX_PIXELS:
        raise InteractiveSegError("an entry is listed twice, or all together are too large")
    return [from_bytes(info, *(file.read(name) for name in names(index)))
            for index, info in enumerate(infos) if info.id not in known]


def refused(path: Path, reason: str) -> InteractiveSegError:
    return InteractiveSegError(f"{path} is not a context file that can be taken ({reason}): export it again.")
