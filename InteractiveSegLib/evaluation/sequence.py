"""The paper's first experiment: one image after the other of a task, and how many prompts each needs. Makes rows, no tables.

Source: MultiverSeg (Wong et al. 2025), section 5.5 and appendix E: a seed image, then 18 others in random order, each
prompted until its Dice is 0.90 or the prompts are used up; what is accepted so becomes the next image's context.
"""
from __future__ import annotations

import csv
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ..prompts import Prompt
from ..robot import Robot
from ..types import InteractiveSegError
from .metrics import dice
from .tasks import Item, by_task, subjects_in_turn

GOAL = 0.90  # Dice at which an image is accepted
CAPS = {"clicks": 20, "scribbles": 10, "box": 20}  # prompts per image, the paper's for clicks and scribbles
COLUMNS = ("robot", "jitter", "method", "task", "order", "position", "pack", "subject", "source", "slice", "prompts",
           "reached", "dice_0", "dice_end", "seconds_start", "seconds_prompt")


class Annotator(Protocol):
    """Segments the images of a task in turn. `begin` forgets everything; `start` answers before any prompt, with an empty
    mask where it cannot; `accept` keeps the image and its own mask for the next ones (truth is for upper bounds alone)."""

    name: str

    def begin(self) -> None: ...

    def start(self, image: np.ndarray, spacing: tuple[float, float] | None = None) -> np.ndarray: ...

    def add(self, prompt: Prompt) -> np.ndarray: ...

    def accept(self, truth: np.ndarray) -> None: ...


def draw_order(items: Sequence[Item], images: int, order: int, seed: int = 0) -> list[Item]:
    """The seed image and up to `images` others of one task, shuffled. New subjects first, so that a context of one subject's
    slices helps with that subject only where there are fewer subjects than images."""
    rng = np.random.default_rng([seed, order, zlib.crc32(items[0].task.encode())])
    first = subjects_in_turn(items, rng)[:images + 1]
    return [items[n] for n in rng.permutation(first)]


def annotate(annotator: Annotator, sequence: Sequence[Item], robot: Robot, cap: int, seed: int = 0) -> Iterator[dict]:
    """One row per image of a sequence; position 0 is the seed image. The robot's hand moves alike for every annotator."""
    annotator.begin()
    for position, item in enumerate(sequence):
        rng = np.random.default_rng([seed, zlib.crc32(f"{item.task}/{item.source}/{item.slice_index}".encode())])
        begin = time.perf_counter()
        mask = annotator.start(item.image, item.spacing)
        started = time.perf_counter() - begin
        first = reached = dice(mask, item.truth)
        prompts = 0
        begin = time.perf_counter()
        while reached < GOAL and prompts < cap:
            mask = annotator.add(robot.prompt(item.truth, mask, rng, first=prompts == 0))
            prompts += 1
            reached = dice(mask, item.truth)
        seconds = (time.perf_counter() - begin) / prompts if prompts else 0.0
        annotator.accept(item.truth)
        yield {"position": position, "pack": item.pack, "subject": item.subject, "source": item.source,
               "slice": item.slice_index, "prompts": prompts, "reached": int(reached >= GOAL), "dice_0": round(first, 4),
               "dice_end": round(reached, 4), "seconds_start": round(started, 4), "seconds_prompt": round(seconds, 4)}


def run_sequences(annotators: Sequence[Annotator], items: Sequence[Item], robot: Robot, images: int, orders: int,
                  path: Path, seed: int = 0) -> Iterator[dict]:
    """Every annotator through every task in every order; yields each row, old or new, and keeps them all in the CSV at `path`.

    A sequence that is there in full is not run again, so an interrupted run goes on, and a later one adds methods or orders.
    """
    tasks = by_task(items)
    done = read_rows(path)
    for order in range(orders):
        for task, members in tasks.items():
            sequence = draw_order(members, images, order, seed)
            for annotator in annotators:
                key = {"robot": robot.kind, "jitter": float(robot.jitter), "method": annotator.name, "task": task, "order": order}
                rows = [row for row in done if all(row[name] == value for name, value in key.items())]
                if [(row["source"], row["slice"]) for row in rows] != [(item.source, item.slice_index) for item in sequence]:
                    rows = [{**key, **row} for row in annotate(annotator, sequence, robot, CAPS[robot.kind], seed)]
                    done = [row for row in done if any(row[name] != value for name, value in key.items())] + rows
                    write_rows(done, path)
                yield from rows


def read_rows(path: Path) -> list[dict]:
    """The rows of an earlier run, numbers as numbers; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InteractiveSegError(f"{path} holds other columns than this experiment's: give another folder with --out.")
        return [{name: value if name in ("robot", "method", "task", "pack", "subject", "source")
                 else float(value) if "." in value else int(value) for name, value in row.items()} for row in reader]


def write_rows(rows: Sequence[dict], path: Path) -> None:
    """All rows, through a second file, so that a killed run leaves a whole one."""
    beside = path.with_suffix(".part")
    with beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    beside.replace(path)
