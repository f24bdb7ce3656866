"""A U-Net that reads a target together with a set of examples (Butoi et al., UniverSeg, ICCV 2023).

Differences from the published code: the examples pass through each block in chunks, so that the peak of memory does not
hold all of them at once, and what nothing reads is not computed. Names, shapes and numbers are the published ones.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ...types import InteractiveSegError

SLOPE = 0.01  # of every leaky ReLU, the published one


@dataclass(frozen=True)
class MemoryPlan:
    """How the examples pass through the network. The numbers of the answer do not depend on it beyond rounding.

    chunk: examples in a block at the same time. recompute: make the examples' features of the full-size level a second
    time for the decoder instead of keeping them: a third of the memory, about a fifth more time.
    """

    chunk: int = 4
    recompute: bool = False


DEFAULT_PLAN = MemoryPlan()


def over_entries(layer: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """A layer for maps (N, C, H, W) on (B, S, C, H, W)."""
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def pool(x: torch.Tensor) -> torch.Tensor:
    return F.max_pool2d(x, 2)


def pooled(x: torch.Tensor) -> torch.Tensor:
    return over_entries(pool, x)


def upsample(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class CrossConv(nn.Module):
    """One 3x3 convolution over (target, example) pairs: z_i = A(W_t u + b + W_s v_i), so that W_t u + b is made once."""

    def __init__(self, target: int, support: int, outputs: int, activation: bool) -> None:
        super().__init__()
        self.target, self.activation = target, activation
        self.cross_conv = nn.Conv2d(target + support, outputs, 3, padding=1)

    def target_term(self, u: torch.Tensor) -> torch.Tensor:
        """W_t u + b. (B, C, H, W) -> (B, F, H, W)."""
        return F.conv2d(u, self.cross_conv.weight[:, :self.target], self.cross_conv.bias, padding=1)

    def support_term(self, v: torch.Tensor) -> torch.Tensor:
        """W_s v_i. (B, S, C, H, W) -> (B, S, F, H, W)."""
        weight = self.cross_conv.weight[:, self.target:]
        return over_entries(lambda maps: F.conv2d(maps, weight, padding=1), v)

    def forward(self, target_term: torch.Tensor, support_term: torch.Tensor) -> torch.Tensor:
        """z (B, S, F, H, W). A support term of batch 1 meets every target."""
        z = target_term[:, None] + support_term
        return F.leaky_relu(z, SLOPE, inplace=True) if self.activation else z


class Stage(nn.Module):
    """3x3 convolution, leaky ReLU, and then (not before it, as in the released code) a norm over channels and pixels."""

    def __init__(self, features: int, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(features, features, 3, padding=1)
        self.norml = nn.GroupNorm(1, features) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = F.leaky_relu(self.conv(x), SLOPE, inplace=True)
        return self.norml(maps).to(maps.dtype)  # CUDA's norms answer in float32, twice the memory of what is kept


class PerMap(nn.Module):
    """A stage under its published name."""

    def __init__(self, features: int, norm: bool) -> None:
        super().__init__()
        self.vmapped = Stage(features, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.vmapped(x)


class CrossBlock(nn.Module):
    """The target meets every example: u' = T(mean of z_i), v'_i = S(z_i)."""

    def __init__(self, target: int, support: int, outputs: int, activation: bool, norm: bool) -> None:
        super().__init__()
        self.cross = CrossConv(target, support, outputs, activation)
        self.target = PerMap(outputs, norm)
        self.support = PerMap(outputs, norm)

    def examples(self, u: torch.Tensor, terms: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """v' of each chunk, (B, s, F, H, W)."""
        own = self.cross.target_term(u)
        return (over_entries(self.support, self.cross(own, term)) for term in terms)

    def forward(self, u: torch.Tensor, terms: Iterable[torch.Tensor],
                keep: Callable[[torch.Tensor], torch.Tensor] | None) -> tuple[torch.Tensor, deque[torch.Tensor]]:
        """The next target (B, F, H, W), and per chunk what `keep` makes of v'; nothing where `keep` is None.

        terms: chunks of support terms (B or 1, s, F, H, W). One pass, as the mean is of z and v' needs no mean.
        """
        own = self.cross.target_term(u)
        total, count, kept = torch.zeros_like(own), 0, deque()
        for term in terms:
            z = self.cross(own, term)
            total, count = total + z.sum(dim=1), count + z.shape[1]
            if keep is not None:
                kept.append(keep(over_entries(self.support, z)))
        return self.target(total / count), kept


