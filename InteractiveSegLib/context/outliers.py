"""Which examples of a context disagree with the others. Knows no network: what predicts is a function."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..types import InteractiveSegError
from .entry import ContextEntry
from .memory import ContextSet
from .selection import choose_described, describe

FEWEST = 5  # examples; with fewer, the rest is too little to tell who is wrong
GAP = 0.25  # of Dice below the rest's median; that much is a fault even where the rest agrees closely
SPREAD = 3.0  # times the rest's median deviation (as a normal distribution's sigma) below its median
SIGMA = 1.4826  # of a normal distribution, in median absolute deviations
BUDGET = 16  # examples that predict the one left out

Predict = Callable[[Sequence[ContextEntry], np.ndarray, tuple[float, float]], np.ndarray]


@dataclass(frozen=True)
class Outlier:
    """An example that the others predict badly. dice: its mask against their prediction; usual: the median of the others."""

    id: str
    dice: float
    usual: float

    @property
    def message(self) -> str:
        return (f"The context's entry {self.id} disagrees with the others (Dice {self.dice:.2f}, where {self.usual:.2f} is "
                "usual): look at it, and disable or remove it if its mask is wrong.")


def asking(model: str, weights: Path | None = None) -> Predict:
    """What predicts with a family's network, for the two functions below. weights: a file instead of the shipped ones."""

    def predict(examples: Sequence[ContextEntry], image: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        from ..session import InteractiveSession

        context = ContextSet()
        context.put(examples)
        session = InteractiveSession(image, spacing, model=model, weights=weights, context=context, mode="always")
        session.predict()
        return session.mask

    return predict


def leave_one_out(entries: Sequence[ContextEntry], predict: Predict, budget: int = BUDGET) -> np.ndarray:
    """Dice of each example's mask against the prediction from the others, float (n,).

    predict(examples, image (rows, columns), spacing) -> mask of that shape, bool. budget: examples per prediction.
    """
    if len(entries) < 2:
        raise InteractiveSegError(f"Got {len(entries)} context entries, expected at least 2: one cannot disagree with itself.")
    vectors = np.array([describe(entry.image) for entry in entries])
    scores = []
    for n, entry in enumerate(entries):
        others = [*range(n), *range(n + 1, len(entries))]
        chosen = choose_described(vectors[others], vectors[n], budget)
        found = predict([entries[others[i]] for i in chosen], entry.image, entry.info.spacing) > 0.5
        total = np.count_nonzero(found) + np.count_nonzero(entry.mask)
        scores.append(2 * np.count_nonzero(found & entry.mask) / total if total else 1.0)
    return np.array(scores)


def find_outliers(entries: Sequence[ContextEntry], predict: Predict, budget: int = BUDGET) -> list[Outlier]:
    """The examples whose Dice falls out of the rest's, worst first; none where there are fewer than FEWEST. See leave_one_out.

    Only low values count, and only against what is usual: a hard task has low values throughout and no outlier.
    """
    if len(entries) < FEWEST:
        return []
    scores = leave_one_out(entries, predict, budget)
    found = []
    for n, (entry, score) in enumerate(zip(entries, scores)):
        rest = np.delete(scores, n)
        usual = float(np.median(rest))
        spread = SIGMA * float(np.median(np.abs(rest - usual)))
        if score < usual - max(GAP, SPREAD * spread):
            found.append(Outlier(entry.info.id, float(score), usual))
    return sorted(found, key=lambda outlier: outlier.dice)
