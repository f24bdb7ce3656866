"""How much of a context travels in one file, and how little of it is in memory at a time."""
import tracemalloc

import numpy as np
import pytest
from test_context import added

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.context import ContextSet, ContextStore, export_context, import_context, make_entry, transfer


def test_ten_thousand_entries_and_one_travel(tmp_path):
    context, other = ContextSet(), ContextSet()
    context.put(make_entry(np.zeros((1, 1), np.uint8), np.ones((1, 1))) for _ in range(10_001))
    assert export_context(context, tmp_path / "a.context") == 10_001
    assert import_context(tmp_path / "a.context", other) == 10_001
    assert other.ids() == context.ids()


@pytest.mark.parametrize(("name", "most"), [("MAX_ENTRIES", 2), ("MAX_PIXELS", 3 * 130)])
def test_no_more_is_exported_than_can_be_imported(tmp_path, monkeypatch, name, most):
    context, path = ContextSet(), tmp_path / "a.context"
    added(context, 2)
    export_context(context, path)
    added(context, 1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(transfer, name, most)
        with pytest.raises(InteractiveSegError, match=r"The set has 3 entries .*: hand on a copy of the store itself"):
            export_context(context, path)
        assert import_context(path, ContextSet()) == 2, "the file from before is still there"
    export_context(context, path)
    monkeypatch.setattr(transfer, name, most)
    with pytest.raises(InteractiveSegError, match="is not a context file that can be taken"):
        import_context(path, ContextSet())
    assert [file.name for file in tmp_path.iterdir()] == ["a.context"]


def test_an_import_holds_one_entry_at_a_time_and_keeps_none_of_a_file_that_is_bad_at_its_end(tmp_path):
    first, path = ContextStore(tmp_path / "a.sqlite").open("study", "liver"), tmp_path / "a.context"
    image = np.zeros((1024, 1024), np.uint8)
    first.put(make_entry(image + n, image == 0) for n in range(20))
    export_context(first, path)
    second = ContextStore(tmp_path / "b.sqlite").open("study", "liver")
    tracemalloc.start()
    assert import_context(path, second) == 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * image.size
    data, last = path.read_bytes(), path.read_bytes().rindex(b"PK\x03\x04", 0, path.read_bytes().rindex(b"context.json") - 100)
    path.write_bytes(data[:last + 60] + bytes(20) + data[last + 80:])
    third = ContextStore(tmp_path / "c.sqlite").open("study", "liver")
    with pytest.raises(InteractiveSegError, match="is not a context file that can be taken"):
        import_context(path, third)
    assert third.ids() == ()
