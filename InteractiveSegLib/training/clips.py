"""Clips: short stacks of slices in which one object is followed, for training networks that carry masks through volumes.

Three sources: volumes of the bundle along any axis, slices near or far from each other; pictures of the bundle, warped
more and more while their object grows, shrinks or vanishes; painted volumes. Arrays in, arrays out; no network is known.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F
from torch.utils.data import IterableDataset, get_worker_info

from ..geometry import normalise
from .augment import damaged, relight, sample, smooth_noise
from .bundle import DataSet
from .defects import defective
from .tasks import MIN_PIXELS, SliceRef, Tasks, slice_refs

VOLUME_SHARE = 0.5  # of clips; of the others, half are moved pictures and half painted
UNION_SHARE = 0.08  # two labels together are the object
MAX_STEP = 12.0  # mm from one slice to the next, unless the volume's own slices lie farther apart
SHAKEN_SHARE = 0.35  # of clips move from slice to slice, so that it does not serve to copy a mask
DAMAGED_SHARE = 0.3  # of first masks have a worse edge than the truth, as a network's have
DEFECTIVE_SHARE = 0.1  # and of these have one of the paper's defects

Clip = tuple[np.ndarray, np.ndarray]  # images float32 in [0, 1] and masks bool, (slices, size, size) both


class Frame:
    """Where the canvas lies on a slice: the object fills 30 to 80 % of it, turned, stretched and bent at random."""

    def __init__(self, target: np.ndarray, spacing: tuple[float, ...], rng: np.random.Generator, size: int) -> None:
        self.half = np.array(target.shape) * spacing / 2  # half of the slice in mm, (row, column)
        points = (np.argwhere(target) + 0.5) * spacing - self.half
        low, high = points.min(axis=0), points.max(axis=0)
        longest = max((high - low).max(), 6 * min(spacing))
        reach = min(longest / 2 / np.exp(rng.uniform(np.log(0.3), np.log(0.8))), 1.2 * self.half.max())
        angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.25 else rng.normal(0, 0.2)
        stretch = np.exp(rng.normal(0, 0.1, 2)) * np.where(rng.random(2) < 0.5, -1, 1)
        self.matrix = turning(angle, reach) @ np.diag(stretch)
        self.centre = (low + high) / 2 + rng.uniform(-0.4, 0.4, 2) * max(reach - longest / 2, 0.2 * reach)
        self.size = size
        ticks = (np.arange(size) + 0.5) * 2 / size - 1
        self.unit = np.stack(np.meshgrid(ticks, ticks, indexing="ij")).astype(np.float32)  # (2, size, size)
        if rng.random() < 0.3:
            self.unit += smooth_noise(rng, size, int(rng.integers(3, 7)), 2) * rng.uniform(0.01, 0.06)

    def grid(self, matrix: np.ndarray, shift: np.ndarray) -> torch.Tensor:
        """Positions for `sample`, (1, size, size, 2), of the canvas turned by a matrix and shifted, in units of its half.

        shift: (2, 1, 1), or (2, size, size) to bend it.
        """
        unit = np.einsum("ab,bhw->ahw", matrix, self.unit) + shift
        place = (np.einsum("ab,bhw->ahw", self.matrix, unit) + self.centre[:, None, None]) / self.half[:, None, None]
        return torch.from_numpy(np.ascontiguousarray(place[::-1].transpose(1, 2, 0), np.float32))[None]


def turning(angle: float, scale: float) -> np.ndarray:
    """The 2 x 2 matrix that turns by an angle and scales."""
    return scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def shakes(rng: np.random.Generator, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each slice a matrix and a shift for `Frame.grid`: none, or in some clips one of its own for each but the first."""
    still = (np.eye(2), np.zeros((2, 1, 1)))
    if rng.random() >= SHAKEN_SHARE:
        return [still] * length
    reach = rng.uniform(0.3, 1)
    return [still, *((turning(rng.normal(0, 0.12 * reach), np.exp(rng.normal(0, 0.1 * reach))),
                      rng.normal(0, 0.15 * reach, (2, 1, 1))) for _ in range(length - 1))]


