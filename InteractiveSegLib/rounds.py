"""A round: a session's masks carried through the volume from the slices that the user spoke to, fused with the round before.

It knows label maps, targets and prompted slices; how masks are carried is propagation.py. Imports torch when a round begins.
"""
from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

import numpy as np

from .geometry import resolve_axis
from .types import InteractiveSegError
from .weights import is_shipped

if TYPE_CHECKING:
    from .propagation import Found, Propagator
    from .session import InteractiveSession

Slices = Optional[Union[int, Iterable[int]]]
Known = tuple[frozenset[int], ...]  # per target, slices whose mask is the user's
Answers = Mapping[tuple[int, int], np.ndarray]  # (label, slice) -> logits (rows, columns) of the model, to no prompt
NEAR = 0.6  # weight of what was carried beside such an answer on the slice next to a known one
FADING = 0.5  # by which that weight shrinks with each slice further on
LEAST_DOUBT = 0.02  # probability that what was carried is wrong
SUREST = 4.0  # logit of an answer, at most


@dataclass(frozen=True, eq=False)
class Progress:
    """A slice that was just reached. index: along the axis; done of at most total; labels: uint8 (rows, columns) so far."""

    index: int
    done: int
    total: int
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Rounds:
    """Where the masks of a volume come from.

    axis: the array axis of the last round. count: how many rounds there were. source: (targets, slices), the round whose
    result is there now, 0 where none is. known: per target the slices that the user spoke to, which no round replaces.
    sums: (slices,), of the labels when the round ended, by which later edits are found.
    """

    axis: int
    count: int
    source: np.ndarray
    known: Known
    sums: np.ndarray


def checksums(stack: np.ndarray) -> np.ndarray:
    """A number per slice of (slices, rows, columns) that changes with its labels."""
    return np.array([zlib.crc32(np.ascontiguousarray(labels)) for labels in stack], np.uint32)


def spoken_to(session: InteractiveSession, states: Mapping, axis: int) -> Known:
    """Per target, the slices along an axis whose mask is the user's: prompted, or edited since the last round or answer.

    Where there are none and no round was made, every slice that shows the target, other than by an answer of the model, is taken
    to be the user's.
    """
    stack = np.moveaxis(session.labels, axis, 0)
    rounds = session.rounds if session.rounds is not None and session.rounds.axis == axis else None
    edited = set(np.flatnonzero(checksums(stack) != rounds.sums).tolist()) if rounds else set()
    known = []
    for label in range(1, len(session.targets) + 1):
        said = answered(session, states, axis, label)
        own = {index for (a, index, of), state in states.items() if a == axis and of == label and state.prompts}
        shown = set(np.flatnonzero((stack == label).any(axis=(1, 2))).tolist())
        if rounds:
            own |= rounds.known[label - 1] | ((edited if len(session.targets) == 1 else edited & shown) - said)
        elif session.rounds is None:
            own |= {key[1] for key, state in states.items() if (key[0], key[2]) == (axis, label) and state.logits is not None
                    and not session.is_current(key, state)}
        known.append(frozenset(own if own or rounds else shown - said))
    return tuple(known)


def answered(session: InteractiveSession, states: Mapping, axis: int, label: int) -> frozenset[int]:
    """The slices along an axis whose mask of a target is what the model answered to no prompt."""
    return frozenset(key[1] for key, state in states.items()
                     if (key[0], key[2]) == (axis, label) and not state.prompts and session.is_current(key, state))


def carried_before(labels: np.ndarray, axis: int, known: Known) -> Rounds:
    """Of labels (k, j, i) that were kept elsewhere: the round that filled all slices but these."""
    stack = np.moveaxis(labels, axis, 0)
    return Rounds(axis, 1, np.ones((len(known), len(stack)), int), known, checksums(stack))


def unasked(states: Mapping, axis: int) -> Answers:
    """What the model itself answered for slices along an axis that nobody spoke to."""
    return {(label, index): state.logits for (a, index, label), state in states.items()
            if a == axis and state.logits is not None and not state.prompts}


def check_slices(slices: Slices, known: Known, said: Known, stack: np.ndarray) -> Known:
    """Per target, the slices to start from: those asked for, or all that the user spoke to; or one sentence.

    said: per target, those that the model answered for: it may say that nothing is there.
    """
    if slices is None:
        start = tuple(own or shown_on(stack, label) for label, own in enumerate(known, start=1))
    else:
        asked = frozenset([slices] if isinstance(slices, (int, np.integer)) else slices)
        outside = [index for index in asked if not 0 <= index < len(stack)]
        if outside:
            there = f"slices 0 to {len(stack) - 1}"
            raise InteractiveSegError(f"Got from_slice {outside[0]}, but there are {there}: choose among them.")
        start = tuple(asked & (own | said[label - 1] | shown_on(stack, label)) for label, own in enumerate(known, start=1))
    if not any(index in shown_on(stack, label) for label, own in enumerate(start, start=1) for index in own):
        where = "any slice" if slices is None else f"slice {slices}"
        raise InteractiveSegError(f"There is no mask on {where} to carry to the others: segment the object on one slice first.")
    return start


