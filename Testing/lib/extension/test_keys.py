"""Single keys in a slice view: ours work and stop there, Slicer's own go on to Slicer."""
from __future__ import annotations

import pytest
from InteractiveSegBridge.workbench import workbench
from InteractiveSegEffects import keys
from InteractiveSegSelfTest.phantom import CENTRE_KJI

# What the slice views and the Segment Editor's shortcuts take, from Slicer's sources and as measured in 5.8.
TAKEN = {*"bfgrtvV[]{}", *"0123456789iqwyz,./*<>", "Up", "Down", "Left", "Right", "Escape", "space"}


def test_no_key_of_ours_is_one_of_slicers_and_none_is_given_twice():
    own = [tool.key for tool in keys.TOOLS]
    own += [keys.REMOVE, keys.NEXT_SEGMENT, keys.START_OVER, keys.VISIBILITY, keys.DELETE]
    assert len(own) == len(set(own))
    assert not set(own) & TAKEN


@pytest.mark.parametrize("tool", keys.TOOLS, ids=lambda tool: tool.word)
def test_a_key_chooses_the_tool_whose_button_shows_it(a_stage, tool):
    assert not a_stage.press_key(tool.key), "the key goes no further"
    chosen = a_stage.effect.NAME
    assert chosen == tool.effect
    texts = [button.text for button in a_stage.effect.panel.toolButtons.values()]
    assert f"{tool.word} ({tool.key})" in texts


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
    assert keys.NEXT_SEGMENT in a_stage.effect.panel.nextButton.text


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


@pytest.mark.parametrize("key", ["r", "f", "Up", "q"])
def test_slicers_keys_stay_slicers(a_stage, key):
    assert a_stage.press_key(key)


def test_with_control_a_key_is_not_ours(a_stage):
    assert a_stage.event("KeyPressEvent", (150, 120), control=True, key=keys.START_OVER)
    assert a_stage.event("KeyPressEvent", (150, 120), control=True, key="s")
