"""Order the frames of a multi-frame DICOM file along the patient, as the files of a series are. Reads headers only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

from ..types import InteractiveSegError
from . import dicom

GROUPS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
SOUGHT = {  # where a frame keeps what a file of one image has at its top
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
}


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames that make one volume.

    order: their numbers in the file, from 0. affine_lps: 4x4 to DICOM's millimetres; None for a single frame.
    rescale: slope and intercept of every frame of the file. name: the file, for sentences.
    """

    order: list[int]
    affine_lps: np.ndarray | None
    rescale: np.ndarray
    name: str

    def of(self, array: np.ndarray) -> np.ndarray:
        """These frames, (k, j, i), out of all as ITK reads them: it rescales every frame as the first one demands."""
        if len(array) != len(self.rescale):
            raise InteractiveSegError(
                f"{self.name} holds {len(array)} frames and describes {len(self.rescale)}: copy or export it again."
            )
        chosen, wanted = array[self.order], self.rescale[self.order]
        slope, intercept = self.rescale[0]
        if (wanted == (slope, intercept)).all():
            return chosen
        stored = np.rint((chosen.astype(float) - intercept) / slope)
        return stored * wanted[:, 0, None, None] + wanted[:, 1, None, None]


def sort_frames(path: Path, frame: int | None) -> Frames | None:
    """The frames of one volume, checked as the files of a series are; None where the file does not place its frames.

    frame: which one, from 0, where every slice position was taken several times.
    """
    series = list_frames(path)
    if series is None:
        return None
    slices, affine = dicom.stack(series, frame)
    order = [header.InstanceNumber - 1 for _, header in slices]
    if affine is not None and order[0] > order[-1]:  # a file that runs downwards stays as it is
        order.reverse()
        affine[:3, 3] += (len(order) - 1) * affine[:3, 2]
        affine[:3, 2] *= -1
    return Frames(order, affine, _rescale(series), str(path))


def list_frames(path: Path) -> dicom.Series | None:
    """The frames of a file as if each were one, numbered from 1; None where the file does not place its frames."""
    file = dicom.parse(path, [*dicom.TAGS, *GROUPS])
    try:
        headers = [] if file is None else list(_headers(file))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(path) from error
    if not any(all(keyword in header for keyword in dicom.GEOMETRY) for header in headers):
        return None
    for header in headers:
        dicom.drop_malformed(header)
    uid, number, modality = (dicom.text(file, keyword) for keyword in ("SeriesInstanceUID", "SeriesNumber", "Modality"))
    return dicom.Series(uid, number, path.name, modality, tuple((path, header) for header in headers), "frame")


def all_frames(series: dicom.Series) -> Frames:
    """Every frame of a file in its own order, as read by `list_frames`."""
    return Frames(list(range(len(series.headers))), None, _rescale(series), str(series.headers[0][0]))


def _rescale(series: dicom.Series) -> np.ndarray:
    """Slope and intercept of each frame, (frames, 2)."""
    path = series.headers[0][0]
    try:
        rescale = np.array([(h.get("RescaleSlope", 1), h.get("RescaleIntercept", 0)) for _, h in series.headers], dtype=float)
    except (TypeError, ValueError) as error:
        raise _unreadable(path) from error
    if not np.isfinite(rescale).all() or not rescale[:, 0].all():
        raise InteractiveSegError(f"{path} has frames with a rescale slope of 0 or none: export it again.")
    return rescale


def _unreadable(path: Path) -> InteractiveSegError:
    return InteractiveSegError(f"{path} describes its frames in a way that cannot be read: export it again.")


def _headers(file: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """What would be the header of each frame if it were a file."""
    shared = next(iter(file.get(GROUPS[0]) or []), pydicom.Dataset())
    for number, own in enumerate(file.get(GROUPS[1]) or [], start=1):
        header = pydicom.Dataset()
        header.Rows, header.Columns, header.InstanceNumber = file.get("Rows"), file.get("Columns"), number
        for keyword, sequence in SOUGHT.items():
            for group in (own, shared):
                item = next(iter(group.get(sequence) or []), None)
                if item is not None and keyword in item:
                    header[keyword] = item[keyword]
                    break
        if "TemporalPositionIndex" in header:
            header.TemporalPositionIdentifier = header.TemporalPositionIndex
        if "NominalCardiacTriggerDelayTime" in header:
            header.TriggerTime = header.NominalCardiacTriggerDelayTime
        yield header
