"""Write a generated study to disk the way scanners and people leave one: DICOM, NIfTI, NRRD, PNG. Knows no models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from .io import Segment, write_segmentation
from .io.image import LPS_TO_RAS
from .phantoms import Phantom, make_ultrasound, make_volume

COLORS = (
    (0.86, 0.52, 0.30),
    (0.35, 0.62, 0.86),
    (0.90, 0.80, 0.35),
    (0.55, 0.75, 0.45),
    (0.85, 0.35, 0.40),
    (0.75, 0.70, 0.90),
)


@dataclass(frozen=True)
class Case:
    """One image of the study on disk, with its truth beside it (.seg.nrrd). segments: what the truth holds."""

    name: str
    image: Path
    reference: Path
    segments: tuple[Segment, ...]
    window: tuple[float, float]


def build_study(folder: Path, seed: int = 0, detail: float = 1.0) -> list[Case]:
    """Abdominal CT as a DICOM series, oblique head MR as NIfTI, oblique heart MR as NRRD, an ultrasound picture as PNG.

    detail: below 1 makes smaller images of the same bodies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writers = {
        "abdomen": ("abdomen_ct", write_dicom_series),
        "head": ("head_mr.nii.gz", write_volume),
        "heart": ("heart_mr.nrrd", write_volume),
        "ultrasound": ("ultrasound.png", write_volume),
    }
    cases = []
    for name, (file, write) in writers.items():
        phantom = make_ultrasound(seed, detail) if name == "ultrasound" else make_volume(name, seed, detail)
        write(folder / file, phantom)
        segments = tuple(Segment(words, label, COLORS[label - 1]) for label, words in phantom.names.items())
        reference = folder / f"{name}_reference.seg.nrrd"
        write_segmentation(reference, phantom.labels, phantom.affine, segments)
        cases.append(Case(name, folder / file, reference, segments, phantom.window))
    return cases


def write_volume(path: Path, phantom: Phantom) -> None:
    """NIfTI, NRRD or PNG by the path's suffix."""
    image = sitk.GetImageFromArray(phantom.image)
    n = phantom.image.ndim
    lps = (LPS_TO_RAS @ phantom.affine)[[*range(n), 3]][:, [*range(n), 3]]
    spacing = np.linalg.norm(lps[:n, :n], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:n, :n] / spacing).ravel().tolist())
    image.SetOrigin(lps[:n, n].tolist())
    sitk.WriteImage(image, str(path))


def write_dicom_series(folder: Path, phantom: Phantom) -> None:
    """One file for each slice, named so that the order of the names is not the order of the slices, as archives do."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.dcm"):
        old.unlink()
    slices = phantom.image.shape[0]
    order = np.random.default_rng(slices).permutation(slices)
    for k in range(slices):
        _slice_dataset(phantom, k).save_as(folder / f"IM{order[k]:04d}.dcm")


def _slice_dataset(phantom: Phantom, k: int) -> pydicom.Dataset:
    storage = CTImageStorage if phantom.modality == "CT" else MRImageStorage
    uid = {n: generate_uid(entropy_srcs=[phantom.modality, n]) for n in ("study", "series", "frame", f"slice {k}")}
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = storage, uid[f"slice {k}"]
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, preamble=bytes(128), file_meta=meta, is_implicit_VR=False, is_little_endian=True)
    data.SOPClassUID, data.SOPInstanceUID = storage, uid[f"slice {k}"]
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = uid["study"], uid["series"], uid["frame"]
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Phantom^Generated", "PHANTOM", "", "O"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20260101", "120000", "1", ""
    data.ReferringPhysicianName, data.Manufacturer, data.PositionReferenceIndicator = "", "InteractiveSeg", ""
    data.Modality, data.SeriesNumber, data.SeriesDescription = phantom.modality, 3, "Generated phantom"
    data.AcquisitionNumber, data.InstanceNumber, data.PatientPosition = 1, k + 1, "HFS"
    data.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    _put_geometry(data, phantom.affine, k)
    offset = -1024 if phantom.modality == "CT" else 0
    pixels = np.clip(phantom.image[k].astype(int) - offset, 0, 4095).astype("<u2")
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    low, high = phantom.window
    data.WindowCenter, data.WindowWidth = (low + high) / 2, high - low
    if phantom.modality == "CT":
        data.KVP, data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "120", offset, 1, "HU"
    data.PixelData = pixels.tobytes()
    return data


def _put_geometry(data: pydicom.Dataset, affine: np.ndarray, k: int) -> None:
    """DICOM's geometry of slice k, in LPS; decimal strings hold 16 characters."""
    lps = LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    cosines = lps[:3, :2] / spacing[:2]
    data.PixelSpacing = [f"{spacing[1]:.8g}", f"{spacing[0]:.8g}"]
    data.SliceThickness = data.SpacingBetweenSlices = f"{spacing[2]:.8g}"
    data.ImageOrientationPatient = [f"{v:.10f}" for v in cosines.T.ravel()]
    data.ImagePositionPatient = [f"{v:.8f}" for v in (lps @ [0, 0, k, 1])[:3]]
