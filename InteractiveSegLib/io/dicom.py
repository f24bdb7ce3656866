"""Find the series in a DICOM folder and order the files of one along the patient. Reads headers only, never pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

from ..types import InteractiveSegError

NOT_IMAGES = frozenset({"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "PR", "KO", "ANN", "DOC", "REG"})
GEOMETRY = ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"]
TIME = ["TemporalPositionIdentifier", "TriggerTime", "InstanceNumber"]
TAGS = ["SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality", "Rows", "Columns", "NumberOfFrames",
        *GEOMETRY, *TIME]
UID_END = 8  # as many characters of a UID's end are a choice and no mistyped number; fewer with a dot among them
NUMBERS = {"Rows": 1, "Columns": 1, "ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2,
           **dict.fromkeys(TIME, 1)}  # how many there must be  # fmt: skip
Image = tuple[Path, pydicom.Dataset]  # where it is, and its header
SAME_PLACE_MM = 1e-2
SPACING_TOLERANCE = 0.01  # of the distance between slices: scanners round positions, a lost slice is off by 1


@dataclass(frozen=True)
class Series:
    """The image files of one series with their headers, in no order.

    part: what one of them is called; "frame" for those of a multi-frame file, whose name is the description.
    """

    uid: str
    number: str
    description: str
    modality: str
    headers: tuple[Image, ...]
    part: str = "file"

    @property
    def advice(self) -> str:
        """What to do with images that make no volume."""
        return "give one of its files instead" if self.part == "file" else "export its frames as files and give one of these"

    @property
    def title(self) -> str:
        """For sentences: DICOM series 4 "T1 axial" (MR, 120 files)."""
        if self.part == "frame":
            return f"{self.description} ({self.modality or 'no modality'}, {len(self.headers)} frames)"
        name = f' "{self.description}"' if self.description else ""
        number = f" {self.number}" if self.number else ""
        return f"DICOM series{number}{name} ({self.modality or 'no modality'}, {len(self.headers)} files)"


def find_series(folder: Path, wanted: str | None, nested: bool = True) -> Series:
    """The one series of the folder, or the one that `wanted` names by number, UID or the UID's end.

    nested: with the folders in it.
    """
    found = list_series(sorted(p for p in (folder.rglob("*") if nested else folder.iterdir()) if p.is_file()))
    matches = named(found, wanted)
    if len(matches) != 1:
        raise no_choice(folder, found, wanted)
    return matches[0]


def named(found: list[Series], wanted: str | None) -> list[Series]:
    """The series that `wanted` names by number, UID or the UID's end; all of them where it names none."""
    if wanted is None:
        return found
    matches = [s for s in found if wanted == s.number] or [s for s in found if wanted == s.uid]
    if not matches and ("." in wanted or len(wanted) >= UID_END):
        matches = [s for s in found if s.uid.endswith(wanted)]
    return matches


def no_choice(folder: Path, found: list[Series], wanted: str | None) -> InteractiveSegError:
    """Why no series of the folder, or more than one, is the one that was wanted."""
    if not found:
        return InteractiveSegError(f"{folder} holds no DICOM images: give the folder of a series, or an image file.")
    listing = "; ".join(f"{s.title}, UID {s.uid or 'none'}" for s in found)
    if wanted is None:
        return InteractiveSegError(f"{folder} holds {len(found)} series, choose one with --series NUMBER-OR-UID: {listing}.")
    what = f"{len(named(found, wanted)) or 'no'} series"
    return InteractiveSegError(f"{folder} holds {what} called {wanted}, choose one of these by its UID: {listing}.")


def list_series(files: Iterable[Path]) -> list[Series]:
    """The series among some files; what is no DICOM image is passed over."""
    groups = defaultdict(list)
    for path in files:
        header = _read_header(path)
        if header is not None:
            groups[str(header.get("SeriesInstanceUID") or "")].append((path, header))
    return [
        Series(
            uid,
            text(first, "SeriesNumber"),
            text(first, "SeriesDescription"),
            text(first, "Modality"),
            tuple(members),
        )
        for uid, members in groups.items()
        for first in [members[0][1]]
    ]


def _read_header(path: Path) -> pydicom.Dataset | None:
    """The header of a DICOM image; None for any other file, which a folder of images may well hold."""
    header = parse(path, TAGS)
    if header is None or "Rows" not in header or text(header, "Modality") in NOT_IMAGES:
        return None
    drop_malformed(header)
    return header


def drop_malformed(header: pydicom.Dataset) -> None:
    """Take out of a header what are not the numbers that DICOM demands: the image is refused as if they were missing."""
    for keyword, count in NUMBERS.items():
        if keyword in header and not _usable(keyword, header[keyword].value, count):
            del header[keyword]


def _usable(keyword: str, value: Any, count: int) -> bool:
    try:
        numbers = np.array(value, dtype=float).ravel()
    except (TypeError, ValueError):
        return False
    if numbers.size != count or not np.isfinite(numbers).all():
        return False
    if keyword == "ImageOrientationPatient":
        return abs(np.linalg.norm(np.cross(numbers[:3], numbers[3:])) - 1) < 0.1  # rows and columns stand upright on each other
    return keyword not in ("Rows", "Columns", "PixelSpacing") or numbers.min() > 0


