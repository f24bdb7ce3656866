"""The query decoder of VerSe: queries look at a level's map, the map looks back at them, one level after the other."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from .fuser import sine_position
from .layers import CrossAttention, Downsample, FeedForward, MaskHead, PixelFeedForward, SelfAttention, Upsample
from .queries import SemanticQuery, SparseQuery

SCALES = (8, 4, 2)  # how many times each level is smaller than the image
RADII = (0, 1, 1)  # of the window whose mean is a semantic query; the published code takes the coarsest cell alone
OBJECT, POSITIVE, NEGATIVE = BRANCHES = ("", "pos_", "neg_")  # as in the published names


@dataclass(frozen=True)
class Parts:
    """What the paper's Table 4 leaves out, one at a time: semantic queries, the negative clicks' own branch with the background
    as its mask, the resampled maps that one level adds to the next."""

    semantic: bool = True
    background: bool = True
    residual: bool = True


WHOLE = Parts()


@dataclass
class ClickQueries:
    """The clicks of one sign while the levels pass. Sparse queries are fresh at each layer, semantic ones carry over."""

    clicks: torch.Tensor  # (B, N, 3)
    sparse: torch.Tensor  # (B, N, C)
    semantic: list[torch.Tensor]  # per level (B, N, C), read from the maps at the start of the round
    carried: torch.Tensor | None = None  # (B, N, C), the semantic half after the layer before


class QueryDecoder(nn.Module):
    """Three levels from coarse to fine, `rounds` times over.

    The masks are per pixel, so that they hold for every query of a branch: object and positive queries see the foreground of
    the layer before, negative ones its background (paper, eq. 4-7).
    """

    def __init__(self, width: int, heads: int, feedforward: int, rounds: int, queries: int, group: int, rounding: str,
                 parts: Parts = WHOLE) -> None:
        """queries: object queries in all, `group` of them per target."""
        super().__init__()
        self.layers, self.group, self.parts = rounds * len(SCALES), group, parts
        for branch in BRANCHES if parts.background else (OBJECT, POSITIVE):
            for kind, make in (("cross_attention", lambda: CrossAttention(width, heads)),
                               ("self_attention", lambda: SelfAttention(width, heads)),
                               ("ffn", lambda: FeedForward(width, feedforward))):
                self.add_module(f"{branch}transformer_{kind}_layers", nn.ModuleList(make() for _ in range(self.layers)))
        self.transformer_feature_query_cross_attention_layers = nn.ModuleList(
            CrossAttention(width, heads) for _ in range(self.layers))
        self.transformer_pixel_ffn_layers = nn.ModuleList(PixelFeedForward(width) for _ in range(self.layers))
        self.query_feat = nn.Embedding(queries, width)
        self.query_embed = nn.Embedding(queries, width)
        self.level_embed = nn.Embedding(len(SCALES), width)
        self.simple_decoders = nn.ModuleList(MaskHead(width) for _ in SCALES)
        if parts.residual:
            self.sample_layer_list = nn.ModuleList(
                Downsample(width) if i % len(SCALES) == 0 else Upsample(width) for i in range(1, self.layers))
        self.sparse_query = SparseQuery(width)
        if parts.semantic:
            self.res_query_layer_list = nn.ModuleList(nn.Linear(width, width) for _ in range(1, self.layers))
            self.semantic_query = SemanticQuery(width, rounding)
        for name, parameter in self.named_parameters():
            if "transformer" in name and parameter.dim() == 2:  # attention and feed-forward, as published
                nn.init.xavier_uniform_(parameter)

    def forward(self, features: list[torch.Tensor], targets: torch.Tensor | None,
                clicks: tuple[torch.Tensor, torch.Tensor] | None) -> list[torch.Tensor]:
        """Logits (B, 1, H, W) of every layer, at the layer's size.

        features: (B, C, H, W) of the three levels, coarse first; targets: (B,) numbers from 0; clicks: positive and negative,
        each (B, N, 3) of (row, column, label).
        """
        levels = [x + level[:, None, None].to(x.dtype) for x, level in zip(features, self.level_embed.weight)]
        places = [as_tokens(sine_position(x.shape[1], x.shape[-2:], x.device)[None].to(x.dtype)) for x in features]
        objects, object_place = self.object_queries(targets)
        side = SCALES[0] * features[0].shape[-1]  # of the image
        signs = {} if clicks is None else {
            branch: ClickQueries(points, self.sparse_query(points, side), self.semantic(levels, points))
            for branch, points in self.by_branch(clicks).items()}
        logits: list[torch.Tensor] = []
        for i in range(self.layers):
            level = i % len(SCALES)
            x = levels[level]
            if i > 0 and self.parts.residual:
                x = x + self.sample_layer_list[i - 1](levels[level - 1])  # before the coarsest comes the finest, -1
            masks = self.masks(logits, x.shape[-2:], binary=targets is None)
            pixels, place = as_tokens(x), places[level]
            queries, query_places = [], []
            if objects is not None:
                objects = self.look(OBJECT, i, objects, object_place, pixels, place, masks[OBJECT])
                queries, query_places = [objects], [object_place]
            for branch, sign in signs.items():
                found, found_place = self.look_with_clicks(branch, i, sign, pixels, place, masks[branch])
                queries.append(found)
                query_places.append(found_place)
            attend = self.transformer_feature_query_cross_attention_layers[i]
            pixels = attend(pixels, torch.cat(queries, dim=1), place, torch.cat(query_places, dim=1))
            levels[level] = self.transformer_pixel_ffn_layers[i](as_map(pixels, x.shape[-2:]))
            logits.append(self.simple_decoders[level](levels[level]))
            if level == len(SCALES) - 1 and i + 1 < self.layers:
                for sign in signs.values():
                    sign.semantic = self.semantic(levels, sign.clicks)
        return logits

    def object_queries(self, targets: torch.Tensor | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The group of queries (B, group, C) of each target, and their place codes."""
        if targets is None:
            return None, None
        rows = self.group * targets[:, None] + torch.arange(self.group, device=targets.device)
        return self.query_feat(rows), self.query_embed(rows)

    def by_branch(self, clicks: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The clicks of both signs, to the branch that they go through."""
        if self.parts.background:
            return dict(zip((POSITIVE, NEGATIVE), clicks))
        return {POSITIVE: torch.cat(clicks, dim=1)}

    def semantic(self, levels: list[torch.Tensor], clicks: torch.Tensor) -> list[torch.Tensor]:
        """Semantic queries of one sign at every level; none in a network without them."""
        if not self.parts.semantic:
            return []
        return [self.semantic_query(x, clicks, scale, radius) for x, scale, radius in zip(levels, SCALES, RADII)]

    def look(self, branch: str, i: int, queries: torch.Tensor, query_place: torch.Tensor, pixels: torch.Tensor,
             place: torch.Tensor, ignored: torch.Tensor | None) -> torch.Tensor:
        """Cross-attention to the pixels, self-attention and feed-forward of one branch in layer i."""
        cross, own, feed = (self.get_submodule(f"{branch}transformer_{kind}_layers.{i}")
                            for kind in ("cross_attention", "self_attention", "ffn"))
        return feed(own(cross(queries, pixels, query_place, place, ignored), query_place))

    def look_with_clicks(self, branch: str, i: int, sign: ClickQueries, pixels: torch.Tensor, place: torch.Tensor,
                         ignored: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """`look` for the clicks of one sign: (B, 2 N, C) queries, sparse then semantic, and their place codes."""
        if not self.parts.semantic:
            return self.look(branch, i, sign.sparse, sign.sparse, pixels, place, ignored), sign.sparse
        semantic = sign.semantic[i % len(SCALES)]
        if sign.carried is not None:
            semantic = semantic + self.res_query_layer_list[i - 1](sign.carried)
        query_place = sign.sparse.repeat(1, 2, 1)
        found = self.look(branch, i, torch.cat([sign.sparse, semantic], dim=1), query_place, pixels, place, ignored)
        sign.carried = found[:, semantic.shape[1]:]
        return found, query_place

    def masks(self, logits: list[torch.Tensor], size: tuple[int, int], binary: bool) -> dict[str, torch.Tensor | None]:
        """What each branch must not see, (B, H * W) bool, from the latest logits; nothing is masked in the first layer.

        A mask that leaves nothing to see is dropped. binary: threshold before resizing too, as published for clicks alone.
        """
        if not logits:
            return dict.fromkeys(BRANCHES)
        latest = logits[-1].detach()
        if binary:
            soft = F.interpolate((latest.sigmoid() > 0.5).to(latest.dtype), size, mode="bilinear", align_corners=False).flatten(1)
            background, foreground = soft < 0.5, soft > 0.5  # a half is neither: both signs see it
        else:
            soft = F.interpolate(latest, size, mode="bilinear", align_corners=False).sigmoid().flatten(1)
            background, foreground = soft < 0.5, soft >= 0.5
        background, foreground = (mask & ~mask.all(dim=1, keepdim=True) for mask in (background, foreground))
        return {OBJECT: background, POSITIVE: background, NEGATIVE: foreground}


def as_tokens(x: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, H * W, C)"""
    return x.flatten(2).transpose(1, 2)


def as_map(tokens: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, H * W, C) -> (B, C, H, W)"""
    return tokens.transpose(1, 2).unflatten(2, size)
