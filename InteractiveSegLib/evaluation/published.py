"""Networks of the published sizes with random weights, and the published ways of computing them, to compare ours with.

Restated from the released code of RITM, XMem, VerSe and ScribblePrompt on our modules, whose weights and names are the published
ones; MultiverSeg's is speed.authors_forward. The same arithmetic, no meaning. Prints nothing.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from ..device import EAGER
from ..footprint import PROPAGATION
from ..models.limnet.memory import PUBLISHED as MEMORY
from ..models.limnet.memory import Memory, joined, similarity
from ..models.limnet.propagation import Tracker, encode
from ..models.limnet.xmem import XMem


def saved(make: Callable[[], nn.Module], folder: Path) -> Path:
    """A weight file of seeded random weights."""
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = folder / "published.safetensors"
    save_file(make().state_dict(), path)
    return path


def random_scribbleprompt(folder: Path) -> Path:
    from ..models.scribbleprompt import ScribblePromptConfig, ScribblePromptUNet

    return saved(lambda: ScribblePromptUNet(ScribblePromptConfig()), folder)


def random_multiverseg(folder: Path) -> Path:
    from ..models.multiverseg import MultiverSegConfig, MultiverSegNet

    return saved(lambda: MultiverSegNet(MultiverSegConfig()), folder)


def random_ritm(folder: Path) -> Path:
    from ..models.limnet.ritm import RITM

    return saved(RITM, folder)


def random_xmem(folder: Path) -> Path:
    return saved(XMem, folder)


def random_verse(folder: Path) -> Path:
    from ..models.verse.network import PUBLISHED, VerSe

    return saved(lambda: VerSe(PUBLISHED), folder)


# Family -> a weight file of the published size.
RANDOM: Mapping[str, Callable[[Path], Path]] = {
    "scribbleprompt": random_scribbleprompt,
    "multiverseg": random_multiverseg,
    "limnet": random_ritm,
    "verse": random_verse,
    PROPAGATION: random_xmem,
}


class DenseMemory(Memory):
    """XMem's readout as published: the best cells' weights as a matrix that is zero elsewhere, times all values."""

    def read(self, query: torch.Tensor, selection: torch.Tensor) -> torch.Tensor:
        cells = joined(*self.groups)
        scores = similarity(cells.key, cells.shrinkage, query.flatten(1), selection.flatten(1))  # (h w, N)
        best, index = scores.topk(min(self.config.top_k, len(cells)), dim=1)
        weights = best.softmax(dim=1)
        self.count(index, weights)
        dense = torch.zeros_like(scores).scatter_(1, index, weights)
        return (cells.value @ dense.t()).unflatten(2, query.shape[1:])


@patch.dict(os.environ, {EAGER: "1"})  # kernel by kernel
@torch.inference_mode()
def xmem_slices(network: XMem, images: np.ndarray, mask: np.ndarray, device: str, precision: torch.dtype | None) -> np.ndarray:
    """Probabilities (slices, H, W) of a run from the first slice on: each slice is sent, encoded, read and fetched by itself.

    images: float32 (slices, H, W) in [0, 1]; mask: bool (H, W), of the first slice.
    """
    tracker = Tracker(network, MEMORY, mask.shape, precision)
    tracker.memory = DenseMemory(MEMORY)
    found = []
    for n, image in enumerate(images):
        features = encode(network, torch.from_numpy(image)[None].to(device), precision)
        given = torch.from_numpy(mask.astype(np.float32))[None].to(device) if n == 0 else None
        found.append(tracker.step(features, given, last=n == len(images) - 1)[0].float().cpu().numpy())
    return np.stack(found)


@torch.inference_mode()
def plainly(network: nn.Module, device: str, *inputs: np.ndarray) -> np.ndarray:
    """A network's first output, computed as the released codes do it: float32, kernel by kernel, nothing kept between clicks."""
    outputs = network(*(torch.from_numpy(x).to(device) for x in inputs))
    first = outputs[0] if isinstance(outputs, tuple) else outputs[-1] if isinstance(outputs, list) else outputs
    return first.float().cpu().numpy()
