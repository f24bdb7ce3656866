"""The self-test's assertions, outside of the application."""
from __future__ import annotations

import pytest
from InteractiveSegSelfTest import scenarios


@pytest.mark.parametrize(("effect", "scenario"), scenarios.ALL, ids=lambda value: getattr(value, "__name__", value))
def test_scenario(make_stage, effect, scenario):
    scenario(make_stage(effect=effect))
