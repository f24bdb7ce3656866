"""How TIS is trained: the encoder first, then, on its frozen features, the correction of its mistakes by simulated clicks."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ...device import training_precision
from ...models.tis.network import TIS, TISConfig, build, load, read_config
from ...models.tis.nnunet import NNUNet, read_nnunet
from ...models.tis.plan import make_plan
from ...models.tis.prepare import crop_box, normalise, token_stride
from ...robot_volume import BAD_STARTS, bad_start, disturbance, next_click
from ...types import InteractiveSegError
from ...weights import read_state, shipped_file
from ..bundle import DataSet
from ..volumes import PatchStream, clip_of, reach_of, read_labelled_folder, read_set, single_of

TIS_WEIGHTS = ".safetensors"


@lru_cache(maxsize=1)
def read_data(source: Path, name: str) -> DataSet:
    """A set of a bundle, or a user's folder of labelled volumes."""
    return read_labelled_folder(source) if source.is_dir() else read_set(source, name)


@dataclass(frozen=True)
class TISRecipe:
    """One run, two stages, each with its own cycle of the learning rate (Liu et al. 2022, sections 2.3 and 3.3).

    bundle: a bundle, or a folder of labelled volumes. Encoder: Dice and cross entropy at every scale, as nnU-Net. Correction:
    Dice and cross entropy; up to `rounds` times clicks in the errors of every class are added, starting from the automatic
    result or, in a share of the samples, from a damaged truth.
    encoder: a checkpoint of nnU-Net (version 1 or 2), or weights of TIS (.safetensors), whose network is taken as it is; then
    only the correction is trained.
    """

    bundle: Path
    pack: str = ""
    name: str = "tis"
    base: int = 16
    max_voxels: int = 170_000  # of a patch
    patch: tuple[int, ...] = ()  # instead of the planned one
    max_stages: int = 4
    mirror: tuple[int, ...] = ()
    width: int = 32
    layers: int = 6
    click_encoding: bool = True
    label_assignment: bool = True
    batch: int = 2
    rounds: int = 2
    clicks: int = 5  # of a class in the first round at the most
    bad_share: float = 0.35
    error_weight: float = 9.0  # of a voxel that is wrong at the start, beside one that is right
    coarse_share: float = 0.1  # of the samples with tokens of twice the size
    encoder_share: float = 0.45
    half_until: float = 0.0  # share of the encoder's stage on patches of half the size: several times as many of them
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 50
    ema_decay: float = 0.99
    encoder: Path | None = None
    pool: Any = field(default=None, compare=False, repr=False)
    memory_format = torch.channels_last_3d

    @property
    def stages(self) -> tuple[float, ...]:
        return () if self.encoder else (self.encoder_share,)

    @property
    def sets(self) -> tuple[str, ...]:
        return (self.pack,) if self.pack else ()

    def data(self) -> DataSet:
        return read_data(Path(self.bundle), self.pack)

    def config(self) -> TISConfig:
        """The network that suits the data set, or the nnU-Net that was given."""
        data = self.data()
        plan = make_plan([c.spacing for c in data.cases], [c.image.shape for c in data.cases], self.base, self.max_voxels,
                         self.max_stages, self.patch)
        targets = tuple(data.labels[n] for n in sorted(data.labels))
        config = TISConfig(targets, plan.spacing, plan.patch, plan.strides, plan.kernels, plan.features, plan.strides[1],
                           clip_of(data), reach_of(data), width=self.width, layers=self.layers,
                           click_encoding=self.click_encoding, label_assignment=self.label_assignment, mirror=self.mirror,
                           single=single_of(data))
        if self.encoder is None:
            return config
        if self.encoder.suffix == TIS_WEIGHTS:
            own = {name: getattr(config, name) for name in ("width", "layers", "click_encoding", "label_assignment", "single")}
            return replace(read_config(read_state(self.encoder), self.encoder), **own)
        return with_encoder(config, read_nnunet(self.encoder))

    def build(self) -> nn.Module:
        network = build(self.config())
        if self.encoder is not None:
            own = self.encoder.suffix == TIS_WEIGHTS
            trained = load(self.encoder, "cpu").encoder if own else read_nnunet(self.encoder).encoder()
            network.encoder.load_state_dict(trained.state_dict())
        return network

    def batches(self, seed: int, workers: int) -> Iterator[list[torch.Tensor]]:
        config = self.config()
        stream = PatchStream(self.data(), partial(normalise, clip=config.clip), config.spacing, config.patch, self.mirror, seed)
        return iter(DataLoader(stream, self.batch, num_workers=workers, persistent_workers=workers > 0))

    def losses(
        self, model: TIS, batch: list[torch.Tensor], progress: float
    ) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        image, truth = batch
        if self.stages and progress < self.encoder_share:
            if progress < self.half_until * self.encoder_share:
                image = F.avg_pool3d(image, model.config.stride)
                truth = at_size(truth, image.shape[2:])
            yield self.encoder_loss(model, image, truth)
            return
        if not model.refinement.begun:
            model.refinement.begin_as(model.encoder.output_block.conv.conv)
        with torch.no_grad(), training_precision(image.device):
            logits, features = model.encoder(image)
        automatic = logits.argmax(dim=1)
        rng = np.random.default_rng(int(image.abs().sum() * 1e3) % 2**32)
        samples = [Sample(*item, model, rng, self) for item in zip(features.float(), automatic, truth)]
        for turn in range(1, self.rounds + 1):
            asked = [sample for sample in samples if sample.ask(turn)]
            if not asked:
                return
            losses = [sample.answer(model) for sample in asked]
            before, after = (np.mean([getattr(sample, key) for sample in asked]) for key in ("before", "after"))
            loss = torch.stack(losses).mean()
            yield loss, {"correction loss": loss.item(), "start Dice": float(before), f"Dice after {turn}": float(after)}

    def encoder_loss(self, model: TIS, image: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        with training_precision(image.device):
            scales = model.encoder.supervised(image)
        weights = [0.5**n for n in range(len(scales))]
        loss = sum(w * segmentation_loss(s.float(), at_size(truth, s.shape[2:])) for w, s in zip(weights, scales)) / sum(weights)
        found = mean_dice(scales[0].argmax(dim=1), truth, len(model.config.targets))
        return loss, {"encoder loss": loss.item(), "automatic Dice": found}


def with_encoder(config: TISConfig, found: NNUNet) -> TISConfig:
    """The configuration of a data set, with the network and the plans of an nnU-Net that was trained on such data."""
    if found.classes != len(config.targets) + 1:
        raise InteractiveSegError(f"{found.path.name} tells {found.classes} classes apart, the data have {len(config.targets)} "
                                  "labels and the background: give data labelled as it was trained.")
    divisor = np.prod(found.strides, axis=0)
    patch = tuple(int(p) for p in -(-np.array(config.patch) // divisor) * divisor)
    if found.plans is not None:
        config = replace(config, spacing=found.plans.spacing, clip=found.plans.clip, mirror=found.plans.mirror)
        patch = found.plans.patch
    return replace(config, patch=patch, features=found.features, kernels=found.kernels, strides=found.strides,
                   stride=found.strides[1], trans_bias=found.trans_bias)


class Sample:
    """One patch under correction: its crop, the clicks so far, the labels now."""

    def __init__(self, features: torch.Tensor, automatic: torch.Tensor, truth: torch.Tensor, model: TIS,
                 rng: np.random.Generator, recipe: TISRecipe) -> None:
        self.rng, self.recipe = rng, recipe
        config, answer = model.config, truth.cpu().numpy()
        self.classes = len(config.targets)
        start = automatic.cpu().numpy()
        if rng.random() < recipe.bad_share:
            start = bad_start(str(rng.choice(BAD_STARTS)), answer if rng.random() < 0.5 else start, rng, self.classes)
        self.reach = disturbance(answer)
        box = crop_box(np.maximum(start, answer), np.zeros((0, 3), int), config.spacing) if answer.any() else np.s_[:, :, :]
        self.start, self.truth = np.ascontiguousarray(start[box]), answer[box]
        self.features = features[(slice(None), *box)]
        self.labels = self.start
        self.stride = token_stride(self.truth.shape, config.stride)
        if rng.random() < recipe.coarse_share:
            self.stride = tuple(2 * s if n > 1 else s for n, s in zip(self.truth.shape, self.stride))
        self.given: list[tuple[tuple[int, int, int], int]] = []
        self.before = self.after = 0.0

    def ask(self, turn: int) -> bool:
        """Click in the errors of each class, most errors in the first round; True when there is a click at all."""
        for of in self.rng.permutation(self.classes) + 1:
            count = self.rng.integers(0, self.recipe.clicks + 1) if turn == 1 else self.rng.integers(1, 3)
            for rank in range(count):
                click = next_click(self.truth, self.labels, int(of), self.rng, self.reach, rank)
                if click is not None and click not in self.given:
                    self.given.append(click)
        return bool(self.given)

    def answer(self, model: TIS) -> torch.Tensor:
        """Correct with all clicks so far; the loss of it."""
        device = self.features.device
        start, truth = (torch.from_numpy(a).long().to(device) for a in (self.start, np.ascontiguousarray(self.truth)))
        places = torch.tensor([place for place, _ in self.given], device=device)
        labels = torch.tensor([label for _, label in self.given], device=device)
        logits = model.refinement(self.features, start, places, labels, self.stride)[None]
        found = logits.argmax(dim=1)
        self.before, self.after = (mean_dice(labels, truth, self.classes) for labels in (start, found[0]))
        self.labels = found[0].cpu().numpy()
        wrong = 1 + self.recipe.error_weight * (start != truth)[None]
        crossed = F.cross_entropy(logits, truth[None], reduction="none")
        return segmentation_loss(logits, truth[None]) + (wrong * crossed).sum() / wrong.sum()


def segmentation_loss(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Soft Dice of the classes but the background, and cross entropy. logits (B, classes, k, j, i), truth (B, k, j, i)."""
    return DiceCELoss(include_background=False, softmax=True, to_onehot_y=True, batch=True)(logits, truth[:, None])


def at_size(truth: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return F.interpolate(truth[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


def mean_dice(labels: torch.Tensor, truth: torch.Tensor, classes: int) -> float:
    """Mean over the classes but the background; a class that is in neither counts as found."""
    found = [((labels == n), (truth == n)) for n in range(1, classes + 1)]
    return float(np.mean([(2 * (a & b).sum().item() + 1e-6) / (a.sum().item() + b.sum().item() + 1e-6) for a, b in found]))


@dataclass(frozen=True)
class HippocampusRecipe(TISRecipe):
    """Anterior and posterior hippocampus; left and right are mirror images."""

    pack: str = "3d_msd_hippocampus_train"
    name: str = "tis-hippocampus"
    mirror: tuple[int, ...] = (2,)


@dataclass(frozen=True)
class CardiacRecipe(TISRecipe):
    """Right ventricle, myocardium, left ventricle in short-axis cine MR."""

    pack: str = "3d_acdc_cine_train"
    name: str = "tis-cardiac"
    patch: tuple[int, ...] = (8, 128, 128)  # nearly all slices, so that they are pooled too
    half_until: float = 0.6


@dataclass(frozen=True)
class AtriumRecipe(TISRecipe):
    """Left atrium in late gadolinium enhancement MR."""

    pack: str = "3d_la2018_lge_train"
    name: str = "tis-atrium"
    patch: tuple[int, ...] = (48, 64, 80)
    half_until: float = 0.6


@dataclass(frozen=True)
class CorrectionRecipe(HippocampusRecipe):
    """The correction alone, on the shipped encoder: what the two without a part of it are compared with (Table 2)."""

    name: str = "tis-a0"
    encoder: Path | None = field(default_factory=lambda: shipped_file("tis-hippocampus"))


@dataclass(frozen=True)
class WithoutClickEncoding(CorrectionRecipe):
    """Clicks are what the voxels under them are, and hear nothing of the image or of each other."""

    name: str = "tis-a1"
    click_encoding: bool = False


@dataclass(frozen=True)
class WithoutLabelAssignment(CorrectionRecipe):
    """Voxels read the clicks' own features instead of their categories; at the end the clicks are the classifiers."""

    name: str = "tis-a2"
    label_assignment: bool = False
