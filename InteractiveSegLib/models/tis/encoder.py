"""The automatic part: nnU-Net's network for 3D full resolution, of MONAI's DynUNet. Logits, and the features TIS compares.

The parts of a DynUNet stand here under their own names; its `skip_layers` hold the same tensors a second time.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.networks.nets import DynUNet
from torch import nn
from torch.nn import functional as F

Sizes = Sequence[Sequence[int]]


def by_slices(layer: nn.Module, x: torch.Tensor, convolve: Callable[..., torch.Tensor]) -> torch.Tensor:
    """A 3D convolution whose kernel is 1 along one axis, computed in 2D: the slices across that axis are the batch.

    The same numbers; PyTorch's own convolutions of this kind in bfloat16 write beyond their memory on CPUs with AMX when they go
    backwards (seen with PyTorch 2.13).
    """
    axis = layer.kernel_size.index(1)
    stride, padding = ([v for a, v in enumerate(values) if a != axis] for values in (layer.stride, layer.padding))
    slices = x.movedim(axis + 2, 1).flatten(0, 1)  # (B * n, C, ...)
    y = convolve(slices, layer.weight.squeeze(axis + 2), layer.bias, stride, padding)
    return y.unflatten(0, (len(x), -1)).movedim(1, axis + 2)


class FlatConv3d(nn.Conv3d):
    """See by_slices."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return by_slices(self, x, F.conv2d)


class FlatConvTranspose3d(nn.ConvTranspose3d):
    """See by_slices."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return by_slices(self, x, F.conv_transpose2d)


FLAT = {nn.Conv3d: FlatConv3d, nn.ConvTranspose3d: FlatConvTranspose3d}


def flattened(module: nn.Module) -> nn.Module:
    """The module, with flat convolutions wherever a kernel is 1 along one axis and no stride is there. Names stay."""
    for name, child in module.named_children():
        size = getattr(child, "kernel_size", ())
        if type(child) in FLAT and 1 in size and child.stride[size.index(1)] == 1:
            flat = FLAT[type(child)](child.in_channels, child.out_channels, size, child.stride, child.padding,
                                     bias=child.bias is not None)
            flat.load_state_dict(child.state_dict())
            setattr(module, name, flat)
        else:
            flattened(child)
    return module


class Encoder(nn.Module):
    """(B, inputs, k, j, i) -> logits (B, classes, k, j, i) and penultimate features (B, features[0], k, j, i).

    Instance norm, leaky ReLU 0.01, two convolutions a stage, strided down, transposed up. classes count the background.
    """

    def __init__(self, inputs: int, classes: int, features: Sequence[int], kernels: Sizes, strides: Sizes,
                 trans_bias: bool = False) -> None:
        super().__init__()
        network = flattened(DynUNet(3, inputs, classes, kernels, strides, strides[1:], filters=features, deep_supervision=True,
                                    deep_supr_num=len(strides) - 2, trans_bias=trans_bias))
        self.input_block, self.downsamples, self.bottleneck = network.input_block, network.downsamples, network.bottleneck
        self.upsamples, self.output_block = network.upsamples, network.output_block
        self.deep_supervision_heads = network.deep_supervision_heads

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The decoder's maps, coarse to fine; the last one is the penultimate layer."""
        skips = [self.input_block(x)]
        for down in self.downsamples:
            skips.append(down(skips[-1]))
        x, found = self.bottleneck(skips[-1]), []
        for up in self.upsamples:
            x = up(x, skips.pop())
            found.append(x)
        return found

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.maps(x)[-1]
        return self.output_block(features), features

    def supervised(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits at full resolution, then of each coarser decoder map but the coarsest, for deep supervision."""
        maps = self.maps(x)[::-1]
        return [self.output_block(maps[0])] + [head(m) for head, m in zip(self.deep_supervision_heads, maps[1:])]
