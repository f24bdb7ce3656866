"""The segments of a segmentation as a list of lesions: volumes, places, a table."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from InteractiveSegLib import InteractiveSegError

from .mrml import ijk_to_ras
from .segment import read_segment


def lesions(segmentation, volume) -> list[tuple[str, str, float]]:
    """(segment id, name, millilitres) of each segment, in the order of the list."""
    segments = segmentation.GetSegmentation()
    voxel_ml = abs(float(np.linalg.det(ijk_to_ras(volume)[:3, :3]))) / 1000
    return [
        (segment_id, segments.GetSegment(segment_id).GetName(),
         float(read_segment(segmentation, segment_id, volume).mask.sum()) * voxel_ml)
        for segment_id in segments.GetSegmentIDs()
    ]


def centre_of(segmentation, segment_id: str, volume):
    """World millimetres of the middle of a segment's box; None when it is empty."""
    seen = read_segment(segmentation, segment_id, volume)
    if seen.empty:
        return None
    middle = [(a + b - 1) / 2 for a, b in zip(seen.start, seen.stop)][::-1]
    return tuple(float(v) for v in (ijk_to_ras(volume) @ [*middle, 1.0])[:3])


def write_lesions(path: Path, rows) -> None:
    """The list as a table for a spreadsheet."""
    lines = ["segment,millilitres", *(f'"{name.replace(chr(34), chr(39))}",{volume:.4f}' for _, name, volume in rows)]
    try:
        path.write_text("\n".join(lines) + "\n", encoding="utf8")
    except OSError as error:
        raise InteractiveSegError(f"{path} cannot be written ({error.strerror}): choose another place.") from error
