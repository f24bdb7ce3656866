"""The command `interactive-seg context`, as a user types it."""
import numpy as np
import pytest
import SimpleITK as sitk
from shapes import affine_of, ellipsoid

from InteractiveSegLib.cli import main
from InteractiveSegLib.context import ContextStore, Provenance
from InteractiveSegLib.context.sheet import LINE, TILE, contact_sheet


@pytest.fixture
def store(tmp_path, monkeypatch):
    """a.sqlite in the current folder: three entries of one task, the last one a picture, and an empty set of another task."""
    monkeypatch.chdir(tmp_path)
    store = ContextStore(tmp_path / "a.sqlite")
    liver = store.open("one", "liver")
    for n in range(3):
        image = np.random.default_rng(n).normal(50, 5, (30, 40)) + 100 * ellipsoid((30, 40), (12, 25), (6, 6))
        provenance = Provenance(liver.digest(str(n)), 0, 5 + n, {"Click": n} if n else {}, "multiverseg")
        liver.add(image, ellipsoid((30, 40), (12, 25), (6, 6)), affine=affine_of((0, 0, 0), (1, 1, 3)) if n < 2 else None,
                  provenance=provenance)
    store.open("two", "spleen")
    return store


def context(*words):
    return main(["context", *map(str, words)])


def ids(store):
    return [info.id for info in store.find(task="liver").infos()]


def used(store):
    return [info.enabled for info in store.find(task="liver").infos()]


def test_list_tells_sets_and_entries(store, capsys):
    context("disable", "a.sqlite", ids(store)[1], "--task", "liver")
    capsys.readouterr()
    assert context("list", "a.sqlite") == 0
    said = capsys.readouterr().out.splitlines()
    assert "liver" in said[0] and "3 entries" in said[0] and "spleen" in said[4] and "0 entries" in said[4]
    for n, (line, entry) in enumerate(zip(said[1:4], ids(store))):
        assert line.split()[0] == entry[:8] and line.split()[1] == ("off" if n == 1 else "used")
        assert ("picture" if n == 2 else f"K = {5 + n}") in line and ("no prompt" if n == 0 else f"{n} Click") in line
    context("list", "a.sqlite", "--task", "spleen")
    assert "liver" not in capsys.readouterr().out


def test_entries_are_switched_off_and_on_and_removed_by_the_beginning_of_their_ids(store, capsys):
    first, second, third = ids(store)
    assert context("disable", "a.sqlite", first[:10], third[:10], "--task", "liver") == 0
    assert used(store) == [False, True, False] and "1 of 3" in capsys.readouterr().out
    assert context("enable", "a.sqlite", third[:10], "--task", "liver") == 0
    assert used(store) == [False, True, True]
    assert context("remove", "a.sqlite", second[:10], "--task", "liver") == 0
    assert ids(store) == [first, third]


def test_a_set_goes_from_one_store_to_another(store, capsys):
    ContextStore("b.sqlite").open("elsewhere", "liver")
    assert context("export", "a.sqlite", "--task", "liver", "-o", "liver.context") == 0
    assert context("import", "b.sqlite", "liver.context") == 0
    assert ids(ContextStore("b.sqlite")) == ids(store) and "3 new entries, 3 altogether" in capsys.readouterr().out
    assert context("import", "b.sqlite", "liver.context") == 0 and "0 new entries" in capsys.readouterr().out


def orange(pixels):
    red, green, blue = (pixels[..., n].astype(int) for n in range(3))
    return (red > 220) & (abs(green - 176) < 20) & (blue < 60)


