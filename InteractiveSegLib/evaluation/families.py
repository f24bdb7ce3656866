"""What every family costs on a device, beside the published way of computing it with the same weights. Prints nothing.

Each row is measured in a process of its own. load: the network and one warm-up run; first and median: wall seconds of the first
answer after that, and of the next ones; theirs: median of the published computation; peak: above what the process held before.
"""
from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..footprint import PROPAGATION
from ..models import find_family
from ..prompts import Click
from ..session import InteractiveSession
from ..weights import read_manifest
from .published import RANDOM
from .speed import Job, begin, high_water, in_fresh_process, measure, resident, wait_for

WIDTHS = (256, 256, 256, 256)  # MultiverSeg's published ones
HEART = ("LV", "myocardium", "RV")
NAN = float("nan")


@dataclass(frozen=True)
class Effort:
    """How much is measured. published: networks of the published sizes, with random weights, beside the shipped ones.

    theirs: the most examples that the published computation of MultiverSeg is asked with.
    """

    prompts: int = 30
    contexts: tuple[int, ...] = (0, 16, 64, 128)
    theirs: int = 64
    slices: int = 120
    sides: tuple[int, ...] = (256, 480)
    volume: int = 10
    cubes: tuple[int, ...] = (64, 96)
    published: bool = True


QUICK = Effort(prompts=3, contexts=(0, 2), theirs=2, slices=4, sides=(256,), volume=2, cubes=(32,))


@dataclass(frozen=True)
class Row:
    """Seconds, but for peak, MiB. per: how many things one answer is, as the slices of a propagation."""

    family: str
    step: str
    load: float = NAN
    first: float = NAN
    median: float = NAN
    p95: float = NAN
    theirs: float = NAN
    peak: float = NAN
    per: int = 1

    @property
    def start(self) -> float:
        """How many times as long as a steady answer the first one after the load took; nothing of a propagation."""
        return NAN if self.per > 1 else self.first / self.median

    @property
    def ratio(self) -> float:
        """How many times as fast as the published computation; of a propagation its first round, in which both encode."""
        return self.theirs / (self.first if self.per > 1 else self.median)


def family_rows(effort: Effort, device: str, threads: int, families: tuple[str, ...]) -> Iterator[Row]:
    """The rows of the families named, one by one."""
    there = {entry["family"] for entry in read_manifest()}
    with tempfile.TemporaryDirectory() as folder:
        for family in families:
            shipped = family == PROPAGATION or find_family(family).networks[0] in there
            sizes: list[tuple[str, Path | None]] = [("shipped", None)] if shipped else []
            if effort.published and family != "tis":
                path = RANDOM[family](Path(folder)).rename(Path(folder) / f"{family}.safetensors")
                sizes.append(("published size", path))
            for size, weights in sizes:
                for row in STEPS[family](effort, device, threads, weights):
                    yield replace(row, family=f"{family}, {size}")


def slice_rows(effort: Effort, device: str, threads: int, weights: Path | None) -> Iterator[Row]:
    yield in_fresh_process(time_prompts, "scribbleprompt", effort, device, threads, weights)
    if weights is not None:
        yield in_fresh_process(time_network, "scribbleprompt", effort, device, threads, weights)


def click_rows(effort: Effort, device: str, threads: int, weights: Path | None) -> Iterator[Row]:
    yield in_fresh_process(time_prompts, "limnet", effort, device, threads, weights)
    yield in_fresh_process(time_network, "limnet", effort, device, threads, weights)


def context_rows(effort: Effort, device: str, threads: int, weights: Path | None) -> Iterator[Row]:
    from ..weights import shipped_file

    for count in effort.contexts:
        path = shipped_file("multiverseg") if weights is None else None
        job = Job("ours", count, WIDTHS, path, device, threads, effort.prompts)
        ours = measure(job)
        theirs = measure(replace(job, how="authors")).seconds if weights is not None and count <= effort.theirs else NAN
        yield Row("", f"{count} examples", ours.encode, ours.first, ours.seconds, ours.p95, theirs,
                  ours.megabytes + ours.network)
    yield in_fresh_process(time_prompts, "multiverseg", effort, device, threads, weights, max(effort.contexts[:2]))


def propagation_rows(effort: Effort, device: str, threads: int, weights: Path | None) -> Iterator[Row]:
    for side in effort.sides:
        yield in_fresh_process(time_propagation, side, effort, device, threads, weights)


def heart_rows(effort: Effort, device: str, threads: int, weights: Path | None) -> Iterator[Row]:
    yield from in_fresh_process(time_hearts, effort, device, threads, weights)


def volume_rows(effort: Effort, device: str, threads: int, weights: Path | None) -> Iterator[Row]:
    from .refinement_cost import time_clicks

    for side in effort.cubes:
        automatic, first, median, p95, _, peak = in_fresh_process(time_clicks, side, threads, device, weights)
        yield Row("", f"click in {side}³", automatic, first, median, p95, NAN, peak)


STEPS: dict[str, Callable[..., Iterator[Row]]] = {
    "scribbleprompt": slice_rows, "multiverseg": context_rows, "limnet": click_rows, PROPAGATION: propagation_rows,
    "verse": heart_rows, "tis": volume_rows,
}


def seconds(action: Callable, *arguments) -> float:
    """Wall seconds of a call that ends with its result in the computer's own memory."""
    start = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - start


def timed(action: Callable[[], object], count: int) -> tuple[float, float, float]:
    """First, median and 95th percentile of the others."""
    taken = [seconds(action) for _ in range(count + 1)]
    return taken[0], float(np.median(taken[1:])), float(np.percentile(taken[1:], 95))


