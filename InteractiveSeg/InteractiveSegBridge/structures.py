"""Which segments of a segmentation a model that knows structures by name segments together. Knows no Qt and no session."""
from __future__ import annotations

import vtk

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.terminology import HEART, find_name

TAG = "InteractiveSeg.Structure"  # of a segment whose own name is another one


def structure_of(segment, names) -> str | None:
    """The structure that a vtkSegment is: as the user said, else by its name; None where that is none of `names`."""
    said = vtk.reference("")
    if segment.GetTag(TAG, said) and said.get() in names:
        return said.get()
    return find_name(segment.GetName(), names)


def call(segmentation, segment_id: str, name: str) -> None:
    """Say which structure a segment is; it is saved with the segmentation."""
    segmentation.GetSegmentation().GetSegment(segment_id).SetTag(TAG, name)


def together(segmentation, segment_id: str, lists) -> dict[str, str]:
    """Structure -> segment id of all segments that are predicted with this one, in the order in which the model names them.

    lists: names that the model knows, one list for each network of which one is used. Empty where it segments anything.
    """
    if not lists:
        return {}
    segments = segmentation.GetSegmentation()
    own = structure_of(segments.GetSegment(segment_id), _all(lists))
    if own is None:
        raise InteractiveSegError(
            f"The model segments {', '.join(_all(lists))}: choose as Structure which of them the segment "
            f"'{segments.GetSegment(segment_id).GetName()}' is."
        )
    names = next(names for names in lists if own in names)
    found = {own: segment_id}
    for other in segments.GetSegmentIDs():
        name = structure_of(segments.GetSegment(other), names)
        if name is not None:
            found.setdefault(name, other)
    return {name: found[name] for name in names if name in found}


def add_missing(segmentation, segment_id: str, lists) -> list[str]:
    """An empty segment for each structure of the chosen one's network that has none yet; their names."""
    there = together(segmentation, segment_id, lists)
    missing = [name for name in next(names for names in lists if set(there) <= set(names)) if name not in there]
    for name in missing:
        known = HEART.get(name)
        color = (known.color,) if known is not None else ()
        added = segmentation.GetSegmentation().AddEmptySegment(name, known.title if known is not None else name, *color)
        if known is not None:
            segmentation.GetSegmentation().GetSegment(added).SetTag("TerminologyEntry", known.entry)
    return missing


def _all(lists) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in lists for name in names))
