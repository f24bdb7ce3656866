"""Write label maps that Slicer opens as segmentations at the right place, and read masks back. Knows no models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..files import check_path, partial
from ..terminology import HEART, find_code, find_name
from ..types import InteractiveSegError, bounding_box
from .image import LPS_TO_RAS, LoadedImage, image_affine, read_image, read_itk

SUFFIXES = (".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha")


@dataclass(frozen=True)
class Segment:
    """One segment as Slicer lists it. label: its value in the label map. color: red, green, blue in 0..1.

    terminology: Slicer's entry for what it is, with codes, see `terminology.Structure.entry`; empty when nothing is known.
    """

    name: str
    label: int = 1
    color: tuple[float, float, float] = (0.50, 0.68, 0.50)
    terminology: str = ""

    @classmethod
    def of(cls, name: str, label: int) -> Segment:
        """With its title, colour and codes where the name is one of the heart's, else with the name alone."""
        known = HEART.get(find_name(name, HEART) or "")
        return cls(known.title, label, known.color, known.entry) if known else cls(name, label)


def check_output_path(path: str | Path) -> Path:
    """The path, when a segmentation can be written there; asked before the work, so that no result is lost after it."""
    path = check_path(Path(path))
    if not path.name.lower().endswith(SUFFIXES):
        raise InteractiveSegError(f"{path} has no suffix of a segmentation: end it with one of {', '.join(SUFFIXES)}.")
    if path.is_dir():
        raise InteractiveSegError(f"{path} is a folder: give the name of a file to write.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InteractiveSegError(
            f"The folder {path.parent} cannot be made ({error.strerror}): choose another place."
        ) from error
    if not os.access(path.parent, os.W_OK):
        raise InteractiveSegError(f"The folder {path.parent} may not be written to: choose another place.")
    return path


def write_segmentation(path: str | Path, labels: np.ndarray, affine: np.ndarray, segments: Sequence[Segment]) -> None:
    """Write a label map: a Slicer segmentation for .seg.nrrd, plain label values for the other SUFFIXES.

    labels: bool or integer array (k, j, i) or (row, column), 0 is background. affine: (i, j, k, 1) to RAS in mm, 4x4.
    The file appears whole or not at all. Source of the header fields: Slicer's vtkMRMLSegmentationStorageNode.
    """
    path = check_output_path(path)
    labels = np.asarray(labels)
    volume = labels.reshape((1,) * (3 - labels.ndim) + labels.shape)
    if volume.size and volume.max() > np.iinfo(np.uint8).max:
        raise InteractiveSegError(
            f"A label map holds values up to 255 and got {volume.max()}: number the segments from 1."
        )
    image = sitk.GetImageFromArray(volume.astype(np.uint8))
    _set_geometry(image, affine, path)
    if path.name.lower().endswith(".seg.nrrd"):
        for key, value in _slicer_header(volume, segments).items():
            image.SetMetaData(key, value)
    part = partial(path, next(suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)))
    try:
        sitk.WriteImage(image, str(part), useCompression=True)
        part.replace(path)
    except (RuntimeError, OSError) as error:
        with suppress(OSError):
            part.unlink()
        raise InteractiveSegError(f"{path} could not be written (is the disk full?): choose another place.") from error


def read_mask(path: str | Path, image: LoadedImage, label: int | None = None) -> np.ndarray:
    """A mask or scribble from a file, True where it is not 0, or where it is `label`, on the voxels of `image`."""
    layers = _read_layers(Path(path), label)
    if layers is not None:
        return _on_voxels_of(image, layers, path)
    labels = read_labels(path, image)
    return labels != 0 if label is None else labels == label


def read_labels(path: str | Path, image: LoadedImage) -> np.ndarray:
    """A label map from a file, as it is there. It must lie on the voxels of `image`, though its axes may run in another order
    or direction, as where one of the two went through another program."""
    return _on_voxels_of(image, read_image(path), path)


