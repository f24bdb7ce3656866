"""Contact sheets of what training makes of the data, for a person to look at. They know no network."""
from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .bundle import DataSet
from .clips import Clips, start_mask
from .defects import DEFECTS
from .samples import draw_sample
from .tasks import Tasks

SIZE = 160  # pixels of a picture
CLIPS = 12  # rows


def show(axes: Axes, image: np.ndarray, **outlines: np.ndarray) -> None:
    """An image with outlines of masks: colour=mask."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for colour, mask in outlines.items():
        if mask.any() and not mask.all():
            axes.contour(mask, [0.5], colors=colour, linewidths=1)


def defect_sheet(datasets: list[DataSet], columns: int, rng: np.random.Generator) -> Figure:
    """A row for each of the six defects with its probability; each column is one object, its outline green, the defect red."""
    tasks = Tasks([dataset for dataset in datasets if 0 not in dataset.labels])
    samples = []
    while len(samples) < columns:
        image, truth = draw_sample(tasks, rng, SIZE)
        if 0.02 < truth.mean() < 0.5:
            samples.append((image, truth))
    figure = Figure(figsize=(1.6 * columns, 1.6 * len(DEFECTS)), layout="constrained")
    for row, (defect, share) in zip(figure.subplots(len(DEFECTS), columns, squeeze=False), DEFECTS.items()):
        row[0].set_ylabel(f"{defect.__name__.replace('_', ' ')}\n{share}")
        for axes, (image, truth) in zip(row, samples):
            show(axes, image, lime=truth, red=defect(truth, rng))
    return figure


def clip_sheet(datasets: list[DataSet], columns: int, rng: np.random.Generator) -> Figure:
    """A row for each clip: the object followed through its slices, green; on the first, yellow, the mask it starts from."""
    clips = Clips(datasets)
    figure = Figure(figsize=(1.6 * columns, 1.6 * CLIPS), layout="constrained")
    for row in figure.subplots(CLIPS, columns, squeeze=False):
        images, masks = clips.draw(rng, SIZE, columns)
        for axes, image, mask in zip(row, images, masks):
            show(axes, image, lime=mask)
        show(row[0], images[0], yellow=start_mask(masks[0], rng))
    return figure
