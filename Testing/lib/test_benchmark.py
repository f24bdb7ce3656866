"""What `interactive-seg benchmark` compares is the same computation, and its tables say what they measured."""
import os
import re

import numpy as np
import pytest
import torch

from InteractiveSegLib import device
from InteractiveSegLib.cli import benchmark, main
from InteractiveSegLib.device import EAGER, FLOAT32
from InteractiveSegLib.evaluation.families import STEPS, Row
from InteractiveSegLib.evaluation.published import DenseMemory, xmem_slices
from InteractiveSegLib.evaluation.speed import Job, begin, run_job
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


def test_the_published_propagation_is_launched_kernel_by_kernel(network, monkeypatch):
    seen, segment = [], network.segment
    monkeypatch.setattr(network, "segment", lambda *inputs: (seen.append(EAGER in os.environ), segment(*inputs))[1])
    xmem_slices(network, np.zeros((3, 32, 32), np.float32), np.ones((32, 32), bool), "cpu", None)
    assert seen and all(seen) and EAGER not in os.environ


def test_full_precision_reaches_the_processes_that_measure(monkeypatch):
    monkeypatch.setattr(device, "available_devices", lambda: ("cuda", "cpu"))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    threads = torch.get_num_threads()
    for precise in (False, True):
        if precise:
            monkeypatch.setenv(FLOAT32, "1")
        begin("cuda", 1)
        assert torch.backends.cudnn.allow_tf32 != precise
    torch.set_num_threads(threads)


def test_the_peak_with_examples_is_told_beside_what_the_network_takes():
    cost = run_job(Job("ours", 2, (8, 8), repeats=1))
    assert cost.first > 0 and cost.encode > 0 and np.isfinite(cost.network) and cost.megabytes >= 0


def test_a_graphics_card_is_named_with_what_drives_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda of: "H200")
    monkeypatch.setattr(benchmark, "_driver", lambda: "570.1")
    assert re.fullmatch(r"H200, CUDA .*, cuDNN .*, driver 570\.1", benchmark.device_name("cuda:1"))


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


def test_the_table_of_memory_may_be_of_some_families(capsys):
    assert main(["benchmark", "--quick", "--memory", "--families", "tis", "--device", "cpu", "--threads", "1"]) == 0
    assert "| scribbleprompt" not in capsys.readouterr().out
    assert main(["benchmark", "--memory", "--families", "tys", "--device", "cpu"]) != 0


def test_a_network_that_is_not_on_cuda_is_simply_called(network):
    calls = []

    def function(x):
        calls.append(1)
        return [x + 1]

    x = torch.ones(2)
    for _ in range(2):
        assert torch.equal(replayed(network, "one more", function, x)[0], x + 1)
    assert len(calls) == 2
