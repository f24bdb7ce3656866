"""A network's kernels recorded once and replayed with one call (CUDA graphs). It knows tensors, not what they mean.

Recording takes two runs. It pays where hundreds of short kernels follow each other, as in RITM's and VerSe's click paths, where
launching them one by one takes longer than running them. torch.compile is not used: it takes half a minute at load, and needs
a compiler on the user's computer.
"""
from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ...device import FULL, device_failure, records_kernels

log = logging.getLogger(__name__)
SHAPES = 4  # recordings that are kept: one for each shape of the inputs
_recording = threading.Lock()  # one graph at a time is recorded in a process

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
        self.failed = False
        self.busy = threading.Lock()

    def run(self, function: Function, inputs: Tensors) -> Tensors:
        """The function's answer; a copy of it, so that the next call may write over the recorded one."""
        with self.busy, torch.cuda.device(inputs[0].device):
            recording = self.find(function, inputs)
            if recording is None:
                return function(*inputs)
            for own, given in zip(recording.inputs, inputs):
                own.copy_(given, non_blocking=True)
            recording.graph.replay()
            return [output.clone() for output in recording.outputs]

    def find(self, function: Function, inputs: Tensors) -> Recording | None:
        """The one for inputs of these shapes, old or new; None where it failed."""
        shapes = tuple((x.shape, x.dtype) for x in inputs)
        if shapes not in self.kept:
            try:
                self.kept[shapes] = record(function, inputs)
            except RuntimeError as error:
                if device_failure(error) == FULL:
                    raise
                log.warning("Kernels could not be recorded (%s): they are launched one by one.", str(error).splitlines()[0])
                self.failed = True
                return None
            while len(self.kept) > SHAPES:
                self.kept.popitem(last=False)
        self.kept.move_to_end(shapes)
        return self.kept[shapes]


def record(function: Function, inputs: Tensors) -> Recording:
    """One run on a stream of its own, which lets the libraries set themselves up, then one that is recorded."""
    own = [x.clone() for x in inputs]
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with _recording:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function(*own)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = function(*own)
    return Recording(graph, own, list(outputs))


def replayed(network: nn.Module, name: Hashable, function: Function, *inputs: torch.Tensor) -> Tensors:
    """function(*inputs): on CUDA recorded under that name when shapes are new, and replayed from then on; elsewhere just called.

    function: looks at nothing but the network's weights and its arguments' values, does not wait for the device, and does not
    choose by values. Recordings belong to the network, so that all sessions that share it share them.
    """
    recordings = network.__dict__.setdefault("_recordings", {}).setdefault(name, Recordings())
    if recordings.failed or not records_kernels(str(inputs[0].device)):
        return function(*inputs)
    return recordings.run(function, inputs)
