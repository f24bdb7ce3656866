"""How much memory each family takes: one formula and a table of measured constants. Reading it needs no torch.

Bytes = base + asked x what a network sees at once (slices times targets, examples, or 2^20 of TIS's tokens) + kept x what stays
there (examples, VerSe's and propagation's encoded slices, or 2^20 voxels at TIS's spacing) + voxel x voxels of the image. base
holds the weights. While a file is read it is there twice, which can be more. `interactive-seg benchmark --memory` prints the
estimate beside what a fresh process then took.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .weights import read_manifest, weights_folder

if TYPE_CHECKING:
    from .plan import Plan

MIB = 2**20
PROPAGATION = "propagation"
TOKEN = 4  # voxels of one of TIS's tokens, at the least


@dataclass(frozen=True)
class Footprint:
    """Of a network whose weight file has about so many MB: base, asked and kept in MiB, voxel in bytes."""

    file: float
    base: float
    asked: float = 0.0
    kept: float = 0.0
    voxel: float = 0.0


MEASURED = ("cpu",)  # kinds of devices
LOADING = 2.0  # times the file: what is read, and the network that it goes into
UNMEASURED = (Footprint(3, 300),)  # a family that has no row yet
# Peak of a fresh process above what it held before the network was loaded: measured on a CPU with Linux, float32, and bfloat16
# for what multiplies in it where the processor can.
CPU = {
    "scribbleprompt": (Footprint(3, 27, 17.4), Footprint(16, 65, 52.5)),
    "multiverseg": (Footprint(3, 49, 3.5, 6.3), Footprint(76, 160, 101, 40)),
    "limnet": (Footprint(3, 60, 20), Footprint(124, 291, 60)),
    "verse": (Footprint(5, 105, 12, 1.2), Footprint(180, 417, 130, 22)),
    "tis": (Footprint(3, 78, 430, 152, 15),),
    PROPAGATION: (Footprint(7, 58, 0, 0.28, 4.8), Footprint(249, 344, 0, 16, 4.8)),
}
# What torch allocates on a graphics card: reckoned from the sizes of the maps, not measured yet, as the plan's sentence says.
# `benchmark --memory --device cuda` prints what to write here; then "cuda" belongs to MEASURED.
CUDA = {
    "scribbleprompt": (Footprint(3, 20, 8), Footprint(16, 30, 60)),
    "multiverseg": (Footprint(3, 25, 6, 5), Footprint(76, 100, 50, 19)),
    "limnet": (Footprint(3, 30, 20), Footprint(124, 180, 120)),
    "verse": (Footprint(5, 30, 6, 1.5), Footprint(180, 200, 60, 22)),
    "tis": (Footprint(3, 120, 430, 152, 4),),
    PROPAGATION: (Footprint(7, 40, 0, 0.28), Footprint(249, 750, 0, 16)),
}


def needed(
    family: str, plan: Plan, shape: tuple[int, ...], examples: int = 0, asked: int = 1, weights: Path | None = None,
    seen: int | None = None,
) -> float:
    """Bytes that a session of this family, or a "propagation", takes at most on the plan's device.

    shape: of the image, (row, column) or (k, j, i). examples: in the context. asked: slices times targets of one question.
    weights: a file instead of the shipped ones. seen: the image's voxels at TIS's spacing, see `tis_voxels`.
    """
    seen = seen or math.prod(shape)
    table = CPU if plan.device == "cpu" else CUDA
    megabytes = file_megabytes(family, weights)
    row = nearest(table.get(family, UNMEASURED), megabytes)
    slices = shape[0] if len(shape) == 3 else 1
    at_once = {
        "multiverseg": min(examples, plan.chunk),
        "tis": min(seen / TOKEN, plan.crop) / MIB,
    }.get(family, min(asked, plan.batch))
    kept = {
        "tis": seen / MIB * row.kept,
        "multiverseg": min(examples, plan.examples) * row.kept,
        "verse": min(slices, plan.looks) * row.kept,
        PROPAGATION: min(slices * row.kept, plan.kept / MIB),
    }.get(family, 0)
    running = (row.base + row.asked * at_once + kept) * MIB + row.voxel * math.prod(shape)
    return max(running, LOADING * megabytes * 1e6 if plan.device == "cpu" else 0)


def tis_voxels(
    shape: tuple[int, ...], spacing: tuple[float, ...], targets: tuple[str, ...], weights: Path | None = None
) -> int:
    """How many voxels TIS sees of a volume, shape and spacing in mm (k, j, i): at its network's spacing for these targets."""
    from .models.tis import TARGETS, read_spacing
    from .models.tis.prepare import grid_at

    if weights is None:
        names = [name for name, known in TARGETS.items() if set(targets) <= set(known)]
        weights = next((weights_folder() / entry["file"] for entry in read_manifest() if entry["family"] in names), None)
    wanted = read_spacing(weights) if weights is not None else None
    return math.prod(grid_at(shape, spacing, wanted or spacing))


def file_megabytes(family: str, weights: Path | None) -> float:
    """The size of the weight file, by which the table's rows are told apart; 0 where there is none."""
    if weights is None:
        name = "limnet-memory" if family == PROPAGATION else family
        files = [weights_folder() / entry["file"] for entry in read_manifest() if entry["family"].startswith(name)]
        weights = next((path for path in files if path.exists()), None)
    return weights.stat().st_size / 1e6 if weights is not None and weights.exists() else 0.0


def nearest(rows: tuple[Footprint, ...], megabytes: float) -> Footprint:
    """The row whose file is most like one of that size."""
    return min(rows, key=lambda row: abs(math.log(row.file / max(megabytes, 0.1))))
