"""TIS in a session: the automatic label map of a volume, and the same map corrected by clicks of any class.

The rules that hold whatever the network says are kept here. Without a click nothing changes. The network hears all clicks, but
the last one decides what may change: voxels become its class, and only those of the background, of its class or of a class that
it lies on; every other class keeps all it has. The later of two clicks on one place counts. A clicked voxel has its class.
"""
from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from ..device import half_precision
from ..inference.sliding import predict_volume
from ..models.tis import TARGETS
from ..models.tis.network import TIS
from ..models.tis.prepare import crop_box, grid_at, normalise, token_stride
from ..plan import Plan
from ..prompts import Prompt, Scribble
from ..targets import find_label
from ..types import InteractiveSegError, bounding_box
from . import Setting

log = logging.getLogger(__name__)
STROKE = 32  # voxels of a scribble that the network sees as clicks
ISLAND = 0.1  # of the voxels of a class's largest piece: a smaller one is none of a class that training knows as one piece
SLAB = 2**24  # logits that are resampled at a time


def choose_network(setting: Setting) -> TIS:
    """The session's own weights, or the shipped ones that know its targets."""
    if setting.weights is not None:
        network = setting.network()
        known = network.config.targets
        if not set(setting.targets) <= set(known):
            raise InteractiveSegError(f"{setting.weights.name} knows {', '.join(known)}, got targets={setting.targets}: "
                                      "choose the targets among them.")
        return network
    for name in setting.family.networks:
        if set(setting.targets) <= set(TARGETS[name]):
            return setting.network(name)
    choices = "; or ".join(", ".join(names) for names in TARGETS.values())
    raise InteractiveSegError(f"No shipped TIS knows the targets {', '.join(setting.targets)}: choose among {choices}; or give a "
                              "file with weights=.")


