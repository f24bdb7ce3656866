"""The tests have teeth: four bugs that are easily made, put in on purpose, each fail a scenario of the self-test."""
from __future__ import annotations

import numpy as np
import pytest
from InteractiveSegBridge import mrml
from InteractiveSegEffects.AbstractInteractiveEffect import AbstractInteractiveEffect
from InteractiveSegSelfTest import scenarios
from scripted_effect import ScriptedEffectDouble


def swapped_axes(monkeypatch):
    right = mrml.xy_to_kji
    monkeypatch.setattr(mrml, "xy_to_kji", lambda *args: right(*args)[[0, 2, 1]])


def lost_undo(monkeypatch):
    monkeypatch.setattr(ScriptedEffectDouble, "saveStateForUndo", lambda effect: None)


def wrong_return_value(monkeypatch):
    right = AbstractInteractiveEffect.processInteractionEvents
    monkeypatch.setattr(AbstractInteractiveEffect, "processInteractionEvents", lambda *args: np.bool_(right(*args)))


def mistyped_property(monkeypatch):
    def say(effect, text):
        effect.panel.statusLabel.txt = text

    monkeypatch.setattr(AbstractInteractiveEffect, "say", say)


@pytest.mark.parametrize("bug, effect, scenario", [
    (swapped_axes, "InteractiveBox", scenarios.box_segments_what_it_encloses),
    (lost_undo, "InteractiveClick", scenarios.undo_and_redo_are_exact),
    (wrong_return_value, "InteractiveClick", scenarios.clicks_fill_the_ellipsoid),
    (mistyped_property, "InteractiveClick", scenarios.clicks_fill_the_ellipsoid),
])
def test_a_deliberate_bug_fails_the_scenario_that_passes_without_it(
    make_stage, monkeypatch, no_hidden_error, bug, effect, scenario
):
    scenario(make_stage(effect=effect))
    assert no_hidden_error == []
    bug(monkeypatch)
    try:
        scenario(make_stage(effect=effect))
    except (AssertionError, AttributeError) as error:
        no_hidden_error.append(error)
    assert no_hidden_error, "nobody has noticed"
    no_hidden_error.clear()
