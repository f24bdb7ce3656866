"""A context keeps what was accepted: in memory, on disk, for several processes, through kills and damage, and on the way out."""
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.context import ContextSet, ContextStore, Provenance, as_task, export_context, import_context

ROOT = Path(__file__).resolve().parents[2]


def example(seed, shape=(9, 7), dtype="int16"):
    rng = np.random.default_rng(seed)
    return (rng.random(shape) * 200).astype(dtype), rng.random(shape) > 0.5


@pytest.fixture(params=["memory", "store"])
def context(request, tmp_path):
    return ContextSet() if request.param == "memory" else ContextStore(tmp_path / "a.sqlite").open("study", "liver")


def damaged(path, at, data):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def pixels_of(entries):
    return [(entry.image.tolist(), entry.mask.tolist()) for entry in entries]


def added(context, count, first=0):
    return [context.add(*example(seed)).id for seed in range(first, first + count)]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "float32", ">i2"])
def test_an_entry_comes_back_as_it_was(context, dtype):
    image, mask = example(1, (11, 5), dtype)
    affine = np.arange(16).reshape(4, 4) / 7
    provenance = Provenance(context.digest("Case 7"), 2, 41, {"Click": 3}, "multiverseg", "ab" * 32)
    context.add(image, mask, (0.5, 2.0), affine, provenance)
    [entry] = context.enabled()
    assert entry.image.dtype.name == image.dtype.name
    np.testing.assert_array_equal(entry.image, image)
    np.testing.assert_array_equal(entry.mask, mask)
    assert entry.info.spacing == (0.5, 2.0)
    assert entry.info.affine == tuple(affine.ravel())
    assert entry.info.provenance == provenance


def test_disabled_entries_are_not_used_and_removed_ones_are_gone(context):
    first, second, third = added(context, 3)
    context.set_enabled(first, False)
    context.remove(second)
    assert [entry.info.id for entry in context.enabled()] == [third]
    assert [(info.id, info.enabled) for info in context.infos()] == [(first, False), (third, True)]
    context.set_enabled(first, True)
    assert [entry.info.id for entry in context.enabled()] == [first, third]
    for act in (context.read, context.remove, lambda entry: context.set_enabled(entry, True)):
        with pytest.raises(InteractiveSegError, match="holds no entry"):
            act(second)


def test_soft_masks_are_cut(context):
    context.add(np.zeros((1, 3)), np.array([[0.2, 0.5, 0.7]]))
    assert context.enabled()[0].mask.tolist() == [[False, False, True]]


@pytest.mark.parametrize(("image", "mask"), [
    (np.zeros((3, 3)), np.zeros((3, 4))), (np.zeros((3, 3, 3)), np.zeros((3, 3, 3))),
    (np.zeros((2, 2), complex), np.zeros((2, 2))), (np.zeros((0, 3)), np.zeros((0, 3))),
])
def test_what_is_no_slice_and_mask_is_refused(context, image, mask):
    with pytest.raises(InteractiveSegError):
        context.add(image, mask)
    assert len(context) == 0


@pytest.mark.parametrize(("given", "words"), [
    ({"spacing": (0, 1)}, "Got the spacing (0, 1)"), ({"spacing": "ab"}, "Got the spacing 'ab'"),
    ({"spacing": (1, 1, 1)}, "Got the spacing (1, 1, 1)"), ({"affine": np.eye(3)}, "Got an affine (3, 3)"),
    ({"mask": np.full((4, 4), "a")}, "Got a mask of <U1"),
    ({"image": np.zeros((1, 9000)), "mask": np.ones((1, 9000))}, "at most 8192"),
])
def test_what_is_wrong_with_an_example_is_said_in_one_sentence(context, given, words):
    with pytest.raises(InteractiveSegError) as said:
        context.add(**{"image": np.zeros((4, 4)), "mask": np.eye(4), **given})
    assert words in str(said.value) and "damaged" not in str(said.value) and len(context) == 0


def test_several_entries_are_removed_together_or_not_at_all(context):
    ids = added(context, 3)
    with pytest.raises(InteractiveSegError, match="holds no entry"):
        context.remove(ids[0], "0" * 32)
    assert context.ids() == tuple(ids)
    context.remove(*ids[1:])
    assert context.ids() == (ids[0],)


