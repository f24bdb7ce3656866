"""Read a beating heart from disk: a file with time points, or a DICOM folder. Knows no prompts and no models."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

from ..files import check_path
from ..types import InteractiveSegError
from . import dicom
from .frames import all_frames, list_frames
from .image import LPS_TO_RAS, image_affine, is_colour, one_frame, read_files, read_itk

CLEARLY = 2  # times as many slices as any other stack of the folder: that one is the short axis
STEADY = 4  # time points from which on a slice's own step between them is known, though one of them may be missing


@dataclass(frozen=True, eq=False)
class LoadedCine:
    """Volumes of one heart at several times.

    frames: (t, k, j, i), the type they have on disk. affine: 4x4, from (i, j, k, 1) to millimetres in RAS.
    source: what was read, in words.
    """

    frames: np.ndarray
    affine: np.ndarray
    source: str

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxels, (k, j, i)."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0)[::-1])


def read_cine(path: str | Path, series: str | None = None) -> LoadedCine:
    """A 4D NIfTI, NRRD or MetaImage, a multi-component NRRD as Slicer writes sequences, a multi-frame DICOM file, or a folder.

    A DICOM folder whose short-axis slices are a series each is put together. series: which one, by number or UID, where there
    are others; several of one number are put together, too.
    """
    path = check_path(Path(path))
    if not path.exists():
        raise InteractiveSegError(f"{path} does not exist: give a 4D image or a DICOM folder.")
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return _put_together(_choose(path, [_unfolded(s) for s in dicom.list_series(files)], series))
    frames = list_frames(path)
    if frames is not None and frames.modality not in dicom.NOT_IMAGES:
        return _put_together(frames)
    image = read_itk(path)
    array = sitk.GetArrayFromImage(image)
    if is_colour(image):
        raise InteractiveSegError(f"{path} holds colours, expected time points of a volume: give a 4D image.")
    if image.GetNumberOfComponentsPerPixel() > 1 and image.GetDimension() == 3:
        array = np.moveaxis(array, -1, 0)
    if array.ndim != 4 or len(array) < 2 or np.iscomplexobj(array):
        raise InteractiveSegError(f"{path} has the shape {array.shape}, expected time points of a volume: give a 4D image.")
    return LoadedCine(array, image_affine(image), path.name)


def _unfolded(series: dicom.Series) -> dicom.Series:
    """With the frames of its multi-frame files as if each were a file."""
    found = [list_frames(path) if "NumberOfFrames" in header else None for path, header in series.headers]
    if None in found:
        return series
    name = found[0].description if len(found) == 1 else f"{len(found)} files of {series.title}"
    return replace(series, description=name, headers=tuple(h for s in found for h in s.headers), part="frame")


def _choose(folder: Path, found: list[dicom.Series], wanted: str | None) -> dicom.Series:
    """The one series that is meant, or the series that make the one stack that can be meant."""
    matches = dicom.named(found, wanted)
    if len(matches) == 1:
        return matches[0]
    stacks = sorted(((len(_spots(s)), s) for s in _stacks(matches)), key=lambda row: -row[0])
    if not stacks or (len(stacks) > 1 and stacks[0][0] < CLEARLY * stacks[1][0]):
        raise dicom.no_choice(folder, found, wanted)
    return stacks[0][1]


def _stacks(found: Iterable[dicom.Series]) -> Iterator[dicom.Series]:
    """Series of the same plane as one, where they show several slices over time and no moment of a slice twice."""
    planes = defaultdict(list)
    for series in found:
        planes[_plane(series)].append(series)
    for members in planes.values():
        joined = _joined([s for s in members if _beats(s)] or members)
        moments = Counter((_spot(h), dicom.time_of(h)) for _, h in joined.headers)
        if len(_spots(joined)) > 1 and _beats(joined) and max(moments.values()) == 1:
            yield joined


def _plane(series: dicom.Series) -> tuple:
    """What slices of one stack have in common."""
    header = series.headers[0][1]
    return (header.get("Rows"), header.get("Columns"),
            *np.round(header.get("ImageOrientationPatient") or (), 3), *np.round(header.get("PixelSpacing") or (), 3))


def _spot(header: pydicom.Dataset) -> tuple:
    return tuple(np.round(header.get("ImagePositionPatient") or (), 1))


def _spots(series: dicom.Series) -> set[tuple]:
    return {_spot(header) for _, header in series.headers}


def _beats(series: dicom.Series) -> bool:
    return len(series.headers) >= 2 * len(_spots(series))


def _joined(members: Sequence[dicom.Series]) -> dicom.Series:
    numbers = dict.fromkeys(s.number for s in members if s.number)
    return replace(members[0], number=", ".join(numbers), headers=tuple(h for s in members for h in s.headers))


def _put_together(series: dicom.Series) -> LoadedCine:
    places = dicom.places(series)
    count = _check_counts(series, places)
    _check_times(series, places)
    pixels = _frames_by_file(series)
    volumes = []
    for t in range(count):
        files = [place[t] for place in places]
        volumes.append(read_files([path for path, _ in files], series) if series.part == "file"
                       else np.stack([pixels[path][header.InstanceNumber - 1] for path, header in files]))
    affine_lps = dicom.stack(series, 0)[1]
    affine = image_affine(read_itk(series.headers[0][0])) if affine_lps is None else LPS_TO_RAS @ affine_lps
    return LoadedCine(np.stack(volumes), affine, series.title)


def _frames_by_file(series: dicom.Series) -> dict[Path, np.ndarray]:
    """All frames of each multi-frame file, (n, j, i)."""
    if series.part == "file":
        return {}
    files = dict.fromkeys(path for path, _ in series.headers)
    return {path: all_frames(list_frames(path)).of(one_frame(read_itk(path), path, None)) for path in files}


def _check_counts(series: dicom.Series, places: list[list[dicom.Image]]) -> int:
    """How many time points each slice has, or one sentence that names the slices that have others."""
    counts = [len(place) for place in places]
    usual = Counter(counts).most_common(1)[0][0]
    if usual < 2:
        raise InteractiveSegError(
            f"{series.title} has {len(series.headers)} images at {len(places)} slice positions, expected the same number of time "
            "points at each: give the short-axis cine series, or a 4D file made of it."
        )
    odd = [f"{_name(places, k)} has {count}" for k, count in enumerate(counts) if count != usual]
    if odd:
        raise InteractiveSegError(f"{series.title} has {usual} images at most slice positions, but {', '.join(odd)}: "
                                  "export these slices again.")
    return usual


def _check_times(series: dicom.Series, places: list[list[dicom.Image]]) -> None:
    """Refuse slices whose time points are others than most slices', as where each lacks another one.

    Times count in steps of their own slice: every breath-hold has its heart rate.
    """
    for k, place in enumerate(places):
        if len({dicom.time_of(header) for _, header in place}) < len(place):
            raise InteractiveSegError(f"{series.title} has images of one time in {_name(places, k)}, so their order is unknown: "
                                      "export it with TriggerTime or InstanceNumber, and each image once.")
    for keyword in ("TriggerTime", "TemporalPositionIdentifier"):
        if not all(keyword in header for place in places for _, header in place):
            continue
        times = np.array([[float(header[keyword].value) for _, header in place] for place in places])
        steps = np.diff(times, axis=1)
        step = np.median(steps, axis=1, keepdims=True) if times.shape[1] >= STEADY else np.median(steps)
        if np.min(step) <= 0:
            continue
        phases = times / step
        usual = np.sort(phases, axis=0)[(len(phases) - 1) // 2]
        odd = [_name(places, k) for k in np.flatnonzero(np.abs(phases - usual).max(axis=1) > 0.5)]
        if odd:
            raise InteractiveSegError(f"{series.title} has other time points ({keyword}) in {', '.join(odd)} than in most "
                                      "slices: an image of each is missing, so export the series again.")


def _name(places: list[list[dicom.Image]], k: int) -> str:
    at = ", ".join(f"{v:.1f}" for v in places[k][0][1].ImagePositionPatient)
    return f"slice {k} (ImagePositionPatient {at})"
