"""The assertions, once. A stage gives them a volume in a view and a mouse; see `stage.Stage` for what it must offer."""
from __future__ import annotations

import numpy as np
from InteractiveSegBridge import mrml
from InteractiveSegBridge.advice import missing_weights
from InteractiveSegEffects import keys

from InteractiveSegLib.models import find_family, list_families

from .phantom import CENTRE_KJI, NEIGHBOUR_KJI, NEIGHBOUR_RADII_KJI, RADII_KJI, ellipsoid


def clicks_fill_the_ellipsoid(stage) -> None:
    """A click and up to four near the rim: the mask is in the slice clicked, on the ellipsoid, and nowhere else."""
    k, j, i = CENTRE_KJI
    truth = ellipsoid(CENTRE_KJI, RADII_KJI)[k]
    stage.click(CENTRE_KJI)
    stage.settle()
    mask = stage.mask()
    assert mask[CENTRE_KJI], "the voxel clicked is in the segment"
    assert set(np.flatnonzero(mask.any(axis=(1, 2)))) == {k}, "only the slice clicked has changed"
    assert (mask[k] & truth).sum() > 0.9 * mask[k].sum(), "what was found is the ellipsoid's"
    below, right = (3 * radius // 4 for radius in RADII_KJI[1:])
    for rim in ((j - below, i), (j + below, i), (j, i - right), (j, i + right)):
        stage.click((k, *rim))
        stage.settle()
        overlap = dice(stage.mask()[k], truth)
        if overlap > 0.8:
            break
    assert overlap > 0.8, f"the ellipsoid is found (Dice {overlap:.2f})"


def control_click_removes(stage) -> None:
    """Ctrl + click takes away what it points at."""
    stage.click(CENTRE_KJI)
    stage.settle()
    before = stage.mask()
    stage.click(CENTRE_KJI, control=True)
    stage.settle()
    assert stage.mask().sum() < before.sum(), "the negative click made the segment smaller"


def undo_and_redo_are_exact(stage) -> None:
    """One undo per prompt, back to the same voxels; and the next prompt starts from there."""
    stage.click(CENTRE_KJI)
    stage.settle()
    one = stage.mask()
    stage.click(NEIGHBOUR_KJI)
    stage.settle()
    two = stage.mask()
    assert (one != two).any(), "the second click changed something"
    stage.undo()
    assert (stage.mask() == one).all(), "undo brings the first answer back"
    stage.undo()
    assert not stage.mask().any(), "undo again: nothing is left"
    stage.redo()
    stage.redo()
    assert (stage.mask() == two).all(), "redo is exact"


def box_segments_what_it_encloses(stage) -> None:
    """A dragged box finds the darker ellipsoid in the slice it was drawn in."""
    low = [c - r for c, r in zip(NEIGHBOUR_KJI, NEIGHBOUR_RADII_KJI)]
    high = [c + r for c, r in zip(NEIGHBOUR_KJI, NEIGHBOUR_RADII_KJI)]
    low[0] = high[0] = NEIGHBOUR_KJI[0]
    stage.drag(low, high)
    stage.settle()
    mask = stage.mask()
    assert set(np.flatnonzero(mask.any(axis=(1, 2)))) == {NEIGHBOUR_KJI[0]}, "only the slice of the box has changed"
    overlap = dice(mask[NEIGHBOUR_KJI[0]], ellipsoid(NEIGHBOUR_KJI, NEIGHBOUR_RADII_KJI)[NEIGHBOUR_KJI[0]])
    assert overlap > 0.7, f"the darker ellipsoid is found (Dice {overlap:.2f})"


def dice(one: np.ndarray, two: np.ndarray) -> float:
    """Overlap of two bool arrays, 1 when both are empty."""
    total = one.sum() + two.sum()
    return float(2 * (one & two).sum() / total) if total else 1.0


def a_stroke_adds_to_the_clicks(stage) -> None:
    """A stroke through the object keeps what a click of the other tool had said."""
    k, j, i = CENTRE_KJI
    truth = ellipsoid(CENTRE_KJI, RADII_KJI)[k]
    stage.drag((k, j - 8, i), (k, j + 8, i))
    stage.settle()
    stage.drag((k, j, i - 6), (k, j, i + 6))
    stage.settle()
    mask = stage.mask()
    assert mask[k, j - 6 : j + 7, i].all(), "what was painted belongs to the segment"
    assert set(np.flatnonzero(mask.any(axis=(1, 2)))) == {k}, "only the slice painted has changed"
    assert dice(mask[k], truth) > 0.6, "the ellipsoid is found"
    assert len(stage.prompts()) == 2


def a_lasso_finds_what_it_encloses(stage) -> None:
    """A curve drawn around the darker ellipsoid finds it, and nothing outside of the curve's slice."""
    k, j, i = NEIGHBOUR_KJI
    _, height, width = (r + 3 for r in NEIGHBOUR_RADII_KJI)
    stage.draw([(k, j - height, i), (k, j, i + width), (k, j + height, i), (k, j, i - width), (k, j - height, i)])
    stage.settle()
    mask = stage.mask()
    assert set(np.flatnonzero(mask.any(axis=(1, 2)))) == {k}, "only the slice drawn in has changed"
    overlap = dice(mask[k], ellipsoid(NEIGHBOUR_KJI, NEIGHBOUR_RADII_KJI)[k])
    assert overlap > 0.6, f"the darker ellipsoid is found (Dice {overlap:.2f})"


def propagation_fills_the_slices_beside(stage) -> None:
    """The mask of one slice is carried to its neighbours, in one undoable step."""
    k = CENTRE_KJI[0]
    stage.click(CENTRE_KJI)
    stage.settle()
    before = stage.mask()
    panel = stage.effect.panel
    panel.firstSpin.setValue(k - 2)
    panel.lastSpin.setValue(k + 2)
    stage.effect.onPropagate()
    stage.settle()
    mask = stage.mask()
    assert set(np.flatnonzero(mask.any(axis=(1, 2)))) == set(range(k - 2, k + 3)), panel.statusLabel.text
    assert (mask[k] == before[k]).all(), "the slice that was clicked stays"
    alike = [dice(mask[index], before[k]) for index in (k - 1, k + 1)]
    assert min(alike) > 0.6, f"the neighbours look like it (Dice {alike[0]:.2f} and {alike[1]:.2f})"
    stage.undo()
    assert (stage.mask() == before).all()


def prompts_survive_saving(stage) -> None:
    """Segment and prompts are there again after the scene was saved, closed and loaded, at the same place in the patient."""
    stage.click(CENTRE_KJI)
    stage.settle()
    place, voxels = stage.ras_of(CENTRE_KJI), stage.mask().sum()
    stage.save_and_load()
    assert stage.mask().sum() == voxels
    [prompt] = stage.prompts()
    assert np.allclose(stage.ras_of(prompt.position), place, atol=0.01), "the prompt is where it was"
    assert stage.mask()[prompt.position]


def a_click_is_answered(stage) -> None:
    """For models of structures that the phantom does not have: the click is answered without a failure, and undone."""
    stage.call_segment(find_family(stage.editor_node.GetAttribute("InteractiveSeg.Model")).lists[0][0])
    stage.click(CENTRE_KJI)
    stage.settle()
    assert len(stage.prompts()) == 1, "a prompt without an answer does not stay"
    stage.undo()
    assert not stage.prompts(), "one undo for one click"
    assert not stage.mask().any()


def a_tilted_view_is_segmented_as_it_is_seen(stage) -> None:
    """In a view that follows no slice of the volume the mask is on the voxels that the view cuts, and on the ellipsoid."""
    stage.show_slice_of(CENTRE_KJI, tilt_degrees=30)
    plane = mrml.plane_shown(stage.view.mrmlSliceNode(), stage.volume)
    stage.click(CENTRE_KJI)
    stage.settle()
    truth = plane.cut(ellipsoid(CENTRE_KJI, RADII_KJI))
    shown = plane.cut(stage.mask())
    assert stage.mask()[CENTRE_KJI], "the voxel clicked is in the segment"
    assert (shown & truth).sum() > 0.9 * shown.sum(), "what was found is the ellipsoid's"
    assert set(np.flatnonzero(stage.mask().any(axis=(1, 2)))) - {CENTRE_KJI[0]}, "the plane cuts several slices"
    stage.undo()
    assert not stage.mask().any()


def single_keys_work_in_the_view(stage) -> None:
    """One key swaps adding and removing, one hides the segment, one starts it over, and undo brings it back."""
    stage.click(CENTRE_KJI)
    stage.settle()
    before, display = stage.mask(), stage.segmentation.GetDisplayNode()
    for expected in (True, False):
        stage.press_key(keys.REMOVE)
        assert stage.effect.panel.removes is expected, "the button follows the key"
    for expected in (False, True):
        stage.press_key(keys.VISIBILITY)
        assert bool(display.GetSegmentVisibility(stage.segment_id)) is expected, "the segment is hidden and shown"
    stage.press_key(keys.START_OVER)
    stage.settle()
    assert not stage.mask().any(), "nothing is left"
    stage.undo()
    assert (stage.mask() == before).all()


ALL = (
    ("InteractiveClick", single_keys_work_in_the_view),
    ("InteractiveClick", clicks_fill_the_ellipsoid),
    ("InteractiveClick", control_click_removes),
    ("InteractiveClick", undo_and_redo_are_exact),
    ("InteractiveClick", prompts_survive_saving),
    ("InteractiveClick", a_tilted_view_is_segmented_as_it_is_seen),
    ("InteractiveBox", box_segments_what_it_encloses),
    ("InteractiveScribble", a_stroke_adds_to_the_clicks),
    ("InteractiveLasso", a_lasso_finds_what_it_encloses),
    ("InteractiveClick", propagation_fills_the_slices_beside),
)


def cases() -> list:
    """(effect, scenario, family) for every family whose weights are shipped; the full list for those that segment anything."""
    found = []
    for family in list_families():
        if missing_weights(family):
            continue
        for effect, scenario in ALL if not family.lists else (("InteractiveClick", a_click_is_answered),):
            if effect[len("Interactive") :] in family.prompts:
                found.append((effect, scenario, family.name))
    return found
