"""Object-contextual representations (Yuan et al., ECCV 2020) for one object: what the object looks like, told to every pixel."""
from __future__ import annotations

import torch
from torch import nn


def project(inputs: int, outputs: int) -> list[nn.Module]:
    """1x1 convolution, norm, ReLU. The published names give the norm a container of its own."""
    norm = nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
    return [nn.Conv2d(inputs, outputs, 1, bias=False), norm]


def gather(features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The object's mean feature, each pixel weighted by the softmax of its logit. (B, C, h, w), (B, 1, h, w) -> (B, C, 1, 1)."""
    weights = logits.flatten(2).softmax(dim=2)  # (B, 1, h w)
    return (features.flatten(2) @ weights.transpose(1, 2)).unsqueeze(3)


class ObjectAttention(nn.Module):
    """Attention of pixels over objects. With one object every pixel gets all of it, whatever f_pixel and f_object say.

    Both are kept because the published weights have them; they cannot change the output and are not run.
    """

    def __init__(self, width: int, key: int) -> None:
        super().__init__()
        self.f_pixel = nn.Sequential(*project(width, key), *project(key, key))
        self.f_object = nn.Sequential(*project(width, key), *project(key, key))
        self.f_down = nn.Sequential(*project(width, key))
        self.f_up = nn.Sequential(*project(key, width))

    def forward(self, features: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.f_up(self.f_down(context)).expand_as(features)  # (B, width, 1, 1) -> (B, width, h, w)


class DistributeContext(nn.Module):
    """features (B, width, h, w) and context (B, width, 1, 1) -> features that know the object, same shape."""

    def __init__(self, width: int, key: int) -> None:
        super().__init__()
        self.object_context_block = ObjectAttention(width, key)
        self.conv_bn_dropout = nn.Sequential(*project(2 * width, width), nn.Dropout2d(0.05))

    def forward(self, features: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.conv_bn_dropout(torch.cat([self.object_context_block(features, context), features], dim=1))