class TISPredictor:
    """Corrects whole volumes. spacing: mm (k, j, i) of the volumes; targets: names, in the order of the session's labels.

    mirror: axes over whose flips the automatic result is averaged, as nnU-Net can; eight times the work for three. crop: tokens
    in which a crop is corrected, at most.
    """

    def __init__(self, network: TIS, spacing: Sequence[float], targets: Sequence[str], mirror: Sequence[int] = (),
                 crop: int = Plan.crop) -> None:
        self.network, self.spacing, self.targets, self.mirror = network, tuple(spacing), tuple(targets), tuple(mirror)
        self.crop = crop
        self.device = next(network.parameters()).device
        known = network.config.targets
        self.ours = np.array([0] + [self.targets.index(n) + 1 if n in targets else 0 for n in known], np.uint8)
        self.theirs = np.array([0] + [known.index(n) + 1 for n in targets], np.uint8)
        self._image: np.ndarray | None = None
        self._automatic = np.zeros((0, 0, 0), np.uint8)
        self._features = torch.zeros(0)

    @classmethod
    def of(cls, setting: Setting) -> TISPredictor:
        network = choose_network(setting)
        mirror = network.config.mirror if setting.mode == "mirror" else ()
        return cls(network, setting.spacing, setting.targets, mirror, setting.plan.crop)

    def warm_up(self, image: np.ndarray, key: tuple[int, int] = (0, 0)) -> None:
        """Read the volume now and correct it once for nothing, so that the first click is as quick as the next. key: of a slice,
        which plays no role here."""
        self.correct(self.automatic(image), np.array([image.shape]) // 2, np.ones(1, int))

    def automatic(self, image: np.ndarray) -> np.ndarray:
        """uint8 labels (k, j, i) without any click."""
        self.encode(image)
        return self.ours[self._automatic]

    def refine(self, image: np.ndarray, start: np.ndarray, labels: np.ndarray, prompts: Sequence[Prompt]) -> np.ndarray:
        """uint8 labels (k, j, i): what the last prompt makes of `labels`, the map that is shown now.

        start: the map before all of these prompts, automatic or by hand; the network compares every voxel's label there with
        all prompts since.
        """
        clicks: dict[tuple[int, ...], int] = {}
        for prompt in prompts:
            label = find_label(prompt, self.targets) if prompt.positive else 0
            last = voxels_of(prompt)
            for place in last:
                clicks.pop(place, None)
                clicks[place] = label
        if not clicks:
            return start.copy()
        self.encode(image)
        places, named = np.array(list(clicks)), np.array(list(clicks.values()))
        box, found = self.correct(start, places, named)
        new, before = labels.copy(), labels[box]
        concerned = {0, label, *labels[tuple(np.array(last).T)].tolist()}
        new[box] = np.where((self.ours[found] == label) & np.isin(before, list(concerned)), np.uint8(label), before)
        new[tuple(places.T)] = named
        return new

    def encode(self, image: np.ndarray) -> None:
        """Keep the automatic labels (the network's, at the image's voxels) and the features (at the network's spacing)."""
        if self._image is image:
            return
        if image.ndim != 3:
            raise InteractiveSegError(f"TIS segments volumes and got an image of shape {image.shape}: give it (k, j, i).")
        config = self.network.config
        volume = torch.from_numpy(normalise(image, config.clip))[None, None]
        grid = grid_at(image.shape, self.spacing, config.spacing)
        if any(side < least for side, least in zip(grid, config.stride)):
            least, got = (" x ".join(map(str, sides)) for sides in (config.stride, grid))
            raise InteractiveSegError(f"TIS needs volumes of {least} or more of its voxels and got {got}: give more slices, or "
                                      "choose a model that works in them.")
        if grid != image.shape:
            volume = F.interpolate(volume, size=grid, mode="trilinear")
        fast = half_precision(self.device.type)
        with torch.autocast(self.device.type, fast or torch.bfloat16, enabled=fast is not None):
            logits, features = predict_volume(self.network.encoder, volume[0].to(self.device), config.patch, self.mirror)
        logits = logits.float()
        self._automatic = labels_at(logits, (slice(0, n) for n in grid), grid, image.shape)[1]
        drop_islands(self._automatic, config.single)
        self._features = features.half()
        self._image = image

    def correct(self, start: np.ndarray, places: np.ndarray, named: np.ndarray) -> tuple[tuple[slice, ...], np.ndarray]:
        """(box of the image, the network's labels in it) for clicks (n, 3) of the session's labels (n,)."""
        grid, shape = self._features.shape[1:], start.shape
        index = np.ix_(*(((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(grid, shape)))
        before = self.theirs[start[index]]
        cells = ((places + 0.5) * np.array(grid) / shape).astype(int)
        box = crop_box(before, cells, self.network.config.spacing)
        sides = tuple(s.stop - s.start for s in box)
        stride = token_stride(sides, self.network.refinement.stride, self.crop)
        if stride != self.network.refinement.stride:
            log.info("the crop of %s voxels is large: it is read in steps of %s voxels", sides, stride)
        cells = cells - [s.start for s in box]
        last = {tuple(token): n for n, token in enumerate((cells // stride).tolist())}  # one click in a token: the latest
        keep = sorted(last.values())
        with torch.inference_mode():
            logits = self.network.refinement(
                self._features[(slice(None), *box)].float(),
                torch.from_numpy(before[box]).long().to(self.device),
                torch.from_numpy(cells[keep]).to(self.device),
                torch.from_numpy(self.theirs[named[keep]]).long().to(self.device),
                stride,
            )
        return labels_at(logits, box, grid, shape)


def drop_islands(labels: np.ndarray, single: Sequence[bool]) -> None:
    """Take small pieces far from the largest out of the classes that are one piece. Changes uint8 labels (k, j, i) in place.

    nnU-Net (2021) keeps the largest piece alone, where that is better; a second hippocampus is no island here.
    """
    for label in np.flatnonzero(single) + 1:
        part = labels[tuple(slice(*ends) for ends in zip(*bounding_box(labels == label)))]
        pieces, count = ndimage.label(part == label, np.ones((3, 3, 3)))
        if count > 1:
            sizes = np.bincount(pieces.ravel())
            part[(sizes < ISLAND * sizes[1:].max())[pieces] & (pieces > 0)] = 0


def voxels_of(prompt: Prompt) -> list[tuple[int, ...]]:
    """The voxels that a click or a scribble names; of a long scribble some, evenly along it."""
    if not isinstance(prompt, Scribble):
        return [tuple(int(p) for p in prompt.position)]
    points = np.argwhere(prompt.mask) + (prompt.origin or (0, 0, 0))
    chosen = np.unique(np.linspace(0, len(points) - 1, min(STROKE, len(points))).round().astype(int))
    return [tuple(point) for point in points[chosen].tolist()]


def labels_at(
    logits: torch.Tensor, box: Iterable[slice], grid: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The largest of logits (classes, k, j, i), which fill a box of a grid, read at the voxels of an image that covers the
    same space: (box of the image, uint8 labels)."""
    box = tuple(box)
    if tuple(grid) == tuple(shape):
        return box, logits.argmax(dim=0).byte().cpu().numpy()
    places, image_box = [], []
    for part, cells, voxels in zip(box, grid, shape):
        ratio = voxels / cells
        inside = slice(max(0, math.ceil(part.start * ratio - 0.5)), min(voxels, math.ceil(part.stop * ratio - 0.5)))
        middles = (torch.arange(inside.start, inside.stop, device=logits.device) + 0.5) / ratio
        places.append(2 * (middles - part.start) / (part.stop - part.start) - 1)
        image_box.append(inside)
    thick = max(1, SLAB // (len(logits) * len(places[1]) * len(places[2])))
    slabs = []
    for ticks in places[0].split(thick):
        position = torch.stack(torch.meshgrid(ticks, *places[1:], indexing="ij")[::-1], dim=-1)[None]
        read = F.grid_sample(logits[None], position, padding_mode="border", align_corners=False)
        slabs.append(read[0].argmax(dim=0).byte().cpu().numpy())
    return tuple(image_box), np.concatenate(slabs)
