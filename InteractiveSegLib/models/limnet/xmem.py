"""XMem's networks (Cheng and Schwing, ECCV 2022), LIM-Net's 3D part: encode a slice, encode its masks, decode a readout.

What is remembered between slices, and how it is read, is memory.py. With the default configuration the names and shapes of
all tensors are the published ones. Every object is a row of its own: (B, objects, C, h, w), h = H / 16 and w = W / 16.
"""
from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ...device import half_precision
from ...types import InteractiveSegError
from ...weights import load_strictly, read_state
from ..layers.lowered import lower_weights
from .residual import BasicBlock, Bottleneck, Normalise, chain
from .xmem_blocks import Fuser, HiddenReinforcer, HiddenUpdater, Upsampler

STRIDE = 16  # pixels per memory cell, in both directions
PUBLISHED_SIZE = 480
COMPACT_SIZE = 112


@dataclass(frozen=True)
class XMemConfig:
    """The networks' shape. Published: ResNet-50 for slices, ResNet-18 for masks.

    key, value, hidden: channels of what is compared, remembered and carried on. width: of both encoders' first maps.
    key_depths, value_depths: blocks in a row, at strides 4, 8 and 16.
    """

    key: int = 64
    value: int = 512
    hidden: int = 64
    width: int = 64
    key_depths: tuple[int, int, int] = (3, 4, 6)
    value_depths: tuple[int, int, int] = (2, 2, 2)

    @property
    def size(self) -> int:
        """Side of the square canvas that networks of this width are trained on, pixels."""
        return PUBLISHED_SIZE if self.width >= 64 else COMPACT_SIZE


XMEM = XMemConfig()


