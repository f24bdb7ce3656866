"""A card tells where its weights fail, from the rows of any experiment."""
import json

import pytest

from InteractiveSegLib.cli import main

CARD = "# ours\n\n## Measured\n\n| a |\n\n## Training data\n\n| disks |\n"


@pytest.fixture
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps([{"id": "ours"}, {"id": "cardless"}]))
    (folder / "ours.md").write_text(CARD)
    monkeypatch.setenv("INTERACTIVESEG_MODELS", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_the_card_names_the_structures_that_stay_below_the_goal_and_shows_every_object(models, tmp_path, capsys):
    rows = write(tmp_path / "rows.csv", "task,method,subsets,dice_1,dice_2,dice_10", "p/vessel,ours,thin,0.1,0.2,0.3",
                 "p/vessel,peer,thin,0.1,0.2,0.99", "p/vessel,ours,thin small,0.95,0.95,0.5", "p/liver,ours,,0.1,0.2,0.97")
    assert main(["models", "failures", "ours", rows, "--notes", "Vessels are too thin."]) == 0
    words = ("2 of 3 objects end below a Dice of 0.9: p/vessel 2 of 2 (mean 0.40, lowest 0.30). None of p/liver. By kind: small "
             "1 of 1 (mean 0.50, lowest 0.50); thin 2 of 2 (mean 0.40, lowest 0.30). Vessels are too thin.")
    assert capsys.readouterr().out == f"{words}\n"
    before, data = CARD.split("\n## Training data")
    expected = f"{before}\n## Where they fail\n\n{words}\n\n![Each object's Dice in the end](ours-failures.png)\n"
    assert (models / "ours.md").read_text() == f"{expected}\n## Training data{data}"
    assert (models / "ours-failures.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["models", "failures", "ours", rows, "--method", "peer"]) == 0
    card = (models / "ours.md").read_text()
    assert card.count("## Where they fail") == 1 and "0 of 1 objects end below" in card and "too thin" not in card


@pytest.mark.parametrize("head, row, found", [
    ("target,method,dice_0,dice_1,dice_20", "LV,ours,0.95,0.5,0.8", "LV 1 of 1 (mean 0.80"),
    ("start,class,method,dice_0,dice_10", "automatic,RV,ours,0.95,0.7", "RV 1 of 1 (mean 0.70"),
    ("task,method,prompts,dice_0,dice_end", "p/disk,ours,20,0.95,0.6", "p/disk 1 of 1 (mean 0.60"),
    ("task,method,way,size,dice", "p/disk,ours,random,4,0.4", "p/disk 1 of 1 (mean 0.40"),
], ids=["hearts", "refine", "sequence", "context-size"])
def test_the_rows_of_every_experiment_are_understood(models, tmp_path, capsys, head, row, found):
    assert main(["models", "failures", "ours", write(tmp_path / "rows.csv", head, row)]) == 0
    assert found in capsys.readouterr().out


def test_what_is_no_card_or_no_rows_is_said_in_a_sentence_and_nothing_is_written(models, tmp_path, capsys):
    rows = write(tmp_path / "rows.csv", "task,method,dice_1", "p/disk,ours,0.5")
    other = write(tmp_path / "other.csv", "name,age", "x,7")
    torn = write(tmp_path / "torn.csv", "task,method,dice_1", "p/disk,ours,0.5", "p/disk,ours")
    for words, sentence in ((["theirs", rows], "No weights 'theirs' with a card are listed: choose one of ours, cardless."),
                            (["cardless", rows], "No weights 'cardless' with a card"),
                            (["ours", other], "has no rows with a method, a structure and a Dice"),
                            (["ours", str(tmp_path / "none.csv")], "cannot be read"),
                            (["ours", torn], "cannot be read"),
                            (["ours", rows, "--method", "magic"], "has no method 'magic': choose one of ours.")):
        assert main(["models", "failures", *words]) == 1
        assert sentence in capsys.readouterr().err
    assert (models / "ours.md").read_text() == CARD
    assert [path.name for path in models.iterdir() if path.suffix == ".png"] == []
