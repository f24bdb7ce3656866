"""What `interactive-seg benchmark` compares is the same computation, and its tables say what they measured."""
import numpy as np
import pytest
import torch

from InteractiveSegLib.cli import main
from InteractiveSegLib.evaluation.families import STEPS, Row
from InteractiveSegLib.evaluation.published import DenseMemory, xmem_slices
from InteractiveSegLib.models.layers.replayed import replayed
from InteractiveSegLib.models.limnet.memory import Memory, MemoryConfig
from InteractiveSegLib.models.limnet.propagation import EncodedSlices, propagate
from InteractiveSegLib.models.limnet.xmem import XMem, XMemConfig


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return XMem(XMemConfig(8, 16, 8, 4, (1, 1, 1), (1, 1, 1))).eval()


def test_the_published_readout_is_ours_written_out(network):
    config, key = MemoryConfig(top_k=3), torch.rand(8, 4, 5)
    answers = []
    for kind in (Memory, DenseMemory):
        torch.manual_seed(1)
        memory = kind(config)
        memory.write(torch.rand(8, 4, 5), 1 + torch.rand(1, 4, 5), torch.rand(8, 4, 5), torch.rand(2, 16, 4, 5), prompted=True)
        answers.append(memory.read(key, key))
    torch.testing.assert_close(*answers)


def test_the_published_propagation_gives_our_masks(network):
    images = np.random.default_rng(0).random((9, 64, 48), np.float32)
    mask = images[0] > 0.5
    slices = EncodedSlices(network, lambda n: torch.from_numpy(images[n])[None], 10**9)
    given = {0: torch.from_numpy(mask)[None].float()}
    ours = [found[0].float().numpy() for _, found in propagate(network, slices, given, range(9), patience=9)]
    theirs = xmem_slices(network, images, mask, "cpu", None)
    assert len(ours) == len(theirs) == 9 and np.ptp(theirs[4]) > 0
    np.testing.assert_allclose(ours[1:], theirs[1:], atol=0.01)  # ours keeps encoded slices in two bytes a number


def test_the_ratio_of_a_propagation_is_that_of_the_round_that_encodes():
    assert Row("", "", first=2.0, median=1.0, theirs=6.0).ratio == 6
    assert Row("", "", first=2.0, median=1.0, theirs=6.0, per=12).ratio == 3
    assert Row("", "", first=2.0, median=1.0).start == 2 and np.isnan(Row("", "", first=2.0, median=1.0, per=12).start)


def test_every_family_has_steps_and_one_runs_from_the_command(capsys):
    assert set(STEPS) == {"scribbleprompt", "multiverseg", "limnet", "propagation", "verse", "tis"}
    assert main(["benchmark", "--quick", "--families", "tis", "--device", "cpu", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert "torch" in printed and "1 thread(s)" in printed
    cells = [cell.strip() for cell in next(line for line in printed.splitlines() if line.startswith("| tis")).split("|")[1:-1]]
    assert cells[:2] == ["tis, shipped", "click in 32³"] and float(cells[4]) > 0 and float(cells[-1]) > 0
    assert float(cells[6]) == pytest.approx(float(cells[3]) / float(cells[4]), abs=0.02), "the first click beside a steady one"


def test_the_table_of_memory_has_the_estimate_beside_what_was_taken(capsys):
    assert main(["benchmark", "--quick", "--memory", "--device", "cpu", "--threads", "1"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| scribbleprompt"))
    _, estimate, taken, ratio = (cell.strip() for cell in row.split("|")[1:-1])
    assert float(taken) > 0 and float(ratio) == pytest.approx(float(estimate) / float(taken), abs=0.05)


def test_a_network_that_is_not_on_cuda_is_simply_called(network):
    calls = []

    def function(x):
        calls.append(1)
        return [x + 1]

    x = torch.ones(2)
    for _ in range(2):
        assert torch.equal(replayed(network, "one more", function, x)[0], x + 1)
    assert len(calls) == 2
