"""What a volume goes through before the network, in training and in use alike: intensities, the crop, the tokens' size."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MARGIN = 12.0  # mm around the automatic mask and the clicks
CAP = 64**3  # tokens of one crop; a larger one is read with coarser tokens


def normalise(image: np.ndarray, clip: Sequence[float] = ()) -> np.ndarray:
    """float32 of mean 0 and deviation 1: of the volume, or with clip = (low, high, mean, deviation) of the CT data set."""
    image = np.asarray(image, np.float32)
    if clip:
        return (image.clip(clip[0], clip[1]) - clip[2]) / max(clip[3], 1e-6)
    return (image - image.mean()) / max(float(image.std()), 1e-6)


def grid_at(shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]) -> tuple[int, ...]:
    """The shape of a volume, shape and spacing in mm, when it is resampled to the wanted spacing."""
    return tuple(max(1, round(n * s / w)) for n, s, w in zip(shape, spacing, wanted))


def crop_box(labels: np.ndarray, clicks: np.ndarray, spacing: Sequence[float]) -> tuple[slice, ...]:
    """The part of a volume that is corrected: what is labelled, the clicks (n, 3), and MARGIN around both."""
    box = []
    for axis, step in enumerate(spacing):
        hits = np.flatnonzero(labels.any(axis=tuple(a for a in range(3) if a != axis)))
        places = np.concatenate([hits[[0, -1]] if hits.size else hits, clicks[:, axis]])
        around = math.ceil(MARGIN / step)
        box.append(slice(max(0, int(places.min()) - around), min(labels.shape[axis], int(places.max()) + around + 1)))
    return tuple(box)


def token_stride(shape: Sequence[int], stride: Sequence[int], cap: int = CAP) -> tuple[int, ...]:
    """Voxels per token: `stride`, doubled along the axis with the most tokens until the crop has no more than `cap`."""
    stride = list(stride)
    while math.prod(-(-n // s) for n, s in zip(shape, stride)) > cap:
        stride[int(np.argmax(np.array(shape) / stride))] *= 2
    return tuple(stride)
