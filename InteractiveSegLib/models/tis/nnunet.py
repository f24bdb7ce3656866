"""A hospital's own nnU-Net, version 1 or 2, as TIS's encoder: which of its tensors is which of ours.

    nnU-Net 1 (Generic_UNet)                  nnU-Net 2 (PlainConvUNet)        here
    conv_blocks_context.S.blocks.C.conv       encoder.stages.S.0.convs.C.conv  input_block, downsamples.S-1 .convC+1.conv
    conv_blocks_context.LAST.C.blocks.0.conv  encoder.stages.LAST.0.convs.C    bottleneck.convC+1.conv
    conv_blocks_localization.U.C.blocks.0     decoder.stages.U.convs.C         upsamples.U.conv_block.convC+1.conv
    tu.U                                      decoder.transpconvs.U            upsamples.U.transp_conv.conv
    seg_outputs.U                             decoder.seg_layers.U             output_block, deep_supervision_heads.LAST-2-U

`instnorm` and `norm` go to `normC+1` in the same way. The biases of convolutions are dropped: the instance norm behind them
takes them away again. Version 2 keeps each tensor several times (all_modules, decoder.encoder); one is read.
"""
from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...types import InteractiveSegError
from ...weights import UNREADABLE, load_strictly
from .encoder import Encoder

WRAPPERS = ("network_weights", "state_dict")  # of version 2 and 1
AGAIN = re.compile(r"(^|\.)all_modules\.|^decoder\.encoder\.")  # the same tensors under other names
STAGE = re.compile(r"(?:conv_blocks_context\.(?P<s1>\d+)\.blocks\.(?P<c1>\d)"
                   r"|conv_blocks_context\.(?P<s2>\d+)\.(?P<c2>\d)\.blocks\.0"
                   r"|encoder\.stages\.(?P<s3>\d+)\.0\.convs\.(?P<c3>\d))\.(?P<part>.+)")
UP = re.compile(r"(?:conv_blocks_localization\.(?P<u1>\d+)\.(?P<c1>\d)\.blocks\.0"
                r"|decoder\.stages\.(?P<u2>\d+)\.convs\.(?P<c2>\d))\.(?P<part>.+)")
WIDER = re.compile(r"(?:tu|decoder\.transpconvs)\.(?P<u>\d+)\.(?P<part>weight|bias)")
HEAD = re.compile(r"(?:seg_outputs|decoder\.seg_layers)\.(?P<u>\d+)\.(?P<part>weight|bias)")
PARTS = {"conv.weight": "conv{}.conv.weight", "conv.bias": None, "instnorm.weight": "norm{}.weight",
         "instnorm.bias": "norm{}.bias", "norm.weight": "norm{}.weight", "norm.bias": "norm{}.bias"}


@dataclass(frozen=True)
class Plans:
    """What a version 2 checkpoint knows of its data. spacing: mm (k, j, i); clip, mirror: as in TISConfig; targets: names."""

    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    clip: tuple[float, ...]
    targets: tuple[str, ...]
    mirror: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class NNUNet:
    """A checkpoint under our names, and the shape that its tensors have. plans: None in version 1, which keeps them apart."""

    path: Path
    state: dict[str, torch.Tensor]
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    classes: int
    trans_bias: bool
    plans: Plans | None

    def encoder(self) -> Encoder:
        """The network with these weights."""
        encoder = Encoder(1, self.classes, self.features, self.kernels, self.strides, self.trans_bias)
        load_strictly(encoder, self.state, self.path)
        return encoder


