"""The model families, as a table. Reading the table needs no torch; `load` imports the family's own module."""
from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..terminology import HEART, UNSEEN
from ..types import InteractiveSegError
from .tis import TARGETS as TIS_TARGETS


@dataclass(frozen=True)
class FamilySpec:
    """What a session and a panel must know of a family before its network is loaded.

    networks: what it is made of, names in NETWORKS. prompts: the classes of prompts it understands. automatic: it can have an
    answer before any prompt, and `sweeps` says that this is for all slices at once. volumetric: it answers for the volume, not
    for a slice. targets: the names it knows, none where it segments anything; named: those of each of its networks, where one of
    them is chosen by the names asked for. unseen: those that its shipped weights were never trained on. modes: how it can be
    used, the first by default. contextual: it learns from a context.
    """

    name: str
    title: str
    networks: tuple[str, ...]
    prompts: tuple[str, ...]
    paper: str
    automatic: bool = False
    sweeps: bool = False
    volumetric: bool = False
    contextual: bool = False
    targets: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    named: tuple[tuple[str, ...], ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def lists(self) -> tuple[tuple[str, ...], ...]:
        """The names it knows, as one list for each network of which one is used; none where it segments anything."""
        return (self.targets,) if self.targets else self.named

    def word(self, target: str) -> str:
        """The target for a list to choose from: its name, and whether the shipped weights never saw it."""
        return f"{target} (untrained)" if target in self.unseen else target

    def check_mode(self, mode: str | None) -> str | None:
        """The mode to use, or one sentence."""
        if mode is None:
            return self.modes[0] if self.modes else None
        if mode not in self.modes:
            choices = f"choose one of {', '.join(self.modes)}" if self.modes else "leave mode= out"
            raise InteractiveSegError(f"{self.title} has no mode {mode!r}: {choices}.")
        return mode

    def check_context(self, context: Any, targets: tuple[str, ...]) -> Any:
        """The context, or one sentence. One context holds examples of one structure."""
        if context is not None and not self.contextual:
            raise InteractiveSegError(f"{self.title} does not learn from a context: leave context= out, or use multiverseg.")
        if context is not None and len(targets) > 1:
            raise InteractiveSegError(f"Got a context for {len(targets)} targets, expected one: make a session for each of them.")
        return context


FAMILIES = {
    spec.name: spec
    for spec in (
        FamilySpec(
            name="scribbleprompt",
            title="ScribblePrompt-UNet",
            networks=("scribbleprompt",),
            prompts=("Click", "Box", "Scribble", "Lasso"),
            paper="Wong et al., ScribblePrompt, ECCV 2024",
        ),
        FamilySpec(
            name="multiverseg",
            title="MultiverSeg",
            networks=("multiverseg", "scribbleprompt"),
            prompts=("Click", "Box", "Scribble", "Lasso"),
            paper="Wong et al., MultiverSeg, ICCV 2025",
            automatic=True,
            contextual=True,
            modes=("proven", "always"),
        ),
        FamilySpec(
            name="limnet",
            title="LIM-Net",
            networks=("limnet-click", "limnet-memory", "limnet-fusion"),
            prompts=("Click",),
            paper="LIM-Net: Lightweight Method for Interactive 3D Medical Image Segmentation with Multi-Round Result Fusion",
            modes=("once", "flip"),
        ),
        FamilySpec(
            name="verse",
            title="VerSe",
            networks=("verse",),
            prompts=("Click", "Scribble"),
            paper="Guo et al., VerSe: Integrating Multiple Queries as Prompts for Versatile Cardiac MRI Segmentation, 2024",
            automatic=True,
            sweeps=True,
            targets=tuple(HEART),
            unseen=UNSEEN,
            modes=("auto+click", "auto", "click"),
        ),
        FamilySpec(
            name="tis",
            title="TIS",
            networks=("tis-hippocampus", "tis-cardiac", "tis-atrium"),
            prompts=("Click", "Scribble"),
            paper="Liu et al., Transforming the Interactive Segmentation for Medical Imaging, MICCAI 2022",
            automatic=True,
            sweeps=True,
            volumetric=True,
            modes=("once", "mirror"),
            named=tuple(TIS_TARGETS.values()),
        ),
    )
}

# Name of a network and of its weights -> module of this package with `load(path, device)`.
NETWORKS = {
    "scribbleprompt": "scribbleprompt",
    "multiverseg": "multiverseg",
    "universeg": "universeg",
    "limnet-click": "limnet.ritm",
    "limnet-memory": "limnet.xmem",
    "limnet-fusion": "limnet.quality",
    "verse": "verse",
    "tis-hippocampus": "tis.network",
    "tis-cardiac": "tis.network",
    "tis-atrium": "tis.network",
}


def list_families() -> tuple[FamilySpec, ...]:
    """Every family of this package."""
    return tuple(FAMILIES.values())


def find_family(name: str) -> FamilySpec:
    """The family of that name, or one sentence that lists the names there are."""
    if not isinstance(name, str) or name not in FAMILIES:
        raise InteractiveSegError(f"There is no model {name!r}: choose one of {', '.join(FAMILIES)}.")
    return FAMILIES[name]


@lru_cache(maxsize=8)
def load(name: str, weights: Path | None, device: str):
    """The network of that name with weights, ready to predict; loaded once and shared by all sessions that ask for the same.

    weights: a .safetensors, .pt or .pth file, or None for the shipped ones. See the network's module for what it returns.
    """
    from ..weights import shipped_file

    module = importlib.import_module(f".{NETWORKS[name]}", __package__)
    return module.load(weights if weights is not None else shipped_file(name), device)