def test_no_name_or_path_can_enter_or_be_found(tmp_path):
    store = ContextStore(tmp_path / "a.sqlite")
    context = store.open("/home/DOE^JANE/study", "liver")
    context.add(*example(0), provenance=Provenance(case=context.digest("DOE^JANE 1234")))
    export_context(context, tmp_path / "out.context")
    for name, value in (("case", "DOE^JANE"), ("case", "1987120412345678"), ("model", "/home/doe/net.pt"), ("weights", "net.pt"),
                        ("model", "Doe_Jane_19870101"), ("prompts", {"/doe": 1}), ("prompts", {"Jane_Doe": 1})):
        with pytest.raises(InteractiveSegError, match=name):
            Provenance(**{name: value})
    with pytest.raises(InteractiveSegError, match="Got the task '/home/doe/Jane Doe 1987'"):
        store.open("study", "/home/doe/Jane Doe 1987")
    assert as_task("Tumor/left: 2") == "Tumor_left_ 2" and as_task("(left)") == "_(left)" and as_task("liver") == "liver"
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    with zipfile.ZipFile(tmp_path / "out.context") as file:
        data += b"".join(file.read(name) for name in file.namelist())
    assert not any(word in data for word in (b"DOE", b"JANE", b"1234", b"home", str(tmp_path).encode()))


def test_studies_and_tasks_are_kept_apart_and_last(tmp_path):
    store = ContextStore(tmp_path / "a.sqlite")
    liver = added(store.open("one", "liver"), 2)
    added(store.open("one", "spleen"), 1)
    store.open("two", "liver")
    again = ContextStore(tmp_path / "a.sqlite")
    assert [info.id for info in again.open("one", "liver").infos()] == liver
    assert [(task, count) for _, task, count in again.sets()] == [("liver", 2), ("spleen", 1), ("liver", 0)]
    assert again.sets()[0][0] == again.digest("one") != ContextStore(tmp_path / "b.sqlite").digest("one")


def test_nothing_of_a_removed_entry_stays_on_disk(tmp_path):
    store = ContextStore(tmp_path / "a.sqlite")
    context = store.open("study", "liver")
    entry = context.add(np.random.default_rng(0).integers(0, 2**32, (64, 64), "uint32"), np.ones((64, 64))).id
    added(context, 2)
    with store.transaction() as db:
        [(image,)] = db.execute("SELECT image FROM pixels WHERE LENGTH(image) > 16000")
    parts = [image[at:at + 100] for at in range(0, len(image), 1000)]
    assert sum(part in store.path.read_bytes() for part in parts) > 10
    context.remove(entry)
    assert not any(part in file.read_bytes() for part in parts for file in tmp_path.iterdir())


