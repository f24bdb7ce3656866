"""3D patches with labels: from the bundle or from a user's own folder, normalised, bent and re-lit. Knows no network."""
from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F
from torch.utils.data import IterableDataset, get_worker_info

from ..types import InteractiveSegError, bounding_box
from .bundle import Case, DataSet, read_bundle

FOREGROUND_SHARE = 0.5  # of patches are centred on a labelled voxel; nnU-Net guarantees a third
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
CT = "CT"
NOT_STATED, OWN = "not stated", "the user's own"  # where dataset.json does not say
ONE_PIECE = 0.95  # of a structure hang together, or it comes in pieces


def read_set(bundle: Path, name: str) -> DataSet:
    """One set of volumes of a bundle."""
    found = [dataset for dataset in read_bundle(bundle) if dataset.name == name]
    if not found:
        raise InteractiveSegError(f"{bundle} holds no set {name}: pack the training data that it belongs to.")
    return found[0]


def read_labelled_folder(folder: Path) -> DataSet:
    """A user's labelled volumes, laid out as nnU-Net and the Decathlon do: imagesTr and labelsTr (or images and labels) with
    files of one name, an image's with or without _0000, and dataset.json with the names of the labels where there is one."""
    from ..io import read_image, read_labels

    images, masks = (next((folder / n for n in names if (folder / n).is_dir()), None)
                     for names in (("imagesTr", "images"), ("labelsTr", "labels")))
    if images is None or masks is None:
        raise InteractiveSegError(f"{folder} has no folders images and labels (or imagesTr and labelsTr): put the cases there.")
    names, modality, licence = read_about(folder / "dataset.json")
    cases = []
    for path in sorted(p for p in masks.iterdir() if p.name.endswith(ENDINGS)):
        stem = path.name[:-len(next(e for e in ENDINGS if path.name.endswith(e)))]
        image = next((p for s in (stem + "_0000", stem) for e in ENDINGS if (p := images / (s + e)).exists()), None)
        if image is None:
            raise InteractiveSegError(f"No image in {images} belongs to {path.name}: give it the same name, or remove the label.")
        picture = read_image(image)
        labels = read_labels(path, picture)
        if not np.array_equal(labels.astype(np.uint8), labels):
            raise InteractiveSegError(f"{path} holds other values than whole numbers from 0 to 255: number the labels 1, 2, 3.")
        cases.append(Case(picture.array, labels.astype(np.uint8), stem, picture.spacing))
    if not cases:
        raise InteractiveSegError(f"{masks} holds no .nii.gz, .nrrd or .mha file: put at least one labelled volume there.")
    return DataSet(folder.name, label_names(names, cases), licence, modality, cases)


def read_about(path: Path) -> tuple[dict[int, str], str, str]:
    """Names of labels, modality and licence from dataset.json, if it is there: {"1": "liver"} or {"liver": 1}."""
    if not path.exists():
        return {}, NOT_STATED, OWN
    try:
        about = json.loads(path.read_text(encoding="utf8"))
        names = dict((int(k), str(v)) if k.isdigit() else (int(v), k) for k, v in about.get("labels", {}).items())
        channels = {**about.get("modality", {}), **about.get("channel_names", {})}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InteractiveSegError(f'{path} cannot be used ({error}), expected {{"labels": {{"background": 0, NAME: 1}}}} with a '
                                  "number for each name: correct it, or remove it.") from error
    return names, str(next(iter(channels.values()), NOT_STATED)), str(about.get("licence", OWN))


def label_names(known: dict[int, str], cases: Sequence[Case]) -> dict[int, str]:
    """Label -> name, as they are known, or numbers where none are; the labels must be 1, 2, ..."""
    used = sorted({int(v) for case in cases for v in np.unique(case.labels)} - {0})
    plain = {n: f"label {n}" for n in range(1, max(used, default=0) + 1)}
    names = {n: name for n, name in sorted(known.items()) if n > 0} or plain
    if not used or set(used) - set(names) or sorted(names) != list(range(1, len(names) + 1)):
        raise InteractiveSegError(f"Got the labels {used} and names for {sorted(names)}: number them 1, 2, 3, ... and name each.")
    return names


def clip_of(dataset: DataSet) -> tuple[float, ...]:
    """Of a CT set (low, high, mean, deviation) of the labelled voxels, as nnU-Net normalises CT; of any other set nothing."""
    if dataset.modality.upper() != CT:
        return ()
    inside = np.concatenate([case.image[case.labels > 0][::7].astype(np.float32) for case in dataset.cases])
    low, high = np.percentile(inside, [0.5, 99.5])
    inside = inside.clip(low, high)
    return float(low), float(high), float(inside.mean()), float(inside.std())


def reach_of(dataset: DataSet) -> float:
    """A third of the extent of what is labelled in a volume, mm: the median over volumes of the axes' geometric mean."""
    boxes = [(bounding_box(case.labels > 0), case.spacing) for case in dataset.cases if case.labels.any()]
    extents = [np.prod(np.subtract(stop, start) * np.array(spacing)) ** (1 / 3) for (start, stop), spacing in boxes]
    return round(float(np.median(extents)) / 3, 1)


