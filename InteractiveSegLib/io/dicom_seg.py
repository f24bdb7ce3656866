"""Masks as DICOM SEG that refer to the images they were drawn on, and back. Knows no models. highdicom is imported when used."""
from __future__ import annotations

import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.errors

from .. import __version__
from ..files import partial
from ..terminology import ABNORMAL as MORPHOLOGIC
from ..terminology import HEART, TITLES
from ..types import InteractiveSegError
from . import dicom
from .frames import sort_frames
from .image import LPS_TO_RAS, LoadedImage

SAME_MM = 0.01  # of the distance between two grids' corners
ABNORMAL = re.compile(r"tumou?r|lesion|cyst|nodule|polyp|metasta|infarct|h(a)?emorrhage|stenosis|aneurysm", re.IGNORECASE)
NUMBER = 900  # of the series: beyond what scanners count to


def write_dicom_seg(path: Path, mask: np.ndarray, affine: np.ndarray, folder: Path, series: str, frame: int | None, name: str,
                    model: str) -> None:
    """Write a mask as a binary DICOM SEG in the study of its images, read it back, and keep it only if it is the same.

    mask: bool (k, j, i), or (row, column). affine: of the mask, (i, j, k, 1) -> RAS mm. folder, series, frame: as
    for `read_image`, not nested. name: the structure; words that SNOMED CT knows are coded. model: what segmented it.
    """
    try:
        import highdicom as hd
    except ImportError as error:
        raise InteractiveSegError("A DICOM SEG needs the Python package highdicom, which is missing: install it.") from error
    mask = np.asarray(mask, bool)
    mask = mask.reshape((1,) * (3 - mask.ndim) + mask.shape)
    files, step = file_order(mask.shape, affine, folder, series, frame)
    mask = mask[::step]
    sources = [header_of(file) for file in files]
    identifiers = {source.get("SOPInstanceUID") for source in sources if source.get("StudyInstanceUID")} - {None, ""}
    if len(identifiers) < len(sources):
        raise InteractiveSegError(f"The images of {folder} have no identifiers of their own, which a DICOM SEG refers to: "
                                  "use the other file.")
    part = partial(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the scanner wrote, which is not ours to mend
            segmentation = hd.seg.Segmentation(
                sources, mask.astype(np.uint8), hd.seg.SegmentationTypeValues.BINARY, [describe(name, model)],
                series_instance_uid=hd.UID(), series_number=NUMBER, sop_instance_uid=hd.UID(), instance_number=1,
                manufacturer="InteractiveSeg", manufacturer_model_name=model, software_versions=__version__,
                device_serial_number="0", content_label="SEGMENTATION", series_description=f"Segmentation: {name}"[:64],
            )  # fmt: skip
            segmentation.save_as(part)
        if not np.array_equal(pixels_of(hd.seg.segread(part), sources, [1]), mask):
            raise InteractiveSegError(f"{path} came back with other pixels than were written: use the other file.")
        part.replace(path)
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        if isinstance(error, InteractiveSegError):
            raise
        raise InteractiveSegError(f"{path} cannot be written as DICOM SEG ({error}): the images lack what it "
                                  "demands, so use the other file.") from error
    finally:
        with suppress(OSError):
            part.unlink()


def header_of(file: Path) -> pydicom.Dataset:
    """A file without its pixels, and without an empty character set, which highdicom takes for an unknown one."""
    header = pydicom.dcmread(file, stop_before_pixels=True)
    if not header.get("SpecificCharacterSet", "ISO_IR 6"):
        del header.SpecificCharacterSet
    return header


def read_dicom_seg(path: Path, image: LoadedImage, folder: Path, series: str, frame: int | None,
                   label: int | None = None) -> np.ndarray:
    """The mask of a DICOM SEG on the images that it refers to: bool, the image's shape.

    image: what `read_image` gave for folder, series and frame, not nested. label: the number of a segment; all of them together
    by default.
    """
    try:
        import highdicom as hd
    except ImportError as error:
        raise InteractiveSegError("A DICOM SEG needs the Python package highdicom, which is missing: install it.") from error
    shape = image.array.shape
    files, step = file_order((1,) * (3 - len(shape)) + shape, image.affine, folder, series, frame)
    sources = [header_of(file) for file in files]
    try:
        segmentation = hd.seg.segread(path)
        known = {instance for _, _, instance in segmentation.get_source_image_uids()}
        numbers = list(segmentation.segment_numbers) if label is None else [label]
        if not known & {source.SOPInstanceUID for source in sources} or not set(numbers) <= set(segmentation.segment_numbers):
            raise InteractiveSegError(f"{path} does not refer to the images of {folder}, or has no segment {label}: give the "
                                      "segmentation of this series.")
        return pixels_of(segmentation, sources, numbers)[::step].reshape(shape)
    except (AttributeError, KeyError, TypeError, ValueError, OSError, pydicom.errors.InvalidDicomError) as error:
        if isinstance(error, InteractiveSegError):
            raise
        raise InteractiveSegError(f"{path} cannot be read as DICOM SEG ({error}): export it again.") from error


def file_order(shape: tuple[int, int, int], affine: np.ndarray, folder: Path, series: str, frame: int | None
               ) -> tuple[list[Path], int]:
    """The images' files, and 1 where a grid of that shape (k, j, i) has its planes in their order, -1 where in the other."""
    files, affine_lps = dicom.sort_files(dicom.find_series(folder, series or None, nested=False), frame)
    if affine_lps is None:  # a lone file
        frames = sort_frames(files[0], frame)
        if frames is not None and frames.order != list(range(len(frames.rescale))):
            raise InteractiveSegError(f"The frames of {files[0]} do not lie in the order of the slices, which a DICOM SEG of "
                                      "them needs: use the other file.")
        return files, 1
    place = LPS_TO_RAS @ affine_lps
    last = len(files) - 1
    turned = np.array(affine, float)
    turned[:, 3] += turned[:, 2] * last
    turned[:, 2] *= -1
    corner = np.array([shape[2] - 1, shape[1] - 1, last, 1])
    for grid, step in ((np.asarray(affine, float), 1), (turned, -1)):
        apart = max(np.linalg.norm((grid - place) @ c) for c in (corner, np.array([0, 0, 0, 1])))
        if apart < SAME_MM * np.linalg.norm(place[:3, 0]) * 10 and shape[0] == len(files):
            return files, step
    raise InteractiveSegError(f"The mask does not lie on the images of {folder}: segment the series itself.")


def describe(name: str, model: str) -> Any:
    """highdicom's description of the one segment: codes of SNOMED CT, semi-automatic."""
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    word = "".join(part.capitalize() for part in re.findall(r"[A-Za-z]+", name))
    known = HEART.get(TITLES.get(name.strip().casefold(), ""))
    abnormal = ABNORMAL.search(name) is not None or (known is not None and known.category == MORPHOLOGIC)
    category = codes.SCT.MorphologicallyAbnormalStructure if abnormal else codes.SCT.AnatomicalStructure
    kind = getattr(codes.SCT, word, codes.SCT.Lesion if abnormal else category) if word else category
    kind = Code(known.type[0], "SCT", known.type[1]) if known is not None else kind
    identification = hd.AlgorithmIdentificationSequence(model, codes.DCM.ArtificialIntelligence, __version__)
    return hd.seg.SegmentDescription(1, name[:64], category, kind, hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
                                     identification)


def pixels_of(segmentation: Any, sources: list[pydicom.Dataset], numbers: list[int]) -> np.ndarray:
    """Bool (source file or frame, row, column), in any of these segments; False where the file is silent about an image."""
    options = {"segment_numbers": numbers, "ignore_spatial_locations": True, "assert_missing_frames_are_empty": True}
    if len(sources) == 1 and "NumberOfFrames" in sources[0]:
        frames = list(range(1, int(sources[0].NumberOfFrames) + 1))
        planes = segmentation.get_pixels_by_source_frame(sources[0].SOPInstanceUID, frames, **options)
    else:
        planes = segmentation.get_pixels_by_source_instance([source.SOPInstanceUID for source in sources], **options)
    return (planes > 0).any(axis=-1)
