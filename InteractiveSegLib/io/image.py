"""Read one image from disk: NIfTI, NRRD, MetaImage, DICOM, PNG, JPEG, TIFF. Knows no prompts and no models."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..files import check_path
from ..types import InteractiveSegError
from . import dicom
from .frames import sort_frames

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""ITK and DICOM count millimetres towards Left, Posterior, Superior; we count towards Right, Anterior, Superior."""

READS = "NIfTI, NRRD, MetaImage, DICOM (file or folder), PNG, JPEG or TIFF"
FORMATS = {
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
}
LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image and where it lies.

    array: (k, j, i), or (row, column) for a picture without a place in a patient; the type it has on disk.
    affine: 4x4, from (i, j, k, 1) to millimetres in RAS.
    modality: DICOM's word for it ("CT", "MR", "US", ...), empty when the file does not say.
    source: what was read, in words, for a summary.
    """

    array: np.ndarray
    affine: np.ndarray
    modality: str
    source: str

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres between voxels in array order: (k, j, i), or (row, column)."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0)[: self.array.ndim][::-1])


def read_image(path: str | Path, series: str | None = None, frame: int | None = None, nested: bool = True) -> LoadedImage:
    """Read an image file, or one series of a DICOM folder.

    series: which series of a DICOM folder: its number or its UID (or a long end of it). Needed when there are several.
    frame: which one, from 0, of several time points or channels. Colour pictures become luminance.
    nested: look for the series in the folders of the folder, too.
    Raises InteractiveSegError for anything that is not one 2D or 3D grid of numbers on perpendicular axes.
    """
    path = check_path(Path(path))
    if not path.exists():
        raise InteractiveSegError(f"{path} does not exist: give the path of an image ({READS}).")
    if path.is_dir():
        return _read_series(path, series, frame, nested)
    if series is not None:
        raise InteractiveSegError(
            f"{path} is a single file, and a series is chosen in a DICOM folder: give its folder, or no series."
        )
    image = read_itk(path)
    modality = image.GetMetaData("0008|0060").strip() if image.HasMetaDataKey("0008|0060") else ""
    if modality in dicom.NOT_IMAGES:
        raise InteractiveSegError(f"{path} holds no image but DICOM {modality}: give the image it was made from.")
    return LoadedImage(*_grid(image, path, frame), modality, f"{path.name} ({_format_name(path, image)})")


def read_itk(path: Path) -> sitk.Image:
    """The file as SimpleITK reads it; its C++ exceptions become one sentence."""
    check_path(path)
    if path.stat().st_size == 0:
        raise InteractiveSegError(f"{path} is empty (0 bytes): copy or export it again.")
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InteractiveSegError(_reason(path, str(error))) from error
    if path.name.lower().endswith((".nii", ".nii.gz")) and not _nifti_is_whole(path, image):
        raise InteractiveSegError(_reason(path, "truncated"))
    return image


def _nifti_is_whole(path: Path, image: sitk.Image) -> bool:
    """Whether all voxels are in the file: ITK's NIfTI reader is silent about a cut one and returns memory as it lies."""
    size = np.prod([int(image.GetMetaData(f"dim[{n + 1}]")) for n in range(int(image.GetMetaData("dim[0]")))])
    expected = float(image.GetMetaData("vox_offset")) + size * int(image.GetMetaData("bitpix")) / 8
    if path.suffix.lower() != ".gz":
        return path.stat().st_size >= expected
    found = 0
    try:
        with gzip.open(path) as stream:
            while block := len(stream.read(1 << 22)):
                found += block
    except (OSError, EOFError, zlib.error):
        return False
    return found >= expected


def _reason(path: Path, error: str) -> str:
    """SimpleITK's paragraph as one sentence with something to do."""
    if "orthonormal" in error:
        return (
            f"{path} has axes that are not perpendicular (a shear or a gantry tilt in its header): "
            "resample it to a straight grid, for example with Slicer's Resample Image module."
        )
    if "Unable to determine ImageIO" in error:
        return f"{path} is not an image that can be read: expected {READS}."
    return f"{path} is damaged or incomplete and cannot be read: copy or export it again."


