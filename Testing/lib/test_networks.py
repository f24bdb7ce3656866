"""The networks are the published ones: same names and shapes, same numbers on the same weights."""
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import DATA, published_state

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.models import scribbleprompt
from InteractiveSegLib.models.layers.pointwise import Pointwise
from InteractiveSegLib.models.scribbleprompt import ScribblePromptConfig
from InteractiveSegLib.weights import load_strictly

KEYS = "keys_scribbleprompt_unet.tsv"


def test_scribbleprompt_gives_the_published_networks_numbers():
    network = scribbleprompt.build(ScribblePromptConfig().features)
    load_strictly(network, published_state(KEYS), Path("published.pt"))
    recorded = np.load(DATA / "scribbleprompt_unet_64_B2.npz")
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(recorded["input"])).numpy()
    np.testing.assert_allclose(logits, recorded["logits"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"model": state},
    lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
], ids=["plain", "wrapped", "prefixed"])
def test_a_published_checkpoint_loads_from_a_file(tmp_path, wrap):
    torch.save(wrap(published_state(KEYS)), tmp_path / "published.pt")
    network = scribbleprompt.load(tmp_path / "published.pt", "cpu")
    assert sum(p.numel() for p in network.network.parameters()) == 3_991_882


def test_the_compact_network_is_smaller_and_of_the_same_kind():
    compact = scribbleprompt.build()
    assert sum(p.numel() for p in compact.parameters()) < 2_000_000
    assert compact.state_dict().keys() == published_state(KEYS).keys()


def test_weights_of_another_network_are_refused_with_the_reason(tmp_path):
    state = published_state(KEYS)
    state["surplus"] = state.pop("downs.1.conv.0.bias")
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(InteractiveSegError, match=r"missing downs\.1\.conv\.0\.bias; not expected surplus"):
        scribbleprompt.load(tmp_path / "odd.pt", "cpu")


def test_a_shortcut_is_the_strided_convolution_forwards_and_backwards():
    torch.manual_seed(0)
    shortcut = Pointwise(8, 16, stride=2)
    x = torch.randn(2, 8, 96, 95)
    plain, ours = x.clone().requires_grad_(), x.to(memory_format=torch.channels_last).requires_grad_()
    expected = torch.nn.functional.conv2d(plain, shortcut.weight, stride=2)
    expected.square().sum().backward()
    wanted, shortcut.weight.grad = shortcut.weight.grad.clone(), None
    found = shortcut.to(memory_format=torch.channels_last)(ours)
    found.square().sum().backward()
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(ours.grad, plain.grad, atol=1e-4)
    assert torch.allclose(shortcut.weight.grad, wanted, rtol=1e-4, atol=1e-2)
