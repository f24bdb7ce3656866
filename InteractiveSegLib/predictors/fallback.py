"""A predictor on a device that may fill up or vanish: one try with a smaller plan, then the CPU; no prompt is lost."""
from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .. import models
from ..device import FULL, GONE, device_failure, lose, release_memory
from ..plan import PLANS, Plan
from ..types import InteractiveSegError
from . import Setting

log = logging.getLogger(__name__)


def retreat(plan: Plan, failure: str) -> Plan:
    """The plan to go on with after a device failed, with a sentence that says so; the failed device's memory is given back.

    A device that is full gets one smaller plan; everything else, and a second failure, moves the work to the CPU.
    """
    models.load.cache_clear()
    if failure == GONE:
        lose(plan.device)
    release_memory(plan.device)
    if failure == FULL and not plan.again:
        words = f"The memory of {plan.device} was full: a smaller plan is used, which is slower."
        plan = plan.smaller()
    elif plan.device != "cpu":
        words = f"The device {plan.device} {failure}: the CPU goes on, which is slower."
        plan = PLANS["cpu"]
    else:
        raise InteractiveSegError("The computer has no memory left: close other programs, or crop the image.")
    log.warning("%s", words)
    return replace(plan, sentence=words)


class FallbackPredictor:
    """Answers like the predictor that `make(setting)` makes, whatever happens to the setting's device.

    adopt: called with the plan that it goes on with after a failure.
    """

    def __init__(self, make: Callable[[Setting], Any], setting: Setting, adopt: Callable[[Plan], None]) -> None:
        self._make, self._setting, self._adopt = make, setting, adopt
        self.predictor: Any = None
        self._canvases: dict = {}  # where VerSe looked before the last question, so that the next predictor looks there too

    def predict(self, requests):
        return self._ask("predict", requests)

    def warm_up(self, image, key) -> None:
        self._ask("warm_up", image, key)

    def automatic(self, image):
        return self._ask("automatic", image)

    def refine(self, *arguments):
        return self._ask("refine", *arguments)

    def _ask(self, method: str, *arguments):
        try:
            if self.predictor is None:
                self.predictor = self._make(self._setting)
                if self._canvases:
                    self.predictor.canvases = self._canvases
            self._canvases = dict(getattr(self.predictor, "canvases", ()))
            return getattr(self.predictor, method)(*arguments)
        except (RuntimeError, MemoryError) as error:
            failure = device_failure(error)
            if not failure:
                raise
        self.predictor = None
        plan = retreat(self._setting.plan, failure)
        self._setting = replace(self._setting, plan=plan)
        self._adopt(plan)
        return self._ask(method, *arguments)
