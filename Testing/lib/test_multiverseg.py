"""The networks that read a context are the published ones, and the plan for their memory changes no number."""
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import DATA, published_state
from torch.overrides import TorchFunctionMode

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.models import multiverseg, universeg
from InteractiveSegLib.models.layers.cross_conv import MemoryPlan, Stage
from InteractiveSegLib.models.multiverseg import ContextNetwork, MultiverSegConfig, MultiverSegNet
from InteractiveSegLib.models.universeg import UniverSegConfig, UniverSegNet
from InteractiveSegLib.weights import load_strictly

SIZE = 16


@pytest.fixture(scope="module")
def published():
    """Both networks at their published size, by name."""
    networks = {"multiverseg": MultiverSegNet(MultiverSegConfig()), "universeg": UniverSegNet(UniverSegConfig())}
    for name, network in networks.items():
        load_strictly(network, published_state(f"keys_{name}.tsv"), Path("published.pt"))
        network.eval()
    return networks


@pytest.mark.parametrize("case", ["multiverseg_32_B2_S2", "multiverseg_64_S0", "multiverseg_64_S1", "multiverseg_64_S3",
                                  "universeg_64_S1", "universeg_64_S4"])
def test_the_numbers_are_the_published_networks(published, case):
    recorded = {name: torch.from_numpy(array) for name, array in np.load(DATA / f"{case}.npz").items()}
    target = recorded["target"]
    support = torch.zeros(1, 0, 2, *target.shape[2:])
    if "support_images" in recorded:
        support = torch.cat([recorded["support_images"], recorded["support_labels"]], dim=2)
    with torch.inference_mode():
        logits = published[case.split("_")[0]](target, support, plan=MemoryPlan(chunk=2))
    np.testing.assert_allclose(logits, recorded["logits"], atol=1e-4, rtol=1e-4)


@pytest.fixture
def network():
    """A small MultiverSeg with three levels of different widths."""
    torch.manual_seed(0)
    return ContextNetwork(MultiverSegNet(MultiverSegConfig((4, 6, 8), SIZE)), "cpu")


@pytest.fixture
def question():
    """Two slices with prompts and previous logits, as `predict` takes them."""
    rng = np.random.default_rng(1)
    return rng.random((2, SIZE, SIZE)), rng.random((2, 3, SIZE, SIZE)) > 0.9, rng.normal(size=(2, SIZE, SIZE))


@pytest.fixture
def examples():
    """Seven images and masks."""
    rng = np.random.default_rng(2)
    return rng.random((7, SIZE, SIZE)), rng.random((7, SIZE, SIZE)) > 0.5


@pytest.mark.parametrize("keep_term", [True, False])
@pytest.mark.parametrize("plan", [MemoryPlan(1), MemoryPlan(3), MemoryPlan(3, recompute=True), MemoryPlan(7, recompute=True)])
def test_less_memory_gives_the_same_answer(network, question, examples, plan, keep_term):
    whole = network.predict(*question, network.encode(*examples), MemoryPlan(7))
    planned = network.predict(*question, network.encode(*examples, keep_term=keep_term), plan)
    np.testing.assert_allclose(planned, whole, atol=1e-5)


@pytest.mark.parametrize("recompute", [True, False])
def test_no_layer_holds_more_examples_than_planned(network, question, examples, recompute):
    class Counted(TorchFunctionMode):
        largest = 0

        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is torch.conv2d:
                self.largest = max(self.largest, len(args[0]))
            return function(*args, **(kwargs or {}))

    context = network.encode(*examples, keep_term=False)
    one = [array[:1] for array in question]
    with Counted() as counted:
        network.predict(*one, context, MemoryPlan(2, recompute))
    assert counted.largest == 2


def test_a_context_serves_many_slices_and_none_changes_it(network, question, examples):
    context = network.encode(*examples)
    together = network.predict(*question, context)
    for index in (1, 0):
        alone = network.predict(*[array[index:index + 1] for array in question], context)
        np.testing.assert_allclose(alone[0], together[index], atol=1e-5)