def shown_on(stack: np.ndarray, label: int) -> frozenset[int]:
    """The slices that show a label."""
    return frozenset(np.flatnonzero((stack == label).any(axis=(1, 2))).tolist())


def check_extent(extent: tuple[int, int] | int | None, start: Known, count: int) -> range:
    """The slices to fill, or one sentence. extent: [first, stop), or so many beyond the known ones, or None for all."""
    starts = sorted(set().union(*start))
    if isinstance(extent, (int, np.integer)):
        extent = (max(0, starts[0] - max(0, extent)), min(count, starts[-1] + max(0, extent) + 1))
    low, high = (0, count) if extent is None else (int(v) for v in extent)
    if not 0 <= low < high <= count or not starts[0] >= low or not starts[-1] < high:
        raise InteractiveSegError(
            f"Got the extent {low} to {high} of {count} slices and masks on {starts}: give (first, stop) that holds them all."
        )
    return range(low, high)


def propagated(
    session: InteractiveSession, states: Mapping, propagators: dict[tuple, Propagator], from_slice: Slices = None,
    axis: int | str | None = None, extent: tuple[int, int] | int | None = None, fuse: bool | None = None,
    weights: str | Path | None = None,
) -> Generator[Progress, None, tuple[np.ndarray, Rounds]]:
    """Carry a session's masks through its volume. Yields a Progress per slice; returns new labels, the image's shape.

    states: the session's slices with prompts; propagators: kept by the session. from_slice: where to start, one or several,
    by default all slices that the user spoke to: those stay as they are. axis: along which, by default the working axis.
    extent: [first, stop) of the slices to fill, or how many beyond the known ones, by default all. fuse: let the quality
    network keep the masks of the round before where they are better; by default if its weights are shipped. weights: a file of
    XMem's weights instead of the shipped ones. The session's masks are not changed. When the device fails the round begins again
    with a smaller plan, see predictors.fallback.
    """
    from .device import device_errors, device_failure
    from .plan import propagation_plan
    from .propagation import Propagator

    if session.image.ndim == 2:
        raise InteractiveSegError("A picture has no other slices to carry a mask to: give a volume.")
    if session.family.volumetric:
        raise InteractiveSegError(f"{session.family.title} answers for the whole volume at once: there is nothing to carry.")
    weights = Path(weights) if weights is not None else None
    axis = session.axis if axis is None else resolve_axis(axis, 3, session.placement.affine)
    stack = np.moveaxis(session.labels, axis, 0)
    known = spoken_to(session, states, axis)
    said = tuple(answered(session, states, axis, label) for label in range(1, len(known) + 1))
    start = check_slices(from_slice, known, said, stack)
    stays = tuple(own | given for own, given in zip(known, start))
    extent = check_extent(extent, start, len(stack))
    answers = unasked(states, axis) if session.family.sweeps else {}
    fusing = is_shipped("limnet-fusion") if fuse is None else fuse
    while True:
        try:
            if (axis, weights) not in propagators:
                plan = propagation_plan(session.plan, session.shape, weights)
                place = session.image, axis, session.placement.spacing
                propagators[axis, weights] = Propagator(*place, plan, session.window, weights)
            carried = yield from next_round(session, propagators[axis, weights], axis, stays, start, extent, answers, fusing)
            return carried[0], replace(carried[1], known=known)
        except device_errors() as error:
            failure = device_failure(error)
            if not failure:
                raise
        session.retreat(failure)


def carry_all(
    propagator: Propagator, before: np.ndarray, known: Known, start: Known, extent: range, answers: Answers,
    found: dict[int, Found]
) -> Iterator[Progress]:
    """Fill `found`, label -> what was carried, and yield a Progress per slice.

    Targets that start from the same slices are carried together, others one after the other.
    """
    groups: dict[frozenset[int], list[int]] = {}
    for label, slices in enumerate(start, start=1):
        if slices & shown_on(before, label):
            groups.setdefault(slices, []).append(label)
    total = sum(extent.stop - min(slices) + max(slices) - extent.start for slices in groups)
    done = 0
    for slices, labels in groups.items():
        masks = {index: np.stack([before[index] == label for label in labels]) for index in sorted(slices)}
        carried: Found = {}
        for index in propagator.carry(masks, extent, carried):
            done += 1
            for n, label in enumerate(labels):
                found[label] = {i: shares[n] for i, shares in carried.items()}
            yield Progress(index, done, max(done, total), settled(found, index, before[index], known, answers))


