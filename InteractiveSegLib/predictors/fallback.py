"""A predictor on an accelerator that may fill up or vanish: one try with a smaller plan, then the CPU; no prompt is lost."""
from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from . import Setting

log = logging.getLogger(__name__)


class FallbackPredictor:
    """Answers like the predictor that `make(setting)` makes, whatever happens to the setting's device.

    A predictor with `smaller()` is asked once more after it, when memory ran out; everything else, and a second failure, moves
    the work to the CPU for good. `notice` is a sentence on what happened, or "".
    """

    def __init__(self, make: Callable[[Setting], Any], setting: Setting) -> None:
        self._make, self._setting = make, setting
        self._predictor: Any = None
        self._shrunk = False
        self.notice = ""

    def predict(self, requests):
        return self._ask("predict", requests)

    def warm_up(self, image) -> None:
        self._ask("warm_up", image)

    def automatic(self, image):
        return self._ask("automatic", image)

    def refine(self, *arguments):
        return self._ask("refine", *arguments)

    def _ask(self, method: str, *arguments):
        try:
            if self._predictor is None:
                self._predictor = self._make(self._setting)
            return getattr(self._predictor, method)(*arguments)
        except RuntimeError as error:
            failure = device_failure(error)
            if not failure or self._setting.device == "cpu":
                raise
        self._retreat(failure)
        return self._ask(method, *arguments)

    def _retreat(self, failure: str) -> None:
        """Make room, or leave the device."""
        release_memory(self._setting.device)
        if failure == FULL and not self._shrunk and hasattr(self._predictor, "smaller"):
            self._shrunk = True
            self._predictor.smaller()
            self.notice = f"The memory of {self._setting.device} was full: a smaller plan is used, which is slower."
        else:
            self.notice = f"The device {self._setting.device} {failure}: the CPU goes on, which is slower."
            self._predictor, self._setting = None, replace(self._setting, device="cpu")
        log.warning("%s", self.notice)


FULL = "has no memory left"
GONE = "does not answer any more"
LOST = ("CUDA error", "CUDA driver", "cudaError", "CUDNN_STATUS", "CUBLAS_STATUS", "MPS backend", "No CUDA GPUs")


def device_failure(error: RuntimeError) -> str:
    """FULL, GONE, or "" when the error has nothing to do with the device."""
    import torch

    text = str(error)
    if isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in text:
        return FULL
    return GONE if any(words in text for words in LOST) else ""


def release_memory(device: str) -> None:
    """Give what torch keeps of a device's memory back to it."""
    import torch

    if device.startswith("cuda") and torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
