"""Several targets in one label map: which of them a prompt speaks to, and which one a contested pixel belongs to."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .prompts import Click, Prompt, Scribble
from .rasterise import drawn_mask
from .terminology import find_name
from .types import InteractiveSegError

BACKGROUND = "background"
LIMIT = 255  # labels that fit into uint8


def check_targets(targets: Sequence[str], known: Sequence[str], title: str, likely: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the targets, each once, or one sentence. known: all that the family has, none where it takes any.

    Known ones, and `likely` ones of a family that takes any, may be said in any case or by the titles of segments.
    """
    if isinstance(targets, str):
        raise InteractiveSegError(f"Got the targets {targets!r}, expected a list of names: write [{targets!r}].")
    names = tuple(find_name(n, known or likely) or n if isinstance(n, str) else n for n in targets)
    if not names or len(set(names)) < len(names) or len(names) > LIMIT or not all(isinstance(n, str) and n for n in names):
        raise InteractiveSegError(f"Got the targets {names}, expected 1 to {LIMIT} different names: correct the list.")
    if BACKGROUND in names:
        raise InteractiveSegError('"background" is what lies outside of every target: leave it out of the targets.')
    unknown = [name for name in names if known and name not in known]
    if unknown:
        raise InteractiveSegError(f"{title} does not know {', '.join(unknown)}: choose among {', '.join(known)}.")
    return names


def check_labels(labels: np.ndarray, shape: tuple[int, ...], count: int) -> np.ndarray:
    """A label map of an image with so many targets in uint8, or one sentence. None of its values may be lost by that."""
    labels = np.asarray(labels)
    if labels.shape != shape:
        raise InteractiveSegError(f"Got labels of shape {labels.shape}, expected the image's {shape}: resample them.")
    if labels.dtype.kind not in "biuf" or (labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels))):
        raise InteractiveSegError(f"Got labels of type {labels.dtype} that are not whole numbers, expected 0 to {count}: round "
                                  "them first.")
    if labels.min() < 0 or labels.max() > count:
        raise InteractiveSegError(f"Got labels from {labels.min()} to {labels.max()}, expected 0 to {count}: name more targets.")
    return labels.astype(np.uint8)


def find_target(said: str | None, targets: tuple[str, ...]) -> str | None:
    """Which of the targets is meant: by its name, else by its title or in another case; None where no one."""
    return said if said in targets or said is None else find_name(said, targets)


def find_label(prompt: Prompt, targets: tuple[str, ...]) -> int:
    """The label that the prompt speaks of: 0 for the background, n for targets[n - 1]."""
    if prompt.label is None and len(targets) == 1:
        return 1
    if prompt.label == BACKGROUND:
        return 0
    target = find_target(prompt.label, targets)
    if target is None:
        got = "no label" if prompt.label is None else f"the label {prompt.label!r}"
        raise InteractiveSegError(f"Got a prompt with {got}: give label= one of {', '.join(targets)} or background.")
    return targets.index(target) + 1


def addressed(prompt: Prompt, label: int, labels: np.ndarray) -> dict[int, Prompt]:
    """The prompt as each target of a slice hears it. labels: uint8 (rows, columns), the slice now.

    What belongs to one target does not belong to the others that hold it; what is background belongs to none.
    """
    heard = {label: prompt} if label else {}
    removes = label == 0 or (isinstance(prompt, (Click, Scribble)) and prompt.positive)
    if removes and hasattr(prompt, "positive"):
        under = set(np.unique(labels[drawn_mask(prompt, labels.shape)]).tolist()) - {0, label}
        heard.update((other, replace(prompt, positive=False)) for other in under)
    return heard


def merged(labels: np.ndarray, answers: dict[int, np.ndarray], known: dict[int, np.ndarray]) -> np.ndarray:
    """A slice's labels after some targets were predicted anew: uint8 (rows, columns).

    labels: as they were; answers: logits of the targets predicted now; known: logits behind what other targets hold. Where two
    claim a pixel the larger logit has it; what another target holds without logits, as after an edit by hand, stays its own.
    """
    new = np.where(np.isin(labels, list(answers)), np.uint8(0), labels)
    best = np.where(new > 0, np.float32(np.inf), np.float32(0))
    for label, logits in known.items():
        best = np.where(new == label, logits, best)
    for label, logits in sorted(answers.items()):
        wins = logits > best
        new[wins] = label
        best = np.where(wins, logits, best)
    return new
