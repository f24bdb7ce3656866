"""Reading segments and writing into them, always as a crop and always through the Segment Editor's own path."""
from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from InteractiveSegLib import MaskUpdate
from InteractiveSegLib.types import bounding_box

from .mrml import array_from_matrix, ijk_to_segmentation, matrix_from_array, volume_shape

GRID_TOLERANCE = 1e-3  # of a voxel: grids closer than this are the same grid
EMPTY = MaskUpdate((0, 0, 0), (0, 0, 0), np.zeros((0, 0, 0), bool))


class LabelCrop(NamedTuple):
    """Part of a label map: start: its first voxel; labels: uint8, n for the n-th of the segments that were read."""

    start: tuple[int, ...]
    labels: np.ndarray

    @property
    def slices(self) -> tuple[slice, ...]:
        """Its box as an index."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.labels.shape))


NOTHING = LabelCrop((0, 0, 0), np.zeros((0, 0, 0), np.uint8))


class Seen(NamedTuple):
    """The segments' voxels as they were at a stamp, so that they are read once."""

    stamp: tuple
    crop: LabelCrop
    digest: bytes


def segments_stamp(segmentation, segment_ids) -> tuple:
    """Changes whenever the segments' voxels may have changed; costs nothing to ask."""
    labelmaps = [segmentation.GetBinaryLabelmapInternalRepresentation(segment_id) for segment_id in segment_ids]
    values = [segmentation.GetSegmentation().GetSegment(segment_id).GetLabelValue() for segment_id in segment_ids]
    return tuple((value, labelmap.GetMTime() if labelmap else 0) for value, labelmap in zip(values, labelmaps))


def digest(crop: LabelCrop) -> bytes:
    """The same for the same voxels, whatever box they were read in."""
    parts = hashlib.sha1()
    for label in range(1, int(crop.labels.max(initial=0)) + 1):
        mask = crop.labels == label
        start, stop = bounding_box(mask)
        tight = mask[tuple(slice(a, b) for a, b in zip(start, stop))]
        where = [[a + offset for a, offset in zip(corner, crop.start)] for corner in (start, stop)] if tight.size else []
        parts.update(repr(where).encode() + np.packbits(tight).tobytes())
    return parts.digest()


def read_labels(segmentation, segment_ids, volume) -> LabelCrop:
    """The segments on the volume's grid in one crop; where they overlap the first one counts."""
    crops = [read_segment(segmentation, segment_id, volume) for segment_id in segment_ids]
    filled = [crop for crop in crops if not crop.empty]
    if not filled:
        return NOTHING
    if len(crops) == 1:
        return LabelCrop(crops[0].start, crops[0].mask.view(np.uint8))
    start = tuple(min(crop.start[axis] for crop in filled) for axis in range(3))
    stop = tuple(max(crop.stop[axis] for crop in filled) for axis in range(3))
    labels = np.zeros([b - a for a, b in zip(start, stop)], np.uint8)
    for label, crop in reversed(list(enumerate(crops, start=1))):
        np.copyto(labels[tuple(slice(a - o, b - o) for a, b, o in zip(crop.start, crop.stop, start))], label, where=crop.mask)
    return LabelCrop(start, labels)


def read_segment(segmentation, segment_id: str, volume) -> MaskUpdate:
    """The segment on the volume's grid, cropped to where it has voxels; empty when it has none."""
    start, mask = _read(segmentation, segment_id, volume, (0, 0, 0), volume_shape(volume))
    low, high = bounding_box(mask)
    crop = mask[tuple(slice(a, b) for a, b in zip(low, high))]
    if crop.size == 0:
        return EMPTY
    return MaskUpdate(
        tuple(s + a for s, a in zip(start, low)), tuple(s + b for s, b in zip(start, high)), np.ascontiguousarray(crop)
    )


def read_box(segmentation, segment_id: str, volume, start, stop) -> np.ndarray:
    """The segment inside the half-open box [start, stop) of the volume's grid: bool array of shape stop - start."""
    first, mask = _read(segmentation, segment_id, volume, start, stop)
    inside = np.zeros([b - a for a, b in zip(start, stop)], bool)
    inside[tuple(slice(a - s, a - s + n) for a, s, n in zip(first, start, mask.shape))] = mask
    return inside


