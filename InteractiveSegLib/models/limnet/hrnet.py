"""HRNetV2 (Wang et al., TPAMI 2020) as RITM uses it: an image in, maps of four scales out. It knows no clicks.

The stem takes a second map, which RITM fills with the encoded clicks.
"""
from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from .residual import BasicBlock, Bottleneck, chain, conv3x3


def resize(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bilinear, corners aligned, to the height and width of `like`."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


def reduce(inputs: int, outputs: int, stride: int = 2, relu: bool = True) -> nn.Sequential:
    """3x3 convolution, norm and, if wanted, ReLU."""
    return nn.Sequential(conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs), *[nn.ReLU(inplace=True)] * relu)


class Exchange(nn.Module):
    """One module of a stage: every scale refined on its own, then every scale told what the others found."""

    def __init__(self, widths: tuple[int, ...], depth: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(chain(BasicBlock, width, width, depth) for width in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self.path(widths, source, target) for source in range(len(widths))) for target in range(len(widths))
        )

    @staticmethod
    def path(widths: tuple[int, ...], source: int, target: int) -> nn.Module:
        """From one scale to another: up by a 1x1 convolution (resized later), down by 3x3 convolutions with stride 2."""
        if source == target:
            return nn.Identity()
        if source > target:
            return nn.Sequential(nn.Conv2d(widths[source], widths[target], 1, bias=False), nn.BatchNorm2d(widths[target]))
        steps = [reduce(widths[source], widths[source]) for _ in range(target - source - 1)]
        return nn.Sequential(*steps, reduce(widths[source], widths[target], relu=False))

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps)]
        fused = []
        for target, paths in enumerate(self.fuse_layers):
            ways = [path(x) for path, x in zip(paths, maps)]
            ways = [resize(x, like=maps[target]) if source > target else x for source, x in enumerate(ways)]
            fused.append(F.relu(sum(ways[1:], ways[0])))
        return fused


class HRNet(nn.Module):
    """image (B, 3, H, W), clicks (B, stem, H / 2, W / 2) -> all scales at stride 4: (B, 15 width, H / 4, W / 4).

    width: channels of the finest scale, doubled with each of the other three. modules: how many in stages 2, 3 and 4.
    depth: blocks in a row, in the first stage and in every branch.
    """

    def __init__(self, width: int, modules: tuple[int, int, int], depth: int, stem: int) -> None:
        super().__init__()
        widths = tuple(width * 2**scale for scale in range(4))
        self.width = sum(widths)
        self.conv1 = conv3x3(3, stem, stride=2)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = conv3x3(stem, stem, stride=2)
        self.bn2 = nn.BatchNorm2d(stem)
        self.layer1 = chain(Bottleneck, stem, stem, depth)
        wide = stem * Bottleneck.expansion
        self.transition1 = nn.ModuleList([reduce(wide, widths[0], stride=1), nn.Sequential(reduce(wide, widths[1]))])
        self.stage2 = nn.Sequential(*(Exchange(widths[:2], depth) for _ in range(modules[0])))
        self.transition2 = self.coarser(widths[:3])
        self.stage3 = nn.Sequential(*(Exchange(widths[:3], depth) for _ in range(modules[1])))
        self.transition3 = self.coarser(widths)
        self.stage4 = nn.Sequential(*(Exchange(widths, depth) for _ in range(modules[2])))

    @staticmethod
    def coarser(widths: tuple[int, ...]) -> nn.ModuleList:
        """Keep the scales there are; one more is made from the coarsest."""
        return nn.ModuleList([*(nn.Identity() for _ in widths[:-1]), nn.Sequential(reduce(widths[-2], widths[-1]))])

    def pyramid(self, image: torch.Tensor, clicks: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(image)))  # (B, stem, H / 2, W / 2)
        x = F.relu(self.bn2(self.conv2(x + clicks)))  # (B, stem, H / 4, W / 4)
        x = self.layer1(x)  # (B, 4 stem, H / 4, W / 4)
        maps = self.stage2([transition(x) for transition in self.transition1])  # strides 4 and 8
        for transition, stage in ((self.transition2, self.stage3), (self.transition3, self.stage4)):
            maps = stage([new(x) for new, x in zip(transition, [*maps, maps[-1]])])  # one stride more
        return torch.cat([maps[0], *(resize(x, like=maps[0]) for x in maps[1:])], dim=1)  # (B, 15 width, H / 4, W / 4)