def test_many_threads_can_use_one_set(tmp_path):
    context = ContextStore(tmp_path / "a.sqlite").open("study", "liver")
    threads = [threading.Thread(target=added, args=(context, 5, 5 * n)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(pixels_of(context.enabled())) == sorted((i.tolist(), m.tolist()) for i, m in map(example, range(20)))


WRITER = """
import sys
import numpy as np
from InteractiveSegLib.context import ContextStore
path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
context = ContextStore(path).open("study", "liver")
for seed in range(first, first + count):
    print(context.add(np.full((64, 64), seed), np.ones((64, 64))).id, flush=True)
"""


def writer(path, first, count):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(first), str(count)], cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_can_make_and_use_one_store(tmp_path):
    writers = [writer(tmp_path / "a.sqlite", 100 * n, 15) for n in range(2)]
    told = [process.communicate(timeout=60) for process in writers]
    assert [error for _, error in told] == ["", ""]
    entries = ContextStore(tmp_path / "a.sqlite").open("study", "liver").enabled()
    assert {entry.info.id for entry in entries} == set("".join(out for out, _ in told).split())
    assert sorted(int(entry.image[0, 0]) for entry in entries) == [*range(15), *range(100, 115)]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a process that can be killed without a word")
def test_a_killed_process_loses_at_most_the_entry_it_was_writing(tmp_path):
    rng, path, told = np.random.default_rng(0), tmp_path / "a.sqlite", []
    for kill in range(20):
        process = writer(path, 1000 * kill, 1000)
        if kill % 4:  # the others die while they start and make the store
            told.append(process.stdout.readline().strip())
        timer = threading.Timer(rng.uniform(0, 0.15), process.kill)
        timer.start()
        # read on by the same reader: communicate() would not see the lines that it holds already
        told += [line.strip() for line in process.stdout if len(line.strip()) == 32]
        process.communicate(timeout=60)
        timer.join()
        context = ContextStore(path).open("study", "liver")
        kept = [info.id for info in context.infos()]
        assert set(told) <= set(kept)
        assert len(kept) <= len(told) + kill + 1
    assert all(entry.mask.all() and np.ptp(entry.image) == 0 for entry in context.enabled())


def test_another_programs_file_and_a_newer_store_are_left_alone(tmp_path):
    other, newer = tmp_path / "other.sqlite", tmp_path / "newer.sqlite"
    ContextStore(newer)
    for path, statement in ((other, "CREATE TABLE notes (text)"), (newer, "PRAGMA user_version = 99")):
        db = sqlite3.connect(path)
        db.execute(statement)
        db.close()
    (tmp_path / "picture.png").write_bytes(b"a picture")
    for name, words in (("other.sqlite", "another program"), ("newer.sqlite", "version 99"), ("picture.png", "ends in .sqlite")):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(InteractiveSegError, match=words):
            ContextStore(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(InteractiveSegError, match="folder"):
        ContextStore(tmp_path / "nowhere" / "a.sqlite")


def test_a_set_travels_in_one_file_and_arrives_once(context, tmp_path):
    first, second, _ = added(context, 3)
    context.set_enabled(second, False)
    assert export_context(context, tmp_path / "liver.context") == 3
    other = ContextStore(tmp_path / "b.sqlite").open("elsewhere", "liver")
    assert import_context(tmp_path / "liver.context", other) == 3
    assert other.infos() == context.infos()
    assert pixels_of(other.enabled()) == pixels_of(context.enabled())
    other.remove(first)
    assert import_context(tmp_path / "liver.context", other) == 1, "only what was missing"
    with pytest.raises(InteractiveSegError, match="cannot be written"):
        export_context(context, tmp_path / "nowhere" / "liver.context")


@pytest.fixture
def exported(tmp_path):
    """An exported file as members and their bytes."""
    context = ContextSet()
    added(context, 2)
    export_context(context, tmp_path / "good.context")
    with zipfile.ZipFile(tmp_path / "good.context") as file:
        return {name: file.read(name) for name in file.namelist()}


def changed_list(change):
    def apply(members):
        table = json.loads(members["context.json"])
        change(table["entries"][0])
        members["context.json"] = json.dumps(table).encode()
    return apply


@pytest.mark.parametrize("change", [
    lambda m: m.pop("00001.mask"),
    lambda m: m.update({"../../evil.py": b"x"}),
    lambda m: m.update({"context.json": b"[1, 2"}),
    lambda m: m.update({"context.json": b"{}"}),
    lambda m: m.update({"context.json": b'{"format": "interactive-seg context 2", "entries": []}'}),
    lambda m: m.update({"00000.image": bytes(len(m["00000.image"]))}),
    lambda m: m.update({"00000.image": m["00000.image"] + b"x"}),
    changed_list(lambda e: e.update(dtype="object")),
    changed_list(lambda e: e.update(shape=[10**6, 10**6])),
    changed_list(lambda e: e.update(shape=[7, -9])),
    changed_list(lambda e: e.update(shape="ab")),
    changed_list(lambda e: e.update(spacing=[0, 1])),
    changed_list(lambda e: e.update(affine=[1, 2])),
    changed_list(lambda e: e.update(affine=[float("nan")] * 16)),
    changed_list(lambda e: e.update(enabled="yes")),
    changed_list(lambda e: e.update(id="../../x")),
    changed_list(lambda e: e.update(surplus=1)),
    changed_list(lambda e: e.pop("sha256")),
    changed_list(lambda e: e.update(provenance=None)),
    changed_list(lambda e: e["provenance"].update(case="Jane Doe")),
    changed_list(lambda e: e["provenance"].update(index=10**400)),
    changed_list(lambda e: e["provenance"].update(prompts=["Click"])),
])
def test_a_forged_file_is_refused_and_nothing_of_it_is_kept(exported, tmp_path, change):
    change(exported)
    with zipfile.ZipFile(tmp_path / "forged.context", "w") as file:
        for name, data in exported.items():
            file.writestr(name, data)
    context = ContextSet()
    with pytest.raises(InteractiveSegError, match=r"forged.context is not a context file"):
        import_context(tmp_path / "forged.context", context)
    assert len(context) == 0


def test_a_file_with_flipped_bytes_is_refused_or_right(exported, tmp_path):
    rng, path, right = np.random.default_rng(4), tmp_path / "good.context", ContextSet()
    import_context(path, right)
    whole, refused = path.read_bytes(), 0
    for _ in range(200):
        path.write_bytes(whole)
        damaged(path, int(rng.integers(len(whole))), rng.bytes(int(rng.integers(1, 4))))
        context = ContextSet()
        try:
            import_context(path, context)
            assert pixels_of(context.enabled()) == pixels_of(right.enabled())
        except InteractiveSegError:
            refused += 1
            assert len(context) == 0
    assert refused > 100
