"""Prompts kept in the scene: an attribute of the segmentation node, positions in millimetres, saved and loaded with it.

Positions are RAS in the segmentation's own frame, so that a transform moves prompts and segments alike. What is read may
come from any file: nothing in it is believed.
"""
from __future__ import annotations

import base64
import binascii
import json
import logging
import zlib
from typing import NamedTuple

import numpy as np

from InteractiveSegLib import Box, Click, Lasso, Scribble
from InteractiveSegLib.reformat import MOST_PIXELS, Plane

from .mrml import ijk_to_segmentation, nearest_voxel, volume_shape

logger = logging.getLogger(__name__)

ATTRIBUTE = "InteractiveSeg.Prompts"
KINDS = ("Click", "Box", "Scribble", "Lasso")
MOST_VOXELS = 2**26  # of one scribble's box
DECIMALS = 4  # of a millimetre
PLANE_DECIMALS = 7  # its steps count a thousand times
DAMAGED = (
    ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, np.linalg.LinAlgError, zlib.error,
    binascii.Error,
)


class Given(NamedTuple):
    """A prompt to a segment. axis: the array axis along whose slices it was given; plane: where its positions are pixels of a
    plane's picture (0, row, column), else None, and they are voxels of the volume."""

    prompt: object
    axis: int
    plane: Plane | None = None
    segment_id: str = ""


def keep(segmentation, segment_ids, volume, given: tuple[Given, ...]) -> None:
    """Write the segments' prompts into the segmentation node; without a ModifiedEvent, for nothing that is shown changes."""
    before = _read(segmentation)
    kept = {key: records for key, records in before.items() if segmentation.GetSegmentation().GetSegment(key)}
    frame = ijk_to_segmentation(volume, segmentation)
    for segment_id in segment_ids:
        kept[segment_id] = [_record(one, number, frame) for number, one in enumerate(given) if one.segment_id == segment_id]
        if not kept[segment_id]:
            del kept[segment_id]
    if kept == before:
        return
    text = json.dumps(kept, separators=(",", ":")) if kept else None
    was_disabled = segmentation.GetDisableModifiedEvent()
    segmentation.SetDisableModifiedEvent(1)
    segmentation.SetAttribute(ATTRIBUTE, text)
    segmentation.SetDisableModifiedEvent(was_disabled)


def kept(segmentation, segment_ids, volume) -> tuple[Given, ...]:
    """The segments' prompts as voxels of the volume, oldest first; those that lie outside of it are left out."""
    found = []
    frame = ijk_to_segmentation(volume, segmentation)
    for segment_id in segment_ids:
        for record in _read(segmentation).get(segment_id, []):
            try:
                given = _given(record, frame, volume_shape(volume), segment_id)
                if given is not None:
                    found.append((int(record.get("number", 0)), given))
            except DAMAGED as error:
                logger.warning("A prompt kept in '%s' cannot be read (%s).", segmentation.GetName(), error)
    return tuple(given for _, given in sorted(found, key=lambda pair: pair[0]))


def _read(segmentation) -> dict:
    try:
        kept = json.loads(segmentation.GetAttribute(ATTRIBUTE) or "{}")
        return {str(key): list(records) for key, records in kept.items()}
    except DAMAGED as error:
        logger.warning("The prompts kept in '%s' cannot be read (%s).", segmentation.GetName(), error)
        return {}


def _moved(points, matrix: np.ndarray) -> np.ndarray:
    points = np.asarray(points, float).reshape(-1, 3)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _record(given: Given, number: int, frame: np.ndarray) -> dict:
    """JSON of a prompt. number: its place among all; frame: (i, j, k, 1) of the volume to the segmentation's millimetres."""
    prompt, plane = given.prompt, given.plane
    record = {
        "kind": type(prompt).__name__, "axis": given.axis, "positive": getattr(prompt, "positive", True), "number": number,
    }
    if plane is not None:
        frame = frame @ plane.to_ijk
        record["plane"] = {"shape": list(plane.shape), "to_ras": frame.round(PLANE_DECIMALS).tolist()}
    to_ras = frame[:, [2, 1, 0, 3]]
    if isinstance(prompt, Scribble):
        bits = zlib.compress(np.packbits(prompt.mask).tobytes())
        record.update(shape=list(prompt.mask.shape), bits=base64.b64encode(bits).decode("ascii"))
        points = [np.add(prompt.origin, step) for step in (np.zeros((1, 3)), *np.eye(3)[:, None])]
        points = np.concatenate(points)  # the first voxel and its neighbours along k, j and i
    elif isinstance(prompt, Box):
        points = [prompt.start, np.subtract(prompt.stop, 1)]
    else:
        points = prompt.points if isinstance(prompt, Lasso) else [prompt.position]
    record["ras"] = np.round(_moved(points, to_ras), DECIMALS).tolist()
    return record