def read_nnunet(path: Path) -> NNUNet:
    """A checkpoint of nnU-Net's 3D full-resolution network: fold_0/checkpoint_final.pth, or model_final_checkpoint.model."""
    saved = read_saved(path)
    tensors = next((saved[key] for key in WRAPPERS if isinstance(saved.get(key), dict)), saved)
    tensors = {re.sub(r"^(module\.|_orig_mod\.)+", "", k): v for k, v in tensors.items() if isinstance(v, torch.Tensor)}
    last = sum(bool(WIDER.fullmatch(k)) and k.endswith("weight") for k in tensors)
    state, unknown = {}, []
    for key, tensor in tensors.items():
        if not AGAIN.search(key):
            name = our_name(key, last)
            if name is None:
                unknown.append(key)
            elif name:
                state[name] = tensor.float()
    if unknown or last < 2 or "input_block.conv1.conv.weight" not in state:
        what = f"its tensor {unknown[0]} has no place" if unknown else "the tensors of its stages are missing"
        raise InteractiveSegError(f"{path.name} is no plain nnU-Net for 3D ({what}): give a checkpoint of the 3d_fullres "
                                  "configuration without residual blocks.")
    first = state["input_block.conv1.conv.weight"]
    if first.ndim != 5 or first.shape[1] != 1:
        raise InteractiveSegError(f"{path.name} reads {first.shape[1]} channels in {first.ndim - 2} dimensions, expected one in "
                                  "three: give a 3d_fullres network for a single image.")
    stages = ["input_block", *(f"downsamples.{n}" for n in range(last - 1)), "bottleneck"]
    convolutions = [state[f"{stage}.conv1.conv.weight"] for stage in stages]
    for head in ("output_block", *(f"deep_supervision_heads.{n}" for n in range(last - 1))):
        weight = state.setdefault(f"{head}.conv.conv.weight", torch.zeros_like(state["output_block.conv.conv.weight"]))
        state.setdefault(f"{head}.conv.conv.bias", torch.zeros(len(weight)))
    strides = [tuple(state[f"upsamples.{u}.transp_conv.conv.weight"].shape[2:]) for u in reversed(range(last))]
    return NNUNet(path, state, tuple(len(c) for c in convolutions), tuple(tuple(c.shape[2:]) for c in convolutions),
                  ((1, 1, 1), *strides), len(state["output_block.conv.conv.weight"]),
                  "upsamples.0.transp_conv.conv.bias" in state, read_plans(saved))


def our_name(key: str, last: int) -> str | None:
    """Our name of a tensor, "" for one that changes nothing, None for one that is not known. last: number of the last stage."""
    if match := STAGE.fullmatch(key) or UP.fullmatch(key):
        groups = {k[0]: int(v) for k, v in match.groupdict().items() if v is not None and k != "part"}
        part = PARTS.get(match["part"])
        if match["part"] not in PARTS or groups["c"] > 1:
            return None
        if part is None:
            return ""
        if "u" in groups:
            block = f"upsamples.{groups['u']}.conv_block"
        else:
            stage = groups["s"]
            block = "input_block" if stage == 0 else "bottleneck" if stage == last else f"downsamples.{stage - 1}"
        return f"{block}.{part.format(groups['c'] + 1)}"
    if match := WIDER.fullmatch(key):
        return f"upsamples.{match['u']}.transp_conv.conv.{match['part']}"
    if match := HEAD.fullmatch(key):
        up = int(match["u"])
        head = "output_block" if up == last - 1 else f"deep_supervision_heads.{last - 2 - up}"
        return f"{head}.conv.conv.{match['part']}"
    return None


def read_saved(path: Path) -> dict[str, Any]:
    """The file's table, read without running anything that it may hold; nnU-Net 2 also keeps numpy's numbers in it."""
    scalar = (getattr(np, "_core", None) or np.core).multiarray.scalar
    kinds = {type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)}
    try:
        with torch.serialization.safe_globals([scalar, np.dtype, *kinds]):
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        reason = "it holds more than tensors and numbers" if isinstance(error, pickle.UnpicklingError) else str(error)
        raise InteractiveSegError(f"{path} cannot be read as a checkpoint of nnU-Net ({reason}): give checkpoint_final.pth or "
                                  "model_final_checkpoint.model.") from error
    if not isinstance(saved, dict):
        raise InteractiveSegError(f"{path} holds a {type(saved).__name__}, expected nnU-Net's table: give checkpoint_final.pth.")
    return saved


def read_plans(saved: Mapping[str, Any]) -> Plans | None:
    """Spacing, patch, intensities, names and mirrored axes from a version 2 checkpoint."""
    arguments = saved.get("init_args")
    if not arguments:
        return None
    plans, about = arguments["plans"], arguments["dataset_json"]
    configuration = plans["configurations"][arguments["configuration"]]
    clip: tuple[float, ...] = ()
    if configuration["normalization_schemes"][0] == "CTNormalization":
        found = plans["foreground_intensity_properties_per_channel"]["0"]
        clip = tuple(float(found[key]) for key in ("percentile_00_5", "percentile_99_5", "mean", "std"))
    names = sorted((value, name) for name, value in about["labels"].items() if isinstance(value, int) and value > 0)
    return Plans(tuple(float(s) for s in configuration["spacing"]), tuple(int(p) for p in configuration["patch_size"]), clip,
                 tuple(name for _, name in names), tuple(saved.get("inference_allowed_mirroring_axes") or ()))
