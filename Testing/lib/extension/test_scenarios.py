"""The self-test's assertions, outside of the application: with a network one can compute by hand, and with the shipped ones."""
from __future__ import annotations

import pytest
from InteractiveSegSelfTest import scenarios

from InteractiveSegLib.models import list_families
from InteractiveSegLib.weights import read_manifest

SHIPPED = {entry["family"] for entry in read_manifest()}


@pytest.mark.parametrize("family", ["flood", *(spec.name for spec in list_families() if SHIPPED.issuperset(spec.networks))])
@pytest.mark.parametrize(("effect", "scenario"), scenarios.ALL, ids=lambda value: getattr(value, "__name__", value))
def test_scenario(make_stage, effect, scenario, family):
    scenario(make_stage(effect=effect, family=family))
