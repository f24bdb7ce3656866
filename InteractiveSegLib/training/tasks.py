"""What to segment next: a slice of some data set and a target in it, drawn so that small sets are not drowned by large ones."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .bundle import Case, DataSet

MIN_PIXELS = 12  # a target smaller than this on its slice is not a task
COMPONENT_SHARE = 0.15  # of tasks with several components: one of them alone is the target
UNION_SHARE = 0.08  # two labels of the slice together are the target


@dataclass(frozen=True)
class SliceRef:
    """One slice of one case that shows a label: array axis and index (axis 0, index 0 of a 2D image), and pixels of the label."""

    case: Case
    axis: int
    index: int
    area: int

    def read(self) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
        """(image, labels, spacing): uint8 (row, column) twice and (row, column) in mm."""
        image, labels, spacing = self.case.image, self.case.labels, self.case.spacing
        if image.ndim == 3:
            image, labels = image.take(self.index, self.axis), labels.take(self.index, self.axis)
            spacing = tuple(s for a, s in enumerate(spacing) if a != self.axis)
        return image, labels, spacing


def slice_refs(case: Case, label: int) -> list[SliceRef]:
    """Every slice that shows enough of the label: along axis 0, and along all axes where voxels are near to cubes."""
    if case.image.ndim == 2:
        area = int((case.labels == label).sum())
        return [SliceRef(case, 0, 0, area)] if area >= MIN_PIXELS else []
    axes = range(3) if max(case.spacing) < 1.5 * min(case.spacing) else range(1)
    hits, refs = case.labels == label, []
    for axis in axes:
        counts = hits.sum(axis=tuple(a for a in range(3) if a != axis))
        refs += [SliceRef(case, axis, int(i), int(counts[i])) for i in np.flatnonzero(counts >= MIN_PIXELS)]
    return refs


class Tasks:
    """All (data set, label) pairs with their slices."""

    def __init__(self, datasets: list[DataSet]) -> None:
        self.tasks: list[dict[int, list[SliceRef]]] = []  # per data set: label -> slices
        weights = []
        for dataset in datasets:
            found = {label: [r for case in dataset.cases for r in slice_refs(case, label)] for label in dataset.labels}
            found = {label: refs for label, refs in found.items() if refs}
            if found:
                self.tasks.append(found)
                weights.append(np.sqrt(len(dataset.cases) * len(found)) * (2 if dataset.is_3d else 1))
        self.weights = np.array(weights) / np.sum(weights)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
        """(image uint8, target bool, spacing) of a random slice."""
        found = self.tasks[rng.choice(len(self.tasks), p=self.weights)]
        label = rng.choice(list(found))
        image, labels, spacing = found[label][rng.integers(len(found[label]))].read()
        target = labels == label
        if rng.random() < UNION_SHARE:
            target |= labels == rng.choice(list(found))
        elif rng.random() < COMPONENT_SHARE:
            components, count = ndimage.label(target, structure=np.ones((3, 3), bool))
            sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
            large = np.flatnonzero(sizes >= MIN_PIXELS) + 1
            if large.size > 1:
                target = components == rng.choice(large)
        return image, target, spacing
