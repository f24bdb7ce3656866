"""Does a probability of 0.7 hold seven times of ten? Counts pixels around objects, a table and a plot of it. Runs no model."""
from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from scipy import ndimage

BINS = 10


def band(truth: np.ndarray) -> np.ndarray:
    """Bool, truth's shape: the object, and around it what is no farther than the radius of a disk of its area.

    About four times the object: over the whole image the easy background would hide the rest.
    """
    return ndimage.distance_transform_edt(~truth) <= np.sqrt(truth.sum() / np.pi)


class Reliability:
    """Predicted against observed, by method and number of prompts. Each image of a method counts alike."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, int], np.ndarray] = {}  # (pixels, predicted, observed) x BINS, shares of the bands
        self.images: dict[tuple[str, int], int] = {}

    def add(self, method: str, prompts: int, probability: np.ndarray, truth: np.ndarray) -> None:
        """Count an image: probability in [0, 1] and truth, bool and not empty, of one shape."""
        near = band(truth)
        predicted, observed = probability[near].astype(float), truth[near].astype(float)
        place = np.minimum((predicted * BINS).astype(int), BINS - 1)
        weights = (np.ones_like(predicted), predicted, observed)
        sums = np.stack([np.bincount(place, weight, BINS) for weight in weights]) / near.sum()
        key = (method, prompts)
        self.sums[key] = self.sums.get(key, 0) + sums
        self.images[key] = self.images.get(key, 0) + 1

    def curve(self, method: str, prompts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per bin: share of the pixels, mean probability, share that is object; the last two NaN in an empty bin."""
        pixels, predicted, observed = self.sums[method, prompts]
        with np.errstate(invalid="ignore"):
            return pixels / self.images[method, prompts], predicted / pixels, observed / pixels

    def error(self, method: str, prompts: int) -> float:
        """Expected calibration error: the mean over pixels of how far a bin's probability is from what it holds."""
        _, predicted, observed = self.sums[method, prompts]
        return float(np.abs(predicted - observed).sum() / self.images[method, prompts])

    def table(self) -> str:
        """Markdown: the error, and the share of object among the pixels of each bin of probability."""
        edges = [f"{n / BINS:.1f}-{(n + 1) / BINS:.1f}" for n in range(BINS)]
        lines = ["| probability | prompts | images | calibration error | " + " | ".join(edges) + " |", "|" + "---|" * (4 + BINS)]
        for method, prompts in sorted(self.sums):
            observed = ["-" if np.isnan(share) else f"{share:.2f}" for share in self.curve(method, prompts)[2]]
            error = f"{self.error(method, prompts):.3f}"
            lines.append("| " + " | ".join([method, str(prompts), str(self.images[method, prompts]), error, *observed]) + " |")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """calibration.csv, all numbers, and calibration.png, the reliability diagram."""
        with (folder / "calibration.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("method", "prompts", "images", "bin", "pixels", "probability", "observed"))
            for (method, prompts), images in sorted(self.images.items()):
                for n, values in enumerate(zip(*self.curve(method, prompts))):
                    writer.writerow((method, prompts, images, n, *values))
        self.plot(folder / "calibration.png")

    def plot(self, path: Path) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.5, 6), layout="constrained")
        FigureCanvasAgg(figure)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        for method, prompts in sorted(self.sums):
            pixels, predicted, observed = self.curve(method, prompts)
            label = f"{method}, {prompts} prompts, error {self.error(method, prompts):.3f}"
            above.plot(predicted, observed, marker="o", markersize=3, label=label)
            below.step(np.arange(BINS + 1) / BINS, [*pixels, pixels[-1]], where="post")
        above.plot((0, 1), (0, 1), color="0.6", linestyle=":")
        above.set(ylabel="share that is object", xlim=(0, 1), ylim=(0, 1), title="pixels around the object")
        above.legend(loc="upper left", fontsize="small")
        below.set(xlabel="probability", ylabel="share of pixels", ylim=(0, None))
        figure.savefig(path, dpi=120)