@dataclass(frozen=True)
class Features:
    """An encoded slice: all that later steps need of it. C is 16 times the configured width."""

    frame: torch.Tensor  # (B, 3, H, W), normalised
    key: torch.Tensor  # (B, key, h, w)
    shrinkage: torch.Tensor  # (B, 1, h, w), at least 1: how sharply a cell answers
    selection: torch.Tensor  # (B, key, h, w) in [0, 1]: which channels a query asks for
    f16: torch.Tensor  # (B, C, h, w), for the value encoder
    fused: torch.Tensor  # (B, C, h, w): f16's share of the decoder's first convolutions
    skip8: torch.Tensor  # (B, C / 2, 2h, 2w): what the decoder adds to its maps at stride 8
    skip4: torch.Tensor  # (B, C / 4, 4h, 4w): and at stride 4

    @property
    def nbytes(self) -> int:
        """What it costs to keep, bytes."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))


class KeyEncoder(nn.Module):
    """ResNet-50 without its last stage: (B, 3, H, W) -> maps at strides 16, 8 and 4."""

    def __init__(self, width: int, depths: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.res2 = chain(Bottleneck, width, width, depths[0])
        self.layer2 = chain(Bottleneck, 4 * width, 2 * width, depths[1], stride=2)
        self.layer3 = chain(Bottleneck, 8 * width, 4 * width, depths[2], stride=2)

    def forward(self, frame: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = F.relu(self.bn1(self.conv1(frame)))  # (B, width, H / 2, W / 2)
        f4 = self.res2(F.max_pool2d(x, 3, stride=2, padding=1))  # (B, 4 width, H / 4, W / 4)
        f8 = self.layer2(f4)  # (B, 8 width, H / 8, W / 8)
        return self.layer3(f8), f8, f4  # (B, 16 width, H / 16, W / 16)


class KeyProjection(nn.Module):
    """(B, inputs, h, w) -> key, shrinkage, selection, see `Features`."""

    def __init__(self, inputs: int, key: int) -> None:
        super().__init__()
        self.key_proj = nn.Conv2d(inputs, key, 3, padding=1)
        self.d_proj = nn.Conv2d(inputs, 1, 3, padding=1)
        self.e_proj = nn.Conv2d(inputs, key, 3, padding=1)

    def forward(self, f16: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.key_proj(f16), self.d_proj(f16) ** 2 + 1, self.e_proj(f16).sigmoid()


class ValueEncoder(nn.Module):
    """ResNet-18 without its last stage over slice, mask and the other masks; then fused with the slice's features."""

    def __init__(self, config: XMemConfig) -> None:
        super().__init__()
        width, depths = config.width, config.value_depths
        self.conv1 = nn.Conv2d(5, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = chain(BasicBlock, width, width, depths[0])
        self.layer2 = chain(BasicBlock, width, 2 * width, depths[1], stride=2)
        self.layer3 = chain(BasicBlock, 2 * width, 4 * width, depths[2], stride=2)
        self.fuser = Fuser((16 + 4) * width, 8 * width, config.value)
        self.hidden_reinforce = HiddenReinforcer(config.value, config.hidden)

    def forward(self, features: Features, masks: torch.Tensor) -> torch.Tensor:
        """Values (B objects, value, h, w) of masks (B, objects, H, W)."""
        others = masks.sum(dim=1, keepdim=True) - masks
        frame = features.frame[:, None].expand(-1, masks.shape[1], -1, -1, -1)
        x = torch.cat([frame, masks[:, :, None], others[:, :, None]], dim=2).flatten(0, 1)  # (B objects, 5, H, W)
        x = self.bn1(self.conv1(x))  # (B objects, width, H / 2, W / 2)
        x = F.relu(F.max_pool2d(x, 3, stride=2, padding=1))  # (B objects, width, H / 4, W / 4)
        x = self.layer3(self.layer2(self.layer1(x)))  # (B objects, 4 width, h, w)
        return self.fuser.fuse(self.fuser.share(features.f16), x)


class Decoder(nn.Module):
    """Readout, hidden state and the slice's features -> logits at full size, and the next hidden state."""

    def __init__(self, config: XMemConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.hidden
        self.fuser = Fuser(16 * width + config.value + hidden, 8 * width, 8 * width)
        self.hidden_update = HiddenUpdater((8 * width, 4 * width, 4 * width + 1), 4 * width, hidden)
        self.up_16_8 = Upsampler(8 * width, 8 * width, 4 * width)
        self.up_8_4 = Upsampler(4 * width, 4 * width, 4 * width)
        self.pred = nn.Conv2d(4 * width, 1, 3, padding=1)

    def forward(
        self, features: Features, readout: torch.Tensor, hidden: torch.Tensor, update: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """readout: (B objects, value, h, w); hidden: (B objects, hidden, h, w); logits: (B objects, 1, H, W)."""
        own = torch.cat([readout, hidden], dim=1).contiguous(memory_format=torch.channels_last)
        g16 = self.fuser.fuse(features.fused, own)  # (B objects, 8 width, h, w)
        g8 = self.up_16_8(features.skip8, g16)  # (B objects, 4 width, 2h, 2w)
        g4 = self.up_8_4(features.skip4, g8)  # (B objects, 4 width, 4h, 4w)
        logits = self.pred(F.relu(g4))  # (B objects, 1, 4h, 4w)
        if update:
            hidden = self.hidden_update(g16, g8, g4, logits, hidden)
        return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False), hidden


def aggregate(probabilities: torch.Tensor) -> torch.Tensor:
    """Logits of background and objects, (..., 1 + objects, H, W), of one probability per object, (..., objects, H, W).

    A pixel is background as far as it is in no object. A softmax over the result is the objects' share of each pixel.
    """
    background = (1 - probabilities).prod(dim=-3, keepdim=True)
    return torch.cat([background, probabilities], dim=-3).clamp(1e-7, 1 - 1e-7).logit()


class XMem(nn.Module):
    """The three networks behind one slice at a time."""

    def __init__(self, config: XMemConfig = XMEM) -> None:
        super().__init__()
        self.config = config
        self.key_encoder = KeyEncoder(config.width, config.key_depths)
        self.value_encoder = ValueEncoder(config)
        self.key_proj = KeyProjection(16 * config.width, config.key)
        self.decoder = Decoder(config)
        self.normalise = Normalise()

    def encode_key(self, frame: torch.Tensor) -> Features:
        """frame: (B, 3, H, W) from `normalise`; H and W multiples of STRIDE.

        All of the decoder that depends on the slice alone is done here, so that a later round does not repeat it.
        """
        f16, f8, f4 = self.key_encoder(frame)
        decoder = self.decoder
        skips = decoder.up_16_8.skip_conv(f8), decoder.up_8_4.skip_conv(f4)
        compared = (x.float() for x in self.key_proj(f16))
        return Features(frame, *compared, f16, decoder.fuser.share(f16), *skips)

    def encode_value(
        self, features: Features, hidden: torch.Tensor, masks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(value to remember (B, objects, value, h, w), next hidden state) of the slice with its masks (B, objects, H, W)."""
        value = self.value_encoder(features, masks)
        hidden = self.value_encoder.hidden_reinforce(value, hidden.flatten(0, 1))
        return value.unflatten(0, masks.shape[:2]), hidden.unflatten(0, masks.shape[:2])

    def segment(
        self, features: Features, readout: torch.Tensor, hidden: torch.Tensor, update: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(aggregated logits (B, 1 + objects, H, W), next hidden state); without `update` the state stays as it is.

        readout: (B, objects, value, h, w) from the memory; hidden: (B, objects, hidden, h, w).
        """
        objects = readout.shape[:2]
        logits, hidden = self.decoder(features, readout.flatten(0, 1), hidden.flatten(0, 1), update)
        return aggregate(logits[:, 0].unflatten(0, objects).float().sigmoid()), hidden.unflatten(0, objects)


def config_of(state: dict[str, torch.Tensor], path: Path) -> XMemConfig:
    """The shape of the networks that a table of tensors belongs to."""
    needed = tuple(f"{name}.weight" for name in (
        "key_proj.key_proj", "value_encoder.fuser.block2.conv2", "value_encoder.hidden_reinforce.transform"))
    for key in needed:
        if key not in state:
            raise InteractiveSegError(f"{path.name} holds no XMem network, no tensor is named {key}.")
    key, value, gates = (state[name].shape[0] for name in needed)

    def depths(encoder: str, *stages: str) -> tuple[int, ...]:
        return tuple(sum(f"{encoder}.{stage}.{n}.conv1.weight" in state for n in range(64)) for stage in stages)

    return XMemConfig(
        key=key, value=value, hidden=gates // 3, width=state[needed[0]].shape[1] // 16,
        key_depths=depths("key_encoder", "res2", "layer2", "layer3"),
        value_depths=depths("value_encoder", "layer1", "layer2", "layer3"),
    )


def load(path: Path, device: str) -> XMem:
    """Networks from published or own weights, ready to predict in the device's half precision, if it has one.

    Their shape is read from the tensors.
    """
    state = read_state(path)
    network = XMem(config_of(state, path))
    load_strictly(network, state, path)
    return lower_weights(network.to(device), half_precision(device)).eval()
