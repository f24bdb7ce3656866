"""UTNet (Gao et al., MICCAI 2021): a U-Net whose stages attend to an 8 x 8 summary of their map. VerSe uses its encoder.

Maps are square and their side is a multiple of 8 at every stage: the input's side is a multiple of 64, of 128 with the decoder.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from ..layers.pointwise import Pointwise

HEADS = 4
SUMMARY = 8  # side of the map that keys and values are reduced to


@dataclass(frozen=True)
class UTNetConfig:
    """The network's shape. Defaults are the published UTNet; VERSE_ENCODER is what VerSe uses."""

    inputs: int = 1
    base: int = 32  # width of the first stage; each further one doubles it
    classes: int = 4
    max_pool: bool = True  # else a convolution of stride 2
    dropout: float = 0.0
    by_batch: bool = True  # norms, as published; else each channel of each image by itself


VERSE_ENCODER = UTNetConfig(inputs=3, base=48, max_pool=False, dropout=0.1)


class ImageNorm(nn.GroupNorm):
    """Instance norm, by whichever of torch's two ways is the quicker one: the same numbers."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps) if self.training else super().forward(x)


def norm(width: int, config: UTNetConfig) -> nn.Module:
    return nn.BatchNorm2d(width) if config.by_batch else ImageNorm(width)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each after norm and ReLU, with a shortcut."""

    def __init__(self, inputs: int, outputs: int, config: UTNetConfig, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = norm(inputs, config)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = norm(outputs, config)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.extend([norm(inputs, config), nn.ReLU(), Pointwise(inputs, outputs, stride)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(F.relu(self.bn1(x)))
        return self.conv2(F.relu(self.bn2(y))) + self.shortcut(x)


class SeparableConv(nn.Module):
    """Depthwise 3x3, then pointwise."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))


class RelativePositionBias(nn.Module):
    """A learned number per head for each offset between two cells of the summary."""

    def __init__(self) -> None:
        super().__init__()
        offsets = 2 * SUMMARY - 1
        self.relative_position_bias_table = nn.Parameter(0.02 * torch.randn(offsets ** 2, HEADS))
        row, column = torch.arange(SUMMARY ** 2) // SUMMARY, torch.arange(SUMMARY ** 2) % SUMMARY
        down, right = row[:, None] - row, column[:, None] - column
        self.register_buffer("relative_position_index", (down + SUMMARY - 1) * offsets + right + SUMMARY - 1)

    def forward(self, side: int) -> torch.Tensor:
        """(heads, side * side, 64): a query takes the bias of the cell of the summary in which it lies."""
        table = self.relative_position_bias_table[self.relative_position_index]  # (query cell, key cell, heads)
        maps = table.permute(2, 1, 0).reshape(HEADS, SUMMARY ** 2, SUMMARY, SUMMARY)
        for axis in (2, 3):
            maps = maps.repeat_interleave(side // SUMMARY, dim=axis)
        return maps.flatten(2).transpose(1, 2)


class SummaryAttention(nn.Module):
    """Every pixel attends to the 64 cells of a summary. Base of the attention within a map and between two maps."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.to_out = SeparableConv(width, width)
        self.relative_position_encoding = RelativePositionBias()
        self.dropout = dropout

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """query (B, C, H, H); key and value (B, C, h, h), reduced here to (B, C, 8, 8)."""
        batch, width, side, _ = query.shape
        if key.shape[-1] != SUMMARY:
            key, value = (F.interpolate(x, size=SUMMARY, mode="bilinear", align_corners=True) for x in (key, value))
        # The head is the minor part of the channel's number: (B, C, H, H) -> (B, heads, H * H, C / heads)
        query, key, value = (x.reshape(batch, width // HEADS, HEADS, -1).permute(0, 2, 3, 1) for x in (query, key, value))
        bias = self.relative_position_encoding(side) * (width // HEADS) ** -0.5  # the published code scales the bias too
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype)[None], dropout_p=dropout)
        y = y.permute(0, 3, 1, 2).reshape(batch, width, side, side)
        return F.dropout(self.to_out(y), self.dropout, self.training)


class MapAttention(SummaryAttention):
    """Attention within one map."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(width, dropout)
        self.to_qkv = SeparableConv(width, 3 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attend(*self.to_qkv(x).chunk(3, dim=1))


class SkipAttention(SummaryAttention):
    """The finer map's pixels attend to the coarser map."""

    def __init__(self, coarse: int, fine: int, dropout: float) -> None:
        super().__init__(fine, dropout)
        self.to_kv = SeparableConv(coarse, 2 * fine)
        self.to_q = SeparableConv(fine, fine)

    def forward(self, fine: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        return self.attend(self.to_q(fine), *self.to_kv(coarse).chunk(2, dim=1))


class TransformerBlock(nn.Module):
    """Attention within a map, then one 1x1 convolution; both with a shortcut."""

    def __init__(self, width: int, config: UTNetConfig) -> None:
        super().__init__()
        self.bn1 = norm(width, config)
        self.attn = MapAttention(width, config.dropout)
        self.bn2 = norm(width, config)
        self.mlp = nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.attn(self.bn1(x)) + x
        return self.mlp(F.relu(self.bn2(x))) + x


class TransformerDecoderBlock(nn.Module):
    """Enlarges the coarser map and adds what the finer one finds in it."""

    def __init__(self, coarse: int, fine: int, config: UTNetConfig) -> None:
        super().__init__()
        self.bn_l = norm(coarse, config)
        self.bn_h = norm(fine, config)
        self.conv_ch = nn.Conv2d(coarse, fine, 1)
        self.attn = SkipAttention(coarse, fine, config.dropout)
        self.bn2 = norm(fine, config)
        self.mlp = nn.Conv2d(fine, fine, 1, bias=False)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        enlarged = F.interpolate(self.conv_ch(coarse), size=fine.shape[-2:], mode="bilinear", align_corners=True)
        x = self.attn(self.bn_h(fine), self.bn_l(coarse)) + enlarged
        return self.mlp(F.relu(self.bn2(x))) + x


class Down(nn.Module):
    """Half the side, twice the width."""

    def __init__(self, inputs: int, config: UTNetConfig) -> None:
        super().__init__()
        outputs = 2 * inputs
        stride = 1 if config.max_pool else 2
        self.blocks = nn.Sequential(*[nn.MaxPool2d(2)] * config.max_pool, BasicBlock(inputs, outputs, config, stride),
                                    TransformerBlock(outputs, config))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)


class Up(nn.Module):
    """Joins a coarser map to the finer one by attention."""

    def __init__(self, outputs: int, config: UTNetConfig) -> None:
        super().__init__()
        self.attn_decoder = TransformerDecoderBlock(2 * outputs, outputs, config)
        self.blocks = nn.Sequential(BasicBlock(2 * outputs, outputs, config))

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        return self.blocks(torch.cat([self.attn_decoder(coarse, fine), fine], dim=1))


class LastUp(nn.Module):
    """Joins a coarser map to the finest one by convolution alone."""

    def __init__(self, outputs: int, config: UTNetConfig) -> None:
        super().__init__()
        self.conv_ch = nn.Conv2d(2 * outputs, outputs, 1)
        self.conv = nn.Sequential(BasicBlock(2 * outputs, outputs, config), BasicBlock(outputs, outputs, config))

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        enlarged = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=True)
        return self.conv(torch.cat([fine, self.conv_ch(enlarged)], dim=1))


class UTNetEncoder(nn.Module):
    """(B, inputs, H, H) -> four maps from fine to coarse: base x H, 2 base x H/2, 4 base x H/4, 8 base x H/8."""

    def __init__(self, config: UTNetConfig) -> None:
        super().__init__()
        base = config.base
        self.inc = nn.Sequential(BasicBlock(config.inputs, base, config), BasicBlock(base, base, config))
        self.down1 = Down(base, config)
        self.down2 = Down(2 * base, config)
        self.down3 = Down(4 * base, config)

    def encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The maps of `inc` and of every `down`, in that order."""
        maps = [self.inc(x)]
        for down in (self.down1, self.down2, self.down3):
            maps.append(down(maps[-1]))
        return maps

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.encode(x)


class UTNet(UTNetEncoder):
    """The whole network: (B, inputs, H, H) -> logits (B, classes, H, H). Names and shapes are the published ones."""

    def __init__(self, config: UTNetConfig) -> None:
        super().__init__(config)
        base = config.base
        self.down4 = Down(8 * base, config)
        self.up1, self.up2, self.up3 = (Up(width * base, config) for width in (8, 4, 2))
        self.up4 = LastUp(base, config)
        self.outc = nn.Conv2d(base, config.classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.encode(x)
        x = self.down4(maps[-1])
        for up in (self.up1, self.up2, self.up3, self.up4):
            x = up(x, maps.pop())
        return self.outc(x)
