"""The automatic part: nnU-Net's network for 3D full resolution, of MONAI's DynUNet. Logits, and the features TIS compares.

The parts of a DynUNet stand here under their own names; its `skip_layers` hold the same tensors a second time.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import DynUNet
from torch import nn

Sizes = Sequence[Sequence[int]]


class Encoder(nn.Module):
    """(B, inputs, k, j, i) -> logits (B, classes, k, j, i) and penultimate features (B, features[0], k, j, i).

    Instance norm, leaky ReLU 0.01, two convolutions a stage, strided down, transposed up. classes count the background.
    """

    def __init__(self, inputs: int, classes: int, features: Sequence[int], kernels: Sizes, strides: Sizes,
                 trans_bias: bool = False) -> None:
        super().__init__()
        network = DynUNet(3, inputs, classes, kernels, strides, strides[1:], filters=features, deep_supervision=True,
                          deep_supr_num=len(strides) - 2, trans_bias=trans_bias)
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
