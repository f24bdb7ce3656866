"""What was computed of examples is there for the next case: in the process, and in the store for the next process."""
import numpy as np
import pytest
from test_context_ways import STILL, Atlas, context_of, predictor_of

from InteractiveSegLib.context import ContextSet, ContextStore, kept
from InteractiveSegLib.geometry import Canvas, normalise
from InteractiveSegLib.predictors import evidence, examples
from InteractiveSegLib.predictors.examples import Examples
from InteractiveSegLib.predictors.slices import Request
from InteractiveSegLib.robot import depth, largest_component
from InteractiveSegLib.types import bounding_box

IMAGE, MASK = STILL[0]


@pytest.fixture
def fresh(monkeypatch):
    """Call it to forget all that the process keeps, as a new one would."""
    return lambda: monkeypatch.setattr(kept.kept, "_values", type(kept.kept._values)())


@pytest.fixture
def reads(monkeypatch):
    """Ids of the entries that were read, in order."""
    found, read = [], ContextSet.read
    monkeypatch.setattr(ContextSet, "read", lambda self, entry_id: found.append(entry_id) or read(self, entry_id))
    return found


def many(count):
    rng = np.random.default_rng(0)
    return context_of([(rng.normal(100, 20, (40, 50)), rng.random((40, 50)) > 0.8) for _ in range(count)])


def test_a_second_session_reads_no_example_again(reads):
    context, pictures = many(12), []
    for count in (12, 0):
        used = Examples(Atlas(), context, 4)
        ids = used.ids()
        assert not reads, "none before one is needed"
        pictures.append((used.whole(ids, IMAGE).encoded, used.around(ids, IMAGE, None).encoded, used.side(ids)))
        assert len(set(reads)) == count
        reads.clear()
    for one, other in zip(*pictures):
        assert np.array_equal(one, other)
    context.add(IMAGE, MASK)
    Examples(Atlas(), context, 4).ids()
    assert not reads


def test_an_example_is_seen_as_if_its_whole_slice_had_been_searched_for_the_object():
    rng = np.random.default_rng(1)
    context = context_of([(rng.normal(0, 1, (30, 40)), rng.random((30, 40)) > cut) for cut in (0.2, 0.5, 0.97, 1.0)])
    for entry in context.enabled():
        part = largest_component(entry.mask)
        row, column = np.unravel_index(int(depth(part).argmax()), part.shape)
        assert examples.middle_of(entry) == (row + 0.5, column + 0.5)
        start, stop = bounding_box(part)
        assert examples.object_side(entry) == max(b - a for a, b in zip(start, stop))
        used = Examples(Atlas(), context, 16)
        used.ids()
        image, mask = used._cropped(entry.info.id, examples.WHOLE)
        canvas = Canvas((30, 40), (1.0, 1.0), Atlas.size)
        assert np.array_equal(image, canvas.shrink(normalise(entry.image)))
        assert np.array_equal(mask, canvas.shrink(entry.mask.astype(np.float32)) > 0.5)


def test_what_is_kept_takes_no_more_than_its_share_and_the_least_used_goes_first():
    few, made = kept.Kept(limit=3 * (kept.SMALL + 800)), []

    def get(key):
        return few.get((key,), lambda: made.append(key) or np.full(100, key, float))

    for key in (1, 2, 3, 1, 4, 1, 2):
        assert get(key)[0] == key
    assert made == [1, 2, 3, 4, 2]
    assert few.held <= few.limit


def test_a_set_of_other_pixels_under_the_same_id_is_not_mistaken_for_another():
    from dataclasses import replace

    one, other = context_of([STILL[0]]), ContextSet()
    [entry] = one.enabled()
    other.put([replace(entry, image=entry.image[::-1], info=replace(entry.info, sha256="0" * 64))])
    seen = []
    for context in (one, other):
        used = Examples(Atlas(), context, 4)
        used.ids()
        seen.append(used._cropped(entry.info.id, examples.WHOLE)[0])
    assert not np.array_equal(*seen)


def test_a_number_is_kept_with_its_entry_in_a_store_of_any_age(tmp_path):
    context = ContextStore(tmp_path / "a.sqlite").open("study", "task")
    first, second = (context.add(IMAGE, MASK).id for _ in range(2))
    with context.store.transaction() as db:
        db.execute("DROP TABLE numbers")  # as an earlier version made it
    again = ContextStore(tmp_path / "a.sqlite").open("study", "task")
    for key, number in (("k", 1.5), ("k", 2.5), ("other", 3.5)):
        again.remember(first, key, number)
    assert [again.recall(first, "k"), again.recall(first, "other"), again.recall(second, "k")] == [2.5, 3.5, None]
    assert ContextStore(tmp_path / "a.sqlite").open("another", "task").recall(first, "k") is None
    again.remove(first)
    again.remember(first, "k", 4.5)
    assert again.recall(first, "k") is None
    with again.store.transaction() as db:
        assert db.execute("SELECT COUNT(*) FROM numbers").fetchone() == (0,)


def test_what_proved_itself_is_not_tried_again_by_the_next_process_unless_it_has_other_weights(tmp_path, monkeypatch, fresh):
    tried = []
    monkeypatch.setattr(evidence, "lost", lambda *asked: tried.append(asked[1].info.id) or 0.25)
    context = ContextStore(tmp_path / "a.sqlite").open("study", "task")
    for image, mask in STILL:
        context.add(image, mask)
    for weights, expected in (("one", 9), ("one", 0), ("another", 9), ("one", 0)):
        fresh()
        same = ContextStore(tmp_path / "a.sqlite").open("study", "task")
        predictor_of(same, weights=weights).predict([Request(IMAGE, (), None)])
        assert len(tried) == expected
        tried.clear()
