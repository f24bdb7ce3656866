"""How LIM-Net's memory network, XMem, is trained: one object followed through short clips."""
from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ...device import training_precision
from ...models.limnet.memory import similarity
from ...models.limnet.xmem import Features, XMem, XMemConfig
from ..bundle import read_bundle
from ..clips import Clips, ClipStream

OTHERS = 4  # input channel of the value encoder that holds the other objects' masks


@dataclass(frozen=True)
class LIMNetMemoryRecipe:
    """XMem's training: the first slice's mask is given, each later one is read from at most three slices before it.

    Loss: cross entropy of the hardest pixels, fewer and fewer of them, and soft Dice. Clips show one object; the weights
    for other objects' masks start at zero and stay there, so that several objects are followed each on its own and
    compete for pixels.
    """

    bundle: Path
    key: int = 32
    value: int = 128
    hidden: int = 32
    width: int = 16
    key_depths: tuple[int, int, int] = (2, 2, 2)
    value_depths: tuple[int, int, int] = (1, 1, 1)
    size: int = 160
    small: int = 96
    small_until: float = 0.5  # share of a cycle on clips of the small size: three times as many
    length: int = 6
    short: int = 4
    short_until: float = 0.3  # share of a cycle on the clips' first slices only
    name: str = "limnet-memory"
    batch: int = 8
    references: int = 3
    deep_share: float = 0.2
    hardest: float = 0.2  # share of the pixels that count in the end
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    warmup_steps: int = 200
    ema_decay: float = 0.998
    pool: ProcessPoolExecutor | None = field(default=None, compare=False)

    def build(self) -> nn.Module:
        network = XMem(XMemConfig(self.key, self.value, self.hidden, self.width, self.key_depths, self.value_depths))
        nn.init.zeros_(network.value_encoder.conv1.weight[:, OTHERS].data)
        return network

    def batches(self, seed: int, workers: int) -> Iterator[list[torch.Tensor]]:
        stream = ClipStream(Clips(read_bundle(self.bundle)), self.size, self.length, seed)
        return iter(DataLoader(stream, self.batch, num_workers=workers, persistent_workers=workers > 0))

    def losses(
        self, model: nn.Module, batch: list[torch.Tensor], progress: float
    ) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        images, masks, start = batch[0], batch[1].float(), batch[2].float()[:, None]  # (B, T, H, W) twice, (B, 1, H, W)
        if progress < self.small_until:
            images, masks, start = (F.interpolate(x, (self.small,) * 2, mode="area") for x in (images, masks, start))
            masks, start = (masks >= 0.5).float(), (start >= 0.5).float()
        if progress < self.short_until:
            images, masks = images[:, :self.short], masks[:, :self.short]
        logits = follow(model, images, start, self.references, self.deep_share)  # (B, T - 1, 2, H, W)
        truth = masks[:, 1:]
        share = 1 - (1 - self.hardest) * min(max(progress / 0.7 - 0.15, 0), 1)
        loss = self.loss(logits, truth, share)
        with torch.no_grad():
            found = (logits[:, :, 1] > logits[:, :, 0]).float()
            dice = (2 * (found * truth).sum(dim=(2, 3)) + 1) / (found.sum(dim=(2, 3)) + truth.sum(dim=(2, 3)) + 1)
        yield loss, {"loss": loss.item(), "Dice(next)": dice[:, 0].mean().item(), "Dice(last)": dice[:, -1].mean().item()}

    @staticmethod
    def loss(logits: torch.Tensor, truth: torch.Tensor, share: float) -> torch.Tensor:
        """logits (B, T, 2, H, W), truth (B, T, H, W); share: of each slice's pixels, the hardest, that count."""
        wrong = F.cross_entropy(logits.flatten(0, 1), truth.flatten(0, 1).long(), reduction="none").flatten(1)  # (B T, H W)
        hardest = wrong.topk(max(1, int(share * wrong.shape[1])), dim=1, sorted=False).values if share < 1 else wrong
        found = logits.softmax(dim=2)[:, :, 1]
        overlap = (2 * (found * truth).sum(dim=(2, 3)) + 1) / (found.sum(dim=(2, 3)) + truth.sum(dim=(2, 3)) + 1)
        return hardest.mean() + (1 - overlap).mean()


def follow(
    network: nn.Module, images: torch.Tensor, start: torch.Tensor, references: int = 3, deep_share: float = 0.2
) -> torch.Tensor:
    """Logits of background and object for all slices but the first, float32 (B, T - 1, 2, H, W).

    images: (B, T, H, W) in [0, 1]; start: (B, 1, H, W), the first slice's mask. Each slice is read from at most that
    many before it; that share of them refreshes the hidden state by its value, as remembered ones do.
    """
    clips, length = images.shape[:2]
    frames = network.normalise(images.transpose(0, 1).flatten(0, 1)[:, None])  # (T B, 3, H, W), slice by slice
    frames = frames.contiguous(memory_format=torch.channels_last)
    with training_precision(images.device):
        features = network.encode_key(frames)
        slices = [Features(*parts) for parts in zip(*(getattr(features, f.name).chunk(length) for f in fields(Features)))]
        hidden = frames.new_zeros(clips, 1, network.config.hidden, *features.key.shape[2:])
        value, hidden = network.encode_value(slices[0], hidden, start)
        values, logits = [value], []
        for t in range(1, length):
            past = [0, *(1 + torch.randperm(t - 1)[:references - 1])]
            readout = read([slices[p] for p in past], [values[p] for p in past], slices[t])
            found, hidden = network.segment(slices[t], readout, hidden, update=t < length - 1)
            logits.append(found)
            if t < length - 1:
                value, refreshed = network.encode_value(slices[t], hidden, logits[-1].softmax(dim=1)[:, 1:])
                hidden = refreshed if torch.rand(()) < deep_share else hidden
                values.append(value)
    return torch.stack(logits, dim=1)


def read(memory: list[Features], values: list[torch.Tensor], query: Features) -> torch.Tensor:
    """What the remembered slices hold for each place of a slice, all of their cells weighted: (B, objects, value, h, w)."""
    def cells(name: str) -> torch.Tensor:
        return torch.cat([getattr(slice_, name).flatten(2) for slice_ in memory], dim=2).float()  # (B, C, N)

    with torch.autocast(query.key.device.type, enabled=False):  # squares of large numbers need all digits
        scores = torch.vmap(similarity)(
            cells("key"), cells("shrinkage"), query.key.flatten(2).float(), query.selection.flatten(2).float()
        )  # (B, h w, N)
        weights = scores.softmax(dim=2)
    table = torch.cat([value.flatten(3) for value in values], dim=3)  # (B, objects, value, N)
    readout = table @ weights.transpose(1, 2)[:, None].to(table.dtype)  # (B, objects, value, h w)
    return readout.unflatten(3, query.key.shape[2:])
