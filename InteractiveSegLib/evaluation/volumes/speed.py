"""What a round of propagation costs: slices per second and peak memory, from a process of its own. Prints nothing."""
from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..speed import begin, high_water, in_fresh_process, resident


@dataclass(frozen=True)
class RoundsJob:
    """Two rounds through `slices` slices of size x size. weights: of XMem, None for random ones of the published size.

    limit: bytes of encoded slices, at most.
    """

    slices: int
    size: int
    weights: Path | None
    limit: int
    device: str = "cpu"
    threads: int = 1


@dataclass(frozen=True)
class RoundsCost:
    """first, second: seconds of the two rounds. megabytes: peak above what the process held with the network and the volume.
    kept: MiB of encoded slices after the rounds, of kept_slices slices. checksum: tells whether answers agree."""

    first: float
    second: float
    megabytes: float
    kept: float
    kept_slices: int
    checksum: float


def measure_rounds(job: RoundsJob) -> RoundsCost:
    """Run a job in a fresh process."""
    return in_fresh_process(run_rounds, job)


def run_rounds(job: RoundsJob) -> RoundsCost:
    """The job itself; its peak is that of the whole process."""
    from ...plan import PLANS
    from ...propagation import Propagator
    from ..published import random_xmem

    begin(job.device, job.threads)
    plan = replace(PLANS[job.device.split(":")[0]], device=job.device, kept=job.limit)
    image, mask = made_volume(job.slices, job.size)
    with tempfile.TemporaryDirectory() as folder:
        weights = job.weights or random_xmem(Path(folder))
        propagator = Propagator(image, 0, (1.0, 1.0, 1.0), plan, weights=weights, patience=job.slices)
    middle, found, seconds = job.slices // 2, {}, []
    held = resident(job.device)
    for _ in range(2):
        start = time.perf_counter()
        for _ in propagator.carry({middle: mask[None]}, range(job.slices), found):
            pass
        seconds.append(time.perf_counter() - start)
    checksum = float(np.mean([shares.mean() for shares in found.values()]))
    slices = propagator.slices
    peak = high_water(job.device) - held
    return RoundsCost(*seconds, peak, slices.nbytes / 2**20, len(slices.kept), checksum)


def made_volume(slices: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(image uint8 (slices, size, size), mask bool (size, size) of its middle slice): a large bright object with noise."""
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    rng = np.random.default_rng(0)
    inside = (rows / 0.35) ** 2 + (columns / 0.3) ** 2 < 1
    shade = 90 + 80 * inside
    image = np.stack([np.clip(shade + rng.normal(0, 10, shade.shape), 0, 255).astype(np.uint8) for _ in range(slices)])
    return image, inside
