"""Training samples for networks that read examples: several images of one task with their masks, the first is the target.

A task is one structure of one data set, or a made-up one: a superpixel of a real image or a painted shape, seen many times
(MultiverSeg, section 4 and appendix C). What changes the task is the same for all its images; the rest is each one's own.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.utils.data import IterableDataset, get_worker_info

from ..geometry import normalise
from .augment import damaged, lay_grid, relight, sample, smooth_noise, turn
from .bundle import DataSet
from .synthetic import painted, superpixel_target
from .tasks import MIN_PIXELS, SliceRef, Tasks

SYNTHETIC_SHARE = 0.5  # of tasks
PAINTED_SHARE = 0.5  # of synthetic tasks
UNION_SHARE = 0.15  # of real tasks: two labels together are the target
EDGE_SHARE = 0.06  # of real tasks: the outline is the target
MIDDLE_SHARE = 0.25  # of real tasks: the middle slice of every subject
LARGEST_SHARE = 0.25  # of real tasks: the slice of every subject that shows most of the label
CLOSE_SHARE = 0.45  # of tasks: all images look closely at the target
TRIES = 8  # for an image whose target left the canvas

Source = tuple[np.ndarray, np.ndarray, tuple[float, float]]  # image float32 in [0, 1], target bool, spacing in mm


@dataclass(frozen=True)
class TaskView:
    """What all images of a task share. mirror: 2x2 of flips and transposition. reach: half side of the canvas in half
    sides of the target, or None for the whole image. wild: stronger own changes, for images that are copies of one."""

    mirror: np.ndarray
    reach: float | None
    wild: bool
    inverted: bool
    edge: bool
    light: int | None  # seed of a change of light

    @classmethod
    def draw(cls, rng: np.random.Generator, wild: bool) -> TaskView:
        mirror = np.diag(np.where(rng.random(2) < 0.5, -1.0, 1.0))
        if rng.random() < 0.3:
            mirror = mirror[::-1]
        return cls(mirror, rng.uniform(1.3, 3.5) if rng.random() < CLOSE_SHARE else None, wild, rng.random() < 0.3,
                   not wild and rng.random() < EDGE_SHARE, int(rng.integers(2**31)) if rng.random() < 0.5 else None)

    def grid(self, target: np.ndarray, spacing: tuple[float, float], rng: np.random.Generator, size: int) -> torch.Tensor:
        """Where the canvas lies on this image."""
        extent = np.array(target.shape) * spacing / 2
        centre, reach = np.zeros(2), extent.max()
        if self.reach is not None:
            points = np.argwhere(target) * spacing
            low, high = points.min(axis=0), points.max(axis=0)
            centre = (low + high) / 2 - extent
            reach = min(max((high - low).max() / 2, 8 * min(spacing)) * self.reach, reach)
        strength = 2.0 if self.wild else 1.0
        centre = centre + rng.normal(0, 0.06 * strength, 2) * reach
        stretch = np.exp(rng.normal(0, 0.08 * strength, 2))
        if self.wild and rng.random() < 0.25:
            stretch *= np.where(rng.random(2) < 0.5, -1, 1)
        zoom = np.exp(rng.normal(0, 0.1 * strength))
        matrix = turn(rng.normal(0, 0.15 * strength)) @ np.diag(stretch) @ self.mirror * reach * zoom
        bend = None
        if rng.random() < 0.4 * strength:
            bend = smooth_noise(rng, size, int(rng.integers(3, 7)), 2) * rng.uniform(0.01, 0.04) * strength
        return lay_grid(extent, centre, matrix, size, bend)

    def show(self, source: Source, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        """(image float32 in [0, 1], target bool), both (size, size): one image of the task with changes of its own."""
        image, target, spacing = source
        grid = self.grid(target, spacing, rng, size)
        seen = np.clip(sample(image, grid), 0, 1)  # interpolation may leave the range by rounding
        truth = sample(target, grid, nearest=True) > 0.5
        if self.edge:
            truth = ndimage.binary_dilation(truth) & ~ndimage.binary_erosion(truth)
        if self.inverted:
            seen = 1 - seen
        if self.light is not None:
            seen = relight(seen, np.random.default_rng(self.light), inverted_share=0)
        if self.wild or rng.random() < 0.5:
            seen = relight(seen, rng, inverted_share=0)
        inside = (grid.abs().amax(dim=-1)[0] <= 1).numpy()
        return seen * inside, truth  # the padding stays black, as on the predictor's canvas


class ContextTasks:
    """All tasks, real and made up."""

    def __init__(self, datasets: list[DataSet], size: int) -> None:
        self.size = size
        self.slices = Tasks(datasets)  # where superpixels are taken from
        self.tasks: list[list[tuple[int, dict[str, list[SliceRef]]]]] = []  # per data set: label, subject -> slices
        weights = []
        for found in self.slices.tasks:
            known = [(label, subjects) for label, refs in found.items() for subjects in by_axis_and_subject(refs)]
            if known:
                self.tasks.append(known)
                weights.append(np.sqrt(sum(len(subjects) for _, subjects in known)))
        self.weights = np.array(weights) / np.sum(weights)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(images float32 in [0, 1], truths bool), both (count, size, size), of one task; the first is the target.

        In a real task no other image is of the first one's subject.
        """
        while True:
            wild = rng.random() < SYNTHETIC_SHARE
            source = self.synthetic(rng) if wild else self.real(rng)
            view = TaskView.draw(rng, wild)
            shown = []
            for n in range(count):
                usable = self.usable(source, n, view, rng)
                if usable is None:
                    break
                shown.append(usable)
            else:
                images, truths = zip(*shown)
                return np.stack(images), np.stack(truths)

    def usable(self, source: Callable[[int], Source], n: int, view: TaskView,
               rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
        """The n-th image of a task, with its target on the canvas; None when that fails."""
        for _ in range(TRIES):
            image, truth = view.show(source(n), rng, self.size)
            if MIN_PIXELS <= truth.sum() < 0.95 * truth.size:
                return image, truth
        return None

    def real(self, rng: np.random.Generator) -> Callable[[int], Source]:
        """A structure of a data set: call with n for a slice of the n-th subject; the first subject comes only once."""
        known = self.tasks[rng.choice(len(self.tasks), p=self.weights)]
        label, subjects = known[rng.integers(len(known))]
        others = [other for other, _ in known if other != label]
        labels = [label, rng.choice(others)] if others and rng.random() < UNION_SHARE else [label]
        way = rng.random()
        order = rng.permutation(list(subjects))

        def source(n: int) -> Source:
            subject = order[n] if n < len(order) else rng.choice(order[1:])
            image, values, spacing = pick(subjects[subject], way, rng).read()
            return normalise(image), np.isin(values, labels), spacing

        return source

    def synthetic(self, rng: np.random.Generator) -> Callable[[int], Source]:
        """One image and a target that no data set names; every call gives the same."""
        if rng.random() < PAINTED_SHARE:
            image, target = painted(rng, self.size)
            spacing = (1.0, 1.0)
        else:
            image, _, spacing = self.slices.draw(rng)
            step = max(1, max(image.shape) // self.size)  # superpixels of a small image cost a quarter
            image = ndimage.uniform_filter(normalise(image), step)[::step, ::step]
            target = superpixel_target(image, rng)
        if not target.any():
            return self.synthetic(rng)
        return lambda n: (image, target, spacing)


def pick(refs: list[SliceRef], way: float, rng: np.random.Generator) -> SliceRef:
    """A slice of a subject: the middle one, the one with the largest area, or any, by the task's `way` in [0, 1)."""
    if way < MIDDLE_SHARE:
        return refs[len(refs) // 2]
    if way < MIDDLE_SHARE + LARGEST_SHARE:
        return max(refs, key=lambda ref: ref.area)
    return refs[rng.integers(len(refs))]


def by_axis_and_subject(refs: list[SliceRef]) -> list[dict[str, list[SliceRef]]]:
    """Per array axis: subject -> slices, for axes with two subjects at least."""
    axes: dict[int, dict[str, list[SliceRef]]] = {}
    for ref in refs:
        axes.setdefault(ref.axis, {}).setdefault(ref.case.subject, []).append(ref)
    return [subjects for subjects in axes.values() if len(subjects) > 1]


class ContextStream(IterableDataset):
    """Endless batches of (images, truths, masks), each (B, 1 + S, size, size); [:, 0] is the target.

    masks: what a user might have accepted, the truth or at times a damaged one. S is the same within a batch: uniform 1 to
    largest (section 4; without examples ScribblePrompt answers). B is what keeps B * (1 + S) near to `entries`.
    """

    def __init__(self, tasks: ContextTasks, seed: int, entries: int, largest: int, damaged_share: float) -> None:
        self.tasks, self.seed, self.entries = tasks, seed, entries
        self.largest, self.damaged_share = largest, damaged_share

    def __iter__(self) -> Iterator[list[torch.Tensor]]:
        worker = get_worker_info()
        torch.set_num_threads(1)
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        while True:
            count = 1 + int(rng.integers(1, self.largest + 1))
            drawn = [self.tasks.draw(rng, count) for _ in range(max(1, self.entries // count))]
            images, truths = (np.stack(arrays) for arrays in zip(*drawn))
            masks = truths.copy()
            for b, s in np.argwhere(rng.random(truths.shape[:2]) < self.damaged_share):
                masks[b, s] = damaged(truths[b, s], rng)
            yield [torch.from_numpy(array) for array in (images, truths, masks)]