def single_of(dataset: DataSet) -> tuple[bool, ...]:
    """Of each label whether it is one piece in every volume."""
    return tuple(all(one_piece(case.labels == label) for case in dataset.cases) for label in sorted(dataset.labels))


def one_piece(mask: np.ndarray) -> bool:
    """Whether nearly all of a mask hangs together; nothing does."""
    box = tuple(slice(*ends) for ends in zip(*bounding_box(mask)))
    pieces, _ = ndimage.label(mask[box], np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.ravel())[1:]
    return not sizes.size or sizes.max() >= ONE_PIECE * sizes.sum()


class PatchStream(IterableDataset):
    """Endless (image float32 (1, *patch), labels int64 (*patch)): normalised cases at the plan's spacing, augmented.

    mirror: axes along which anatomy may be flipped.
    """

    def __init__(self, dataset: DataSet, normalise, spacing: Sequence[float], patch: Sequence[int], mirror: Sequence[int],
                 seed: int) -> None:
        self.patch, self.mirror, self.seed = tuple(patch), tuple(mirror), seed
        self.cases = [resampled(normalise(c.image), c.labels, c.spacing, spacing) for c in dataset.cases]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        worker = get_worker_info()
        torch.set_num_threads(1)
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            image, labels = self.cases[rng.integers(len(self.cases))]
            yield draw_patch(image, labels, self.patch, self.mirror, rng)


def resampled(
    image: np.ndarray, labels: np.ndarray, spacing: Sequence[float], wanted: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """float16 image and uint8 labels (k, j, i) at another spacing (mm)."""
    picture, mask = torch.from_numpy(np.asarray(image, np.float32))[None, None], torch.from_numpy(labels.copy())[None, None]
    size = [max(1, round(n * s / w)) for n, s, w in zip(image.shape, spacing, wanted)]
    if tuple(size) != image.shape:
        picture, mask = F.interpolate(picture, size=size, mode="trilinear"), F.interpolate(mask, size=size, mode="nearest-exact")
    return picture[0, 0].half(), mask[0, 0]


def draw_patch(
    image: torch.Tensor, labels: torch.Tensor, patch: Sequence[int], mirror: Sequence[int], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A random window, turned, stretched and bent a little; outside of the volume the image is 0 and the label background."""
    shape, size = np.array(image.shape), np.array(patch)
    room = np.maximum(shape - size, 0) / 2
    centre = shape / 2 + rng.uniform(-1, 1, 3) * np.maximum(room, 0.05 * size)
    if rng.random() < FOREGROUND_SHARE and (room > 0).any():
        points = torch.nonzero(labels)
        if len(points):
            place = points[rng.integers(len(points))].numpy() + rng.uniform(-0.25, 0.25, 3) * size
            centre = np.where(room > 0, np.clip(place, shape / 2 - room, shape / 2 + room), centre)
    flips = np.array([-1 if a in mirror and rng.random() < 0.5 else 1 for a in range(3)])
    angle, zoom = rng.normal(0, 0.2) * (rng.random() < 0.7), np.exp(rng.normal(0, 0.1) + rng.normal(0, 0.04, 3)) * flips
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    ticks = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in patch]
    grid = torch.stack(torch.meshgrid(*ticks, indexing="ij"))
    if rng.random() < 0.3:
        knots = rng.normal(0, 0.03 * size[1:].mean(), (1, 3, 3, 4, 4)) * np.array([0, 1, 1]).reshape(3, 1, 1, 1)  # in plane
        bend = F.interpolate(torch.from_numpy(knots).float(), size=tuple(patch), mode="trilinear", align_corners=True)
        grid = grid + bend[0]
    matrix = torch.from_numpy(turn * zoom).float()
    place = torch.einsum("ab,bkji->akji", matrix, grid) + torch.tensor(centre - 0.5).float().view(3, 1, 1, 1)
    unit = (2 * place + 1) / torch.tensor(shape).float().view(3, 1, 1, 1) - 1
    unit = unit.flip(0).movedim(0, -1)[None]
    picture = F.grid_sample(image.float()[None, None], unit, "bilinear", align_corners=False)[0]
    mask = F.grid_sample(labels.float()[None, None], unit, "nearest", align_corners=False)[0, 0]
    return relit(picture, rng), mask.round().long()


def relit(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Other brightness, contrast, gamma, sharpness and noise of an image of mean 0 and deviation 1."""
    if rng.random() < 0.3:
        image = image * float(np.exp(rng.normal(0, 0.2))) + float(rng.normal(0, 0.1))
    if rng.random() < 0.3:
        low, span = image.min(), (image.max() - image.min()).clamp_min(1e-3)
        image = ((image - low) / span) ** float(np.exp(rng.normal(0, 0.25))) * span + low
    if rng.random() < 0.15:
        image = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, 0, *rng.uniform(0.3, 1.0, 2))))
    if rng.random() < 0.2:
        image = image + torch.from_numpy(rng.standard_normal(tuple(image.shape), np.float32)) * float(rng.uniform(0.02, 0.15))
    return image
