"""Read a beating heart from disk: a file with time points, or a DICOM folder. Knows no prompts and no models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..files import check_path
from ..types import InteractiveSegError
from . import dicom
from .image import LPS_TO_RAS, image_affine, read_files, read_itk


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
    """A 4D NIfTI, NRRD or MetaImage, a multi-component NRRD as Slicer writes sequences, or a DICOM folder.

    A folder whose short-axis slices are a series each is put together. series: which one, where there are others.
    """
    path = check_path(Path(path))
    if not path.exists():
        raise InteractiveSegError(f"{path} does not exist: give a 4D image or a DICOM folder.")
    if path.is_dir():
        return _read_folder(path, series)
    image = read_itk(path)
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1 and image.GetDimension() == 3:
        array = np.moveaxis(array, -1, 0)
    if array.ndim != 4 or len(array) < 2 or np.iscomplexobj(array):
        raise InteractiveSegError(f"{path} has the shape {array.shape}, expected time points of a volume: give a 4D image.")
    return LoadedCine(array, image_affine(image), path.name)


def _read_folder(folder: Path, wanted: str | None) -> LoadedCine:
    found = dicom.list_series(sorted(p for p in folder.rglob("*") if p.is_file()))
    one_stack = wanted is None and len(found) > 1 and len({_plane(s) for s in found}) == 1
    chosen = _joined(found) if one_stack else dicom.find_series(folder, wanted)
    places = {tuple(np.round(h.get("ImagePositionPatient") or (), 1)) for _, h in chosen.headers}
    count = len(chosen.headers) // max(1, len(places))
    if count < 2 or len(chosen.headers) != count * len(places):
        raise InteractiveSegError(
            f"{chosen.title} has {len(chosen.headers)} images at {len(places)} slice positions, expected the same number of time "
            "points at each: give the short-axis cine series, or a 4D file made of it."
        )
    frames, affine = zip(*_frames(chosen, count))
    return LoadedCine(np.stack(frames), affine[0], chosen.title)


def _plane(series: dicom.Series) -> tuple:
    """What slices of one stack have in common."""
    header = series.headers[0][1]
    return (header.get("Rows"), header.get("Columns"), len(series.headers),
            *np.round(header.get("ImageOrientationPatient") or (), 3), *np.round(header.get("PixelSpacing") or (), 3))


def _joined(series: list[dicom.Series]) -> dicom.Series:
    first = series[0]
    return dicom.Series(first.uid, first.number, first.description, first.modality, tuple(h for s in series for h in s.headers))


def _frames(series: dicom.Series, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for frame in range(count):
        files, affine_lps = dicom.sort_files(series, frame)
        if affine_lps is None:
            image = read_itk(files[0])
            yield sitk.GetArrayFromImage(image).reshape((1, *image.GetSize()[1::-1])), image_affine(image)
            continue
        yield read_files(files, series), LPS_TO_RAS @ affine_lps
