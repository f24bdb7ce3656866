"""Images and segmentations on disk: files in, arrays with their place in the patient out. Knows no models."""

from .cine import LoadedCine, read_cine
from .dicom_seg import read_dicom_seg, write_dicom_seg
from .image import LoadedImage, read_image
from .segmentation import Segment, check_output_path, read_labels, read_mask, read_structures, write_segmentation

__all__ = ["LoadedCine", "LoadedImage", "Segment", "check_output_path", "read_cine", "read_dicom_seg", "read_image",
           "read_labels", "read_mask", "read_structures", "write_dicom_seg", "write_segmentation"]
