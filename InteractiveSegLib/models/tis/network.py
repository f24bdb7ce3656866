"""TIS as one network: encoder, refinement, and everything a file of weights must say of itself."""
from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ...types import InteractiveSegError
from ...weights import load_strictly, read_state
from .encoder import Encoder
from .refinement import Refinement

ABOUT = "about"  # the configuration as UTF-8 text of JSON, a tensor among the tensors


@dataclass(frozen=True)
class TISConfig:
    """The network's shape and what its data look like. Tuples are in array order (k, j, i).

    targets: names of labels 1, 2, ...; spacing: mm; patch: voxels of a window; clip: intensities (low, high, mean, deviation)
    of a CT data set, empty where each volume is normalised by itself; stride: voxels per token; reach: mm, about a third of the
    objects' extent, the unit of the distance between a voxel and a click.
    width, layers: 32 x 6 here, the paper gives six layers and no width. mirror: axes along which mirrored volumes look alike, as
    they did in training. single: of each target whether it is one piece in every training volume, empty where nobody looked.
    """

    targets: tuple[str, ...]
    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    features: tuple[int, ...]
    stride: tuple[int, ...]
    clip: tuple[float, ...] = ()
    reach: float = 10.0
    trans_bias: bool = False
    width: int = 32
    heads: int = 4
    layers: int = 6
    click_encoding: bool = True
    label_assignment: bool = True
    mirror: tuple[int, ...] = ()
    single: tuple[bool, ...] = ()


class TIS(nn.Module):
    """`encoder` gives the automatic result and the features, `refinement` corrects it."""

    def __init__(self, config: TISConfig) -> None:
        super().__init__()
        self.config = config
        classes = len(config.targets) + 1
        self.encoder = Encoder(1, classes, config.features, config.kernels, config.strides, config.trans_bias)
        self.refinement = Refinement(config.features[0], classes, config.spacing, config.stride, config.width, config.heads,
                                     config.layers, config.reach, config.click_encoding, config.label_assignment)
        text = json.dumps(dataclasses.asdict(config)).encode()
        self.register_buffer(ABOUT, torch.tensor(list(text), dtype=torch.uint8))


def build(config: TISConfig) -> TIS:
    """A network with fresh weights."""
    return TIS(config)


def read_config(state: dict[str, torch.Tensor], path: Path) -> TISConfig:
    """The configuration that a file of weights carries."""
    if ABOUT not in state:
        raise InteractiveSegError(f"{path.name} holds no TIS, no tensor is named {ABOUT}: give weights that `train tis` made.")
    fields = json.loads(bytes(state[ABOUT].to(torch.uint8).tolist()).decode())
    return TISConfig(**{name: as_tuple(value) for name, value in fields.items()})


def as_tuple(value):
    """JSON's lists as tuples, at every depth."""
    return tuple(as_tuple(v) for v in value) if isinstance(value, list) else value


def load(path: Path, device: str) -> TIS:
    """A trained network, ready to predict."""
    state = read_state(path)
    network = build(read_config(state, path))
    network.register_buffer(ABOUT, state[ABOUT].to(torch.uint8))  # the file's own words: an older one says less
    load_strictly(network, state, path)
    on_card = str(device).startswith("cuda")
    return network.to(device, memory_format=torch.channels_last_3d if on_card else torch.preserve_format).eval()
