"""Ways to segment a set of images one after the other, each with its own memory of what was accepted. Knows the session.

All answer the same robot, see sequence.Annotator.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..context import ContextEntry, ContextSet
from ..device import choose_device
from ..geometry import Canvas, normalise
from ..predictors.context import ContextPredictor, answer
from ..predictors.slices import Request, SlicePredictor
from ..prompts import Prompt
from ..session import InteractiveSession

UNIVERSEG_FEWEST = 5  # examples; with fewer the paper leaves UniverSeg's answer out, as starting from it did harm


class Alone:
    """ScribblePrompt on each image for itself: it accepts without learning."""

    name = family = "scribbleprompt"

    def __init__(self, device: str = "auto", weights: Path | None = None, mode: str | None = None) -> None:
        self._options = {"model": self.family, "device": device, "weights": weights, "mode": mode}
        InteractiveSession(np.zeros((64, 64), np.float32), **self._options).warm_up()

    def begin(self) -> None:
        pass

    def start(self, image: np.ndarray, spacing: tuple[float, float] | None = None) -> np.ndarray:
        self._session = InteractiveSession(image, spacing=spacing, **self._options)
        return self._session.mask

    def add(self, prompt: Prompt) -> np.ndarray:
        self._session.add(prompt)
        return self._session.mask

    def accept(self, truth: np.ndarray) -> None:
        pass


class Growing(Alone):
    """MultiverSeg with a context that grows by what was accepted.

    always: its answer is where prompts start on every image, as in the paper, whether that helps or not. ideal: the context
    grows by the truth instead, which bounds what it can give.
    """

    family = "multiverseg"

    def __init__(self, device: str = "auto", weights: Path | None = None, always: bool = False, ideal: bool = False) -> None:
        super().__init__(device, weights, "always" if always else None)
        self.name = "multiverseg" + ", always" * always + ", true context" * ideal
        self._ideal = ideal
        self.begin()

    def begin(self) -> None:
        self._context = ContextSet()

    def start(self, image: np.ndarray, spacing: tuple[float, float] | None = None) -> np.ndarray:
        self._session = InteractiveSession(image, spacing=spacing, context=self._context, **self._options)
        if len(self._context):
            self._session.predict()
        return self._session.mask

    def accept(self, truth: np.ndarray) -> None:
        if self._ideal:
            self._context.add(self._session.image, truth, self._session.placement.spacing)
        elif self._session.mask.any():
            self._session.accept()


class UniverSegStart(Alone):
    """SP+UVS, the paper's baseline: UniverSeg's answer from the accepted images, then ScribblePrompt refines it."""

    name = "SP+UVS"

    def __init__(self, device: str = "auto", weights: Path | None = None) -> None:
        super().__init__(device)
        self._universeg = UniverSeg(device, weights)
        self.begin()

    def begin(self) -> None:
        self._context = ContextSet()

    def start(self, image: np.ndarray, spacing: tuple[float, float] | None = None) -> np.ndarray:
        super().start(image, spacing)
        if len(self._context) >= UNIVERSEG_FEWEST:
            self._session.set_mask(self._universeg.predict(self._context.enabled(), image, spacing))
        return self._session.mask

    def accept(self, truth: np.ndarray) -> None:
        self._context.add(self._session.image, self._session.mask, self._session.placement.spacing)


class Soft:
    """MultiverSeg as in `Growing`, but the probabilities enter the context uncut: the paper found it worse."""

    name = "multiverseg, soft context"

    def __init__(self, device: str = "auto", weights: Path | None = None) -> None:
        from ..models import load

        self._device = choose_device(device)
        self._network = load("multiverseg", weights, self._device)
        self._first = load("scribbleprompt", None, self._device)
        self.begin()

    def begin(self) -> None:
        self._pairs: list[np.ndarray] = []  # (2, size, size): image and probability

    def start(self, image: np.ndarray, spacing: tuple[float, float] | None = None) -> np.ndarray:
        self._image, self._prompts, self._logits = image, (), None
        self._spacing = spacing or (1.0, 1.0)
        return self._predict() if self._pairs else np.zeros(image.shape, bool)

    def add(self, prompt: Prompt) -> np.ndarray:
        self._prompts = (*self._prompts, prompt)
        return self._predict()

    def accept(self, truth: np.ndarray) -> None:
        if self._logits is None:
            return
        canvas = Canvas(self._image.shape, self._spacing, self._network.size)
        probability = 1 / (1 + np.exp(-np.clip(self._logits, -30, 30)))
        self._pairs.append(np.stack([canvas.shrink(normalise(self._image)), canvas.shrink(probability)]))

    def _predict(self) -> np.ndarray:
        if not self._pairs:
            request = Request(self._image, self._prompts, self._logits)
            self._logits = SlicePredictor(self._first, self._spacing).predict([request])[0]
            return self._logits > 0
        request = Request(self._image, self._prompts, self._logits)
        self._logits = answer(request, Uncut(self._network, self._pairs), SlicePredictor(self._first, self._spacing))
        return self._logits > 0


class Uncut:
    """A ContextNetwork with examples (2, size, size) whose masks stay probabilities; `ContextNetwork.encode` cuts them."""

    def __init__(self, network, pairs: Sequence[np.ndarray]) -> None:
        import torch

        from ..models.multiverseg import EncodedContext

        self.size, self.refines, self._network = network.size, network.refines, network
        with torch.inference_mode(), network.arithmetic():
            support = torch.from_numpy(np.stack(pairs).astype(np.float32))[None].to(network.device)
            self._encoded = EncodedContext(support, network.network.first_term(support))

    def predict(self, images: np.ndarray, prompts: np.ndarray, previous: np.ndarray) -> np.ndarray:
        return self._network.predict(images, prompts, previous, self._encoded)


class MultiverSeg:
    """MultiverSeg without prompts, on as many examples as it is given."""

    name = "multiverseg"

    def __init__(self, device: str = "auto", weights: Path | None = None) -> None:
        from ..models import load

        self._network = load("multiverseg", weights, choose_device(device))

    def predict(self, examples: Sequence[ContextEntry], image: np.ndarray,
                spacing: tuple[float, float] | None = None) -> np.ndarray:
        """The mask from the examples alone, bool (rows, columns)."""
        context = ContextSet()
        context.put(examples)
        without = SlicePredictor(None, spacing or (1.0, 1.0))
        predictor = ContextPredictor(self._network, without, context, budget=len(examples), always=True)
        return predictor.predict([Request(image, (), None)])[0] > 0


class UniverSeg:
    """UniverSeg, which knows no prompts, on the same canvas as the others."""

    name = "universeg"

    def __init__(self, device: str = "auto", weights: Path | None = None) -> None:
        from ..models import load

        self._device = choose_device(device)
        self._network = load("universeg", weights, self._device)

    def predict(self, examples: Sequence[ContextEntry], image: np.ndarray,
                spacing: tuple[float, float] | None = None) -> np.ndarray:
        """The mask from the examples alone, bool (rows, columns)."""
        import torch

        size = self._network.config.size
        pairs = []
        for entry in examples:
            canvas = Canvas(entry.info.shape, entry.info.spacing, size)
            pairs.append(np.stack([canvas.shrink(normalise(entry.image)), canvas.shrink(entry.mask) > 0.5]))
        canvas = Canvas(image.shape, spacing or (1.0, 1.0), size)
        with torch.inference_mode():
            support = torch.from_numpy(np.stack(pairs).astype(np.float32))[None].to(self._device)
            target = torch.from_numpy(canvas.shrink(normalise(image)))[None, None].to(self._device)
            logits = self._network(target, support)[0, 0].float().cpu().numpy()
        return canvas.expand(logits) > 0