def time_prompts(family: str, effort: Effort, device: str, threads: int, weights: Path | None, examples: int = 0) -> Row:
    """Clicks in a session on a made slice of 512 x 512, with so many examples that are always used."""
    from ..context import ContextSet
    from .made import made_slice

    begin(device, threads)
    image, clicks = made_slice(512)
    context = ContextSet() if examples else None
    for n in range(examples):
        context.add(np.roll(image, n, axis=0), np.roll(image > image.mean(), n, axis=0))
    held = resident(device)
    session = InteractiveSession(image, model=family, device=device, weights=weights, context=context,
                                 mode="always" if examples else None)
    load = seconds(session.warm_up)
    following = iter(clicks * (1 + effort.prompts // len(clicks)))
    figures = timed(lambda: session.add(next(following)), effort.prompts)
    step = "prompt on 512 x 512" + (f" with {examples} examples" if examples else "")
    return Row("", step, load, *figures, NAN, high_water(device) - held)


def time_network(family: str, effort: Effort, device: str, threads: int, weights: Path) -> Row:
    """One call of the network alone, ours and theirs, on the same arrays."""
    from .. import models
    from ..predictors.limnet import ClickPredictor
    from .published import plainly

    begin(device, threads)
    rng = np.random.default_rng(0)
    held = resident(device)
    load = seconds(models.load, models.FAMILIES[family].networks[0], weights, device)
    network = models.load(models.FAMILIES[family].networks[0], weights, device)
    if family == "limnet":
        size = network.config.size
        image, mask = rng.random((2, 1, 1, size, size), np.float32)
        points = np.full((1, 16, 3), -1, np.float32)
        points[0, 0] = size // 2, size // 2, 0
        predictor = ClickPredictor(network, (1.0, 1.0))
        ours = partial(predictor.ask, image[:, 0], points, mask[:, 0])
        theirs = partial(plainly, network, device, image, points, mask)
    else:
        maps = rng.random((1, 5, network.size, network.size), np.float32)
        ours = partial(network.predict, maps[:, 0], maps[:, 1:4], maps[:, 4])
        theirs = partial(plainly, network.network, device, maps)
    figures = timed(ours, effort.prompts)
    peak = high_water(device) - held
    return Row("", "network alone", load, *figures, timed(theirs, effort.prompts)[1], peak)


def time_propagation(side: int, effort: Effort, device: str, threads: int, weights: Path | None) -> Row:
    """Two rounds from the first of many slices; `first` is the first round, `median` the second, which encodes nothing."""
    from ..device import half_precision
    from ..plan import PLANS
    from ..propagation import Propagator
    from .published import xmem_slices
    from .volumes.speed import made_volume

    begin(device, threads)
    image, mask = made_volume(effort.slices, side)
    held = resident(device)
    start = time.perf_counter()
    carrier = Propagator(image, 0, (1.0, 1.0, 1.0), replace(PLANS[device.split(":")[0]], device=device), weights=weights,
                         patience=effort.slices)
    warm = min(effort.slices, 12)
    for _ in carrier.carry({0: mask[None]}, range(warm), {}):
        pass
    wait_for(device)
    load = time.perf_counter() - start
    carrier.look(None)
    rounds = [seconds(lambda: [*carrier.carry({0: mask[None]}, range(effort.slices), {})]) for _ in range(2)]
    peak, theirs = high_water(device) - held, NAN
    if weights is not None:
        seen = np.stack([carrier.on_canvas(n)[0].cpu().numpy() for n in range(effort.slices)])
        given = carrier.canvas.shrink(mask) > 0.5
        xmem_slices(carrier.network, seen[:warm], given, device, half_precision(device))
        theirs = seconds(xmem_slices, carrier.network, seen, given, device, half_precision(device))
    return Row("", f"{effort.slices} slices of {side} x {side}", load, *rounds, NAN, theirs, peak, per=effort.slices)


def time_hearts(effort: Effort, device: str, threads: int, weights: Path | None) -> list[Row]:
    """The first click in a slice, the second, and every slice of a volume by name."""
    from .. import models
    from ..models.verse.queries import pad_clicks
    from .heart_speed import SPACING, made_heart
    from .published import plainly

    begin(device, threads)
    image = made_heart()[:effort.volume]
    held = resident(device)
    load, firsts, seconds_, wholes = 0.0, [], [], []
    for n in range(max(2, min(effort.prompts, len(image)))):
        session = InteractiveSession(image, SPACING, model="verse", mode="click", targets=("LV",), weights=weights, device=device)
        warm = seconds(session.warm_up)
        load = load or warm
        place = n % len(image)
        firsts.append(seconds(session.add, Click((place, 130, 120))))
        seconds_.append(seconds(session.add, Click((place, 140, 128))))
    for _ in range(2):
        session = InteractiveSession(image, SPACING, model="verse", mode="auto", targets=HEART, weights=weights, device=device)
        session.warm_up()
        wholes.append(seconds(session.predict))
    peak, theirs = high_water(device) - held, NAN
    if weights is not None:
        network = models.load("verse", weights, device)
        size = network.config.size
        shown, drawn = np.zeros((1, 1, size, size), np.float32), np.zeros((1, 3, size, size), np.float32)
        clicks = tuple(pad_clicks([[(9.0, 9.0)]], sign).to(device) for sign in (True, False))
        theirs = timed(lambda: plainly(lambda *x: network(*x, clicks=clicks), device, shown, drawn), effort.prompts)[1]
    return [
        Row("", "first click in a slice", load, firsts[0], float(np.median(firsts[1:])), float(np.percentile(firsts[1:], 95)),
            theirs, peak),
        Row("", "second click", NAN, seconds_[0], float(np.median(seconds_[1:])), float(np.percentile(seconds_[1:], 95)), theirs),
        Row("", f"{len(image)} slices, {len(HEART)} structures by name", NAN, wholes[0], wholes[1]),
    ]