def test_the_order_of_the_examples_does_not_matter_but_each_one_does(network, question, examples):
    images, masks = examples
    answer = network.predict(*question, network.encode(images, masks))
    turned = network.predict(*question, network.encode(images[::-1], masks[::-1]))
    np.testing.assert_allclose(turned, answer, atol=1e-5)
    masks[4] = ~masks[4]
    assert np.abs(network.predict(*question, network.encode(images, masks)) - answer).max() > 1e-3


def test_masks_enter_the_context_thresholded(network, question, examples):
    images, masks = examples
    soft = np.where(masks, 0.6, 0.4)
    np.testing.assert_array_equal(network.predict(*question, network.encode(images, soft)),
                                  network.predict(*question, network.encode(images, masks)))


def test_rounded_arithmetic_changes_little_and_never_the_published_networks(network, question, examples, tmp_path, monkeypatch):
    exact = network.predict(*question, network.encode(*examples))
    rounded = ContextNetwork(network.network, "cpu", torch.bfloat16)
    found = rounded.predict(*question, rounded.encode(*examples))
    assert 0 < np.abs(found - exact).max() < 0.05 * np.abs(exact).max()
    monkeypatch.setattr(multiverseg, "half_precision", lambda device: torch.bfloat16)
    for features, expected in (((4, 6, 8), torch.bfloat16), ((4, 256), None)):
        path = tmp_path / f"{features[-1]}.pt"
        torch.save(MultiverSegNet(MultiverSegConfig(features)).state_dict(), path)
        assert multiverseg.load(path, "cpu").precision is expected


def test_an_empty_context_has_an_answer(network, question):
    empty = network.encode(np.zeros((0, SIZE, SIZE)), np.zeros((0, SIZE, SIZE), bool))
    assert np.isfinite(network.predict(*question, empty)).all()


def test_every_weight_that_matters_learns(network, question, examples):
    context = network.encode(*examples, keep_term=False)
    target = torch.rand(2, 5, SIZE, SIZE)
    network.network(target, context.support.clone(), plan=MemoryPlan(3)).square().mean().backward()
    idle = {name for name, p in network.network.named_parameters() if p.grad is None or not p.grad.any()}
    assert all(name.startswith("dec_blocks.1.support.") for name in idle), "only the last examples' features are not read"
    assert idle


@pytest.mark.parametrize("family", [multiverseg, universeg])
def test_a_network_of_any_depth_and_width_loads_from_a_file(tmp_path, family):
    features = (4, 6, 8, 6, 4)
    network = MultiverSegNet(MultiverSegConfig(features)) if family is multiverseg else UniverSegNet(UniverSegConfig(features))
    torch.save({"model": network.state_dict()}, tmp_path / "own.pt")
    loaded = family.load(tmp_path / "own.pt", "cpu")
    assert (loaded.network if family is multiverseg else loaded).config.features == features


def test_weights_of_the_other_family_are_refused_with_the_reason(tmp_path):
    torch.save(UniverSegNet(UniverSegConfig((4, 4))).state_dict(), tmp_path / "universeg.pt")
    with pytest.raises(InteractiveSegError, match="does not fit MultiverSegNet"):
        multiverseg.load(tmp_path / "universeg.pt", "cpu")
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(InteractiveSegError, match="no tensor named enc_blocks"):
        universeg.load(tmp_path / "other.pt", "cpu")


def test_what_is_kept_of_examples_stays_in_half_precision_where_the_norms_answer_in_float32():
    class Norm(torch.nn.GroupNorm):
        """As under CUDA's autocast."""

        def forward(self, x):
            return super().forward(x.float())

    stage = Stage(4, True)
    stage.norml = Norm(1, 4)
    with torch.inference_mode():
        assert stage(torch.rand(1, 4, 8, 8)).dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            assert stage(torch.rand(1, 4, 8, 8)).dtype == torch.bfloat16
