"""Which examples of a context disagree with those of other cases. Knows no network: what predicts is a function."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..types import InteractiveSegError
from .entry import ContextEntry, EntryInfo
from .kept import description_of, number_of
from .memory import ContextSet
from .selection import choose_described, describe

FEWEST = 5  # cases; with fewer, the rest is too little to tell who is wrong
RECENT = 6  # cases that a new one is measured by
GAP = 0.25  # of Dice below the rest's median; that much is a fault even where the rest agrees closely
SPREAD = 3.0  # times the rest's median deviation (as a normal distribution's sigma) below its median
SIGMA = 1.4826  # of a normal distribution, in median absolute deviations
BUDGET = 16  # examples that predict the one left out

Predict = Callable[[Sequence[ContextEntry], np.ndarray, tuple[float, float]], np.ndarray]


@dataclass(frozen=True)
class Outlier:
    """An example that other cases predict badly. dice: its mask against their prediction; usual: the median of the others."""

    id: str
    dice: float
    usual: float

    @property
    def message(self) -> str:
        return (f"The context's entry {self.id} disagrees with the others (Dice {self.dice:.2f}, where {self.usual:.2f} is "
                "usual): look at it, and disable or remove it if its mask is wrong.")


def asking(model: str, weights: Path | str | None = None, **options: Any) -> Predict:
    """What predicts with a family's network, for the functions below. weights: a file instead of the shipped ones. options: more
    of InteractiveSession, as device and window."""

    def predict(examples: Sequence[ContextEntry], image: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
        from ..session import InteractiveSession

        context = ContextSet()
        context.put(examples)
        session = InteractiveSession(image, spacing, model=model, weights=weights, context=context, mode="always", **options)
        session.predict()
        return session.mask

    return predict


def leave_one_out(entries: Sequence[ContextEntry], predict: Predict, budget: int = BUDGET) -> np.ndarray:
    """Dice of each example's mask against the prediction from the examples of the other cases, float (n,).

    Slices of one case are too alike to contradict each other. predict(examples, image (rows, columns), spacing) -> mask of that
    shape, bool. budget: examples per prediction.
    """
    cases = np.array([case_of(entry.info) for entry in entries])
    if len(set(cases)) < 2:
        raise InteractiveSegError(f"Got context entries of {len(set(cases))} cases, expected at least 2: one cannot disagree "
                                  "with itself.")
    vectors = np.array([describe(entry.image) for entry in entries])
    scores = []
    for n, entry in enumerate(entries):
        others = np.flatnonzero(cases != cases[n])
        chosen = choose_described(vectors[others], vectors[n], budget)
        scores.append(agreement(predict([entries[others[i]] for i in chosen], entry.image, entry.info.spacing), entry.mask))
    return np.array(scores)


def find_outliers(entries: Sequence[ContextEntry], predict: Predict, budget: int = BUDGET) -> list[Outlier]:
    """The examples whose Dice falls out of the other cases', worst first; none of fewer cases than FEWEST. See leave_one_out.

    Only low values count, and only against what is usual: a hard task has low values throughout and no outlier.
    """
    if count_cases(entry.info for entry in entries) < FEWEST:
        return []
    scores = leave_one_out(entries, predict, budget)
    cases = np.array([case_of(entry.info) for entry in entries])
    judged = [judge(entry.info.id, score, scores[cases != case]) for entry, score, case in zip(entries, scores, cases)]
    return sorted((outlier for outlier in judged if outlier is not None), key=lambda outlier: outlier.dice)


def doubt(context: ContextSet, case: str, predict: Predict, weights: str = "") -> Outlier | None:
    """The middle slice of a case where its mask is not what the cases before predict; None where it is, or they are too few.

    case: its hash. One prediction, when those for the cases before were kept with them. weights: what predicts, in words.
    """
    grouped: dict[str, list[EntryInfo]] = {}
    for info in context.infos():
        if info.enabled and description_of(context, info) is not None:
            grouped.setdefault(case_of(info), []).append(info)
    cases = list(grouped.values())
    at = list(grouped).index(case) if case in grouped else 0
    if at < FEWEST:
        return None
    scores = []
    for n in range(at - RECENT, at + 1):
        if n > 0:
            before, middle = [info for own in cases[:n] for info in own], cases[n][len(cases[n]) // 2]
            asked = json.dumps(["agreement", weights, [info.id for info in before]])
            key = hashlib.sha256(asked.encode()).hexdigest()
            scores.append(number_of(context, middle.id, key, partial(foretold, context, middle, before, predict)))
    return judge(middle.id, scores[-1], np.array(scores[:-1]))


def foretold(context: ContextSet, info: EntryInfo, before: Sequence[EntryInfo], predict: Predict) -> float:
    """Dice of an example's mask against the prediction from others."""
    vectors = np.array([description_of(context, one) for one in before])
    chosen = choose_described(vectors, description_of(context, info), BUDGET)
    entry = context.read(info.id)
    return agreement(predict([context.read(before[n].id) for n in chosen], entry.image, info.spacing), entry.mask)


def judge(entry_id: str, score: float, others: np.ndarray) -> Outlier | None:
    """An outlier where the score falls out of the others'."""
    usual = float(np.median(others))
    spread = SIGMA * float(np.median(np.abs(others - usual)))
    return Outlier(entry_id, float(score), usual) if score < usual - max(GAP, SPREAD * spread) else None


def agreement(found: np.ndarray, mask: np.ndarray) -> float:
    """Dice; 1 where both are empty."""
    total = np.count_nonzero(found > 0.5) + np.count_nonzero(mask)
    return 2 * np.count_nonzero((found > 0.5) & mask) / total if total else 1.0


def case_of(info: EntryInfo) -> str:
    """The hash of an entry's case; its own id where it has none."""
    return info.provenance.case or info.id


def count_cases(infos: Iterable[EntryInfo]) -> int:
    """How many cases some entries come from."""
    return len({case_of(info) for info in infos})
