"""Tasks that no data set holds, made on the fly.

Superpixel tasks: a segment of a real image is the target (MultiverSeg, section 4 and appendix C). Painted tasks: a random
label map is painted with random intensities (SynthSeg, Billot et al. 2023; UniverSeg, Butoi et al. 2023).
"""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from .augment import smooth_noise


def superpixel_target(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random superpixel of the image, at times joined with a neighbour. Bool (row, column)."""
    from skimage.segmentation import felzenszwalb

    segments = felzenszwalb(image, scale=np.exp(rng.uniform(np.log(20), np.log(400))), sigma=rng.uniform(0.3, 1.5),
                            min_size=int(rng.integers(20, 200)))
    sizes = np.bincount(segments.ravel())
    usable = np.flatnonzero(sizes < 0.5 * image.size)
    if usable.size == 0:
        return np.zeros(image.shape, bool)
    target = segments == rng.choice(usable)
    if rng.random() < 0.3:
        neighbours = np.unique(segments[ndimage.binary_dilation(target) & ~target])
        target |= segments == rng.choice(neighbours)
    return target


def painted(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(image float32 in [0, 1], target bool), both (size, size): smooth random shapes, each with its own intensity.

    Rings, nested shapes, thin curves and scattered spots arise from bands and thresholds of smooth random fields.
    """
    kind = rng.integers(4)
    field = smooth_noise(rng, size, int(rng.integers(3, 12)))[0]
    if kind == 0:  # Voronoi-like regions
        labels = smooth_noise(rng, size, int(rng.integers(3, 8)), int(rng.integers(3, 9))).argmax(axis=0)
    elif kind == 1:  # nested bands: rings and thin curves
        labels = np.digitize(field, np.sort(rng.normal(0, 1, int(rng.integers(2, 6)))))
    elif kind == 2:  # blobs of one kind on a background with structure
        rows, columns = np.indices((size, size)) + smooth_noise(rng, size, 6, 2) * rng.uniform(1, 6)
        labels = (field > rng.normal(0, 0.5)).astype(int)
        for _ in range(rng.integers(1, 12)):
            (r, c), (a, b) = rng.uniform(0, size, 2), rng.uniform(0.02, 0.2, 2) * size
            ring = ((rows - r) / a) ** 2 + ((columns - c) / b) ** 2
            labels[ring < 1] = 2
            if rng.random() < 0.4:
                labels[ring < rng.uniform(0.2, 0.7)] = 3
    else:  # ridges: vessels, membranes
        labels = (np.abs(field) < rng.uniform(0.05, 0.3)).astype(int)
    values = np.unique(labels)
    image = rng.uniform(0, 1, values.max() + 1)[labels]
    texture = smooth_noise(rng, size, int(rng.integers(size // 8, size // 2)))[0]
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.5)) + texture * rng.uniform(0, 0.12)
    target = labels == rng.choice(values[1:] if values.size > 1 else values)
    return np.clip(image, 0, 1).astype(np.float32), target
