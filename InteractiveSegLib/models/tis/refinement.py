"""The correcting part of TIS: every voxel compares itself with the clicks and copies a category from them.

Published as text and a figure only (Liu et al. 2022, section 2.3); what they leave open is decided here and marked (ours).
Memory and time are linear in the tokens and in the clicks.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

GRID = 8  # side of the learnable position grid
CHUNK = 16384  # tokens compared with the clicks at a time; bounds the memory
# Where training starts (ours): as a brush that copies a click's category to what is near and alike, one radius per head.
SLOPES = (1.0, 3.0, 10.0, 30.0)  # how fast a head forgets a click with the squared distance
ALONE = -2.0  # score of "none of the clicks"
BALANCE = -2.0  # the automatic label's weight, before the sigmoid
TRUST = 1.0  # logit of the label that is there before the clicks
COPIED = 9.0  # logit of a category that was copied in full


def fourier_grid(width: int) -> torch.Tensor:
    """(1, width, GRID, GRID, GRID): sines and cosines along each axis, what the learnable grid begins with (ours)."""
    place = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, GRID)] * 3, indexing="ij"))
    waves = [f(math.pi * n * axis / 2) for n in range(1, 2 + width // 6) for axis in place for f in (torch.sin, torch.cos)]
    return 0.5 * torch.stack(waves[:width])[None]


class ClickEncoding(nn.Module):
    """A transformer decoder: the clicks' tokens look at each other, then at all tokens. (n, d), (N, d) -> (n, d)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.among = nn.MultiheadAttention(width, heads)
        self.across = nn.MultiheadAttention(width, heads)
        self.feedforward = feedforward(width)
        silent(self.among.out_proj)
        silent(self.across.out_proj)

    def forward(self, clicks: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norms[0](clicks)
        clicks = clicks + self.among(x, x, x, need_weights=False)[0]
        memory = self.norms[3](tokens)
        clicks = clicks + self.across(self.norms[1](clicks), memory, memory, need_weights=False)[0]
        return clicks + self.feedforward(self.norms[2](clicks))


class LabelAssignment(nn.Module):
    """Voxels ask the clicks for their category; the answer is balanced with the automatic label by a learnable weight.

    Ours: beside the clicks each voxel may choose a learnable key that stands for "none of them" and carries its own
    automatic category; and a head's attention falls with the squared distance to the click by a learnable slope.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.none, self.alone = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.full((heads,), ALONE))
        slopes = torch.tensor([SLOPES[h % len(SLOPES)] for h in range(heads)])
        self.slope = nn.Parameter(slopes.log())
        self.balance = nn.Parameter(torch.tensor(BALANCE))
        self.feedforward = feedforward(width)
        self.key.load_state_dict(self.query.state_dict())
        for layer in (self.value, self.out):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: torch.Tensor, share: torch.Tensor, clicks: torch.Tensor, named: torch.Tensor,
                categories: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
        """New tokens (N, d). tokens: (N, d); share: (N, classes), the automatic labels in each; clicks, what they stand for:
        (n, d); categories: (classes, d); apart: squared distances (n, N)."""
        key = torch.cat([self.none[None], self.key(self.norms[1](clicks))])
        known = self.split(key), self.split(self.value(named)), self.value(categories), categories
        chunks = zip(tokens.split(CHUNK), share.split(CHUNK), apart.split(CHUNK, dim=1))
        return torch.cat([self.assign(*chunk, *known) for chunk in chunks])

    def assign(self, tokens: torch.Tensor, share: torch.Tensor, apart: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
               own: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        query = self.split(self.query(self.norms[0](tokens)))  # (heads, N, d / heads)
        bias = torch.cat([self.alone[:, None, None].expand(-1, 1, apart.shape[1]), -self.slope.exp()[:, None, None] * apart], 1)
        scores = query.shape[-1] ** -0.5 * key @ query.transpose(1, 2) + bias  # (heads, 1 + n, N), tokens last: quicker
        weights = scores.softmax(dim=1).transpose(1, 2)
        copied = weights[..., :1] * self.split(share @ own) + weights[..., 1:] @ value
        copied = self.out(copied.transpose(0, 1).flatten(1))
        tokens = tokens + torch.lerp(copied, share @ categories, self.balance.sigmoid())
        return tokens + self.feedforward(self.norms[2](tokens))

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(len(x), self.heads, -1).transpose(0, 1)


def feedforward(width: int) -> nn.Sequential:
    """Two linear layers, twice as wide between them; at first it adds nothing."""
    return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), silent(nn.Linear(2 * width, width)))


def silent(layer: nn.Linear) -> nn.Linear:
    """The layer with weights that give 0, so that what it joins begins undisturbed."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Refinement(nn.Module):
    """Features, start labels and clicks of one crop -> logits of every class at full resolution.

    stride: voxels per token along each axis at the least; a coarser one may be asked for. Where tokens are coarser than voxels,
    the linear head also reads the full features and the start labels of each voxel (ours). reach: mm, the unit of distances.
    click_encoding, label_assignment: off for the ablation of the paper's Table 2.
    """

    def __init__(self, inputs: int, classes: int, spacing: Sequence[float], stride: Sequence[int], width: int, heads: int,
                 layers: int, reach: float = 10.0, click_encoding: bool = True, label_assignment: bool = True) -> None:
        super().__init__()
        self.classes, self.stride = classes, tuple(stride)
        self.unit = tuple(step / reach for step in spacing)
        self.label_assignment = label_assignment
        self.project = nn.Linear(inputs, width)
        self.position = nn.Parameter(fourier_grid(width))
        self.categories = nn.Parameter(torch.randn(classes, width))
        self.encodings = nn.ModuleList(ClickEncoding(width, heads) for _ in range(layers if click_encoding else 0))
        self.assignments = nn.ModuleList(LabelAssignment(width, heads) for _ in range(layers))
        self.final = nn.LayerNorm(width)
        self.token_head, self.voxel_head = silent(nn.Linear(width, classes)), silent(nn.Linear(inputs, classes))
        self.token_head.weight.data.copy_(COPIED / width * self.categories.data)
        self.trust = nn.Parameter(torch.tensor(TRUST))

    def begin_as(self, head: nn.Conv3d) -> None:
        """Let the part of the head that reads the voxels' features begin as the encoder's own (ours)."""
        with torch.no_grad():
            self.voxel_head.weight.copy_(head.weight.flatten(1))
            self.voxel_head.bias.copy_(head.bias)

    @property
    def begun(self) -> bool:
        return bool(self.voxel_head.weight.any())

    def forward(self, features: torch.Tensor, start: torch.Tensor, clicks: torch.Tensor, labels: torch.Tensor,
                stride: Sequence[int] | None = None) -> torch.Tensor:
        """Logits (classes, k, j, i). features: (inputs, k, j, i); start: int64 (k, j, i); clicks: (n, 3) int64 positions in
        the crop, n at least 1; labels: (n,) int64, 0 is background."""
        stride = tuple(stride or self.stride)
        hard = F.one_hot(start, self.classes).movedim(-1, 0).to(features.dtype)
        coarse = pool(features, stride), pool(hard, stride)
        grid = coarse[0].shape[1:]
        pooled, share = (maps.flatten(1).T for maps in coarse)
        position = F.interpolate(self.position, size=grid, mode="trilinear", align_corners=True)
        tokens = self.project(pooled) + position[0].flatten(1).T
        cells = torch.div(clicks, torch.tensor(stride, device=clicks.device), rounding_mode="floor")
        flat = (cells[:, 0] * grid[1] + cells[:, 1]) * grid[2] + cells[:, 2]
        unit = torch.tensor(self.unit, device=features.device)
        apart = torch.cdist((clicks + 0.5) * unit, middles(grid, stride, unit)).square()
        named = self.categories[labels]
        for n, assignment in enumerate(self.assignments):
            seeds = tokens[flat]
            if len(self.encodings):
                seeds = self.encodings[n](seeds, tokens)
            tokens = assignment(tokens, share, seeds, named if self.label_assignment else seeds, self.categories, apart)
        scores = self.token_head(self.final(tokens))
        if not self.label_assignment:
            scores = scores + self.compare(tokens, seeds, labels)
        scores = scores.T.reshape(1, self.classes, *grid)
        scores = scores if grid == start.shape else F.interpolate(scores, size=start.shape, mode="trilinear")
        return scores[0] + self.trust * hard + linear(self.voxel_head, features)

    def compare(self, tokens: torch.Tensor, seeds: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(N, classes): the clicks as classifiers, what is left of the idea without label assignment."""
        weights = (self.final(tokens) @ seeds.T * seeds.shape[1] ** -0.5).softmax(dim=1)
        return self.trust * weights @ F.one_hot(labels, self.classes).to(weights.dtype)


def middles(grid: Sequence[int], stride: Sequence[int], unit: torch.Tensor) -> torch.Tensor:
    """(N, 3): where the tokens' middles lie from the crop's corner; unit: what a voxel measures along each axis."""
    ticks = [(torch.arange(n, device=unit.device) + 0.5) * s for n, s in zip(grid, stride)]
    return torch.stack(torch.meshgrid(*ticks, indexing="ij"), dim=-1).flatten(0, 2) * unit


def pool(maps: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """(c, k, j, i) averaged over blocks; a block that reaches over the rim averages what is inside."""
    if max(stride) == 1:
        return maps
    return F.avg_pool3d(maps[None], tuple(stride), ceil_mode=True, count_include_pad=False)[0]


def linear(layer: nn.Linear, maps: torch.Tensor) -> torch.Tensor:
    """A linear layer over the channels of (c, k, j, i)."""
    return torch.addmm(layer.bias[:, None], layer.weight, maps.flatten(1)).unflatten(1, maps.shape[1:])