def parse(path: Path, tags: list[str]) -> pydicom.Dataset | None:
    """Some tags of a file; None if it is not DICOM or cannot be understood."""
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        list(header)  # pydicom parses values when they are looked at
    except (InvalidDicomError, EOFError, OSError, ValueError, KeyError, AttributeError, NotImplementedError):
        return None
    return header


def text(header: pydicom.Dataset, keyword: str) -> str:
    """A value in words, the first where there are several."""
    value = header.get(keyword)
    if isinstance(value, MultiValue):
        value = next(iter(value), None)
    return "" if value is None else str(value).strip()


def sort_files(series: Series, frame: int | None) -> tuple[list[Path], np.ndarray | None]:
    """Files along the slice normal, and the 4x4 from (i, j, k, 1) to millimetres in DICOM's own LPS.

    The matrix is None for a lone file (a slice, a radiograph, a multi-frame volume): reading it gives the geometry.
    frame: which image, from 0, where every slice position was taken several times (cine, dynamic, diffusion).
    """
    if len(series.headers) == 1:
        return [series.headers[0][0]], None
    slices, affine = stack(series, frame)
    return [path for path, _ in slices], affine


def stack(series: Series, frame: int | None) -> tuple[list[Image], np.ndarray | None]:
    """One image for each slice position, along the normal, and their 4x4 as in `sort_files`."""
    found = places(series)
    counts = [len(place) for place in found]
    if max(counts) > 1 and frame is None:
        span = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        raise InteractiveSegError(
            f"{series.title} has {span} images at each of its {len(found)} slice positions (time points or copies): "
            f"choose which with --frame 0 to {min(counts) - 1}."
        )
    if not 0 <= (frame or 0) < min(counts):
        raise InteractiveSegError(
            f"{series.title} has the frames 0 to {min(counts) - 1} at every position, and frame {frame} was asked for."
        )
    slices = [place[frame or 0] for place in found]
    return slices, None if len(slices) == 1 else _affine_lps(series, [header for _, header in slices])


def places(series: Series) -> list[list[Image]]:
    """The images of each slice position in the order of time, positions along the normal."""
    headers = series.headers
    for path, header in headers:
        for keyword in (*GEOMETRY, "Rows", "Columns"):
            if keyword not in header:
                raise InteractiveSegError(f"{series.title} does not say where its images lie in the patient (no usable "
                                          f"{keyword} in {path.name}): {series.advice}.")
    _check_alike(series)
    normal = np.cross(*_cosines(headers[0][1]))
    found: list[list[Image]] = []
    same = min(SAME_PLACE_MM, 0.1 * min(float(v) for v in headers[0][1].PixelSpacing))  # microscopes go finer
    last = -np.inf
    for height, path, header in sorted(
        ((float(normal @ np.array(h.ImagePositionPatient, dtype=float)), p, h) for p, h in headers), key=lambda row: row[0]
    ):
        if height - last > same:
            found.append([])
            last = height
        found[-1].append((path, header))
    return [sorted(place, key=lambda image: time_of(image[1])) for place in found]


def time_of(header: pydicom.Dataset) -> tuple[float, float, float]:
    """What orders the images of one slice position."""
    return tuple(float(header.get(k) or 0) for k in TIME)


def _cosines(header: pydicom.Dataset) -> np.ndarray:
    return np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)


def _check_alike(series: Series) -> None:
    sizes = {(int(h.Rows), int(h.Columns)) for _, h in series.headers}
    if len(sizes) > 1:
        raise InteractiveSegError(
            f"{series.title} mixes images of {len(sizes)} sizes, which make no volume: {series.advice}."
        )
    for keyword, words in (("ImageOrientationPatient", "orientations"), ("PixelSpacing", "pixel sizes")):
        values = np.array([h[keyword].value for _, h in series.headers], dtype=float)
        if np.ptp(values, axis=0).max() > 1e-3:
            raise InteractiveSegError(
                f"{series.title} mixes images of several {words}, which make no volume: {series.advice}."
            )


def _affine_lps(series: Series, headers: list[pydicom.Dataset]) -> np.ndarray:
    """4x4 from (i, j, k, 1) to LPS millimetres; refuses gaps, and stacks that lean over (gantry tilt)."""
    cosines = _cosines(series.headers[0][1])
    positions = np.array([h.ImagePositionPatient for h in headers], dtype=float)  # (slices, 3)
    row_mm, column_mm = (float(v) for v in headers[0].PixelSpacing)
    normal = np.cross(cosines[0], cosines[1])
    gaps = np.diff(positions @ normal)
    usual = float(np.median(gaps))
    odd = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[odd] - usual) > max(SPACING_TOLERANCE * usual, SAME_PLACE_MM):
        raise InteractiveSegError(
            f"{series.title} has slices {usual:.2f} mm apart but {gaps[odd]:.2f} between {odd} and {odd + 1}: "
            "a slice is missing or the spacing varies, so export the series again or resample it."
        )
    step = (positions[-1] - positions[0]) / (len(headers) - 1)
    lean = np.linalg.norm(step - (step @ normal) * normal) / np.linalg.norm(step)
    if lean > SPACING_TOLERANCE:
        raise InteractiveSegError(
            f"{series.title} has a tilted gantry (slices lean by {np.degrees(np.arcsin(lean)):.1f} degrees): "
            "open it in Slicer, harden the regularising transform, and give the volume saved from there."
        )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = cosines[0] * column_mm, cosines[1] * row_mm, step
    affine[:3, 3] = positions[0]
    return affine
