"""What XMem's value encoder and decoder are made of: residual blocks before the activation, attention, gated updates.

Maps of objects are (B, objects, C, h, w); maps of the slice, (B, C, h, w), are shared by its objects.
"""
from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class PreResidual(nn.Module):
    """Two 3x3 convolutions, each after its ReLU; no norm. (N, inputs, h, w) -> (N, outputs, h, w)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.downsample = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.downsample(x) + self.conv2(F.relu(self.conv1(F.relu(x))))


class ChannelGate(nn.Module):
    """Channels weighted by what their mean and maximum say. Shape unchanged."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(width // reduction, 1)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3)))  # (N, width)
        return x * weights.sigmoid()[:, :, None, None]


class SpatialGate(nn.Module):
    """Places weighted by what the maximum and mean over channels say around them. Shape unchanged."""

    def __init__(self) -> None:
        super().__init__()
        # The published names give the convolution a container of its own.
        self.spatial = nn.ModuleDict({"conv": nn.Conv2d(2, 1, 7, padding=3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        summary = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)  # (N, 2, h, w)
        return x * self.spatial["conv"](summary).sigmoid()


class Attention(nn.Sequential):
    """CBAM (Woo et al., ECCV 2018): the channels, then the places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(width)
        self.SpatialGate = SpatialGate()


class Fuser(nn.Module):
    """The slice's features and an object's, joined: (B, C, h, w), (B, objects, D, h, w) -> (B, objects, outputs, h, w).

    The first two convolutions see both joined along the channels. Each is done in two parts, so that the slice's part is
    done once for all objects and rounds.
    """

    def __init__(self, inputs: int, inner: int, outputs: int) -> None:
        super().__init__()
        self.block1 = PreResidual(inputs, inner)
        self.attention = Attention(inner)
        self.block2 = PreResidual(inner, outputs)

    def share(self, slice_features: torch.Tensor) -> torch.Tensor:
        """The slice's part: (B, C, h, w) -> (B, 2 inner, h, w)."""
        count = slice_features.shape[1]
        around = F.conv2d(slice_features, self.block1.downsample.weight[:, :count], padding=1)
        through = F.conv2d(F.relu(slice_features), self.block1.conv1.weight[:, :count], padding=1)
        return torch.cat([around, through], dim=1)

    def fuse(self, shared: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """shared: of `share`; own: (B, objects, D, h, w)."""
        block, objects, own = self.block1, own.shape[:2], own.flatten(0, 1)
        around, through = shared.repeat_interleave(objects[1], dim=0).chunk(2, dim=1)
        count = own.shape[1]
        around = around + F.conv2d(own, block.downsample.weight[:, -count:], block.downsample.bias, padding=1)
        through = through + F.conv2d(F.relu(own), block.conv1.weight[:, -count:], block.conv1.bias, padding=1)
        x = around + block.conv2(F.relu(through))  # (B objects, inner, h, w)
        return self.block2(x + self.attention(x)).unflatten(0, objects)


class Upsampler(nn.Module):
    """Twice the size, with the slice's finer features added: (B, inputs, 2h, 2w), (B, objects, inputs, h, w) -> 2h x 2w.

    `skip_conv` makes what is added of the encoder's features; it is run once per slice, by XMem.encode_key.
    """

    def __init__(self, skip: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, inputs, 3, padding=1)
        self.out_conv = PreResidual(inputs, outputs)

    def forward(self, skipped: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        up = F.interpolate(x.flatten(0, 1), scale_factor=2, mode="bilinear", align_corners=False)
        joined = skipped[:, None] + up.unflatten(0, x.shape[:2])  # (B, objects, inputs, 2h, 2w)
        return self.out_conv(joined.flatten(0, 1)).unflatten(0, x.shape[:2])


def gated(hidden: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """The next hidden state (N, C, h, w): forget, update and new content are the thirds of gates (N, 3C, h, w)."""
    forget, update, new = gates.chunk(3, dim=1)
    forget, update = forget.sigmoid(), update.sigmoid()
    return forget * hidden * (1 - update) + update * new.tanh()


class HiddenReinforcer(nn.Module):
    """The hidden state refreshed by a value: (B, objects, value, h, w) and (B, objects, hidden, h, w) -> the latter."""

    def __init__(self, value: int, hidden: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(value + hidden, 3 * hidden, 3, padding=1)

    def forward(self, value: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        gates = self.transform(torch.cat([value, hidden], dim=2).flatten(0, 1))
        return gated(hidden.flatten(0, 1), gates).unflatten(0, hidden.shape[:2])


class HiddenUpdater(nn.Module):
    """The hidden state updated by what the decoder saw at three scales: h x w, 2h x 2w and 4h x 4w."""

    def __init__(self, inputs: tuple[int, int, int], inner: int, hidden: int) -> None:
        super().__init__()
        self.g16_conv, self.g8_conv, self.g4_conv = (nn.Conv2d(width, inner, 1) for width in inputs)
        self.transform = nn.Conv2d(inner + hidden, 3 * hidden, 3, padding=1)

    def forward(self, scales: tuple[torch.Tensor, torch.Tensor, torch.Tensor], hidden: torch.Tensor) -> torch.Tensor:
        g16, g8, g4 = (scale.flatten(0, 1) for scale in scales)
        seen = self.g16_conv(g16) + self.g8_conv(F.avg_pool2d(g8, 2)) + self.g4_conv(F.avg_pool2d(g4, 4))
        state = hidden.flatten(0, 1)
        return gated(state, self.transform(torch.cat([seen, state], dim=1))).unflatten(0, hidden.shape[:2])
