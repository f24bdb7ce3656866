"""What is worth saying before a model is used: which one has measured best, and which weights it lacks.

The figures are in Resources/measured.json; where they come from is written there.
"""
from __future__ import annotations

import functools
import json

import slicer

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.models import FamilySpec, list_families
from InteractiveSegLib.weights import is_shipped, read_manifest

from .resources import resource_path

AIR_HU = -500  # darker than this is no magnetic resonance and no ultrasound


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


def can_fuse() -> bool:
    """Whether the network that compares two rounds of propagation has weights here."""
    try:
        return is_shipped("limnet-fusion")
    except InteractiveSegError:  # the list of weights is damaged
        return False


def structures_measured() -> tuple[str, ...]:
    """The structures for which families were measured by name."""
    return tuple(name for row in measured()["structures"] for name in row["names"])


def recommendation(volume, structure: str | None = None, seconds: float | None = None) -> str:
    """One line: the family that needed fewest clicks, and what the last prompt took here.

    structure: one of `structures_measured`, where the chosen segment is one; else the kind of image decides.
    """
    modality = modality_of(volume) if volume is not None else ""
    row = next((row["clicks"] for row in measured()["structures"] if structure in row["names"]), None)
    kind = structure
    if row is None:
        figures = measured()["clicks"]
        kind = modality if any(modality in counts for counts in figures.values()) else "this image"
        row = {name: counts[modality if modality in counts else "all"] for name, counts in figures.items()}
    ready = {family.name: family for family in list_families() if not missing_weights(family)}
    ranked = sorted((clicks, name) for name, clicks in row.items() if name in ready)
    if not ranked:
        return "No model with shipped weights has been measured yet."
    clicks, name = ranked[0]
    learnt = " with accepted examples" if ready[name].contextual else ""
    here = f"; the last prompt took {seconds:.2f} s here" if seconds else ""
    return f"For {kind}: {ready[name].title}, measured {clicks:.1f} clicks to a Dice of 0.90{learnt}{here}."


def said_of(family: str) -> str:
    """What was measured of a family, in one sentence."""
    return measured()["said"].get(family, "")
