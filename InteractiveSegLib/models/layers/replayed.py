"""A network's kernels recorded once and replayed with one call (CUDA graphs). It knows tensors, not what they mean.

Recording takes two runs, so that a shape is recorded when it comes for the second time. It pays where hundreds of short kernels
follow each other, as in RITM's and VerSe's click paths, where launching them one by one takes longer than running them.
torch.compile is not used: it takes half a minute at load, and needs a compiler on the user's computer.
"""
from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass

import torch

from ...device import FULL, device_failure, recorded, recording, records_kernels

log = logging.getLogger(__name__)
SHAPES = 4  # recordings that are kept: one for each shape of the inputs
_failed = threading.Event()  # a recording failed: from then on kernels are launched one by one in this process
_at_once: ContextVar[bool] = ContextVar("at_once", default=False)
_sides: dict[torch.device, torch.cuda.Stream] = {}  # where recordings are made: each stream has workspaces of its own

Tensors = Sequence[torch.Tensor]
Function = Callable[..., Sequence[torch.Tensor]]


@dataclass(frozen=True, eq=False)
class Recording:
    graph: torch.cuda.CUDAGraph
    inputs: list[torch.Tensor]
    outputs: list[torch.Tensor]


class Recordings:
    """Of one function of a network, one for each shape of its arguments, the latest few."""

    def __init__(self) -> None:
        self.kept: OrderedDict[tuple, Recording] = OrderedDict()
        self.seen: set[tuple] = set()
        self.busy = threading.Lock()

    def run(self, function: Function, inputs: Tensors) -> Tensors:
        """The function's answer; a copy of it, so that the next call may write over the recorded one."""
        with self.busy, torch.cuda.device(inputs[0].device):
            found = self.find(function, inputs)
            if found is None:
                return function(*inputs)
            for own, given in zip(found.inputs, inputs):
                own.copy_(given, non_blocking=True)
            found.graph.replay()
            return [output.clone() for output in found.outputs]

    def find(self, function: Function, inputs: Tensors) -> Recording | None:
        """The one for inputs of these shapes, old or new; None where they come for the first time or it failed."""
        shapes = tuple((x.shape, x.dtype) for x in inputs)
        if shapes not in self.kept:
            if shapes not in self.seen and not _at_once.get():
                self.seen.add(shapes)
                return None
            try:
                self.kept[shapes] = record(function, inputs)
            except RuntimeError as error:
                if FULL in (device_failure(error), device_failure(error.__context__)):
                    raise
                log.warning("Kernels could not be recorded (%s): they are launched one by one.", str(error).splitlines()[0])
                _failed.set()
                return None
            while len(self.kept) > SHAPES:
                self.seen.discard(self.kept.popitem(last=False)[0])
        self.kept.move_to_end(shapes)
        return self.kept[shapes]


@contextmanager
def recorded_at_once() -> Iterator[None]:
    """Within it a shape is recorded when it comes for the first time, as in a warm-up, after which it is sure to come again."""
    before = _at_once.set(True)
    try:
        yield
    finally:
        _at_once.reset(before)


def record(function: Function, inputs: Tensors) -> Recording:
    """One run on a stream of its own, which lets the libraries set themselves up, then one that is recorded."""
    own, device = [x.clone() for x in inputs], inputs[0].device
    with recording:
        if device not in _sides:
            _sides[device] = torch.cuda.Stream(device)
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        before, side = torch.cuda.current_stream(device), _sides[device]
        try:
            side.wait_stream(before)
            with torch.cuda.stream(side):
                function(*own)
            before.wait_stream(side)
            with torch.cuda.graph(graph, pool, side, capture_error_mode="thread_local"):
                outputs = function(*own)
        except RuntimeError:
            torch.cuda.set_stream(before)  # a capture that cannot be ended stays on its stream, and its pool stays open
            abandon(device, pool)
            raise
        made = Recording(graph, own, list(outputs))
        recorded.add(made)
    return made


def abandon(device: torch.device, pool: tuple[int, int]) -> None:
    """Close the memory pool of a recording that failed, if it is still open, so that torch gives memory back again."""
    end, release = (getattr(torch._C, name, None) for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"))
    if end is not None and release is not None:
        with suppress(RuntimeError):  # the capture was ended, or never begun: then the graph itself releases the pool
            end(device.index, pool)
            release(device.index, pool)


def replayed(owner: object, name: Hashable, function: Function, *inputs: torch.Tensor) -> Tensors:
    """function(*inputs): on CUDA recorded under that name when shapes come again, and replayed from then on; elsewhere called.

    function: looks at nothing but the network's weights and its arguments' values, does not wait for the device, and does not
    choose by values. Recordings belong to the owner, a network, so that all sessions that share it share them.
    """
    if _failed.is_set() or not records_kernels(str(inputs[0].device)):
        return function(*inputs)
    return owner.__dict__.setdefault("_recordings", {}).setdefault(name, Recordings()).run(function, inputs)
