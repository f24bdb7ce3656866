"""The robot user drives a segmenter, our session or a peer, through the items. Makes rows, no tables."""
from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from ..prompts import Prompt
from ..robot import Robot
from ..session import InteractiveSession
from .calibration import Reliability
from .metrics import boundary_dice, dice, filled_curve, got_worse, hd95
from .tasks import Item

CAP = 20  # prompts per object, as in RITM and its followers
SHOWN = (1, 5, 10, 20)  # the numbers of prompts that are reported


class Segmenter(Protocol):
    """One 2D slice at a time: `start` it, then `add` prompts in (row, column); `add` returns the mask, bool."""

    name: str

    def start(self, image: np.ndarray, spacing: tuple[float, float] | None = None) -> None: ...

    def add(self, prompt: Prompt) -> np.ndarray: ...


class SessionSegmenter:
    """Our model as a person meets it: an InteractiveSession on each image. The network is loaded at once."""

    def __init__(self, model: str, weights: Path | None = None, device: str = "auto") -> None:
        self.name = model
        self._options = {"model": model, "weights": weights, "device": device}
        InteractiveSession(np.zeros((64, 64), np.float32), **self._options).warm_up()

    def start(self, image: np.ndarray, spacing: tuple[float, float] | None = None) -> None:
        self._session = InteractiveSession(image, spacing=spacing, **self._options)

    def add(self, prompt: Prompt) -> np.ndarray:
        self._session.add(prompt)
        return self._session.mask

    @property
    def probability(self) -> np.ndarray:
        """float32 (row, column), after the last prompt."""
        return self._session.probability


@dataclass
class Run:
    """What one robot did to one item: dice and seconds after each prompt; the rest after n prompts.

    hd95: {n: mm or pixels}. boundary: {n: Dice of the borders}.
    """

    dice: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    hd95: dict[int, float] = field(default_factory=dict)
    boundary: dict[int, float] = field(default_factory=dict)


def run_item(
    segmenter: Segmenter, item: Item, robot: Robot, cap: int = CAP, seed: int = 0, reliability: Reliability | None = None
) -> Run:
    """Prompt until the mask is the truth, or `cap` times. The robot's hand moves alike for every segmenter.

    reliability: counts the probabilities of a segmenter that has some.
    """
    rng = np.random.default_rng([seed, zlib.crc32(f"{item.task}/{item.source}/{item.slice_index}".encode())])
    run, mask = Run(), np.zeros(item.truth.shape, bool)
    segmenter.start(item.image, item.spacing)

    def measure(n: int) -> None:
        run.hd95[n] = hd95(mask, item.truth, item.spacing)
        run.boundary[n] = boundary_dice(mask, item.truth)
        if reliability is not None and hasattr(segmenter, "probability"):
            reliability.add(segmenter.name, n, segmenter.probability, item.truth)

    for n in range(1, cap + 1):
        prompt = robot.prompt(item.truth, mask, rng, first=n == 1)
        if prompt is None:  # nothing is wrong any more: Dice is 1 and stays so
            break
        begin = time.perf_counter()
        mask = segmenter.add(prompt)
        run.seconds.append(time.perf_counter() - begin)
        run.dice.append(dice(mask, item.truth))
        if n in SHOWN:
            measure(n)
    for n in SHOWN:
        if len(run.dice) < n <= cap:
            measure(n)
    return run


def evaluate(
    segmenters: Sequence[Segmenter],
    items: Sequence[Item],
    robot: Robot,
    cap: int = CAP,
    seed: int = 0,
    reliability: Reliability | None = None,
) -> Iterator[dict]:
    """One row per item and segmenter, as soon as it is known. All values are plain numbers and strings.

    dice_N: after N prompts, held where the run was perfect earlier; hd95_N, boundary_N: for N in SHOWN. prompts: how many
    were given. corrections, worse: prompts after the first, and those after which Dice fell. seconds: wall time per prompt,
    set-up excluded.
    """
    for item in items:
        for segmenter in segmenters:
            run = run_item(segmenter, item, robot, cap, seed, reliability)
            worse, corrections = got_worse(run.dice)
            row = {
                "task": item.task,
                "pack": item.pack,
                "subject": item.subject,
                "source": item.source,
                "slice": item.slice_index,
                "subsets": " ".join(item.subsets),
                "unit": "px" if item.spacing is None else "mm",
                "method": segmenter.name,
                "prompts": len(run.dice),
                "corrections": corrections,
                "worse": worse,
                "seconds": float(np.mean(run.seconds)),
            }
            row.update({f"boundary_{n}": run.boundary[n] for n in sorted(run.boundary)})
            row.update({f"hd95_{n}": run.hd95[n] for n in sorted(run.hd95)})
            row.update({f"dice_{n}": float(value) for n, value in enumerate(filled_curve(run.dice, cap), start=1)})
            yield row