def weighed(carried: np.ndarray, answer: np.ndarray, distance: int) -> np.ndarray:
    """Probability, float32 (rows, columns), by what was carried over `distance` slices and the model's own answer, as logits.

    Ours: an answer by name sees the slice, a carried mask what the user said elsewhere, the less the farther it is.
    """
    share = NEAR * FADING ** (distance - 1)
    odds = np.clip(carried, LEAST_DOUBT, 1 - LEAST_DOUBT)
    odds = np.log(odds / (1 - odds))
    return 1 / (1 + np.exp(-share * odds - (1 - share) * np.clip(answer, -SUREST, SUREST)))


def settled(found: dict[int, Found], index: int, before: np.ndarray, known: Known, answers: Answers) -> np.ndarray:
    """A slice's labels, uint8 (rows, columns), after its targets were carried: each pixel goes to the likeliest.

    before: what the slice held. It stays where the user spoke to a target there, and for targets that were not carried.
    answers: weighed with what was carried.
    """
    shares = {}
    for label, slices in found.items():
        if index in known[label - 1]:
            shares[label] = (before == label).astype(np.float32)
            continue
        if index in slices:
            shares[label] = slices[index] / np.float32(255)
        if (label, index) in answers:
            carried = shares.get(label, np.zeros(before.shape, np.float32))
            shares[label] = weighed(carried, answers[label, index], min(abs(index - own) for own in known[label - 1]))
    best, winner = np.ones(before.shape, np.float32), np.zeros(before.shape, np.uint8)
    for share in shares.values():
        best *= 1 - share  # the background's own
    for label, share in shares.items():
        winner[share > best] = label
        np.maximum(best, share, out=best)
    stays = np.ones(256, bool)
    stays[[0, *found]] = False
    return np.where(stays[before], before, winner)


def fuse(propagator: Propagator, before: np.ndarray, now: np.ndarray, known: Known, labels: Iterable[int]) -> np.ndarray:
    """Give slices of `now` (slices, rows, columns) back the mask of the round before where that is better (paper, eq. 4).

    Returns which ones: bool (targets, slices). A target that the round before showed nowhere else has nothing to give back.
    """
    kept = np.zeros((len(known), len(before)), bool)
    for label in labels:
        free = [i for i in range(len(before)) if i not in known[label - 1]]
        old, new = before[free] == label, now[free] == label
        differ = (old != new).any(axis=(1, 2))
        if not old.any() or not differ.any():
            continue
        indices = np.array(free)[differ]
        better = propagator.previous_better(indices.tolist(), old[differ], new[differ]) > 0.5
        kept[label - 1, indices[better]] = True
    for label, index in np.argwhere(kept) + (1, 0):
        here = now[index]
        here[here == label] = 0
        here[(before[index] == label) & (here == 0)] = label
    return kept


def next_round(
    session: InteractiveSession, propagator: Propagator, axis: int, known: Known, start: Known, extent: range, answers: Answers,
    fusing: bool
) -> Generator[Progress, None, tuple[np.ndarray, Rounds]]:
    """Carry, then fuse with what was there before. Yields a Progress per slice; returns new labels, the image's shape.

    known: per target the slices that stay as they are; start: those of them that the others are filled from. The session
    is not changed.
    """
    before = np.moveaxis(session.labels, axis, 0)
    found: dict[int, Found] = {}
    yield from carry_all(propagator, before, known, start, extent, answers, found)
    now = before.copy()
    for index in extent:
        now[index] = settled(found, index, before[index], known, answers)
    kept = fuse(propagator, before, now, known, found) if fusing else np.zeros((len(known), len(before)), bool)
    last = session.rounds
    count = last.count + 1 if last else 1
    same = last is not None and last.axis == axis
    source = last.source.copy() if same else np.full(kept.shape, count - 1)
    changed = checksums(before) != last.sums if same else np.ones(len(before), bool)
    for label in found:
        old = [i for i in known[label - 1] if same and i in last.known[label - 1] and not changed[i]]
        taken = [i for i in extent if not kept[label - 1, i] and i not in old]
        source[label - 1, taken] = count
    return np.moveaxis(now, 0, axis), Rounds(axis, count, source, known, checksums(now))
