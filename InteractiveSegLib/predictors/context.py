"""Slices of a task of which examples were accepted: a network that reads prompts and examples, and one for the first image.

An empty context goes to ScribblePrompt-UNet (MultiverSeg section 4.3); masks enter the context as they are cut, not as
probabilities (section 5). Ours: what the examples say is used in the way that proved itself on the last of them.
"""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..context import ContextSet
from ..geometry import Canvas, normalise
from ..models.layers.cross_conv import DEFAULT_PLAN, MemoryPlan
from ..prompts import Box, Lasso, Prompt
from ..rasterise import MASK_LOGIT
from ..types import InteractiveSegError, bounding_box
from ..weights import sha256, shipped_file
from . import Setting
from .evidence import ALONE, AROUND, WHOLE, best_way
from .examples import Examples, Ids, side_of, surroundings
from .slices import Request, SlicePredictor, keep_prompts, prompted_area

KEPT = 32  # slices of which is known what the examples said around the first prompt
SENTENCES = {
    ALONE: "The examples have not proved themselves on the last cases: prompts are answered without them.",
    AROUND: "The examples answer around the first prompt of a slice, which did best on the last cases.",
}


class ContextPredictor:
    """Runs MultiverSeg with a context, and `first` (a SlicePredictor) while the context is empty.

    network: models.multiverseg.ContextNetwork. budget: the most examples that one prediction uses; where there are more, those
    that are most useful for its slice. always: the examples' answer is where prompts start, whether that helps or not. weights:
    what besides the examples decides an answer, in words, under which is kept how they proved themselves.
    `notice`: a sentence on how the last prediction used the examples, or "".
    """

    def __init__(self, network, first: SlicePredictor, context: ContextSet | None, budget: int,
                 plan: MemoryPlan = DEFAULT_PLAN, always: bool = False, weights: str = "") -> None:
        self.network, self.first, self.always = network, first, always or not network.refines
        self.weights = weights
        self.examples = Examples(network, context, budget, plan, first.window)
        self.notice = ""
        # By slice and id() of its first prompt, which is kept beside so that no other gets the same.
        self._first_said: OrderedDict[tuple[tuple[int, int], int], tuple[Prompt, np.ndarray | None]] = OrderedDict()
        # What the examples said of a slice before any prompt, by slice and examples.
        self._unprompted: OrderedDict[tuple[tuple[int, int], Ids], np.ndarray] = OrderedDict()

    @classmethod
    def of(cls, setting: Setting) -> ContextPredictor:
        plan = setting.plan
        first = SlicePredictor(setting.network("scribbleprompt"), setting.spacing, setting.window, plan.batch)
        own, other = setting.family.networks
        files = sha256(setting.weights or shipped_file(own)), sha256(shipped_file(other))
        return cls(setting.network(), first, setting.context, plan.examples, MemoryPlan(plan.chunk, plan.again),
                   setting.mode == "always", " ".join((*files, plan.device, str(plan.examples))))

    def warm_up(self, image: np.ndarray, key: tuple[int, int]) -> None:
        """Run once on a slice (rows, columns), so that the first prompt is as quick as the next. key: see slices.Request."""
        self.first.warm_up(image, key)
        if self.examples.ids():
            self.predict([Request(image, (), None, key=key)])

    def predict(self, requests: Sequence[Request]) -> list[np.ndarray]:
        """Logits (rows, columns) of each request; none of them positive where nothing is said before a prompt."""
        ids = self.examples.ids()
        if not ids:
            self.notice = ""
            if any(not request.prompts and request.previous is None for request in requests):
                raise InteractiveSegError("The context is empty, nothing can be predicted yet: give a first prompt.")
            return self.first.predict(requests)
        way = WHOLE if self.always else best_way(self, ids)
        self.notice = SENTENCES.get(way, "")
        if way != WHOLE or not self.network.refines:
            return [self.answer(request, ids, way, self.first) for request in requests]
        return [self._from_the_start(request, ids) for request in requests]

    def _from_the_start(self, request: Request, ids: Ids) -> np.ndarray:
        """The answer from the whole slice; a first prompt goes on from what was said before it, which is not asked twice."""
        key = (request.key, ids)
        if not request.prompts:
            self._unprompted[key] = self.answer(request, ids, WHOLE, self.first)
            while len(self._unprompted) > KEPT:
                self._unprompted.popitem(last=False)
            return self._unprompted[key]
        if request.previous is None and key in self._unprompted:
            request = replace(request, previous=self._unprompted[key])
        return self.answer(request, ids, WHOLE, self.first)

    def answer(self, request: Request, ids: Ids, way: str, first: SlicePredictor) -> np.ndarray:
        """Logits (rows, columns) of one slice, from these examples. first: for slices of this spacing.

        Ours: around a prompt, what the examples said keeps a share in every later answer, the smaller the more prompts there are.
        Before any prompt they are wrong more often, and a share of that took more clicks.
        """
        if self.always:
            return answer(request, self.examples.whole(ids, request.image), first)
        previous = request.previous
        if len(request.prompts) <= 1 and previous is not None and not (previous > 0).any():
            request = replace(request, previous=None)  # nothing was said before the first prompt
        if way == WHOLE:
            return answer(request, self.examples.whole(ids, request.image), first)
        if not request.prompts:
            return np.full(request.image.shape, -MASK_LOGIT, np.float32)
        said = self._said(request, ids, first) if way == AROUND else None
        if request.previous is None:
            request = replace(request, previous=said)
        logits = first.predict([request])[0]
        if said is not None:
            logits += (said - logits) / (1 + len(request.prompts))
            keep_prompts(logits, request)
        return logits

    def _said(self, request: Request, ids: Ids, first: SlicePredictor) -> np.ndarray | None:
        """What the examples said around the first prompt; None where that came to a mask which is not the predictor's own."""
        opening, previous = request.prompts[0], request.previous
        key = (request.key, id(opening))
        if previous is not None and (np.abs(previous) == MASK_LOGIT).all():
            self._first_said.pop(key, None)
        elif previous is None and len(request.prompts) == 1:
            self._first_said[key] = opening, self._around(request, ids, first)
            while len(self._first_said) > KEPT:
                self._first_said.popitem(last=False)
        return self._first_said.get(key, (None, None))[1]

    def _around(self, request: Request, ids: Ids, first: SlicePredictor) -> np.ndarray | None:
        """What the examples say of the surroundings of the prompts; None where no prompt says where the object is.

        A prompt says where it is and the examples how large it usually is; a box or a lasso says both.
        """
        area = prompted_area(request.prompts, request.image.shape)
        if not area.any():
            return None
        start, stop = bounding_box(area)
        side = side_of(start, stop, first.spacing)
        exact = any(isinstance(prompt, (Box, Lasso)) for prompt in request.prompts)
        if not exact:
            side = max(side, self.examples.side(ids))
        middle = ((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2)
        canvas = surroundings(area.shape, first.spacing, self.network.size, middle, side)
        image = canvas.shrink(normalise(request.image, first.window))[None]
        network = self.examples.around(ids, request.image, None if exact else side)
        logits = network.predict(image, np.zeros((1, 3, *image.shape[1:]), np.float32), np.zeros_like(image))[0]
        return np.where(canvas.covers(), canvas.expand(logits), np.float32(-MASK_LOGIT))


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
    keep_prompts(logits, request)
    return logits