def _given(record: dict, frame: np.ndarray, shape: tuple[int, ...], segment_id: str) -> Given | None:
    """The inverse; None for a prompt outside of the volume, one of DAMAGED for what is no prompt."""
    plane = _plane(record["plane"], frame) if "plane" in record else None
    if plane is not None:
        frame, shape = frame @ plane.to_ijk, (1, *plane.shape)
    prompt = _prompt(record, np.linalg.inv(frame[:, [2, 1, 0, 3]]), shape)
    return Given(prompt, record["axis"], plane, segment_id) if prompt is not None else None


def _plane(record: dict, frame: np.ndarray) -> Plane:
    shape, to_ras = tuple(int(n) for n in record["shape"]), np.asarray(record["to_ras"], float)
    if len(shape) != 2 or not all(0 < n <= MOST_PIXELS for n in shape) or to_ras.shape != (4, 4) or not np.isfinite(to_ras).all():
        raise ValueError(f"a plane of shape {shape}")
    np.linalg.inv(to_ras)  # one of DAMAGED for what is no plane
    return Plane(shape, np.linalg.inv(frame) @ to_ras)


def _prompt(record: dict, to_kji: np.ndarray, shape: tuple[int, ...]):
    axis, positive = record["axis"], record["positive"] is True
    if axis not in (0, 1, 2) or record["kind"] not in KINDS:
        raise ValueError(f"kind {record['kind']!r}, axis {axis!r}")
    points = np.asarray(record["ras"], float)
    if not np.isfinite(points).all():
        raise ValueError("positions that are not finite")
    if record["kind"] == "Scribble":
        return _scribble(record, _moved(points, to_kji), shape, positive)
    voxels = [nearest_voxel(point) for point in _moved(points, to_kji)]
    low, high = np.min(voxels, axis=0), np.max(voxels, axis=0)
    if (high < 0).any() or (low >= shape).any():
        return None
    if record["kind"] == "Box":
        start, stop = np.maximum(low, 0), np.minimum(high + 1, shape)
        return Box(tuple(map(int, start)), tuple(map(int, stop)))
    if (low < 0).any() or (high >= shape).any():
        return None
    if record["kind"] == "Click":
        return Click(voxels[0], positive)
    return Lasso(tuple(voxels), positive)


def _scribble(record, corners_kji, shape, positive) -> Scribble | None:
    """Each painted voxel of the stored grid in the volume's own grid; the two are the same unless the volume was replaced."""
    size = [int(n) for n in record["shape"]]
    if len(size) != 3 or min(size) < 1 or np.prod(size, dtype=float) > MOST_VOXELS or len(corners_kji) != 4:
        raise ValueError(f"a scribble of shape {size}")
    count = int(np.prod(size))
    expected = -(-count // 8)
    bits = zlib.decompressobj().decompress(base64.b64decode(record["bits"], validate=True), expected)
    painted = np.argwhere(np.unpackbits(np.frombuffer(bits, np.uint8), count=count).reshape(size))
    voxels = np.floor(corners_kji[0] + painted @ (corners_kji[1:] - corners_kji[0]) + 0.5).astype(int)
    voxels = voxels[((voxels >= 0) & (voxels < shape)).all(axis=1)]
    if len(voxels) == 0:
        return None
    origin = voxels.min(axis=0)
    mask = np.zeros(voxels.max(axis=0) - origin + 1, bool)
    mask[tuple((voxels - origin).T)] = True
    return Scribble(mask, positive, tuple(map(int, origin)))
