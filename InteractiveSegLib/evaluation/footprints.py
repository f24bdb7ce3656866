"""The estimate of memory beside what was then taken, each family in a process of its own. Prints nothing."""
from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..footprint import MIB, PROPAGATION, needed, tis_voxels
from ..models import find_family
from ..plan import PLANS
from ..prompts import Box, Click
from ..session import InteractiveSession
from .published import RANDOM
from .speed import begin, high_water, in_fresh_process, reserved, resident


@dataclass(frozen=True)
class Case:
    """One session: a family, or "propagation", an image's shape, examples, targets. slices: that one prompt touches.

    published: random weights of the published size instead of the shipped ones. spacing: of voxels, mm.
    """

    family: str
    shape: tuple[int, ...]
    examples: int = 0
    targets: tuple[str, ...] | None = None
    slices: int = 1
    published: bool = False
    spacing: float = 1.0

    @property
    def title(self) -> str:
        size = " x ".join(map(str, self.shape)) + (f" at {self.spacing:g} mm" if self.family == "tis" else "")
        parts = [self.family + (", published size" if self.published else ""), size]
        parts += [f"{self.examples} examples"] * (self.family == "multiverseg")
        parts += [f"{self.slices} slices at once"] * (self.slices > 1)
        return ", ".join(parts + [f"{len(self.targets or ())} targets"] * bool(self.targets))


def cases(published: bool, large: bool, quick: bool = False) -> Iterator[Case]:
    """What is measured. large: also what takes minutes on a CPU; quick: one case."""
    if quick:
        yield from () if published else (Case("scribbleprompt", (64, 64)),)
        return
    yield Case("scribbleprompt", (512, 512), published=published)
    yield Case("scribbleprompt", (16, 256, 256), slices=16, published=published)
    for count in (0, 4, 16, 64) if large else (0, 4) if published else (0, 4, 16):
        yield Case("multiverseg", (256, 256), count, published=published)
    for slices in (1, 10) if large or not published else (1,):
        yield Case("verse", (slices, 256, 256), targets=("LV", "myocardium", "RV"), published=published)
    for slices in (12, 120) if large or not published else (4,):
        yield Case(PROPAGATION, (slices, 480, 480), published=published)
    if published:
        yield Case("limnet", (400, 400), published=True)
    else:
        for side, spacing in ((48, 1.0), (96, 1.0), (128, 0.5)):
            yield Case("tis", (side,) * 3, targets=("anterior", "posterior"), spacing=spacing)


def measure_case(case: Case, device: str, threads: int) -> tuple[float, float, float]:
    """(estimate, what a fresh process took, what torch reserved of a graphics card for it), MiB."""
    with tempfile.TemporaryDirectory() as folder:
        weights = RANDOM[case.family](Path(folder)) if case.published else None
        asked = case.slices * len(case.targets or "x") * (case.shape[0] if case.family == "verse" else 1)
        plan = PLANS[device.split(":")[0]]
        seen = tis_voxels(case.shape, (case.spacing,) * 3, case.targets or ()) if case.family == "tis" else None
        estimate = needed(case.family, plan, case.shape, case.examples, asked, weights, seen) / MIB
        return estimate, *in_fresh_process(run_case, case, weights, device, threads)


def run_case(case: Case, weights: Path | None, device: str, threads: int) -> tuple[float, float]:
    """What the session takes at most above what the process held before a network was loaded, and `speed.reserved`, MiB."""
    from ..predictors import PREDICTORS

    begin(device, threads)
    ask = question(case, weights, device)
    for name in set(PREDICTORS.values()) if case.family == PROPAGATION else {PREDICTORS[find_family(case.family).name]}:
        importlib.import_module(f"..predictors.{name.split(':')[0]}", __package__)
    importlib.import_module("..propagation", __package__)
    held = resident(device)
    ask()
    return high_water(device) - held, reserved(device) if device.startswith("cuda") else float("nan")


def question(case: Case, weights: Path | None, device: str) -> Callable[[], object]:
    """A session on a made image, and what is asked of it, as a function."""
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.3, case.shape).astype(np.float32)
    middle = tuple(slice(n // 4, n - n // 4) for n in case.shape[-2:])
    image[(..., *middle)] += 1
    family = "scribbleprompt" if case.family == PROPAGATION else case.family
    options = {"weights": weights} if case.family != PROPAGATION else {}
    context = None
    if case.family == "multiverseg":
        from ..context import ContextSet

        context = ContextSet()
        for _ in range(case.examples):
            context.add(image + rng.normal(0, 0.1, case.shape), image > 0.5)
    session = InteractiveSession(image, (case.spacing,) * image.ndim, model=family, device=device, targets=case.targets,
                                 context=context, **options)
    centre = tuple(n // 2 for n in case.shape)
    if case.family == PROPAGATION:
        session.set_mask(np.where(np.arange(len(image))[:, None, None] == 0, image > 0.5, False))
        return lambda: [*session.propagate(from_slice=0, weights=weights)]
    if case.slices > 1:
        return lambda: session.add(Box((0, 64, 64), (case.slices, 128, 128)))
    if case.family == "tis":
        whole = np.pad(np.ones([n - 12 for n in case.shape], np.uint8), 6)
        return lambda: (session.predict(), session.set_labels(whole), session.add(Click(centre, label=session.targets[0])))
    label = session.targets[0] if case.targets else None
    first = session.predict if case.family == "verse" or case.examples else session.warm_up
    clicks = Click(centre, label=label), Click(tuple(n - 3 if n > 3 else n for n in centre), label=label)
    return lambda: (first(), *map(session.add, clicks))