def test_the_contact_sheet_shows_every_slice_with_its_outline_as_radiologists_hang_it(store):
    assert context("show", "a.sqlite", "--task", "liver", "-o", "sheet.png") == 0
    sheet = sitk.GetArrayFromImage(sitk.ReadImage("sheet.png"))
    assert sheet.shape[:2] == (TILE + LINE, 3 * TILE)
    tiles = [sheet[:TILE, n * TILE:(n + 1) * TILE] for n in range(3)]
    centres = [np.argwhere(orange(tile)).mean(axis=0) for tile in tiles]
    assert all(len(np.argwhere(orange(tile))) > 50 for tile in tiles)
    # The slices' rows run to the front and their columns to the right: turned round, front and right come top and left.
    middle = TILE / 2
    np.testing.assert_allclose(centres[0] - middle, middle - centres[2], atol=4)
    assert centres[2][0] < middle < centres[2][1], "a picture stays as it is"


def test_what_is_off_is_struck_through(store):
    chosen = store.find(task="liver")
    plain = np.asarray(contact_sheet([chosen.read(ids(store)[0])]))
    chosen.set_enabled(ids(store)[0], False)
    struck = np.asarray(contact_sheet([chosen.read(ids(store)[0])]))
    assert (plain[TILE // 2, TILE // 2] != struck[TILE // 2, TILE // 2]).any()


@pytest.mark.parametrize(("words", "sentence"), [
    (["list", "no.sqlite"], "does not exist"),
    (["show", "a.sqlite", "-o", "a.png"], "2 sets"),
    (["show", "a.sqlite", "-o", "a.png", "--task", "spleen"], "no entries yet"),
    (["show", "a.sqlite", "-o", "a.jpg", "--task", "liver"], "no PNG"),
    (["show", "a.sqlite", "-o", "nowhere/a.png", "--task", "liver"], "cannot be written"),
    (["export", "a.sqlite", "-o", "a.context", "--task", "heart"], "0 sets"),
    (["export", "a.sqlite", "-o", "a.context", "--study", "zz"], "0 sets"),
    (["remove", "a.sqlite", "", "--task", "liver"], "3 entries begin"),
    (["remove", "a.sqlite", "zz", "--task", "liver"], "0 entries begin"),
    (["import", "a.sqlite", "a.sqlite", "--task", "liver"], "not a context file"),
    (["export", "a.sqlite", "-o", "./a.sqlite", "--task", "liver"], "is the store itself, which would be overwritten"),
])
def test_a_mistake_is_one_sentence_and_changes_nothing(store, words, sentence, capsys):
    assert context(*words) == 1
    said = capsys.readouterr().err
    assert sentence in said and said.startswith("interactive-seg: ") and said.count("\n") == 1
    assert used(store) == [True] * 3


def test_where_the_study_lies_beside_the_store_its_cases_are_called_by_name_on_the_screen_alone(store, capsys, monkeypatch):
    from InteractiveSegLib.annotation.cases import CaseFile
    from InteractiveSegLib.annotation.state import StudyState
    from InteractiveSegLib.context import outliers

    liver = store.find(task="liver")
    for n in range(3, 6):
        liver.add(np.eye(30), np.eye(30) > 0, provenance=Provenance(liver.digest(str(n))))
    monkeypatch.setattr(outliers, "leave_one_out", lambda *asked: np.array([0.9, 0.1, 0.9, 0.9, 0.9, 0.9]))
    StudyState("study.sqlite", lambda mark: "").put_files([CaseFile("1", "ward/Doe.png")])  # noted as "1"
    for words in (["list"], ["show", "-o", "sheet.png"], ["check"]):
        assert context(words[0], "a.sqlite", *words[1:], "--task", "liver") == 0
        named = [line for line in capsys.readouterr().out.splitlines() if line.split()[-1] == "1" or line.startswith("1: ")]
        assert len(named) == 1 and ids(store)[1][:8] in named[0]
    (store.path.parent / "study.sqlite").write_bytes(b"garbage" * 999)
    results = store.path.parent / "liver"
    results.mkdir()
    (results / "prompts.json").write_text("{}")
    assert context("list", "a.sqlite") == 0
    assert "no names here" in capsys.readouterr().err
    assert [path.name[:16] for path in results.iterdir()] == ["prompts.damaged-"], "not there to be written over by an empty one"
