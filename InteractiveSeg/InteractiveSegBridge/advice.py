"""What is worth saying before a model is used: which one has measured best, what memory it needs, which weights it lacks.

The figures are in Resources/measured.json; where they come from is written there.
"""
from __future__ import annotations

import ctypes
import functools
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import slicer

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.models import FamilySpec, find_family, list_families
from InteractiveSegLib.weights import read_manifest

from .resources import resource_path

LEAST_FREE = 0.9  # of the free memory may be filled
AIR_HU = -500  # darker than this is no magnetic resonance and no ultrasound
GIB = 2**30


class Need(NamedTuple):
    """Memory in GiB: of a family at all, of each example in its context, of a million voxels."""

    base: float
    example: float
    mega_voxel: float


@functools.lru_cache(maxsize=1)
def measured() -> dict:
    return json.loads(resource_path("measured.json").read_text(encoding="utf8"))


def modality_of(volume) -> str:
    """"CT", "MR", "US" as DICOM has it, "CT" where there is air, else ""."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(volume) if hierarchy is not None else 0
    named = hierarchy.GetItemAttribute(item, "DICOM.Modality") if item else ""
    if named:
        return named
    return "CT" if volume.GetImageData() is not None and volume.GetImageData().GetScalarRange()[0] < AIR_HU else ""


def missing_weights(family: FamilySpec) -> list[str]:
    """Names of the networks without which the family cannot answer and whose weights are not shipped."""
    try:
        there = {entry["family"] for entry in read_manifest()}
    except InteractiveSegError:
        there = set()
    needed = family.networks[:1]  # the others are for more examples, more rounds
    return [name for name in needed if name not in there]


def recommendation(volume, seconds: float | None = None) -> str:
    """One line: the family that needed fewest clicks on this kind of image, and what the last prompt took here."""
    modality = modality_of(volume) if volume is not None else ""
    figures = measured()["clicks"]
    ready = [family for family in list_families() if not missing_weights(family)]
    ranked = sorted(
        (row[modality if modality in row else "all"], family.title)
        for family in ready
        for row in [figures.get(family.name, {})]
        if row
    )
    if not ranked:
        return "No model with shipped weights has been measured yet."
    clicks, title = ranked[0]
    kind = modality if any(modality in row for row in figures.values()) else "this image"
    here = f"; the last prompt took {seconds:.2f} s here" if seconds else ""
    return f"For {kind}: {title}, measured {clicks:.1f} clicks to a Dice of 0.90{here}."


def check_memory(choice, shape) -> str:
    """One line with the need, what is free and where it will run. Called in the worker's thread, before the model loads.

    Raises InteractiveSegError when it cannot fit.
    """
    from InteractiveSegLib.device import choose_device

    family = find_family(choice.model)
    device = choose_device(choice.device)
    examples = sum(info.enabled for info in choice.context.infos()) if choice.context is not None else 0
    figures = measured()["memory_gib"]
    need = Need(**figures[family.name if family.name in figures else "other"])
    voxels = shape[0] * shape[1] * shape[2] / 1e6
    needed = need.base + need.mega_voxel * voxels
    free = free_gib(device)
    if free is None:
        return f"Needs about {needed + need.example * examples:.1f} GiB on {device}."
    if needed > LEAST_FREE * free:
        raise InteractiveSegError(
            f"{family.title} needs about {needed:.1f} GiB and {free:.1f} GiB are free on {device}: close other programs, "
            "crop the volume, or choose another model or device."
        )
    fitting = examples if need.example == 0 else min(examples, int((LEAST_FREE * free - needed) / need.example))
    text = f"Needs about {needed + need.example * fitting:.1f} GiB of {free:.1f} GiB free on {device}"
    return f"{text}, with {fitting} of {examples} examples." if examples else f"{text}."


def free_gib(device: str) -> float | None:
    """Free memory of a device in GiB; None where the system does not say."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info()[0] / GIB
    if sys.platform == "win32":
        return _free_windows() / GIB
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024 / GIB
    except (OSError, StopIteration):
        names = getattr(os, "sysconf_names", {})
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in names else 0
        return whole / 2 / GIB or None  # macOS tells only what there is; half of it is taken to be free


def _free_windows() -> int:
    """Bytes of free memory."""

    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong) for name in ("total", "free", "page_total", "page", "virtual_total", "virtual", "extended")
        ]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return status.free
