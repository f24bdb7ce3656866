"""The robot user annotates an open case against its reference. It sees the whole image and mends the worst slice first."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from ..evaluation.metrics import dice
from ..key_slices import carries
from ..robot import Robot, in_volume
from ..types import InteractiveSegError
from .case import OpenCase


def prompt_until(case: OpenCase, robot: Robot, target_dice: float, most: int, rng: np.random.Generator) -> Iterator[float]:
    """Prompt until the mask is good enough, or each slice that is wrong had `most` prompts. Yields Dice after each prompt.

    In a volume one slice is finished after the other, and carried to the others before the next, where masks can be, unless the
    case is to be done on every slice.
    """
    if case.reference is None:
        raise InteractiveSegError(f"{case.name} has no reference, which the robot user needs: add one.")
    flat, axis = case.reference.ndim == 2, case.session.axis
    carrying = not (flat or case.every_slice) and carries(case.session, case.reference.shape[axis])
    truth = case.reference[None] if flat else np.moveaxis(case.reference, axis, 0)
    given: Counter[int] = Counter()
    staying: int | None = None
    while dice(case.mask, case.reference) < target_dice:
        mask = case.mask[None] if flat else np.moveaxis(case.mask, axis, 0)
        if staying is not None and (given[staying] >= most or dice(mask[staying], truth[staying]) >= target_dice):
            staying = None
            if mask[list(given)].any():  # else there is nothing to carry
                for _ in case.propagate():
                    pass
                continue
        wrong = (mask != truth).sum(axis=(1, 2))
        wrong[[index for index, count in given.items() if count >= most]] = 0
        index = int(wrong.argmax()) if staying is None else staying
        if wrong[index] == 0:
            return
        prompt = robot.prompt(truth[index], mask[index], rng, first=given[index] == 0 and truth[index].any())
        case.add(prompt if flat else in_volume(prompt, axis, index))
        given[index] += 1
        staying = index if carrying else None
        yield dice(case.mask, case.reference)
