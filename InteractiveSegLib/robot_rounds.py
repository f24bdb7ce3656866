"""The robot user in a volume, round after round: a click on the slice with the largest error, then the volume is made anew.

Source: LIM-Net, section 3.3. It knows the session; who scores or learns from the masks is not known here.
"""
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .prompts import Click
from .robot import Robot
from .session import InteractiveSession


def next_click(truth: np.ndarray, mask: np.ndarray, rng: np.random.Generator, axis: int = 0) -> Click | None:
    """A click in the middle of the largest error of the slice with most wrong pixels; None when nothing is wrong."""
    wrong = truth ^ mask
    if not wrong.any():
        return None
    index = int(np.moveaxis(wrong, axis, 0).sum(axis=(1, 2)).argmax())
    where = (slice(None),) * axis + (index,)
    click = Robot().prompt(truth[where], mask[where], rng)
    return Click((*click.position[:axis], index, *click.position[axis:]), click.positive)


def play(
    session: InteractiveSession, truth: np.ndarray, fuse: bool | None = None, memory: Path | None = None, seed: int = 0
) -> Iterator[np.ndarray]:
    """The robot user works with a session of one target until all is right, for as many rounds as are asked for.

    Yields the mask, bool (k, j, i), after each. fuse: see InteractiveSession.propagate; memory: a file of XMem's weights.
    """
    rng, clicked = np.random.default_rng(seed), []
    while True:
        click = next_click(truth, session.mask, rng, session.axis)
        if click is None:
            return
        session.add(click)
        clicked.append(click.position[session.axis])
        if np.moveaxis(session.mask, session.axis, 0)[clicked].any():  # a first click may find nothing
            for _ in session.propagate(fuse=fuse, weights=memory):
                pass
        yield session.mask.copy()
