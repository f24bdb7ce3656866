"""A volume before any prompt: a model answers on its key slices, and LIM-Net's memory carries their masks to the others.

It knows sessions and what can be done to one; how masks are carried is propagation.py.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .rounds import Progress
from .weights import is_shipped

if TYPE_CHECKING:
    from .session import InteractiveSession

STEP = 4  # slices from one key slice to the next; on dev volumes answers carried from every fourth are as good as all, or better
CHUNK = 8  # slices that are predicted before the next sign of life


def key_slices(first: int, stop: int) -> list[int]:
    """Every fourth of the slices [first, stop), from the middle of the first four on."""
    return list(range(first + STEP // 2, stop, STEP))


def carries(session: InteractiveSession, count: int) -> bool:
    """Whether the masks of some of so many slices are carried to the others, instead of each being answered or corrected by
    itself: not where the model answers for all of them at once."""
    family = session.family
    return not (family.volumetric or family.sweeps) and count >= 2 * STEP and is_shipped("limnet-memory")


def answer_volume(session: InteractiveSession, extent: tuple[int, int] | None = None, every_slice: bool = False,
                  done: Collection[int] = (), predict: Callable[[list[int]], Any] | None = None,
                  propagate: Callable[..., Iterable[Progress]] | None = None) -> Iterator[Progress]:
    """What the model says of a volume before any prompt, along the session's working axis. Yields a Progress per step.

    extent: [first, stop) of the slices, by default all. every_slice: answer on all of them, instead of on key slices from which
    the others are filled. done: slices that were answered before an interruption, where all are one by one. predict(slices) and
    propagate(from_slice=, extent=, fuse=): how the caller does both, by default as the session does.
    """
    predict, propagate = predict or session.predict, propagate or session.propagate
    picture, axis = len(session.shape) == 2, session.axis
    first, stop = (0, 1) if picture else extent or (0, session.shape[axis])
    if session.family.volumetric:
        predict([session.index])
        yield progress_of(session, session.index, 1, 1)
        return
    keys = key_slices(first, stop) if not every_slice and carries(session, stop - first) else []
    wanted = keys or list(range(first, stop))
    sweeps = session.family.sweeps  # its slices agree with each other
    left = wanted if keys or sweeps else [index for index in wanted if index not in done] or wanted
    size = len(left) if sweeps else CHUNK
    total = len(wanted) + (stop - first if keys else 0)
    for begin in range(0, len(left), size):
        chunk = left[begin:begin + size]
        predict(chunk)
        yield progress_of(session, chunk[-1], len(wanted) - len(left) + begin + len(chunk), total)
    if keys and np.moveaxis(session.labels, axis, 0)[keys].any():
        for step in propagate(from_slice=keys, extent=(first, stop), fuse=False):
            yield Progress(step.index, len(wanted) + step.done, len(wanted) + step.total, step.labels)


def progress_of(session: InteractiveSession, index: int, done: int, total: int) -> Progress:
    """A slice as it is in the session now."""
    labels = session.labels
    return Progress(index, done, total, labels if labels.ndim == 2 else np.moveaxis(labels, session.axis, 0)[index])
