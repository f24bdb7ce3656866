"""From a session's slices, prompts and masks to logits: one predictor per family, between the networks and the session.

A predictor of slices has `predict(requests)`, see slices.Request; one of a volumetric family has `automatic(image)` and
`refine(image, start, labels, prompts)`, label maps (k, j, i) in uint8. Importing this package needs no torch.
"""
from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import models
from ..geometry import Window
from ..models import FamilySpec
from ..plan import Plan

# Family -> module of this package and class, which is made by its `of(setting)`.
PREDICTORS = {
    "limnet": "limnet:ClickPredictor",
    "multiverseg": "context:ContextPredictor",
    "scribbleprompt": "slices:SlicePredictor",
    "tis": "tis:TISPredictor",
    "verse": "verse:VerSePredictor",
}


@dataclass(frozen=True, eq=False)
class Setting:
    """What a predictor is made from.

    family: the table's row. spacing: mm in array order, (row, column) for slices, (k, j, i) for a volumetric family. plan:
    the device, and how much of everything is there at a time. window: intensities (low, high) or None. targets: names, in
    the order of their labels. mode: one of the family's, or None. context: examples, or None. weights: a file instead of the
    shipped ones.
    """

    family: FamilySpec
    spacing: tuple[float, ...]
    plan: Plan
    window: Window = None
    targets: tuple[str, ...] = ()
    mode: str | None = None
    context: Any = None
    weights: Path | None = None

    @property
    def device(self) -> str:
        return self.plan.device

    def network(self, name: str | None = None):
        """One of the family's networks: the first one, with the session's weights if there are any, or another, as shipped."""
        own = name is None or name == self.family.networks[0]
        return models.load(name or self.family.networks[0], self.weights if own else None, self.device)


def make_predictor(setting: Setting, retreat: Callable[[str], Plan]):
    """The family's predictor, which survives its device; see fallback.FallbackPredictor for `retreat`."""
    from .fallback import FallbackPredictor

    module, name = PREDICTORS[setting.family.name].split(":")
    return FallbackPredictor(getattr(importlib.import_module(f".{module}", __package__), name).of, setting, retreat)
