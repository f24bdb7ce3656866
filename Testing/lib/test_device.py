"""What a device's errors say, which device is chosen, what is given back, and when kernels are recorded. No card is needed."""
import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from InteractiveSegLib import InteractiveSegError, InteractiveSession, appearance, device, plan
from InteractiveSegLib.device import FULL, GONE, LACKING, device_errors, device_failure
from InteractiveSegLib.models import find_family
from InteractiveSegLib.models.layers import replayed
from InteractiveSegLib.plan import PLANS
from InteractiveSegLib.predictors.fallback import retreat
from InteractiveSegLib.propagation import Propagator
from InteractiveSegLib.training.loop import Trainer
from InteractiveSegLib.training.recipes.scribbleprompt import ScribblePromptRecipe

TEXTS = {
    "CUDA out of memory. Tried to allocate 2.00 GiB": FULL,
    "GET was unable to find an engine to execute this computation": FULL,
    "Unable to find a valid cuDNN algorithm to run convolution": FULL,
    "Seems to be OOM. Please try smaller patch size or mode='constant' instead of mode='gaussian'.": FULL,
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`": FULL,
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED": FULL,
    "MPS backend out of memory (MPS allocated: 5.00 GB)": FULL,
    "CUDA error: an illegal memory access was encountered": GONE,
    "CUDA unknown error - this may be due to an incorrectly set up environment": GONE,
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED": GONE,
    "The operator 'aten::_foo' is not currently implemented for the MPS device.": LACKING,
    "shapes do not match": "",
}


@pytest.mark.parametrize("text", TEXTS)
def test_the_words_of_an_error_tell_what_became_of_the_device(text):
    assert device_failure(RuntimeError(text)) == TEXTS[text]
    around = RuntimeError("the window failed")
    around.__cause__ = RuntimeError(text)
    assert device_failure(around) == TEXTS[text], "what an error was raised from counts"


def test_every_kind_of_such_an_error_is_caught():
    assert issubclass(NotImplementedError, device_errors())
    late = torch.cuda.DeferredCudaCallError("CUDA call failed lazily at initialization with error: device-side assert")
    assert isinstance(late, device_errors()) and device_failure(late) == GONE


@pytest.fixture
def a_card(monkeypatch):
    """A computer that says that it has CUDA, with one device."""
    monkeypatch.setattr(device, "_lost", set())
    for module in (device, plan):
        monkeypatch.setattr(module, "available_devices", lambda: tuple(k for k in ("cuda", "cpu") if k not in device._lost))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def test_a_device_with_too_high_a_number_is_one_sentence_and_costs_no_other(a_card, monkeypatch):
    with pytest.raises(InteractiveSegError, match="'cuda:7' is not there; this machine has cuda, cpu: choose"):
        InteractiveSession(np.zeros((30, 40)), device="cuda:7").plan  # noqa: B018
    assert device.choose_device("cuda:0") == "cuda:0" and not device._lost
    torch.cuda.device_count = lambda: 8
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert device.choose_device("cuda:7") == "cuda:7"


@pytest.mark.parametrize(("text", "lost"), [("CUDA error: out of memory", False), ("CUDA error: unspecified failure", True)])
def test_a_full_card_is_passed_over_once_and_a_broken_one_for_good(a_card, monkeypatch, text, lost):
    def free(kind):
        if kind == "cuda":
            raise RuntimeError(text)
        return 8e9

    monkeypatch.setattr(plan, "free_memory", free)
    assert plan.make_plan(find_family("scribbleprompt"), (64, 64)).device == "cpu"
    assert ("cuda" in device._lost) == lost


def test_an_error_of_ours_loses_no_card(a_card, monkeypatch):
    def free(kind):
        raise RuntimeError("a slip of the pen")

    monkeypatch.setattr(plan, "free_memory", free)
    with pytest.raises(RuntimeError, match="slip"):
        plan.make_plan(find_family("scribbleprompt"), (64, 64))
    assert not device._lost


def test_a_card_that_lacks_an_operation_is_left_and_not_lost(a_card):
    found = retreat(PLANS["mps"], LACKING, ())
    assert found.device == "cpu" and "mps cannot compute all of this model: the CPU goes on" in found.sentence
    assert not device._lost


def test_a_card_that_breaks_while_it_gives_memory_back_is_lost(a_card, monkeypatch):
    def broken():
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    device.release_memory("cuda")
    assert "cuda" in device._lost


def test_workspaces_are_given_back_when_no_recording_needs_them(a_card, monkeypatch):
    given_back = []
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: given_back.append("workspaces"), raising=False)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append("cache"))
    recorded = replayed.Recording(None, [], [])
    device.recorded.add(recorded)
    device.release_memory("cuda")
    assert given_back == ["cache"]
    del recorded
    device.release_memory("cuda")
    assert given_back == ["cache", "workspaces", "cache"]


def test_what_recordings_keep_is_not_free(monkeypatch):
    parts = [{"device": 0, "total_size": 100, "allocated_size": 30, "segment_pool_id": (0, 0)},
             {"device": 0, "total_size": 1000, "allocated_size": 1, "segment_pool_id": (0, 3)},
             {"device": 1, "total_size": 500, "allocated_size": 1, "segment_pool_id": (0, 0)}]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda of: (7, 9000))
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: parts)
    assert device.free_memory("cuda:0") == 7 + 70 and device.free_memory("cuda:1") == 7 + 499


@pytest.mark.parametrize(("capability", "lowered"), [((7, 5), False), ((9, 0), True)])
def test_training_is_in_half_precision_where_the_card_multiplies_it(monkeypatch, capability, lowered):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda of: capability)
    contexts = []
    monkeypatch.setattr(torch, "autocast", lambda *arguments, enabled: contexts.append(enabled))
    device.training_precision("cuda")
    assert contexts == [lowered]


# recording


@pytest.fixture
def recordings(monkeypatch):
    """Recordings whose recording is a double; `made` lists the shapes that were recorded."""
    monkeypatch.setattr(replayed, "_failed", replayed.threading.Event())
    made = replayed.Recordings()
    made.made = []

    def record(function, inputs):
        made.made.append(tuple(inputs[0].shape))
        return replayed.Recording(None, list(inputs), list(function(*inputs)))

    monkeypatch.setattr(replayed, "record", record)
    return made


def ask(recordings, *shape):
    return recordings.find(lambda x: [x], [torch.zeros(shape)])


def test_a_shape_is_recorded_when_it_comes_again(recordings):
    assert ask(recordings, 2, 3) is None and not recordings.made
    first = ask(recordings, 2, 3)
    assert first is ask(recordings, 2, 3) and recordings.made == [(2, 3)]


def test_the_warm_up_records_at_once(recordings):
    with replayed.recorded_at_once():
        assert ask(recordings, 2, 3) is not None
    assert ask(recordings, 4) is None


def test_a_recording_that_made_room_for_others_is_made_anew_when_its_shape_comes_twice(recordings):
    with replayed.recorded_at_once():
        for n in range(replayed.SHAPES + 1):
            ask(recordings, 1 + n)
    assert len(recordings.kept) == replayed.SHAPES
    assert ask(recordings, 1) is None and ask(recordings, 1) is not None


def test_after_a_recording_failed_nothing_is_recorded_any_more(recordings, monkeypatch):
    def fails(function, inputs):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    network = nn.Module()
    monkeypatch.setattr(replayed, "records_kernels", lambda of: True)
    monkeypatch.setattr(replayed.torch.cuda, "device", lambda of: contextlib.nullcontext())
    monkeypatch.setattr(replayed, "record", fails)
    for _ in range(3):
        assert replayed.replayed(network, "twice", lambda x: [2 * x], torch.ones(1))[0] == 2
    monkeypatch.setattr(replayed, "record", None)
    for _ in range(3):
        assert replayed.replayed(network, "thrice", lambda x: [3 * x], torch.ones(1))[0] == 3


@pytest.mark.parametrize("within", [False, True])
def test_a_card_that_is_too_full_to_record_is_full(recordings, monkeypatch, within):
    def fails(function, inputs):
        try:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        except RuntimeError:
            if within:
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")  # noqa: B904
            raise

    monkeypatch.setattr(replayed, "record", fails)
    ask(recordings, 1)
    with pytest.raises(RuntimeError):
        ask(recordings, 1)
    assert not replayed._failed.is_set()


def test_how_slices_lie_over_each_other_is_recorded_for_the_network_that_carries_masks(a_volume, monkeypatch):
    owners = []

    def counted(owner, name, function, *inputs):
        owners.append(owner)
        return function(*inputs)

    monkeypatch.setattr(appearance, "replayed", counted)
    carrier = Propagator(a_volume[0], 0, (3.0, 1.0, 1.0), PLANS["cpu"])
    [*carrier.carry({7: a_volume[1][7][None]}, range(6, 9), {})]
    assert owners and all(owner is carrier.network for owner in owners)


def test_a_recording_that_cannot_be_ended_leaves_the_stream_and_closes_its_memory(monkeypatch):
    happened = []

    class Capture:
        def __init__(self, graph, pool, stream, capture_error_mode):
            assert stream == "side of cpu"

        def __enter__(self):
            happened.append("on the side")

        def __exit__(self, *error):
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    stream = SimpleNamespace(wait_stream=lambda other: None)
    doubles = {"CUDAGraph": object, "graph_pool_handle": lambda: (0, 5), "current_stream": lambda of: stream, "graph": Capture,
               "stream": lambda side: contextlib.nullcontext(), "set_stream": lambda to: happened.append(to is stream)}
    for name, double in doubles.items():
        monkeypatch.setattr(torch.cuda, name, double)

    class Side(str):
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(replayed, "_sides", {torch.device("cpu"): Side("side of cpu")})
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        monkeypatch.setattr(torch._C, name, lambda of, pool, name=name: happened.append((name, pool)), raising=False)
    with pytest.raises(RuntimeError, match="previous error"):
        replayed.record(lambda x: [x], [torch.zeros(1)])
    assert happened == ["on the side", True, ("_cuda_endAllocateToPool", (0, 5)), ("_cuda_releasePool", (0, 5))]
    assert not device.recording.locked()


def test_a_full_card_is_not_taken_for_another_recipe(tmp_path, monkeypatch):
    def run():
        return Trainer(ScribblePromptRecipe(tmp_path / "none", features=(4, 8), size=32, batch=2), tmp_path)

    run().save()

    def full(*arguments, **options):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run()
