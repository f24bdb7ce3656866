"""Interactive segmentation: arrays in, prompts in, masks out. Importing this package needs numpy alone, never torch."""
from .context import ContextSet, ContextStore
from .prompts import Box, Click, Lasso, Prompt, Scribble
from .session import InteractiveSession
from .types import InteractiveSegError, LabelUpdate, MaskUpdate

__version__ = "0.1.0"
__all__ = [
    "Box", "Click", "ContextSet", "ContextStore", "InteractiveSegError", "InteractiveSession", "LabelUpdate", "Lasso",
    "MaskUpdate", "Prompt", "Scribble",
]
