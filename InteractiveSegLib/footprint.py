"""How much memory each family takes: one formula and a table of measured constants. Reading it needs no torch.

Bytes = base + unit x count + voxel x voxels of the image, where the count is what grows: slices asked at once (ScribblePrompt,
LIM-Net's clicks), examples (MultiverSeg), encoded slices that are kept (VerSe, propagation); TIS grows with its voxels.
base holds the weights. `interactive-seg benchmark --memory` prints the estimate beside what a fresh process then took.
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


@dataclass(frozen=True)
class Footprint:
    """Of a network whose weight file has about so many MB: base and unit in MiB, voxel in bytes."""

    file: float
    base: float
    unit: float = 0.0
    voxel: float = 0.0


UNMEASURED = (Footprint(3, 300),)  # a family that has no row yet
# Peak of a fresh process above what it held before the network was loaded, float32 and AMX's bfloat16 on a CPU with Linux.
CPU = {
    "scribbleprompt": (Footprint(3, 27, 17.4), Footprint(16, 65, 52.5)),
    "multiverseg": (Footprint(3, 59, 2.3), Footprint(76, 500, 60)),
    "limnet": (Footprint(3, 60, 20), Footprint(124, 400, 60)),
    "verse": (Footprint(5, 250, 3), Footprint(180, 900, 20)),
    "tis": (Footprint(3, 74, 0, 220),),
    PROPAGATION: (Footprint(7, 45, 0.28, 4.8), Footprint(249, 900, 16, 4.8)),
}
# What the same steps allocate on a graphics card, counted on the CPU tensor by tensor; cuDNN's workspaces come on top.
CUDA = CPU


def needed(family: str, plan: Plan, shape: tuple[int, ...], examples: int = 0, weights: Path | None = None) -> float:
    """Bytes that a session of this family, or a "propagation", takes at most on the plan's device.

    shape: of the image, (row, column) or (k, j, i). examples: in the context. weights: a file instead of the shipped ones.
    """
    table = CPU if plan.device == "cpu" else CUDA
    row = nearest(table.get(family, UNMEASURED), file_megabytes(family, weights))
    slices = shape[0] if len(shape) == 3 else 1
    count = {
        "multiverseg": min(examples, plan.examples),
        "verse": min(slices, plan.looks),
        PROPAGATION: min(slices, plan.kept / (row.unit * MIB or 1)),
    }.get(family, 1)
    return (row.base + row.unit * count) * MIB + row.voxel * math.prod(shape)


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
