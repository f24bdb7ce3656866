"""What an accepted session teaches: its predicted slices with their masks, as entries for a context."""
from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from .context import Provenance, make_entry
from .types import InteractiveSegError
from .weights import sha256, shipped_file

if TYPE_CHECKING:
    from .session import InteractiveSession, SliceState, StateKey


def accepted_entries(
    session: InteractiveSession, states: dict[StateKey, SliceState], case: str
) -> dict[StateKey, dict[str, Any]]:
    """The arguments of `ContextSet.add` for each predicted slice that holds some of the object.

    Masks are as they are now, so with the edits by hand. case: what the user calls the case; its keyed hash is kept.
    """
    weights = sha256(session.weights or shipped_file(session.family.networks[0]))
    flat = session.image.ndim == 2
    entries = {}
    for axis, index, label in states:
        where = () if flat else (slice(None),) * axis + (index,)
        mask = session.labels[where] == label
        if not mask.any():
            continue
        kinds = Counter(type(prompt).__name__ for prompt in states[axis, index, label].prompts)
        entries[axis, index, label] = {
            "image": session.image[where],
            "mask": mask,
            "spacing": tuple(s for a, s in enumerate(session.placement.spacing) if flat or a != axis),
            "affine": None if flat else session.placement.affine,
            "provenance": Provenance(
                session.context.digest(case) if case else "", axis, index, dict(kinds), session.family.name, weights
            ),
        }
    return entries


def keep_accepted(
    session: InteractiveSession, states: dict[StateKey, SliceState], accepted: dict[StateKey, str], case: str
) -> tuple[str, ...]:
    """Add them to the session's context, all or none, in place of those accepted before. accepted: their ids, kept here."""
    if session.context is None:
        raise InteractiveSegError("This session has no context to add to: make it with context=ContextSet().")
    fresh = {key: make_entry(**entry) for key, entry in accepted_entries(session, states, case).items()}
    if not fresh:
        raise InteractiveSegError("No slice with a mask was predicted yet: segment at least one before accepting.")
    session.context.put(fresh.values())
    session.context.remove(*{accepted[key] for key in fresh if key in accepted}.intersection(session.context.ids()))
    accepted.update((key, entry.info.id) for key, entry in fresh.items())
    return tuple(accepted[key] for key in fresh)
