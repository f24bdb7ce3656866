"""The model families, as a table. Reading the table needs no torch; `load` imports the family's own module."""
from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..types import InteractiveSegError


@dataclass(frozen=True)
class FamilySpec:
    """What a session and a panel must know of a family before its network is loaded.

    module: the module of this package with `load(path, device)`. prompts: the classes of prompts it understands.
    automatic: it has an answer before any prompt.
    """

    name: str
    title: str
    module: str
    prompts: tuple[str, ...]
    automatic: bool
    paper: str


FAMILIES = {
    spec.name: spec
    for spec in (
        FamilySpec(
            name="scribbleprompt",
            title="ScribblePrompt-UNet",
            module="scribbleprompt",
            prompts=("Click", "Box", "Scribble", "Lasso"),
            automatic=False,
            paper="Wong et al., ScribblePrompt, ECCV 2024",
        ),
    )
}


def list_families() -> tuple[FamilySpec, ...]:
    """Every family of this package."""
    return tuple(FAMILIES.values())


def find_family(name: str) -> FamilySpec:
    """The family of that name, or one sentence that lists the names there are."""
    if name not in FAMILIES:
        raise InteractiveSegError(f"There is no model {name!r}: choose one of {', '.join(FAMILIES)}.")
    return FAMILIES[name]


@lru_cache(maxsize=4)
def load(name: str, weights: Path | None, device: str):
    """The family's network with weights, ready to predict; loaded once and shared by all sessions that ask for the same.

    weights: a .safetensors, .pt or .pth file, or None for the shipped ones. See the family's module for what it returns.
    """
    from ..weights import shipped_file

    module = importlib.import_module(f".{find_family(name).module}", __package__)
    return module.load(weights if weights is not None else shipped_file(name), device)
