"""Which examples of a context to use when there are more than time or memory allow. Numpy only; knows no network, no entries."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..geometry import normalise
from ..types import InteractiveSegError

GRID = 16  # side of the thumbnail that stands for an image
BINS = 16  # grey levels of the histogram that stands beside it
COARSE = 64  # pixels along the longer side are enough to make both from
DIVERSITY = 0.3  # what being like an example that is already chosen costs, against what being like the target earns


def describe(image: np.ndarray) -> np.ndarray:
    """A slice (rows, columns), any numeric type, as a vector of length 1 whose products tell how alike two slices are.

    The thumbnail says where bright and dark lie, the histogram how much of each there is; they count alike. float32.
    """
    image = np.asarray(image)
    if image.ndim != 2 or not image.size:
        raise InteractiveSegError(f"Got an image of shape {image.shape}, expected one slice: give (rows, columns).")
    step = max(1, max(image.shape) // COARSE)
    small = normalise(image[::step, ::step])
    thumbnail = _cells(_cells(small).T).T
    histogram = np.sqrt(np.histogram(small, BINS, (0, 1))[0] / small.size)
    return np.concatenate([_unit((thumbnail - thumbnail.mean()).ravel()), _unit(histogram)]) / np.float32(np.sqrt(2))


def choose(images: Sequence[np.ndarray], target: np.ndarray, count: int) -> list[int]:
    """Indices of the `count` examples that help most with the target, most useful first; all of them where there are fewer.

    images: slices (rows, columns) of any sizes; target: the slice to be segmented.
    """
    return choose_described(np.array([describe(image) for image in images]), describe(target), count)


def choose_described(examples: np.ndarray, target: np.ndarray, count: int) -> list[int]:
    """The same from vectors (n, d) and (d,) of `describe`, for who keeps them: each next one is like the target and unlike
    those already chosen (maximal marginal relevance, Carbonell and Goldstein 1998)."""
    if count < 0:
        raise InteractiveSegError(f"Got a context of {count} examples to choose, expected 0 or more: give a larger budget.")
    if not len(examples):
        return []
    relevance = examples @ target
    nearest = np.zeros(len(examples), np.float32)  # likeness to the most similar one that is chosen
    left = np.ones(len(examples), bool)
    chosen: list[int] = []
    for _ in range(min(count, len(examples))):
        score = np.where(left, (1 - DIVERSITY) * relevance - DIVERSITY * nearest, -np.inf)
        best = int(score.argmax())
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, examples @ examples[best])
    return chosen


def _cells(image: np.ndarray) -> np.ndarray:
    """Means of GRID bands of rows; rows repeat where there are fewer."""
    edges = np.linspace(0, len(image), GRID + 1)
    starts = np.minimum(edges[:-1].astype(int), len(image) - 1)
    stops = np.maximum(np.ceil(edges[1:]).astype(int), starts + 1)
    sums = np.concatenate([np.zeros((1, image.shape[1])), np.cumsum(image, axis=0)])
    stops = np.minimum(stops, len(image))
    return ((sums[stops] - sums[starts]) / (stops - starts)[:, None]).astype(np.float32)


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return (vector / length if length > 1e-6 else vector * 0).astype(np.float32)
