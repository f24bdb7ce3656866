"""The self-test's assertions, outside of the application: with a network one can compute by hand, and with the shipped ones."""
from __future__ import annotations

import pytest
from InteractiveSegSelfTest import scenarios

CASES = [*((effect, scenario, "flood") for effect, scenario in scenarios.ALL), *scenarios.cases()]


@pytest.mark.parametrize(("effect", "scenario", "family"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_scenario(make_stage, effect, scenario, family):
    scenario(make_stage(effect=effect, family=family))
