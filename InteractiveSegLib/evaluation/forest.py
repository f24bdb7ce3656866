"""A classical rival that learns from accepted cases: a random forest on pixel features. No networks.

It sees what the networks see: the slice on a square canvas of SIZE pixels. A pixel is described by its grey value, its
surroundings at four scales and its place; the forest learns from the prompts of this image, which weigh as much as all
accepted images together, and from pixels of those, half of them near the object's edge. Trained anew after each prompt.
Settings are the best of five that were tried on four tasks of the training data (24 trees and 4000 pixels were no better).
"""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..geometry import Canvas, normalise
from ..prompts import Prompt
from ..types import InteractiveSegError
from .peers import BACKGROUND, OBJECT, draw_seeds

SIZE = 128
SCALES = (1.0, 2.0, 4.0, 8.0)  # pixels of the canvas
TREES = 16
LEAF = 2  # samples
PROMPT_WEIGHTS = (0.25, 0.5, 0.5)  # of this image's rim, which is taken as background, of its object and of its background
KEPT = 2500  # pixels of all accepted images together
SMOOTHING = 1.0  # pixels, of the probability before it is cut at 0.5
SOFTENING = 8.0  # pixels: how far from the object's edge half of the kept pixels lie


class PixelForest:
    """An annotator, see sequence.Annotator: its memory is pixels."""

    name = "random forest"

    def __init__(self) -> None:
        try:
            from sklearn.ensemble import RandomForestClassifier
        except ImportError as error:
            raise InteractiveSegError(
                "The random forest needs the package scikit-learn: pip install scikit-learn, or leave it out of --methods."
            ) from error
        self._make = lambda: RandomForestClassifier(TREES, min_samples_leaf=LEAF, random_state=0, n_jobs=1)
        self.begin()

    def begin(self) -> None:
        self._accepted: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # features, labels, near the edge

    def start(self, image: np.ndarray, spacing: tuple[float, float] | None = None) -> np.ndarray:
        self._canvas = Canvas(image.shape, spacing or (1.0, 1.0), SIZE)
        self._features = pixel_features(self._canvas.shrink(normalise(image)))
        self._seeds = np.zeros(image.shape, np.uint8)
        self._seeds[[0, -1], :] = self._seeds[:, [0, -1]] = BACKGROUND
        self._mask = self._predict() if self._accepted else np.zeros(image.shape, bool)
        return self._mask

    def add(self, prompt: Prompt) -> np.ndarray:
        draw_seeds(self._seeds, prompt)
        self._mask = self._predict()
        return self._mask

    def accept(self, truth: np.ndarray) -> None:
        mask = self._canvas.shrink(self._mask) > 0.5
        distance = np.where(mask, ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask))
        self._accepted.append((self._features, mask.ravel(), (distance < SOFTENING).ravel()))

    def _predict(self) -> np.ndarray:
        samples, labels, weights = self._training_pixels()
        if labels.all() or not labels.any():
            return self._seeds == OBJECT
        forest = self._make().fit(samples, labels, weights)
        probability = forest.predict_proba(self._features)[:, 1].reshape(SIZE, SIZE)
        mask = self._canvas.expand(ndimage.gaussian_filter(probability, SMOOTHING)) > 0.5
        inner = self._seeds[1:-1, 1:-1]  # the rim is a guess, not a prompt
        mask[1:-1, 1:-1] = np.where(inner != 0, inner == OBJECT, mask[1:-1, 1:-1])
        return mask

    def _training_pixels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features (n, f), labels bool (n,) and weights (n,) of the prompts and of the accepted images."""
        rows, columns = np.nonzero(self._seeds)
        r, c, inside = self._canvas.locate(rows, columns)
        samples = [self._features[r[inside] * SIZE + c[inside]]]
        labels = [self._seeds[rows, columns][inside] == OBJECT]
        kinds = np.where((rows % (self._seeds.shape[0] - 1) == 0) | (columns % (self._seeds.shape[1] - 1) == 0), 0,
                         self._seeds[rows, columns])[inside]
        weights = [(1 / np.bincount(kinds, minlength=3).clip(1) * PROMPT_WEIGHTS)[kinds]]
        rng = np.random.default_rng(len(self._accepted))
        for features, mask, near in self._accepted:
            share = KEPT // len(self._accepted)
            picked = np.concatenate([rng.choice(pool, min(share // 2, pool.size), replace=False)
                                     for pool in (np.flatnonzero(near), np.arange(mask.size))])
            samples.append(features[picked])
            labels.append(mask[picked])
            weights.append(np.full(picked.size, 1 / len(self._accepted) / picked.size))
        return np.concatenate(samples), np.concatenate(labels), np.concatenate(weights)


def pixel_features(image: np.ndarray) -> np.ndarray:
    """(rows, columns) in 0..1 -> (rows * columns, features) float32: grey value, per scale the smoothed value, the edge's
    strength and both curvatures, and the place."""
    image = image.astype(np.float32)
    maps = [image]
    for scale in SCALES:
        maps.append(ndimage.gaussian_filter(image, scale))
        maps.append(ndimage.gaussian_gradient_magnitude(image, scale))
        rr, cc, rc = (ndimage.gaussian_filter(image, scale, order=order) for order in ((2, 0), (0, 2), (1, 1)))
        middle, reach = (rr + cc) / 2, np.hypot((rr - cc) / 2, rc)
        maps += [middle + reach, middle - reach]
    rows, columns = np.indices(image.shape, dtype=np.float32)
    maps += [rows / image.shape[0], columns / image.shape[1]]
    return np.stack(maps, axis=-1).reshape(image.size, -1).astype(np.float32)
