"""The tools, and the keys that work in a slice view: only those that were seen to be free in Slicer 5.8.

Measured there, with the Segment Editor open: p, a, g, x, Return and Delete reach an effect and do nothing else. The views take
b f r v and the arrows; the editor's shortcuts take digits, i q w y z, space, Escape and punctuation; the others were not tried.
Slicer's manual gives g to the visibility of segmentations, and so it is here.
"""
from __future__ import annotations

from typing import NamedTuple


class Tool(NamedTuple):
    """One effect: its name in the Segment Editor, and the word on its button, which is the prompt that it makes."""

    effect: str
    word: str


TOOLS = (
    Tool("InteractiveClick", "Click"),
    Tool("InteractiveScribble", "Scribble"),
    Tool("InteractiveBox", "Box"),
    Tool("InteractiveLasso", "Lasso"),
)
NEXT_TOOL, REMOVE, NEXT_SEGMENT, START_OVER, VISIBILITY, DELETE = "p", "x", "Return", "a", "g", "Delete"


def press(effect, interactor, viewWidget) -> bool:
    """Do what the key of an event says; False when it is not ours. With Ctrl or Alt it is somebody else's."""
    actions = {
        NEXT_TOOL: effect.onNextTool,
        REMOVE: effect.onRemove,
        NEXT_SEGMENT: effect.onNextSegment,
        START_OVER: effect.onStartOver,
        VISIBILITY: effect.onVisibility,
        DELETE: lambda: effect.grab.delete(viewWidget, interactor.GetEventPosition()),
    }
    key = interactor.GetKeySym()
    if interactor.GetControlKey() or interactor.GetAltKey() or key not in actions:
        return False
    actions[key]()
    return True
