"""Before a network is loaded: on which device it will run, and how much of everything at a time, so that the memory suffices."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .device import GONE, available_devices, choose_device, device_errors, device_failure, free_memory, lose
from .footprint import MEASURED, PROPAGATION, needed, tis_voxels
from .models import FamilySpec
from .types import InteractiveSegError, counted

GIB = 2**30
LEAST_FREE = 0.9  # of the free memory may be filled
MOST_EXAMPLES = 256


@dataclass(frozen=True)
class Plan:
    """How much of everything is on a device at a time. `sentence` says it to the user.

    batch: slices that a network sees at once. chunk: examples at once. again: make the examples' largest maps twice instead of
    keeping them. kept: bytes of encoded slices that propagation keeps. looks: encoded slices that VerSe keeps. These change
    how long an answer takes and never the answer; the other two change it a little. examples: the most that a prediction uses.
    crop: tokens in which TIS corrects a crop.
    """

    device: str = "cpu"
    batch: int = 16
    chunk: int = 4
    again: bool = False
    kept: int = 2 * GIB
    looks: int = 64
    examples: int = 16
    crop: int = 64**3
    sentence: str = ""

    def smaller(self) -> Plan:
        """Less at a time: slower, in less memory."""
        kept, looks, crop = self.kept // 16, max(1, self.looks // 16), self.crop // 8
        return replace(self, batch=1, chunk=1, again=True, kept=kept, looks=looks, crop=crop)

    def fewer(self) -> Plan:
        """With a quarter of the examples."""
        return replace(self, examples=max(1, self.examples // 4))


# On a graphics card kernels wait for work: more at a time. MultiverSeg was trained with up to 64 examples.
PLANS = {
    "cpu": Plan(),
    "mps": Plan("mps", examples=64),
    "cuda": Plan("cuda", chunk=16, kept=3 * GIB // 2, examples=64),
}


def make_plan(
    family: FamilySpec, shape: tuple[int, ...], device: str = "auto", examples: int = 0, targets: Sequence[str] = ("object",),
    weights: Path | None = None, spacing: tuple[float, ...] | None = None, most: int | None = None,
) -> Plan:
    """The largest plan that fits, on the first device where one does; a device asked for by name is tried before the CPU.

    shape: of the image. examples: in the context. targets: their names. weights: a file instead of the shipped ones. spacing: of
    the image, mm in array order. most: examples that a prediction may use, instead of the device's own number. Raises
    InteractiveSegError when the memory of no device suffices.
    """
    first = choose_device(device)
    asked = len(targets) * (shape[0] if family.sweeps and len(shape) == 3 else 1)
    seen = tis_voxels(shape, spacing, tuple(targets), weights) if family.name == "tis" and spacing else None
    kinds = available_devices()
    for kind in (first, *kinds[kinds.index(first.split(":")[0]) + 1:]):
        try:
            free = free_memory(kind)
        except device_errors() as error:  # it was there when the program began
            if not device_failure(error):
                raise
            if device_failure(error) == GONE:
                lose(kind)
            continue
        whole = PLANS[kind.split(":")[0]]
        for plan in ladder(replace(whole, device=kind, examples=most or whole.examples)):
            need = needed(family.name, plan, shape, examples, asked, weights, seen)
            if free is None or need <= LEAST_FREE * free:
                return replace(plan, sentence=sentence(family, plan, need, free, examples))
    raise InteractiveSegError(
        f"{family.title} needs about {gigabytes(need)} GB and {gigabytes(free)} GB are free on {kind}: close other programs, "
        "crop the volume, or choose another model or device."
    )


def check_most(examples: int | None) -> int | None:
    """The most examples that a prediction may use, or one sentence."""
    if examples is not None and (type(examples) is not int or not 1 <= examples <= MOST_EXAMPLES):
        raise InteractiveSegError(f"Got {examples!r} examples, expected 1 to {MOST_EXAMPLES}: for none, leave the context out or "
                                  "choose another model.")
    return examples


def propagation_plan(plan: Plan, shape: tuple[int, ...], weights: Path | None = None) -> Plan:
    """The session's plan, or a smaller one that leaves room for LIM-Net's memory too."""
    free = free_memory(plan.device)
    for smaller in ladder(plan):
        if free is None or needed(PROPAGATION, smaller, shape, weights=weights) <= LEAST_FREE * free:
            break
    return smaller


def ladder(plan: Plan) -> Iterator[Plan]:
    """The plan, then ever smaller ones."""
    yield plan
    yield (plan := plan.smaller())
    yield (plan := plan.fewer())
    yield plan.fewer()


def sentence(family: FamilySpec, plan: Plan, need: float, free: float | None, examples: int) -> str:
    """Such as "MultiverSeg on cpu: about 0.4 GB with 16 of 20 examples; 3.1 GB free"; it says where no GB was measured yet."""
    used = min(examples, plan.examples)
    with_examples = "" if not examples else f" with {f'{used} of ' * (used < examples)}{counted(examples, 'example')}"
    reckoned = "" if plan.device in MEASURED else ", reckoned and not yet measured there"
    return f"{family.title} on {plan.device}: about {gigabytes(need)} GB{with_examples}{reckoned}" + (
        f"; {gigabytes(free)} GB free" if free is not None else "")


def gigabytes(count: float) -> str:
    return f"{max(count / 1e9, 0.1):.1f}"