def _read_series(folder: Path, series: str | None, frame: int | None, nested: bool) -> LoadedImage:
    chosen = dicom.find_series(folder, series, nested)
    files, affine_lps = dicom.sort_files(chosen, frame)
    if affine_lps is None:
        return LoadedImage(*_grid(read_itk(files[0]), files[0], frame), chosen.modality, chosen.title)
    return LoadedImage(read_files(files, chosen), LPS_TO_RAS @ affine_lps, chosen.modality, chosen.title)


def read_files(files: list[Path], series: dicom.Series) -> np.ndarray:
    """The files of a series as one volume (k, j, i).

    One by one, as each has its own rescaling: ITK's reader of series would press all into the first one's type.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    slices = []
    try:
        for file in files:
            reader.SetFileName(str(check_path(file)))
            slices.append(one_frame(reader.Execute(), file, None))
        return np.concatenate([s.reshape(1, *s.shape[-2:]) for s in slices])
    except (RuntimeError, ValueError) as error:
        if isinstance(error, InteractiveSegError):
            raise
        raise InteractiveSegError(
            f"A file of {series.title} in {files[0].parent} is damaged or unlike the others: export the series again."
        ) from error


def _grid(image: sitk.Image, path: Path, frame: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The array of a file and its 4x4 to RAS. Frames of a DICOM file are asked one by one: ITK asks the first ones only."""
    frames = sort_frames(path, frame) if image.HasMetaDataKey("0028|0008") else None
    if frames is None:
        return one_frame(image, path, frame), image_affine(image)
    array = frames.of(one_frame(image, path, None))
    return array, image_affine(image) if frames.affine_lps is None else LPS_TO_RAS @ frames.affine_lps


def is_colour(image: sitk.Image) -> bool:
    """Whether its components are red, green and blue, and not a sequence of images, which Slicer calls a list."""
    kind = image.GetMetaData("NRRD_kinds[pixel]") if image.HasMetaDataKey("NRRD_kinds[pixel]") else ""
    return image.GetNumberOfComponentsPerPixel() in (3, 4) and image.GetPixelID() == sitk.sitkVectorUInt8 and kind != "list"


def one_frame(image: sitk.Image, path: Path, frame: int | None) -> np.ndarray:
    """The image as (k, j, i) or (row, column): colour to luminance, one of several channels or time points."""
    array = sitk.GetArrayViewFromImage(image)
    channels, size = image.GetNumberOfComponentsPerPixel(), image.GetSize()
    if is_colour(image):
        array, channels = np.rint(array[..., :3] @ LUMINANCE).astype(np.uint8), 1
    elif channels > 1:
        array = np.moveaxis(array, -1, 0)
    elif len(size) > 3:
        channels = int(np.prod(size[3:]))
        array = array.reshape((channels, *array.shape[-3:]))
    if channels == 1:
        if frame not in (None, 0):
            raise InteractiveSegError(
                f"{path} has one frame only, and frame {frame} was asked for: leave the frame out."
            )
        array = array.reshape(array.shape[-3:])
    elif frame is None:
        raise InteractiveSegError(
            f"{path} has {channels} frames or channels, and one is segmented at a time: "
            f"choose with --frame 0 to {channels - 1}."
        )
    elif not 0 <= frame < channels:
        raise InteractiveSegError(
            f"{path} has the frames 0 to {channels - 1}, and frame {frame} was asked for: choose one of them."
        )
    else:
        array = array[frame]
    if np.iscomplexobj(array):
        raise InteractiveSegError(f"{path} holds complex numbers: save their magnitude and give that.")
    return np.array(array)


def image_affine(image: sitk.Image) -> np.ndarray:
    """(i, j, k, 1) to RAS in mm of a SimpleITK image of 2, 3 or 4 dimensions. Shape (4, 4)."""
    n, used = image.GetDimension(), min(image.GetDimension(), 3)
    affine = np.eye(4)
    direction = np.reshape(image.GetDirection(), (n, n))[:used, :used]
    affine[:used, :used] = direction * np.array(image.GetSpacing())[:used]
    affine[:used, 3] = np.array(image.GetOrigin())[:used]
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise InteractiveSegError(
            "The image's header gives no usable spacing and directions: write the image again with a right header."
        )
    return LPS_TO_RAS @ affine


def _format_name(path: Path, image: sitk.Image) -> str:
    if image.HasMetaDataKey("0008|0060"):
        return "DICOM file"
    name = path.name.lower()
    return next((words for suffix, words in FORMATS.items() if name.endswith(suffix)), path.suffix.lstrip(".").upper())
