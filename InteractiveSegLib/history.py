"""What a session remembers of its slices, and its undoable steps. Values that are replaced whole, never changed."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .prompts import Prompt
from .types import LabelUpdate

if TYPE_CHECKING:
    from .rounds import Rounds

SliceKey = tuple[int, int]  # (array axis, index along it)
StateKey = tuple[int, int, int]  # (array axis, index along it, label)


@dataclass(frozen=True, eq=False)
class SliceState:
    """The prompts to one target in one slice, in its (row, column), and the logits (rows, columns) that answered them."""

    prompts: tuple[Prompt, ...] = ()
    logits: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Memory:
    """Everything but the labels that undo must bring back.

    start: of a volumetric family, the label map from which `since` counts the prompts: the automatic result or an edit.
    """

    prompts: tuple[Prompt, ...] = ()
    slices: dict[StateKey, SliceState] = field(default_factory=dict)
    start: np.ndarray | None = None
    since: tuple[Prompt, ...] = ()
    rounds: Rounds | None = None


@dataclass(frozen=True, eq=False)
class Action:
    """One undoable step: the memory on both sides of it and what it changed."""

    before: Memory
    after: Memory
    update: LabelUpdate
