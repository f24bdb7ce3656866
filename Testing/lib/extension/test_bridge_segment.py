"""Segments: what is written is what is read, only that changes, and the Segment Editor's rules hold."""
from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from geometries import put_under_transform
from InteractiveSegBridge import mrml, sessions
from InteractiveSegBridge.segment import LabelCrop, digest, read_box, read_labels, read_segment, write_updates
from InteractiveSegBridge.workbench import workbench
from InteractiveSegSelfTest.phantom import CENTRE_KJI, INSIDE, RADII_KJI, SHAPE, ellipsoid

from InteractiveSegLib import MaskUpdate

BOX_START, BOX_STOP = (4, 10, 12), (9, 40, 44)


def update_of(mask, start=(0, 0, 0), stop=SHAPE) -> MaskUpdate:
    return MaskUpdate(tuple(start), tuple(stop), mask[tuple(slice(a, b) for a, b in zip(start, stop))])


def write(stage, mask, start=(0, 0, 0), stop=SHAPE) -> bool:
    updates = {stage.segment_id: update_of(mask, start, stop)}
    return write_updates(stage.active.scripted, stage.segmentation, stage.volume, updates)


@pytest.fixture()
def blob():
    return ellipsoid(CENTRE_KJI, RADII_KJI)


def test_written_voxels_are_read_back_by_slicer_at_the_same_place(a_stage, blob):
    assert write(a_stage, blob)
    assert (a_stage.mask() == blob).all()


def test_an_update_changes_nothing_outside_its_box_and_clears_inside(a_stage, blob):
    write(a_stage, blob)
    write(a_stage, np.zeros(SHAPE, bool), BOX_START, BOX_STOP)
    expected = blob.copy()
    expected[tuple(slice(a, b) for a, b in zip(BOX_START, BOX_STOP))] = False
    assert (a_stage.mask() == expected).all()


def test_adding_and_clearing_in_one_update_is_one_undo_step(a_stage, blob):
    write(a_stage, blob)
    moved = np.roll(blob, 7, axis=2)
    write(a_stage, moved)
    assert (a_stage.mask() == moved).all()
    a_stage.undo()
    assert (a_stage.mask() == blob).all()
    a_stage.redo()
    assert (a_stage.mask() == moved).all()


def test_an_update_that_changes_nothing_leaves_no_undo_step(a_stage, blob):
    write(a_stage, blob)
    write(a_stage, np.roll(blob, 3, axis=1))
    assert write(a_stage, np.roll(blob, 3, axis=1)) is False
    a_stage.undo()
    assert (a_stage.mask() == blob).all(), "undo goes back one real edit"


@pytest.mark.parametrize("who", ["volume", "segmentation", "both"])
def test_parent_transforms_do_not_move_the_voxels(a_stage, blob, who):
    nodes = {"volume": [a_stage.volume], "segmentation": [a_stage.segmentation]}
    put_under_transform(*(nodes["volume"] + nodes["segmentation"] if who == "both" else nodes[who]))
    write(a_stage, blob)
    seen = read_segment(a_stage.segmentation, a_stage.segment_id, a_stage.volume)
    overlap = np.zeros(SHAPE, bool)
    overlap[seen.slices] = seen.mask
    if who == "both":
        assert (overlap == blob).all()
    else:  # the segmentation's own grid is another one, so Slicer resamples: the same place, to a voxel's edge
        assert 2 * (overlap & blob).sum() / (overlap.sum() + blob.sum()) > 0.85


def test_a_neighbour_keeps_its_voxels_when_overwriting_is_off(a_stage, blob):
    neighbour = np.roll(blob, 10, axis=2)
    other = a_stage.add_segment("B", neighbour)
    a_stage.editor_node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    write(a_stage, blob)
    assert (a_stage.mask(other) == neighbour).all()
    assert (a_stage.mask() == blob).all()


def test_a_neighbour_gives_way_when_overwriting_is_on_and_comes_back_with_undo(a_stage, blob):
    neighbour = np.roll(blob, 10, axis=2)
    other = a_stage.add_segment("B", neighbour)
    a_stage.editor_node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteAllSegments)
    write(a_stage, blob)
    assert (a_stage.mask(other) == (neighbour & ~blob)).all()
    a_stage.undo()
    assert (a_stage.mask(other) == neighbour).all()


def test_masking_by_another_segment_holds(a_stage, blob):
    other = a_stage.add_segment("B", np.roll(blob, 10, axis=2))
    a_stage.editor_node.SetMaskSegmentID(other)
    a_stage.editor_node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    write(a_stage, blob)
    assert (a_stage.mask() == (blob & np.roll(blob, 10, axis=2))).all()


def test_the_editable_intensity_range_holds(a_stage):
    everything = np.ones(SHAPE, bool)
    a_stage.editor_node.SourceVolumeIntensityMaskOn()
    a_stage.editor_node.SetSourceVolumeIntensityMaskRange(INSIDE - 30, INSIDE + 30)
    write(a_stage, everything)
    image = mrml.volume_array(a_stage.volume)
    assert (a_stage.mask() == (np.abs(image - INSIDE) <= 30)).all()