def read_structures(path: str | Path, image: LoadedImage, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The structures in a Slicer segmentation: bool masks on the voxels of `image`, by name.

    A segment is what its name or title says, else what its terminology says; of `names`, those that are there come back.
    """
    path = Path(path)
    if not path.name.lower().endswith(".seg.nrrd") or not check_path(path).is_file():
        raise InteractiveSegError(f"{path} is no Slicer segmentation: give the .seg.nrrd that Slicer saved.")
    file = read_itk(path)
    array = sitk.GetArrayViewFromImage(file)
    layers = array if file.GetNumberOfComponentsPerPixel() > 1 else array[..., None]
    found: dict[str, np.ndarray] = {}
    for number in range(sum(key.endswith("_LabelValue") for key in file.GetMetaDataKeys())):
        said = {key: file.GetMetaData(f"Segment{number}_{key}") for key in ("Name", "Tags", "Layer", "LabelValue")
                if file.HasMetaDataKey(f"Segment{number}_{key}")}
        name = find_name(said.get("Name", ""), names) or find_code(said.get("Tags", ""), names)
        if name in found:
            title = HEART[name].title if name in HEART else name
            raise InteractiveSegError(f"{path} has two segments that are {title}: join them or rename one.")
        if name is not None:
            mask = layers[..., int(said.get("Layer", 0))] == int(said.get("LabelValue", 1))
            found[name] = _on_voxels_of(image, LoadedImage(mask, image_affine(file), "", path.name), path)
    return found


def _on_voxels_of(image: LoadedImage, loaded: LoadedImage, path: str | Path) -> np.ndarray:
    """The array of `loaded`, or one sentence where it does not lie on the image's voxels. path: where it was read."""
    loaded = along_axes_of(image, loaded)
    if str(path).lower().endswith(".seg.nrrd"):
        loaded = _uncropped(image, loaded)
    array = loaded.array
    if array.ndim < image.array.ndim or (array.ndim > image.array.ndim and array.shape[0] == 1):
        array = array.reshape(image.array.shape) if array.size == image.array.size else array
    if array.shape != image.array.shape:
        raise InteractiveSegError(
            f"{path} has the shape {array.shape} and the image {image.array.shape}: draw it on this image."
        )
    corner = np.array([*(n - 1 for n in array.shape[::-1]), *[0] * (3 - array.ndim), 1.0])
    apart = max(np.linalg.norm((loaded.affine - image.affine) @ c) for c in (np.array([0, 0, 0, 1.0]), corner))
    if image.array.ndim == 3 and apart > 0.5 * min(image.spacing):
        raise InteractiveSegError(
            f"{path} lies {apart:.1f} mm away from the image: draw it on this image, or resample it to its grid."
        )
    return array


def _uncropped(image: LoadedImage, loaded: LoadedImage) -> LoadedImage:
    """A segmentation that Slicer saved without its empty margins, with them again; as it is where it is no part of the grid."""
    whole = (1,) * (3 - image.array.ndim) + image.array.shape
    turn = np.linalg.solve(image.affine, loaded.affine)[:3]  # of (i, j, k, 1)
    if loaded.array.ndim < 3 or np.abs(turn[:, :3] - np.eye(3)).max() > 0.01:
        return loaded
    start = np.rint(turn[:, 3]).astype(int)
    stop = start + loaded.array.shape[::-1]
    if start.min() < 0 or (stop > whole[::-1]).any():
        return loaded
    array = np.zeros(whole, loaded.array.dtype)
    array[tuple(slice(a, b) for a, b in zip(start[::-1], stop[::-1]))] = loaded.array
    affine = loaded.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ start
    return replace(loaded, array=array, affine=affine)


def _read_layers(path: Path, label: int | None) -> LoadedImage | None:
    """The mask in a Slicer segmentation whose segments overlap, and so lie in several layers. None of any other file."""
    if not path.name.lower().endswith(".seg.nrrd") or not check_path(path).is_file():
        return None
    image = read_itk(path)
    if image.GetNumberOfComponentsPerPixel() == 1:
        return None
    layers = sitk.GetArrayViewFromImage(image)
    mask = (layers != 0 if label is None else layers == label).any(axis=-1)
    return LoadedImage(mask, image_affine(image), "", path.name)


def along_axes_of(image: LoadedImage, loaded: LoadedImage) -> LoadedImage:
    """`loaded` with its axes in the order and direction of the image's; as it is when they are not parallel."""
    turn = np.linalg.solve(image.affine, loaded.affine)[:3, :3]  # of (i, j, k)
    whole = np.rint(turn)
    parallel = np.abs(turn - whole).max() < 0.01 and (np.abs(whole).sum(axis=0) == 1).all() and (whole.any(axis=1)).all()
    if not parallel or image.array.ndim < 3 or loaded.array.ndim < 3:
        return loaded
    source = np.abs(whole).argmax(axis=1)  # for each of the image's axes, the loaded one that runs along it
    signs = whole[range(3), source]
    affine = loaded.affine.copy()
    affine[:3, :3] = loaded.affine[:3, source] * signs
    affine[:3, 3] += sum((loaded.array.shape[2 - n] - 1) * loaded.affine[:3, n] for n, sign in zip(source, signs) if sign < 0)
    array = loaded.array.transpose(2, 1, 0).transpose(source)[tuple(slice(None, None, int(sign)) for sign in signs)]
    return replace(loaded, array=array.transpose(2, 1, 0), affine=affine)


def _set_geometry(image: sitk.Image, affine: np.ndarray, path: Path) -> None:
    lps = LPS_TO_RAS @ np.asarray(affine, dtype=float)
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    if path.name.lower().endswith((".nii", ".nii.gz")) and np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4:
        raise InteractiveSegError(
            f"{path} is NIfTI, which cannot hold axes that are not perpendicular: write .seg.nrrd instead."
        )
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())


def _slicer_header(volume: np.ndarray, segments: Sequence[Segment]) -> dict[str, str]:
    header = {
        "Segmentation_MasterRepresentation": "Binary labelmap",  # the name before Slicer 5.4
        "Segmentation_SourceRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    for number, segment in enumerate(segments):
        start_kji, stop_kji = bounding_box(volume == segment.label)
        extent = " ".join(f"{start} {stop - 1}" for start, stop in zip(start_kji[::-1], stop_kji[::-1]))
        prefix = f"Segment{number}_"
        header.update({
            f"{prefix}ID": f"Segment_{segment.label}",
            f"{prefix}Name": " ".join(segment.name.split()),
            f"{prefix}NameAutoGenerated": "0",
            f"{prefix}Color": " ".join(f"{c:.6g}" for c in segment.color),
            f"{prefix}ColorAutoGenerated": "0",
            f"{prefix}LabelValue": str(segment.label),
            f"{prefix}Layer": "0",
            f"{prefix}Extent": extent,
            f"{prefix}Tags": f"TerminologyEntry:{segment.terminology}|" if segment.terminology else "",
        })  # fmt: skip
    return header
