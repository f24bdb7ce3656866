"""What XMem's value encoder and decoder are made of: residual blocks before the activation, attention, gated updates.

Maps of objects are (N, C, h, w), N = B objects: those of a slice follow each other. Maps of the slice, (B, C, h, w), are shared
by its objects. Four axes throughout: a fifth one makes torch lose the layout in which convolutions are fast.
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
        mean, most = self.mlp(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))])).chunk(2)  # (N, width)
        return x * (mean + most).sigmoid()[:, :, None, None]


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


def of_each(x: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
    """Maps of slices (B, C, h, w) for each of their objects, which `objects` (N, ...) counts: (N, C, h, w)."""
    count = len(objects) // len(x)
    return x if count == 1 else x.repeat_interleave(count, dim=0).contiguous(memory_format=torch.channels_last)


class Fuser(nn.Module):
    """The slice's features and an object's, joined: (B, C, h, w), (N, D, h, w) -> (N, outputs, h, w).

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
        """shared: of `share`; own: (N, D, h, w)."""
        block, count = self.block1, own.shape[1]
        around, through = of_each(shared, own).chunk(2, dim=1)
        around = F.conv2d(own, block.downsample.weight[:, -count:], block.downsample.bias, padding=1) + around
        through = F.conv2d(F.relu(own), block.conv1.weight[:, -count:], block.conv1.bias, padding=1) + through
        x = around + block.conv2(F.relu(through))  # (N, inner, h, w)
        return self.block2(x + self.attention(x))


class Upsampler(nn.Module):
    """Twice the size, with the slice's finer features added: (B, inputs, 2h, 2w), (N, inputs, h, w) -> (N, outputs, 2h, 2w).

    `skip_conv` makes what is added of the encoder's features; it is run once per slice, by XMem.encode_key.
    """

    def __init__(self, skip: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, inputs, 3, padding=1)
        self.out_conv = PreResidual(inputs, outputs)

    def forward(self, skipped: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        up = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out_conv(of_each(skipped, x) + up)


def gated(hidden: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
    """The next hidden state (N, C, h, w): forget, update and new content are the thirds of gates (N, 3C, h, w)."""
    forget, update, new = gates.chunk(3, dim=1)
    forget, update = forget.sigmoid(), update.sigmoid()
    return forget * hidden * (1 - update) + update * new.tanh()


class HiddenReinforcer(nn.Module):
    """The hidden state refreshed by a value: (N, value, h, w) and (N, hidden, h, w) -> the latter."""

    def __init__(self, value: int, hidden: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(value + hidden, 3 * hidden, 3, padding=1)

    def forward(self, value: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return gated(hidden, self.transform(torch.cat([value, hidden], dim=1)))


class HiddenUpdater(nn.Module):
    """The hidden state (N, hidden, h, w) updated by what the decoder saw at three scales: h x w, 2h x 2w and 4h x 4w."""

    def __init__(self, inputs: tuple[int, int, int], inner: int, hidden: int) -> None:
        super().__init__()
        self.g16_conv, self.g8_conv, self.g4_conv = (nn.Conv2d(width, inner, 1) for width in inputs)
        self.transform = nn.Conv2d(inner + hidden, 3 * hidden, 3, padding=1)

    def forward(
        self, g16: torch.Tensor, g8: torch.Tensor, g4: torch.Tensor, logits: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """The decoder's maps from the coarsest to the finest, and the logits (N, 1, 4h, 4w)."""
        finest = torch.cat([F.avg_pool2d(g4, 4), F.avg_pool2d(logits, 4)], dim=1)
        seen = self.g16_conv(g16) + self.g8_conv(F.avg_pool2d(g8, 2)) + self.g4_conv(finest)
        return gated(hidden, self.transform(torch.cat([seen, hidden], dim=1)))