def test_a_box_reads_only_its_own_voxels(a_stage, blob):
    write(a_stage, blob)
    inside = read_box(a_stage.segmentation, a_stage.segment_id, a_stage.volume, BOX_START, BOX_STOP)
    assert (inside == blob[tuple(slice(a, b) for a, b in zip(BOX_START, BOX_STOP))]).all()
    corner = read_box(a_stage.segmentation, a_stage.segment_id, a_stage.volume, (0, 0, 0), (2, 2, 2))
    assert corner.shape == (2, 2, 2)
    assert not corner.any()


def test_an_empty_segment_reads_as_nothing(a_stage):
    assert read_segment(a_stage.segmentation, a_stage.segment_id, a_stage.volume).empty


def test_two_segments_in_one_labelmap_are_told_apart(a_stage, blob):
    other = a_stage.add_segment("B", np.roll(blob, 30, axis=2) & ~blob)
    write(a_stage, blob)
    seen = read_segment(a_stage.segmentation, other, a_stage.volume)
    assert seen.mask.sum() == (np.roll(blob, 30, axis=2) & ~blob).sum()


def test_a_digest_knows_the_voxels_and_their_labels_and_not_the_box_they_were_read_in(blob):
    tight, labels = update_of(blob, (3, 14, 15), (14, 47, 42)), blob.astype(np.uint8)
    crop = LabelCrop(tight.start, tight.mask.astype(np.uint8))
    assert digest(crop) == digest(LabelCrop((0, 0, 0), labels))
    assert digest(crop) != digest(LabelCrop((0, 0, 0), np.roll(labels, 1, axis=0)))
    assert digest(crop) != digest(LabelCrop((0, 0, 0), 2 * labels))


def test_segments_that_are_read_together_and_where_they_overlap_the_first_one_counts(a_stage, blob):
    other = a_stage.add_segment("B", np.roll(blob, 9, axis=2))
    write(a_stage, blob)
    a_stage.segmentation.GetSegmentation().SeparateSegmentLabelmap(other)
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        np.roll(blob, 9, axis=2).astype(np.uint8), a_stage.segmentation, other, a_stage.volume
    )
    crop = read_labels(a_stage.segmentation, (a_stage.segment_id, other), a_stage.volume)
    labels = np.zeros(SHAPE, np.uint8)
    labels[crop.slices] = crop.labels
    assert ((labels == 1) == a_stage.mask()).all()
    assert ((labels == 2) == (a_stage.mask(other) & ~a_stage.mask())).all()


def test_two_segments_that_exchange_voxels_are_one_undo_step(a_stage, blob):
    a_stage.editor_node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    other = a_stage.add_segment("B", np.roll(blob, 9, axis=2) & ~blob)
    write(a_stage, blob)
    before = a_stage.mask(), a_stage.mask(other)
    one, two = np.roll(blob, 4, axis=2), np.roll(blob, 13, axis=2) & ~np.roll(blob, 4, axis=2)
    updates = {a_stage.segment_id: update_of(one), other: update_of(two)}
    assert write_updates(a_stage.active.scripted, a_stage.segmentation, a_stage.volume, updates)
    assert (a_stage.mask() == one).all()
    assert (a_stage.mask(other) == two).all()
    a_stage.undo()
    assert (a_stage.mask() == before[0]).all()
    assert (a_stage.mask(other) == before[1]).all()


def test_an_edit_by_hand_is_read_once_however_often_the_window_is_drawn(a_stage, blob, monkeypatch):
    session, read = workbench().segment(a_stage.editor_node), []
    monkeypatch.setattr(sessions, "read_labels", lambda *asked: read.append(1) or read_labels(*asked))
    write(a_stage, blob)
    for _ in range(3):
        assert session.given == ()
    assert len(read) == 1
    write(a_stage, np.roll(blob, 3, axis=1))
    assert session.given == ()
    assert len(read) == 2


def test_what_lies_outside_of_the_volume_stays_as_it_is(a_stage, blob):
    small = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(a_stage.volume)[:, :40, :40].copy(), None, "Part")
    matrix = vtk.vtkMatrix4x4()
    a_stage.volume.GetIJKToRASMatrix(matrix)
    small.SetIJKToRASMatrix(matrix)
    beyond = np.zeros(SHAPE, np.uint8)
    beyond[CENTRE_KJI[0], 45:60, 45:60] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(beyond, a_stage.segmentation, a_stage.segment_id, a_stage.volume)
    a_stage.editor_node.SetAndObserveSourceVolumeNode(small)
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    mask = a_stage.mask()
    assert mask[CENTRE_KJI]
    assert mask[beyond != 0].all(), "the part of the segment that the volume does not reach"
