"""Slices of hearts with their targets by name, for training: whole slices and close views, absent structures too."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy import ndimage
from torch.utils.data import IterableDataset, get_worker_info

from ..geometry import normalise
from ..terminology import HEART
from ..types import InteractiveSegError, bounding_box
from .augment import relight, sample, smooth_noise
from .bundle import Case, DataSet

TARGETS = tuple(HEART)
CLICKS_ONLY = -1  # in place of a target's number: no name is given, or the structure has none here
WHOLE_SHARE = 0.3  # of views show the whole slice, the others the heart with some margin
ABSENT_SHARE = 0.2  # of views by name are of a slice without the target
MIN_PIXELS = 8


@dataclass(frozen=True)
class Source:
    """What a data set's labels mean. named: target -> label values; unnamed: label values to be found by clicks alone.

    least: label value -> pixels of a piece below which it is no part of the heart.
    """

    share: float
    named: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unnamed: tuple[int, ...] = ()
    least: dict[int, int] = field(default_factory=dict)

    @property
    def values(self) -> list[int]:
        """Label values of the heart; others, such as the aorta's, are passed over."""
        return [*(value for values in self.named.values() for value in values), *self.unnamed]


# HVSMR's myocardium is of both ventricles and its blood pool of all chambers: they fit no name, nor does the myocardium of the CT
# sets, which is of both too. Their left atrium follows the pulmonary veins into the lungs, the one of LA2018 ends near its wall.
SOURCES = {
    "3d_acdc_cine_train": Source(0.54, {"LV": (3,), "myocardium": (2,), "RV": (1,)}),
    "3d_la2018_lge_train": Source(0.22, {"LA": (1,)}),
    "2d_emidec_lge_scar_train": Source(0.11, {"LV": (1,), "myocardium": (2, 3, 4), "scar": (3, 4)}),
    "2d_hvsmr_heart": Source(0.05, unnamed=(1, 2)),
    "2d_sa_chd_heart_ct": Source(0.05, {"LV": (1,), "RV": (2,), "LA": (3,)}, unnamed=(4, 5), least={3: 300}),
    "2d_sa_hocm_valves_ct": Source(0.03, {"LV": (5,), "LA": (4,)}, unnamed=(6,), least={4: 300}),
}


@dataclass(frozen=True, eq=False)
class View:
    """One training slice. image: float32 (S, S) in [0, 1]; truth: bool (S, S); target: its number or CLICKS_ONLY.

    strokes: uint8 (S, S), an expert's scribble where there is one: 1 on the target, 2 on what is not the target. labels: uint8
    (S, S), every named target of the slice by number + 1; known: bool (targets,), which of them the data set marks.
    """

    image: np.ndarray
    truth: np.ndarray
    target: int
    strokes: np.ndarray
    labels: np.ndarray
    known: np.ndarray


class Hearts:
    """Every slice of the cardiac data sets of a bundle."""

    def __init__(self, datasets: list[DataSet]) -> None:
        found = {d.name: d for d in datasets if d.name in SOURCES}
        if not found:
            raise InteractiveSegError(f"The bundle holds no hearts: pack a folder with one of {', '.join(SOURCES)}.")
        self.sources = [SOURCES[name] for name in found]
        self.cases = [[heart for case in d.cases if (heart := heart_alone(volume(case), SOURCES[name])).labels.any()]
                      for name, d in found.items()]

    def draw(self, rng: np.random.Generator, size: int, by_name: bool) -> View:
        """A random view on a canvas of that size. by_name: of a named target, which may be absent from the slice."""
        fit = [i for i, source in enumerate(self.sources) if source.named or not by_name]
        shares = np.array([self.sources[i].share for i in fit])
        while True:
            i = fit[rng.choice(len(fit), p=shares / shares.sum())]
            case = self.cases[i][rng.integers(len(self.cases[i]))]
            view = self.look(case, self.sources[i], rng, size, by_name)
            if view is not None:
                return view

    def look(self, case: Case, source: Source, rng: np.random.Generator, size: int, by_name: bool) -> View | None:
        """A view of one target of the case, or None when the draw came to nothing."""
        names = [*source.named, *(() if by_name else source.unnamed)]
        name = names[rng.integers(len(names))]
        values = source.named.get(name, (name,))
        present = np.isin(case.labels, values)
        counts = present.sum(axis=(1, 2))
        absent = by_name and rng.random() < ABSENT_SHARE
        choice = np.flatnonzero(counts == 0 if absent else counts >= MIN_PIXELS)
        if not choice.size:
            return None
        index = int(rng.choice(choice))
        labels = case.labels[index]
        grid = heart_grid(case, index, rng, size)
        truth = sample(present[index], grid, nearest=True) > 0.5
        if not absent and truth.sum() < MIN_PIXELS:
            return None
        inside = (grid.abs().amax(dim=-1)[0] <= 1).numpy()
        image = relight(sample(normalise(case.image[index]), grid), rng) * inside
        strokes = np.zeros((size, size), np.uint8)
        if case.scribbles is not None:
            drawn = sample(thick(case.scribbles[index] + 1), grid, nearest=True).astype(np.uint8)
            strokes = np.where(np.isin(drawn, np.add(values, 1)), 1, np.where(drawn > 0, 2, 0)).astype(np.uint8)
            strokes[(strokes == 1) != (truth & (strokes > 0))] = 0  # what a nearest pixel moved over the border
        numbered = np.zeros(labels.shape, np.uint8)
        for named, of in source.named.items():  # scar after the myocardium that it lies in
            numbered[np.isin(labels, of)] = TARGETS.index(named) + 1
        known = np.isin(TARGETS, list(source.named))
        target = TARGETS.index(name) if by_name else CLICKS_ONLY
        numbered = sample(numbered, grid, nearest=True).astype(np.uint8)
        return View(image.astype(np.float32), truth, target, strokes, numbered, known)


