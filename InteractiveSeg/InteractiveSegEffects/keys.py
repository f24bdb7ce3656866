"""The tools and the keys: letters that neither the slice views nor the Segment Editor's shortcuts take in Slicer 5.8 to 5.12.

Taken in views: b f g r t v, arrows, brackets. Taken by the Segment Editor: digits, i q w y z, space, Escape, punctuation.
"""
from __future__ import annotations

from typing import NamedTuple


class Tool(NamedTuple):
    """One effect: its name in the Segment Editor, the word on its button, its key."""

    effect: str
    word: str
    key: str


TOOLS = (
    Tool("InteractiveClick", "Click", "p"),
    Tool("InteractiveScribble", "Scribble", "s"),
    Tool("InteractiveBox", "Box", "d"),
    Tool("InteractiveLasso", "Lasso", "l"),
)
REMOVE, NEXT_SEGMENT, START_OVER, VISIBILITY, ACCEPT, DELETE = "x", "e", "o", "h", "a", "Delete"
