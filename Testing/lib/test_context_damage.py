"""A context with harm in its file: what is whole is used, what is not is named and never overwritten."""
import multiprocessing
import os
import shlex
import shutil
import sqlite3
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from test_context import added, damaged, pixels_of

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.cli import main
from InteractiveSegLib.context import ContextStore


def test_a_store_waits_for_another_process_that_writes(tmp_path):
    path, held = tmp_path / "a.sqlite", threading.Event()
    ContextStore(path)

    def hold():
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        held.set()
        time.sleep(0.3)
        db.close()

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    added(ContextStore(path).open("study", "liver"), 1)
    other.join()
    assert ContextStore(path).sets()[0][1:] == ("liver", 1)


@pytest.mark.parametrize("harm", [
    lambda path: damaged(path, 0, b"nonsense"),
    lambda path: damaged(path, 100, os.urandom(4000)),
    lambda path: os.truncate(path, path.stat().st_size // 2), lambda path: os.truncate(path, 0),
], ids=["header", "first page", "cut off", "empty"])
def test_a_damaged_store_is_set_aside_whole_and_a_new_one_starts(tmp_path, harm):
    path = tmp_path / "a.sqlite"
    added(ContextStore(path).open("study", "liver"), 20)
    harm(path)
    before = path.read_bytes()
    with pytest.raises(InteractiveSegError, match=r"is damaged .* set aside as a\.damaged-"):
        ContextStore(path).sets()
    assert [file.read_bytes() for file in tmp_path.glob("a.damaged-*.sqlite")] == [before]
    assert ContextStore(path).sets() == []


def test_harm_anywhere_never_gives_other_pixels_or_another_error(tmp_path, caplog):
    rng, path = np.random.default_rng(3), tmp_path / "a.sqlite"
    ids = added(ContextStore(path).open("study", "liver"), 6)
    right = dict(zip(ids, map(pixels_of, ([entry] for entry in ContextStore(path).open("study", "liver").enabled()))))
    whole = path.read_bytes()
    reported = 0
    for _ in range(60):
        path.write_bytes(whole)
        damaged(path, int(rng.integers(len(whole))), rng.bytes(30))
        caplog.clear()
        try:
            entries = ContextStore(path).open("study", "liver").enabled()
            assert all(pixels_of([entry]) == right[entry.info.id] for entry in entries)
            reported += bool(caplog.messages)
        except InteractiveSegError:
            reported += 1
        for file in tmp_path.iterdir():
            file.unlink()
    assert reported > 5


def change(path, statement, *values):
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement, values)
        db.commit()


HARM = {"what it is": "UPDATE entries SET info = CAST(x'7bff' AS TEXT) WHERE id = ?",
        "empty": "UPDATE entries SET info = '{}' WHERE id = ?",
        "pixels": "UPDATE pixels SET image = x'00' WHERE entry = (SELECT position FROM entries WHERE id = ?)",
        "no pixels": "DELETE FROM pixels WHERE entry = (SELECT position FROM entries WHERE id = ?)"}


@pytest.mark.parametrize("harm", HARM)
def test_a_harmed_entry_is_left_out_named_once_and_removed_by_the_command_that_is_told(tmp_path, caplog, harm):
    path = tmp_path / "a.sqlite"
    context = ContextStore(path).open("study", "left atrium")
    first, second = added(context, 2)
    ContextStore(path).open("another", "left atrium")
    change(path, HARM[harm], first)
    for _ in range(2):
        assert [entry.info.id for entry in context.enabled()] == [second]
    [words] = caplog.messages
    assert f"entry {first} is damaged" in words
    assert main(shlex.split(words.split("`")[1])[1:]) == 0
    assert context.ids() == (second,)
    ContextStore(path).open("study", "left atrium").enabled()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("harm", HARM)
def test_every_command_works_on_a_store_with_a_harmed_entry(tmp_path, monkeypatch, capsys, caplog, harm):
    monkeypatch.chdir(tmp_path)
    first, second = added(ContextStore("a.sqlite").open("study", "liver"), 2)
    change("a.sqlite", HARM[harm], first)
    for words in (["list", "a.sqlite"], ["show", "a.sqlite", "-o", "a.png"], ["export", "a.sqlite", "-o", "a.context"]):
        assert main(["context", *words]) == 0
    said = capsys.readouterr().out
    assert second[:8] in said and "a.context: 1 entries" in said and f"entry {first} is damaged" in caplog.text
    ContextStore("b.sqlite").open("study", "liver")
    assert main(["context", "import", "b.sqlite", "a.context"]) == 0
    assert main(["context", "remove", "a.sqlite", first[:6]]) == 0
    assert ContextStore("a.sqlite").find().ids() == ContextStore("b.sqlite").find().ids() == (second,)


def as_nobody(folder, entry, told):
    os.chdir(folder)
    if os.geteuid() == 0:  # whom nothing is forbidden
        os.setuid(65534)
    codes = [main(["context", *words]) for words in (["list", "a.sqlite"], ["export", "a.sqlite", "-o", "out/a.context"],
                                                     ["remove", "a.sqlite", entry])]
    told.send(codes)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process that may not write")
def test_a_store_that_cannot_be_written_can_be_read():
    folder = Path(tempfile.mkdtemp())
    try:
        entry, _ = added(ContextStore(folder / "a.sqlite").open("study", "liver"), 2)
        main(["context", "list", str(folder / "a.sqlite")])  # so that all is loaded, which the other user may not read
        before = (folder / "a.sqlite").read_bytes()
        (folder / "out").mkdir()
        for path, mode in ((folder / "out", 0o777), (folder / "a.sqlite", 0o444), (folder, 0o555)):
            path.chmod(mode)
        ear, mouth = multiprocessing.get_context("fork").Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=as_nobody, args=(folder, entry, mouth))
        process.start()
        mouth.close()
        assert ear.recv() == [0, 0, 1]
        process.join()
        assert (folder / "a.sqlite").read_bytes() == before and sorted(p.name for p in folder.iterdir()) == ["a.sqlite", "out"]
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
