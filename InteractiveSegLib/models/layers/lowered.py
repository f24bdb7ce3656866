"""Weights held in the precision that a network multiplies in, so that autocast need not convert them at every call."""
from __future__ import annotations

import torch
from torch import nn

MULTIPLYING = nn.Linear, nn.modules.conv._ConvNd


def lower_weights(network: nn.Module, precision: torch.dtype | None) -> nn.Module:
    """Linear and convolution layers in that precision, or all as it is where None. For predictions under autocast alone."""
    if precision is not None:
        for layer in network.modules():
            if isinstance(layer, MULTIPLYING):
                layer.to(precision)
    return network