def reflected(indices: np.ndarray, count: int) -> np.ndarray:
    """Indices beyond either end turned back into 0 ... count - 1."""
    period = max(2 * (count - 1), 1)
    folded = np.abs(indices) % period
    return np.minimum(folded, period - folded) if count > 1 else np.zeros_like(indices)


def volume_clip(ref: SliceRef, labels: list[int], rng: np.random.Generator, size: int, length: int) -> Clip:
    """The slices that follow one, up or down, one by one or some left out."""
    count, pitch = ref.case.image.shape[ref.axis], ref.case.spacing[ref.axis]
    most = max(1, min(int(MAX_STEP / pitch), (count - 1) // (length - 1), 5))
    step = int(rng.integers(1, most + 1)) * (-1 if rng.random() < 0.5 else 1)
    if not 0 <= ref.index + step * (length - 1) < count and 0 <= ref.index - step * (length - 1) < count:
        step = -step
    indices = reflected(ref.index + step * np.arange(length), count)
    images = normalise(ref.case.image.take(indices, ref.axis))
    masks = np.isin(ref.case.labels.take(indices, ref.axis), labels)
    images, masks = np.moveaxis(images, ref.axis, 0), np.moveaxis(masks, ref.axis, 0)
    spacing = tuple(s for a, s in enumerate(ref.case.spacing) if a != ref.axis)
    frame = Frame(masks[0], spacing, rng, size)
    grids = [frame.grid(*shake) for shake in shakes(rng, length)]
    return (np.stack([sample(image, grid) for image, grid in zip(images, grids)]),
            np.stack([sample(mask, grid) > 0.5 for mask, grid in zip(masks, grids)]))


def without_object(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture with the object replaced by its surroundings, blurred."""
    width = 0.3 * np.sqrt(mask.sum()) + 1
    weight = ndimage.gaussian_filter((~mask).astype(np.float32), width)
    filled = ndimage.gaussian_filter(np.where(mask, 0, image), width) / np.maximum(weight, 1e-3)
    return np.where(mask, filled, image).astype(np.float32)


def picture_clip(
    image: np.ndarray, target: np.ndarray, spacing: tuple[float, ...], rng: np.random.Generator, size: int, length: int
) -> Clip:
    """A picture that drifts, turns, swells and bends; in some its object shrinks away, or grows."""
    frame = Frame(target, spacing, rng, size)
    growth, turn = rng.normal(0, 0.05), rng.normal(0, 0.04)
    drift = rng.normal(0, 0.03, (2, 1, 1))
    bend = smooth_noise(rng, size, int(rng.integers(3, 7)), 2) * rng.uniform(0, 0.03)
    image = normalise(image)
    inside = ndimage.distance_transform_edt(target)
    shrinking = rng.random() < 0.45
    gone = rng.uniform(0.5, 2) * (length - 1)  # the slice on which nothing is left
    background = without_object(image, target) if shrinking else image
    images, masks = [], []
    for number, (matrix, shift) in enumerate(shakes(rng, length)):
        now = target & (inside > inside.max() * min(number / gone, 1)) if shrinking else target
        grid = frame.grid(matrix @ turning(turn * number, np.exp(growth * number)), shift + (drift + bend) * number)
        images.append(sample(np.where(now | ~target, image, background), grid))
        masks.append(sample(now, grid) > 0.5)
    backwards = slice(None, None, -1 if shrinking and rng.random() < 0.4 and masks[-1].any() else 1)
    return np.stack(images)[backwards], np.stack(masks)[backwards]


def painted_clip(rng: np.random.Generator, size: int, length: int) -> Clip:
    """A volume of smooth random regions, each with its own intensity; the object is one connected region."""
    deep, wide = int(rng.integers(2, 5)), int(rng.integers(3, 9))

    def field(channels: int, across: int) -> np.ndarray:
        lattice = torch.from_numpy(rng.standard_normal((1, channels, deep, across, across)).astype(np.float32))
        return F.interpolate(lattice, (length, size, size), mode="trilinear", align_corners=True)[0].numpy()

    kind = rng.integers(3)
    if kind == 0:  # cells
        labels = field(int(rng.integers(3, 9)), wide).argmax(axis=0)
    elif kind == 1:  # shells and sheets
        labels = np.digitize(field(1, wide)[0], np.sort(rng.normal(0, 1, int(rng.integers(2, 5)))))
    else:  # lumps on a background with structure
        lumps = field(2, wide)
        labels = (lumps[0] > 0).astype(int) + 2 * (lumps[1] > rng.uniform(0.4, 1.2))
    values = rng.uniform(0, 1, labels.max() + 1)
    texture = field(1, int(rng.integers(size // 8, size // 2)))[0]
    images = ndimage.gaussian_filter(values[labels], (0, *[rng.uniform(0.3, 1.2)] * 2)) + texture * rng.uniform(0, 0.12)
    row, column = rng.integers(size // 4, 3 * size // 4, 2)
    regions, _ = ndimage.label(labels == labels[0, row, column])
    return np.clip(images, 0, 1).astype(np.float32), regions == regions[0, row, column]


def relight_clip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another scanner, the same for all slices; brightness that drifts along the clip, and each slice's own noise."""
    seed, drift, grain = rng.integers(2**31), rng.normal(0, 0.02), rng.uniform(0, 0.03)
    lit = [relight(image, np.random.default_rng(seed)) * (1 + drift * n) for n, image in enumerate(images)]
    return np.clip(np.stack(lit) + grain * rng.standard_normal(images.shape, np.float32), 0, 1).astype(np.float32)


class Clips:
    """All clips that a bundle can give."""

    def __init__(self, datasets: list[DataSet]) -> None:
        self.pictures = Tasks([d for d in datasets if 0 not in d.labels])  # a set whose labels have no names has no tasks
        self.volumes: list[list[dict[int, list[SliceRef]]]] = []  # per data set and case: label -> slices
        for dataset in datasets:
            if dataset.is_3d:
                tables = [{int(label): slice_refs(case, label) for label in np.unique(case.labels) if label}
                          for case in dataset.cases]
                found = [{label: refs for label, refs in table.items() if refs} for table in tables]
                self.volumes.append([table for table in found if table])
        # A volume with many labels is worth many with one.
        worth = [np.sqrt(sum(len(table) for table in tables)) for tables in self.volumes]
        self.weights = np.array(worth) / sum(worth)

    def draw(self, rng: np.random.Generator, size: int, length: int) -> Clip:
        """A clip whose first slice shows the object, on at least MIN_PIXELS pixels and less than 90 % of it."""
        while True:
            kind = rng.random()
            if kind < VOLUME_SHARE and self.volumes:
                tables = self.volumes[rng.choice(len(self.volumes), p=self.weights)]
                table = tables[rng.integers(len(tables))]
                label = int(rng.choice(list(table)))
                ref = table[label][rng.integers(len(table[label]))]
                both = [label, int(rng.choice(list(table)))] if rng.random() < UNION_SHARE else [label]
                images, masks = volume_clip(ref, both, rng, size, length)
            elif kind < (1 + VOLUME_SHARE) / 2:
                images, masks = picture_clip(*self.pictures.draw(rng), rng, size, length)
            else:
                images, masks = painted_clip(rng, size, length)
            if MIN_PIXELS <= masks[0].sum() < 0.9 * masks[0].size:
                return relight_clip(images, rng), masks


def start_mask(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a propagation starts from: the truth, or a mask as a network leaves it. Never empty."""
    chance = rng.random()
    if chance < DEFECTIVE_SHARE:
        start = defective(truth, rng)
    elif chance < DEFECTIVE_SHARE + DAMAGED_SHARE:
        start = damaged(truth, rng)
    else:
        return truth
    return start if start.any() else truth


class ClipStream(IterableDataset):
    """Endless (images, masks, first mask as given); each worker and each start has its own random numbers."""

    def __init__(self, clips: Clips, size: int, length: int, seed: int) -> None:
        self.clips, self.size, self.length, self.seed = clips, size, length, seed

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        torch.set_num_threads(1)
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            images, masks = self.clips.draw(rng, self.size, self.length)
            start = start_mask(masks[0], rng)
            yield torch.from_numpy(images.copy()), torch.from_numpy(masks.copy()), torch.from_numpy(start)
