"""What a SegmentSession goes by: what answers the prompts, and what the segments held after each step."""
from __future__ import annotations

from typing import NamedTuple

from InteractiveSegLib import InteractiveSession

from .records import Given


class Choice(NamedTuple):
    """What answers. targets: names that the model knows, one for each segment, or None. context: a ContextSet, or None."""

    model: str
    device: str = "auto"
    targets: tuple[str, ...] | None = None
    context: object | None = None


class State(NamedTuple):
    """What the segments held after one step, the prompts behind it, and where the session that made it was then.

    engine, depth: the InteractiveSession and the number of steps it had made; None where no session was asked.
    """

    digest: bytes
    given: tuple[Given, ...]
    engine: InteractiveSession | None = None
    depth: int = 0
