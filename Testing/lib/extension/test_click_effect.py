"""The click effect, from an event of the view to the voxels of a segment."""
from __future__ import annotations

import numpy as np
import pytest
from InteractiveSegSelfTest import scenarios


@pytest.mark.parametrize("scenario", scenarios.CLICK_SCENARIOS, ids=lambda f: f.__name__)
def test_scenario(a_stage, scenario):
    scenario(a_stage)
