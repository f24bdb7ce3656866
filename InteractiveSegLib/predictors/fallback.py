"""A predictor on a device that may fill up or vanish: one try with a smaller plan, then the CPU; no prompt is lost."""
from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from .. import models
from ..device import FULL, GONE, device_errors, device_failure, lose, release_memory
from ..models.layers.replayed import recorded_at_once
from ..plan import PLANS, Plan
from ..types import InteractiveSegError
from . import Setting

log = logging.getLogger(__name__)


def retreat(plan: Plan, failure: str, predictors: Collection[FallbackPredictor]) -> Plan:
    """The plan to go on with after a device failed, with a sentence that says so; the failed device's memory is given back.

    A device that is full gets one smaller plan; everything else, and a second failure, moves the work to the CPU. predictors:
    what there is on the device, and goes on with the plan.
    """
    for predictor in predictors:
        predictor.let_go()
    models.load.cache_clear()
    if failure == GONE:
        lose(plan.device)
    release_memory(plan.device)
    if failure == FULL and not plan.again:
        words = f"The memory of {plan.device} was full: a smaller plan is used, which is slower."
        plan = plan.smaller()
    elif plan.device != "cpu":
        words = f"The device {plan.device} {failure}: the CPU goes on, which is slower."
        plan = replace(PLANS["cpu"], examples=min(plan.examples, PLANS["cpu"].examples))
    else:
        raise InteractiveSegError("The computer has no memory left: close other programs, or crop the image.")
    log.warning("%s", words)
    plan = replace(plan, sentence=words)
    for predictor in predictors:
        predictor.plan = plan
    return plan


class FallbackPredictor:
    """Answers like the predictor that `make(setting)` makes, whatever happens to the setting's device.

    retreat: called with what `device_failure` says; it lets go of all that is on the device and returns the plan to go on with.
    predictor: what it answers with, None until it is asked. plan: what the next one is made by.
    """

    def __init__(self, make: Callable[[Setting], Any], setting: Setting, retreat: Callable[[str], Plan]) -> None:
        self._make, self._setting, self._retreat = make, setting, retreat
        self.predictor: Any = None
        self.plan = setting.plan
        self._canvases: dict = {}  # where VerSe looked before the last question, so that the next predictor looks there too

    def predict(self, requests):
        return self._ask("predict", requests)

    def warm_up(self, image, key) -> None:
        with recorded_at_once():
            self._ask("warm_up", image, key)

    def automatic(self, image):
        return self._ask("automatic", image)

    def refine(self, *arguments):
        return self._ask("refine", *arguments)

    def let_go(self) -> None:
        """Keep nothing on the device. The next question makes a predictor anew, which looks where this one did."""
        self._canvases = dict(getattr(self.predictor, "canvases", self._canvases))
        self.predictor = None

    def _ask(self, method: str, *arguments):
        try:
            if self.predictor is None:
                self.predictor = self._make(replace(self._setting, plan=self.plan))
                if self._canvases:
                    self.predictor.canvases = self._canvases
            self._canvases = dict(getattr(self.predictor, "canvases", ()))
            return getattr(self.predictor, method)(*arguments)
        except device_errors() as error:
            failure = device_failure(error)
            if not failure:
                raise
        self.predictor = None
        self.plan = self._retreat(failure)
        return self._ask(method, *arguments)
