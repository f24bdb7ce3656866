"""LIM-Net's protocol: round after round the robot user clicks once, on the slice with the largest error. Makes rows, no tables.

Paper, section 3.3: six rounds, as Mem3D. A round's click is answered on its slice, then the volume is made anew.
"""
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ...models.tis import TARGETS
from ...robot_rounds import next_click, play
from ...session import InteractiveSession
from ..cardiac import NAMES
from ..metrics import dice
from .items import Volume
from .peers import fill_between, grow_from_seeds

ROUNDS = 6
WORSE = 0.005  # a round whose Dice is lower than the last one's by more has made the volume worse


class Method(Protocol):
    """Segments a volume in rounds: yields the mask, bool (k, j, i), after each. The truth is the robot user's knowledge."""

    name: str

    def knows(self, volume: Volume) -> bool:
        """Whether the method is for such objects."""
        return True

    def rounds(self, volume: Volume) -> Iterator[np.ndarray]: ...


class Propagating(Method):
    """A session whose clicked slices are carried through the volume. fuse: see InteractiveSession.propagate."""

    def __init__(
        self, name: str, model: str = "limnet", fuse: bool | None = None, device: str = "auto",
        weights: Path | None = None, memory: Path | None = None,
    ) -> None:
        self.name, self.fuse, self.memory = name, fuse, memory
        self._options = {"model": model, "device": device, "weights": weights}

    def rounds(self, volume: Volume) -> Iterator[np.ndarray]:
        session = InteractiveSession(volume.image, spacing=volume.spacing, axis="K", **self._options)
        yield from play(session, volume.truth, self.fuse, self.memory)


class Naming(Method):
    """VerSe by name on all slices, corrected by clicks; each click is carried on, or answers for its slice alone."""

    def __init__(self, name: str, carries: bool, device: str = "auto", memory: Path | None = None) -> None:
        self.name, self.carries, self.memory = name, carries, memory
        self._options = {"model": "verse", "mode": "auto+click", "device": device}

    def knows(self, volume: Volume) -> bool:
        return volume.label in NAMES

    def rounds(self, volume: Volume) -> Iterator[np.ndarray]:
        session = InteractiveSession(volume.image, spacing=volume.spacing, axis="K", targets=(NAMES[volume.label],),
                                     **self._options)
        session.predict()
        if self.carries:
            yield from play(session, volume.truth, memory=self.memory)
            return
        yield from clicked(session, volume)


class Refining(Method):
    """TIS's automatic result of all classes it knows beside this one, corrected by clicks on this one."""

    def __init__(self, name: str, device: str = "auto") -> None:
        self.name, self._options = name, {"model": "tis", "device": device}

    def knows(self, volume: Volume) -> bool:
        return any(volume.label in targets for targets in TARGETS.values())

    def rounds(self, volume: Volume) -> Iterator[np.ndarray]:
        targets = next(targets for targets in TARGETS.values() if volume.label in targets)
        session = InteractiveSession(volume.image, spacing=volume.spacing, targets=targets, **self._options)
        session.predict()
        yield from clicked(session, volume)


def clicked(session: InteractiveSession, volume: Volume) -> Iterator[np.ndarray]:
    """The mask of the one target, or of that of the volume's label, after each click on it."""
    rng = np.random.default_rng(0)
    target = volume.label if volume.label in session.targets else session.targets[0]
    while (click := next_click(volume.truth, session.mask_of(target), rng)) is not None:
        session.add(replace(click, label=target))
        yield session.mask_of(target)


class Interpolating(Method):
    """The same click network, without propagation: what it finds on clicked slices, and Fill between slices in between."""

    def __init__(self, name: str, model: str = "limnet", device: str = "auto", weights: Path | None = None) -> None:
        self.name = name
        self._options = {"model": model, "device": device, "weights": weights}

    def rounds(self, volume: Volume) -> Iterator[np.ndarray]:
        session = InteractiveSession(volume.image, spacing=volume.spacing, axis="K", **self._options)
        rng, mask = np.random.default_rng(0), np.zeros(volume.truth.shape, bool)
        while (click := next_click(volume.truth, mask, rng)) is not None:
            if not session.mask[click.position[0]].any() and mask[click.position[0]].any():
                start = session.mask.copy()
                start[click.position[0]] = mask[click.position[0]]  # what the user corrects is what was filled in
                session.set_mask(start)
            session.add(click)
            mask = fill_between(np.asarray(session.mask))
            yield mask.copy()


class Growing(Method):
    """Slicer's Grow from seeds in 3D from the clicks."""

    name = "grow from seeds, 3D"

    def rounds(self, volume: Volume) -> Iterator[np.ndarray]:
        rng, mask, clicks = np.random.default_rng(0), np.zeros(volume.truth.shape, bool), []
        while (click := next_click(volume.truth, mask, rng)) is not None:
            clicks.append((click.position, click.positive))
            mask = grow_from_seeds(volume.image, clicks)
            yield mask


class Contouring(Method):
    """As many slices as rounds, evenly from the object's first to its last, contoured perfectly, and Fill between slices."""

    name = "perfect contours, filled between"

    def rounds(self, volume: Volume) -> Iterator[np.ndarray]:
        shown = np.flatnonzero(volume.truth.any(axis=(1, 2)))
        for count in range(1, len(volume.truth) + 1):
            middle = [len(shown) // 2] if count == 1 else np.linspace(0, len(shown) - 1, count).round().astype(int)
            contoured = np.zeros(volume.truth.shape, bool)
            contoured[shown[middle]] = volume.truth[shown[middle]]
            yield fill_between(contoured)


def evaluate(methods: Sequence[Method], volumes: Sequence[Volume], rounds: int = ROUNDS) -> Iterator[dict]:
    """One row per volume and method that knows it, as soon as it is there: dice_1 ... dice_N, held where all was right earlier.

    seconds: wall time per round. worse: rounds after which Dice was lower by more than WORSE.
    """
    for volume in volumes:
        for method in methods:
            if not method.knows(volume):
                continue
            curve: list[float] = []
            begin = time.perf_counter()
            for mask, _ in zip(method.rounds(volume), range(rounds)):
                curve.append(dice(np.asarray(mask), volume.truth))
            seconds = (time.perf_counter() - begin) / max(len(curve), 1)
            curve += [curve[-1] if curve else 1.0] * (rounds - len(curve))
            row = {"task": volume.task, "pack": volume.pack, "subject": volume.subject, "source": volume.source,
                   "method": method.name, "slices": len(volume.truth), "seconds": round(seconds, 3),
                   "worse": int((np.diff(curve) < -WORSE).sum())}
            yield {**row, **{f"dice_{n}": round(value, 4) for n, value in enumerate(curve, start=1)}}
