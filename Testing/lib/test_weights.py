"""Weight files come from strangers: what is shipped is checked, what is given is read without trust."""
import json
import pickle
import re
import shutil

import pytest
import torch
from shapes import overlap

from InteractiveSegLib import Click, InteractiveSegError, InteractiveSession, models
from InteractiveSegLib.models import list_families
from InteractiveSegLib.training.export import COMMERCIAL
from InteractiveSegLib.training.sets import objection
from InteractiveSegLib.weights import read_manifest, read_state, sha256, shipped_file, weights_folder


def test_what_is_not_shipped_is_said_in_one_sentence():
    with pytest.raises(InteractiveSegError, match="No weights for 'tis-liver' are shipped: give a weight file"):
        shipped_file("tis-liver")


def test_every_family_ships_weights_with_hash_licence_and_card():
    for family in list_families():
        assert all(shipped_file(name).exists() for name in family.networks)
    for entry in read_manifest():
        path = weights_folder() / entry["file"]
        assert sha256(path) == entry["sha256"]
        assert path.stat().st_size < 16_000_000
        assert entry["licence"]
        assert entry["sha256"] in (weights_folder() / entry["card"]).read_text(encoding="utf8")


def test_a_damaged_shipped_file_is_reported(tmp_path, monkeypatch):
    entry = read_manifest()[0]
    shutil.copy(weights_folder() / "manifest.json", tmp_path)
    (tmp_path / entry["file"]).write_bytes(b"half a download")
    monkeypatch.setenv("INTERACTIVESEG_MODELS", str(tmp_path))
    with pytest.raises(InteractiveSegError, match="damaged"):
        shipped_file(entry["family"])
    (tmp_path / entry["file"]).unlink()
    with pytest.raises(InteractiveSegError, match="missing"):
        shipped_file(entry["family"])
    (tmp_path / "manifest.json").write_text(json.dumps([]))
    with pytest.raises(InteractiveSegError, match="No weights"):
        shipped_file(entry["family"])


class Payload:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Payload()}, "evil.pt")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload()))
    for name in ("evil.pt", "plain.pth"):
        with pytest.raises(InteractiveSegError) as error:
            read_state(tmp_path / name)
        assert "weights_only" not in str(error.value), "nobody is told how to run the file all the same"
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["text.safetensors", "text.pt", "missing.pt", "missing.safetensors"])
def test_what_is_no_weight_file_is_refused_in_one_sentence(tmp_path, name):
    (tmp_path / "text.pt").write_text("root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(InteractiveSegError) as error:
        read_state(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_file_with_something_else_than_tensors_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    with pytest.raises(InteractiveSegError, match="tensors"):
        read_state(tmp_path / "a.pt")


@pytest.mark.parametrize("model", ["scribbleprompt", "multiverseg", "limnet"])
def test_shipped_weights_of_families_that_segment_anything_find_a_disk_in_three_clicks(a_disk, model):
    image, truth = a_disk
    session = InteractiveSession(image, model=model)
    for click in ((40, 70), (28, 70), (52, 70)):
        session.add(Click(click))
    assert overlap(session.mask, truth) > 0.6
    assert not session.mask[90, 10]


@pytest.fixture
def commercial(monkeypatch):
    """The weights for commercial use instead of the others."""
    monkeypatch.setenv("INTERACTIVESEG_MODELS", str(weights_folder() / "commercial"))
    models.load.cache_clear()
    yield
    models.load.cache_clear()


def test_the_folder_for_commercial_use_holds_nothing_else_and_works_alone(commercial, a_disk):
    entries = read_manifest()
    assert {entry["family"] for entry in entries} == {"scribbleprompt", "multiverseg"}
    for entry in entries:
        assert entry["licence"] == COMMERCIAL and entry["id"].endswith("-commercial")
        card = (weights_folder() / entry["card"]).read_text(encoding="utf8")
        assert entry["sha256"] in card and COMMERCIAL in card
        used = re.findall(r"^\| (\w+) \| [^|]+ \| \d+ \| \d+ \| (.+) \|$", card, re.MULTILINE)
        assert used and not [name for name, licence in used if objection(licence)], "every set that it learnt from allows it"
        assert sha256(shipped_file(entry["family"])) == entry["sha256"]
    image, truth = a_disk
    for model in ("scribbleprompt", "multiverseg"):
        session = InteractiveSession(image, model=model)
        for click in ((40, 70), (28, 70), (52, 70)):
            session.add(Click(click))
        assert overlap(session.mask, truth) > 0.6
    with pytest.raises(InteractiveSegError, match="No weights for 'verse' are shipped"):
        InteractiveSession(image, model="verse", targets=("LV",)).predict()
