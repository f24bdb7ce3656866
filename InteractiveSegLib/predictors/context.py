"""Slices of a task of which examples were accepted: a network that reads prompts and examples, and one for the first image.

An empty context goes to ScribblePrompt-UNet (MultiverSeg section 4.3); masks enter the context as they are cut, not as
probabilities (section 5).
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..context import ContextEntry, ContextSet
from ..context.selection import choose_described, describe
from ..geometry import Canvas, Window, normalise
from ..models.layers.cross_conv import DEFAULT_PLAN, MemoryPlan
from ..types import InteractiveSegError
from . import Setting
from .slices import Request, SlicePredictor, keep_prompts

KEPT = 4  # encoded sets of examples


@dataclass(frozen=True, eq=False)
class Example:
    """An entry as the network sees it: image float32 and mask bool, (size, size), and the vector it is chosen by."""

    image: np.ndarray
    mask: np.ndarray
    description: np.ndarray


@dataclass(frozen=True, eq=False)
class NetworkWithContext:
    """A ContextNetwork with its examples already read, in the place of a network that needs none."""

    network: object
    encoded: object
    plan: MemoryPlan

    @property
    def size(self) -> int:
        return self.network.size

    @property
    def refines(self) -> bool:
        return self.network.refines

    def predict(self, images: np.ndarray, prompts: np.ndarray, previous: np.ndarray) -> np.ndarray:
        return self.network.predict(images, prompts, previous, self.encoded, self.plan)


class ContextPredictor:
    """Runs MultiverSeg with a context, and `first` (a SlicePredictor) while the context is empty.

    network: models.multiverseg.ContextNetwork. budget: the most examples that one prediction uses; where there are more, those
    that are most useful for its slice.
    """

    def __init__(self, network, first: SlicePredictor, context: ContextSet | None, budget: int,
                 plan: MemoryPlan = DEFAULT_PLAN) -> None:
        self.network, self.first, self.context, self.budget, self.plan = network, first, context, budget, plan
        self._examples: dict[str, Example] = {}
        self._encoded: OrderedDict[tuple[str, ...], NetworkWithContext] = OrderedDict()

    @classmethod
    def of(cls, setting: Setting) -> ContextPredictor:
        plan = setting.plan
        first = SlicePredictor(setting.network("scribbleprompt"), setting.spacing, setting.window, plan.batch)
        return cls(setting.network(), first, setting.context, plan.examples, MemoryPlan(plan.chunk, plan.again))

    def warm_up(self, image: np.ndarray) -> None:
        """Run once on a slice (rows, columns), so that the first prompt is as quick as the next."""
        self.predict([Request(image, (), None)]) if self._enabled() else self.first.warm_up(image)

    def predict(self, requests: Sequence[Request]) -> list[np.ndarray]:
        """Logits (rows, columns) float32 of each request."""
        enabled = self._enabled()
        if not enabled:
            if any(not request.prompts and request.previous is None for request in requests):
                raise InteractiveSegError("The context is empty, nothing can be predicted yet: give a first prompt.")
            return self.first.predict(requests)
        return [answer(request, self._with_context(enabled, request.image), self.first) for request in requests]

    def _enabled(self) -> tuple[str, ...]:
        """The ids of the entries that may be used, and their pixels read, once each."""
        if self.context is None:
            return ()
        enabled = tuple(info.id for info in self.context.infos() if info.enabled)
        for gone in self._examples.keys() - set(enabled):
            del self._examples[gone]
        for fresh in (entry_id for entry_id in enabled if entry_id not in self._examples):
            self._examples[fresh] = example_of(self.context.read(fresh), self.network.size, self.first.window)
        return enabled

    def _with_context(self, enabled: tuple[str, ...], image: np.ndarray) -> NetworkWithContext:
        """The network with the examples for this slice, encoded once for all slices that use the same."""
        ids = enabled
        if len(enabled) > self.budget:
            descriptions = np.stack([self._examples[entry_id].description for entry_id in enabled])
            ids = tuple(enabled[n] for n in sorted(choose_described(descriptions, describe(image), self.budget)))
        if ids not in self._encoded:
            examples = [self._examples[entry_id] for entry_id in ids]
            encoded = self.network.encode(np.stack([e.image for e in examples]), np.stack([e.mask for e in examples]))
            self._encoded[ids] = NetworkWithContext(self.network, encoded, self.plan)
            while len(self._encoded) > KEPT:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(ids)
        return self._encoded[ids]


def example_of(entry: ContextEntry, size: int, window: Window) -> Example:
    """The entry on the network's canvas, by the same path as the slice that it is an example for."""
    canvas = Canvas(entry.image.shape, entry.info.spacing, size)
    mask = canvas.shrink(entry.mask.astype(np.float32)) > 0.5
    return Example(canvas.shrink(normalise(entry.image, window)), mask, describe(entry.image))


def answer(request: Request, network, first: SlicePredictor) -> np.ndarray:
    """Logits (rows, columns) of one slice. network: has `size`, `refines` and `predict(images, prompts, previous)`.

    A network that refines is asked before any prompt only, and `first` takes its answer on from there: what the shipped one
    adds to a prompted answer made it worse from the second prompt on (glands, kidney; 2026-11-20).
    """
    if network.refines and request.prompts:
        start = request.previous
        if start is None:
            start = answer(replace(request, prompts=()), network, first)
        return first.predict([replace(request, previous=start)])[0]
    image = normalise(request.image, first.window)
    canvas = Canvas(image.shape, first.spacing, network.size)
    before = None if network.refines else request.previous
    logits = SlicePredictor(network, first.spacing, first.window).look([request], [image], [canvas], [before])[0]
    keep_prompts(logits, request.prompts)
    return logits