def _read(segmentation, segment_id: str, volume, start, stop) -> tuple[tuple[int, ...], np.ndarray]:
    """(first voxel, mask) of the part of [start, stop) for which Slicer holds a labelmap."""
    labelmap = segmentation.GetBinaryLabelmapInternalRepresentation(segment_id)
    if labelmap is None or labelmap.GetPointData().GetScalars() is None:
        return tuple(start), np.zeros((0, 0, 0), bool)
    ijk_to_local = ijk_to_segmentation(volume, segmentation)
    shift_ijk = _shift_between_grids(labelmap, ijk_to_local)
    if shift_ijk is None:
        labelmap, shift_ijk = _resampled(labelmap, ijk_to_local, volume_shape(volume)), (0, 0, 0)
    extent = np.array(labelmap.GetExtent())
    sizes_kji = [int(n) for n in (extent[1::2] - extent[::2] + 1)[::-1]]
    origin_kji = [int(n) for n in (extent[::2] + shift_ijk)[::-1]]
    first = tuple(min(max(a, origin), b) for a, b, origin in zip(start, stop, origin_kji))
    last = [max(min(b, origin + n), a) for a, b, origin, n in zip(first, stop, origin_kji, sizes_kji)]
    labels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(sizes_kji)
    label = segmentation.GetSegmentation().GetSegment(segment_id).GetLabelValue()
    return first, labels[tuple(slice(a - o, b - o) for a, b, o in zip(first, last, origin_kji))] == label


def _shift_between_grids(labelmap, ijk_to_local: np.ndarray) -> np.ndarray | None:
    """Whole voxels (i, j, k) from the labelmap's index to the volume's, or None when the grids are not the same."""
    matrix = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    to_volume = np.linalg.inv(ijk_to_local) @ array_from_matrix(matrix)
    shift = np.eye(4)
    shift[:3, 3] = np.round(to_volume[:3, 3])
    extent = labelmap.GetExtent()
    corners_ijk = np.array([[i, j, k, 1] for i in extent[:2] for j in extent[2:4] for k in extent[4:]])
    if np.abs(corners_ijk @ (to_volume - shift).T).max() > GRID_TOLERANCE:
        return None
    return shift[:3, 3].astype(int)


def _resampled(labelmap, ijk_to_local: np.ndarray, shape):
    """The labelmap on the volume's whole grid, nearest neighbour."""
    reference, result = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    reference.SetExtent(0, shape[2] - 1, 0, shape[1] - 1, 0, shape[0] - 1)
    reference.SetGeometryFromImageToWorldMatrix(matrix_from_array(ijk_to_local))
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(labelmap, reference, result, False)
    return result


def intensity_range_works(editor_node, segmentation, volume) -> bool:
    """False where Slicer would drop every change without a word: with an editable intensity range, on a grid of its own."""
    geometry = segmentation.GetSegmentation().GetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName())
    if not editor_node.GetSourceVolumeIntensityMask() or not geometry:
        return True
    reference = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, reference, False)
    shift = _shift_between_grids(reference, ijk_to_segmentation(volume, segmentation))
    return shift is not None and not shift.any()


def write_updates(scripted_effect, segmentation, volume, updates: dict[str, MaskUpdate]) -> bool:
    """Make each segment equal to its update inside the update's box; False when all of them already were.

    One undo state for the whole action. Lost voxels go out with Remove, from all segments first, then new ones in with Add: so
    masking, the editable intensity range and the overwrite mode hold as for any other effect. The modifiers are cropped because
    Slicer 5.8 ignores the extent argument.
    """
    lost, won = [], []
    for segment_id, update in updates.items():
        if update.empty:
            continue
        now = read_box(segmentation, segment_id, volume, update.start, update.stop)
        lost.append((segment_id, update.start, now & ~update.mask, scripted_effect.ModificationModeRemove))
        won.append((segment_id, update.start, update.mask & ~now, scripted_effect.ModificationModeAdd))
    changes = [change for change in lost + won if change[2].any()]
    if not changes:
        return False
    scripted_effect.saveStateForUndo()
    for segment_id, start, mask, mode in changes:
        modifier = _modifier(mask, start, ijk_to_segmentation(volume, segmentation))
        scripted_effect.modifySegmentByLabelmap(segmentation, segment_id, modifier, mode)
    return True


def _modifier(mask: np.ndarray, start, ijk_to_local: np.ndarray):
    """vtkOrientedImageData that is 1 where the mask is True and no larger than needed."""
    low, high = bounding_box(mask)
    crop = mask[tuple(slice(a, b) for a, b in zip(low, high))]
    first_ijk = [s + a for s, a in zip(start, low)][::-1]
    last_ijk = [s + b - 1 for s, b in zip(start, high)][::-1]
    image = slicer.vtkOrientedImageData()
    image.SetExtent(*[bound for pair in zip(first_ijk, last_ijk) for bound in pair])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = crop.ravel()
    image.SetGeometryFromImageToWorldMatrix(matrix_from_array(ijk_to_local))
    return image