class Head(nn.Module):
    """1x1 convolution to one logit."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def joined(deeper: deque[torch.Tensor], skips: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The decoder's example features, chunk by chunk; what was used is let go."""
    for skip in skips:
        maps = deeper.popleft()
        # Joined as maps (N, C, H, W), as a concatenation in five dimensions would undo channels-last.
        yield torch.cat([upsample(maps.flatten(0, 1)), skip.flatten(0, 1)], dim=1).unflatten(0, maps.shape[:2])


def drained(chunks: deque[torch.Tensor]) -> Iterator[torch.Tensor]:
    while chunks:
        yield chunks.popleft()


class CrossUNet(nn.Module):
    """Encoder and decoder of CrossBlocks. H and W must be multiples of 2**(levels - 1).

    features: width of each level, from the full-size one down. target, support: channels of the two inputs.
    """

    def __init__(self, target: int, support: int, features: tuple[int, ...], activation: bool, norm: bool) -> None:
        super().__init__()
        inputs = [(target, support), *((width, width) for width in features[:-1])]
        self.enc_blocks = nn.ModuleList(
            CrossBlock(t, s, width, activation, norm) for (t, s), width in zip(inputs, features))
        self.dec_blocks = nn.ModuleList(
            CrossBlock(deeper + width, deeper + width, width, activation, norm)
            for width, deeper in zip(reversed(features[:-1]), reversed(features)))
        self.out_conv = Head(features[0])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                nn.init.zeros_(module.bias)

    def first_term(self, support: torch.Tensor) -> torch.Tensor:
        """What the examples add to the first layer: the only part that is the same for every target.

        support: (B, S, channels, H, W) -> (B, S, width, H, W).
        """
        return self.enc_blocks[0].cross.support_term(support)

    def forward(self, target: torch.Tensor, support: torch.Tensor, term: torch.Tensor | None = None,
                plan: MemoryPlan = DEFAULT_PLAN) -> torch.Tensor:
        """Logits (B, 1, H, W).

        target: (B, channels, H, W). support: (B, S, channels, H, W), S >= 1; a batch of 1 serves every target.
        term: `first_term(support)` when the caller kept it, which then stands for support; None makes it chunk by chunk.
        """
        def first_terms() -> Iterator[torch.Tensor]:
            if term is not None:
                return iter(term.split(plan.chunk, dim=1))
            return map(self.first_term, support.split(plan.chunk, dim=1))

        u, terms = target, first_terms()
        skips = []  # per level, the target's features and an iterator over the examples'
        for level, block in enumerate(self.enc_blocks[:-1]):
            again = plan.recompute and level == 0
            before = u
            u, kept = block(u, terms, pooled if again else nn.Identity())
            skips.append((u, block.examples(before, first_terms()) if again else drained(kept)))
            smaller = drained(kept) if again else map(pooled, kept)
            u, terms = pool(u), map(self.enc_blocks[level + 1].cross.support_term, smaller)
        u, v = self.enc_blocks[-1](u, terms, nn.Identity())
        for block in self.dec_blocks:
            u_skip, v_skip = skips.pop()
            u = torch.cat([upsample(u), u_skip], dim=1)
            terms = map(block.cross.support_term, joined(v, v_skip))
            u, v = block(u, terms, nn.Identity() if skips else None)  # after the last block nobody reads the examples
        return self.out_conv(u)


def read_features(state: dict[str, torch.Tensor], path: Path) -> tuple[int, ...]:
    """The width of each level of a CrossUNet, from its tensors."""
    keys = [key for key in state if key.startswith("enc_blocks.") and key.endswith(".cross.cross_conv.weight")]
    if not keys:
        raise InteractiveSegError(f"{path.name} holds no tensor named enc_blocks.0.cross.cross_conv.weight: give weights of "
                                  "MultiverSeg or UniverSeg.")
    return tuple(state[key].shape[0] for key in sorted(keys, key=lambda key: int(key.split(".")[1])))