UNMARKED = 4  # in ACDC's scribbles


def volume(case: Case) -> Case:
    """A 2D case as a volume of one slice."""
    if case.image.ndim == 3:
        return case
    scribbles = None if case.scribbles is None else case.scribbles[None]
    return Case(case.image[None], case.labels[None], case.subject, (1.0, *case.spacing), scribbles)


def heart_alone(case: Case, source: Source) -> Case:
    """A volume without the labels that are not of the heart, and without the pieces of labels that are too small for it."""
    labels = np.where(np.isin(case.labels, source.values), case.labels, 0)
    for value, least in source.least.items():
        for plane in labels:
            pieces, _ = ndimage.label(plane == value)
            plane[(np.bincount(pieces.ravel()) < least)[pieces] & (pieces > 0)] = 0
    return replace(case, labels=labels)


def thick(scribbles: np.ndarray) -> np.ndarray:
    """Strokes as they are; unmarked pixels beside them take their value, so that sampling does not lose thin lines."""
    marked = np.where(scribbles == UNMARKED + 1, 0, scribbles)
    return np.where(marked > 0, marked, ndimage.grey_dilation(marked, size=3))


def heart_grid(case: Case, index: int, rng: np.random.Generator, size: int) -> torch.Tensor:
    """(1, size, size, 2) positions for grid_sample: the whole slice, or the heart with a margin, turned, flipped, bent."""
    rows, columns = case.image.shape[1:]
    spacing = np.array(case.spacing[1:])
    extent = np.array([rows, columns]) * spacing / 2
    start, stop = bounding_box((case.labels > 0).any(axis=0))
    middle = (np.array(start) + stop) / 2 * spacing - extent
    if rng.random() < WHOLE_SHARE:
        reach, centre = extent.max() * np.exp(rng.uniform(np.log(0.8), np.log(1.15))), rng.uniform(-0.1, 0.1, 2) * extent
    else:
        side = ((np.array(stop) - start) * spacing).max() / 2
        reach = min(side * np.exp(rng.uniform(np.log(1.0), np.log(1.9))), extent.max() * 1.1)
        centre = middle + rng.uniform(-0.25, 0.25, 2) * side
    angle = rng.normal(0, 0.25) + rng.integers(4) * np.pi / 2 * (rng.random() < 0.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(np.exp(rng.normal(0, 0.1, 2)) * np.where(rng.random(2) < 0.3, -1, 1)) * reach
    ticks = (np.arange(size) + 0.5) * 2 / size - 1
    unit = np.stack(np.meshgrid(ticks, ticks, indexing="ij")).astype(np.float32)
    if rng.random() < 0.3:
        unit = unit + smooth_noise(rng, size, int(rng.integers(3, 6)), 2) * rng.uniform(0.01, 0.06)
    place = (np.einsum("ab,bhw->ahw", matrix, unit) + centre[:, None, None]) / extent[:, None, None]
    return torch.from_numpy(np.ascontiguousarray(place[::-1].transpose(1, 2, 0), np.float32))[None]


class HeartBatches(IterableDataset):
    """Endless batches: image, truth, target, strokes, labels, known, see View; by name or by clicks, drawn at random."""

    def __init__(self, hearts: Hearts, size: int, batch: int, named_share: float, seed: int) -> None:
        self.hearts, self.size, self.batch, self.named_share, self.seed = hearts, size, batch, named_share, seed

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        worker = get_worker_info()
        torch.set_num_threads(1)
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            by_name = rng.random() < self.named_share
            views = [self.hearts.draw(rng, self.size, by_name) for _ in range(self.batch)]
            yield [torch.from_numpy(np.stack([np.asarray(getattr(view, name)) for view in views]))
                   for name in ("image", "truth", "target", "strokes", "labels", "known")]
