"""Published checkpoints come held to their hash, as tensors alone, or not at all. No connection is opened here."""
import hashlib
import io
import pickle
from urllib.error import URLError

import pytest
import torch

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.cli import main
from InteractiveSegLib.fetch import CHECKPOINTS, fetch
from InteractiveSegLib.models.limnet import ritm
from InteractiveSegLib.models.limnet.ritm import RITM, RITMConfig

TINY = RITMConfig(width=4, context=8, modules=(1, 1, 1), depth=1, stem=8)


def published(content):
    """A connection that answers with these bytes, and their SHA-256."""
    return lambda url, timeout: io.BytesIO(content), hashlib.sha256(content).hexdigest()


@pytest.fixture
def a_checkpoint():
    """Bytes as RITM's authors save them: settings beside the tensors."""
    buffer = io.BytesIO()
    torch.save({"config": {"class": "a.b.Model", "params": {"width": 4}}, "state_dict": RITM(TINY).state_dict()}, buffer)
    return buffer.getvalue()


def test_a_checkpoint_with_the_right_hash_is_kept_as_safetensors_alone(a_checkpoint, tmp_path):
    connect, digest = published(a_checkpoint)
    path = fetch("ritm-h32", tmp_path / "new", digest.upper(), connect)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["ritm-h32.safetensors"]
    assert ritm.load(path, "cpu").config == TINY


def test_a_wrong_hash_is_refused_and_leaves_nothing(a_checkpoint, tmp_path):
    connect, digest = published(a_checkpoint)
    with pytest.raises(InteractiveSegError, match=digest):
        fetch("ritm-h32", tmp_path, "0" * 64, connect)
    with pytest.raises(InteractiveSegError, match=r"has the md5 .* not kept"):
        fetch("ritm-h18", tmp_path, connect=connect)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_without_a_stated_hash_needs_one(tmp_path):
    with pytest.raises(InteractiveSegError, match="--sha256"):
        fetch("xmem-s012", tmp_path, connect=lambda *_, **__: pytest.fail("nothing is downloaded"))


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    connect, digest = published(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(InteractiveSegError, match="more than tensors"):
        fetch("xmem", tmp_path / "new", digest, connect)
    assert not (tmp_path / "sprung").exists() and not list((tmp_path / "new").iterdir())


def test_weights_of_another_network_and_endless_files_are_refused(a_checkpoint, tmp_path):
    connect, digest = published(a_checkpoint)
    with pytest.raises(InteractiveSegError, match="holds no XMem network"):
        fetch("xmem", tmp_path, digest, connect)
    connect, digest = published(bytes(11 * 10**6))
    with pytest.raises(InteractiveSegError, match="larger than 10 MB"):
        fetch("universeg", tmp_path, digest, connect)
    assert not list(tmp_path.iterdir())


def test_without_a_network_one_sentence_says_what_to_do(tmp_path):
    def unreachable(url, timeout):
        raise URLError("no route")

    with pytest.raises(InteractiveSegError, match=r"no route.*--weights"):
        fetch("ritm-h18", tmp_path, connect=unreachable)


def test_the_command_knows_the_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["models", "fetch", "gpt"]) == 1
    assert "ritm-h32, ritm-h18" in capsys.readouterr().err
    assert all(checkpoint.url.startswith("https://") for checkpoint in CHECKPOINTS.values())
