"""A family whose answer can be worked out by hand: what is as bright as the places pointed at, minus discs around negatives."""
from __future__ import annotations

import numpy as np

from InteractiveSegLib.models import FamilySpec

SPEC = FamilySpec("flood", "Flood", ("flood",), ("Click", "Box", "Scribble", "Lasso"), paper="none")
TOLERANCE, DISC_PIXELS = 0.12, 12


class FloodNetwork:
    """Same interface as a loaded family: canvases (B, size, size) and prompts (B, 3, size, size) in, logits out."""

    size = 128

    def predict(self, images, prompts, previous):
        return np.stack([self._one(image, *channels) for image, channels in zip(images, prompts)])

    def _one(self, image, box, positive, negative):
        logits = np.full(image.shape, -6.0, np.float32)
        if box.max() > 0.5:
            rows, columns = np.nonzero(box > 0.5)
            middle = image[int(rows.mean()), int(columns.mean())]
            inside = np.zeros(image.shape, bool)
            inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
            logits[(np.abs(image - middle) < TOLERANCE) & inside] = 6.0
        for row, column in np.argwhere(positive > 0.5):
            logits[np.abs(image - image[row, column]) < TOLERANCE] = 6.0
        rows, columns = np.indices(image.shape)
        for row, column in np.argwhere(negative > 0.5):
            logits[(rows - row) ** 2 + (columns - column) ** 2 < DISC_PIXELS**2] = -6.0
        return logits
