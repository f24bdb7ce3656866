"""Single keys in a slice view: ours work and stop there, Slicer's own go on to Slicer."""
from __future__ import annotations

from dataclasses import replace

import pytest
from InteractiveSegBridge.workbench import workbench
from InteractiveSegEffects import keys
from InteractiveSegSelfTest.phantom import CENTRE_KJI

from InteractiveSegLib import models

FREE = {"p", "a", "g", "x", "Return", "Delete"}  # as measured in Slicer 5.8 with the Segment Editor open


def test_every_key_is_one_that_slicer_leaves_free_and_none_is_given_twice():
    own = [keys.NEXT_TOOL, keys.REMOVE, keys.NEXT_SEGMENT, keys.START_OVER, keys.VISIBILITY, keys.DELETE]
    assert len(own) == len(set(own))
    assert set(own) <= FREE


def test_the_tool_key_goes_through_all_tools_and_the_next_ones_button_shows_it(a_stage):
    panel, chosen = a_stage.effect.panel, []
    for _ in keys.TOOLS:
        [shown] = [name for name, button in a_stage.effect.panel.toolButtons.items() if button.text.endswith(" (p)")]
        assert not a_stage.press_key("p"), "the key goes no further"
        assert shown == a_stage.effect.NAME
        chosen.append(shown)
    assert chosen == ["InteractiveScribble", "InteractiveBox", "InteractiveLasso", "InteractiveClick"]
    assert a_stage.effect.panel is panel


def test_the_tool_key_and_the_buttons_leave_out_what_the_model_does_not_understand(a_stage, monkeypatch):
    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], prompts=("Click", "Lasso")))
    a_stage.effect.updateGUIFromMRML()
    buttons = a_stage.effect.panel.toolButtons
    assert [name for name, button in buttons.items() if button.enabled] == ["InteractiveLasso"]
    a_stage.press_key("p")
    assert a_stage.effect.NAME == "InteractiveLasso"
    monkeypatch.setitem(models.FAMILIES, "flood", replace(models.FAMILIES["flood"], prompts=("Lasso",)))
    a_stage.effect.updateGUIFromMRML()
    assert not a_stage.press_key("p")
    assert a_stage.effect.NAME == "InteractiveLasso", "there is no other"


def test_every_other_key_is_shown_on_its_button(a_stage):
    panel = a_stage.effect.panel
    for button, key in ((panel.removeButton, keys.REMOVE), (panel.nextButton, keys.NEXT_SEGMENT),
                        (panel.startOverButton, keys.START_OVER), (panel.visibilityButton, keys.VISIBILITY)):
        assert button.text.endswith(f" ({key})")


def test_the_tool_buttons_choose_tools_too(a_stage):
    a_stage.effect.panel.toolButtons["InteractiveLasso"].click()
    assert a_stage.effect.NAME == "InteractiveLasso"
    assert not a_stage.effect.panel.toolButtons["InteractiveLasso"].enabled


def test_the_next_segment_key_goes_round(a_stage):
    other = a_stage.logic.AddEmptySegment("B")
    a_stage.logic.SetCurrentSegmentID(a_stage.segment_id)
    chosen = []
    for _ in range(2):
        a_stage.press_key(keys.NEXT_SEGMENT)
        chosen.append(a_stage.editor_node.GetSelectedSegmentID())
    assert chosen == [other, a_stage.segment_id]


def test_the_visibility_key_hides_and_shows_the_segment(a_stage):
    display = a_stage.segmentation.GetDisplayNode()
    a_stage.press_key(keys.VISIBILITY)
    assert not display.GetSegmentVisibility(a_stage.segment_id)
    a_stage.press_key(keys.VISIBILITY)
    assert display.GetSegmentVisibility(a_stage.segment_id)


def test_the_start_over_key_clears_the_segment(a_stage):
    a_stage.click(CENTRE_KJI)
    a_stage.settle()
    a_stage.press_key(keys.START_OVER)
    a_stage.settle()
    assert not a_stage.mask().any()
    assert workbench().prompts(a_stage.editor_node) == ()


@pytest.mark.parametrize("key", ["r", "f", "Up", "q", "s", "d", "l", "e", "o", "h"])
def test_slicers_keys_stay_slicers(a_stage, key):
    assert a_stage.press_key(key)


def test_with_control_a_key_is_not_ours(a_stage):
    assert a_stage.event("KeyPressEvent", (150, 120), control=True, key=keys.START_OVER)
    assert a_stage.event("KeyPressEvent", (150, 120), control=True, key="p")
