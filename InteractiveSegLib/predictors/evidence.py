"""Which use of the examples would have cost the fewest prompts: each accepted slice is annotated again, by a robot, with the
examples that came before it. Ours, not the paper's. Knows nothing of networks.

What is known of an example does not change when others follow, so a new one is all that has to be tried.
"""
from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np

from ..context import ContextEntry
from ..robot import Robot
from .slices import Request, SlicePredictor

WHOLE = "whole"  # the examples answer for the whole slice, before any prompt
AROUND = "around"  # the first prompt says where the object is, and the examples what it is
ALONE = "alone"  # the prompts alone
WAYS = (WHOLE, AROUND, ALONE)
RECENT = 6  # examples that decide
CLICKS = 3  # of the robot on each of them
GOAL = 0.9  # Dice
SIDE = 320  # pixels of a slice that is tried; larger ones are thinned out

_known: WeakKeyDictionary = WeakKeyDictionary()  # network -> context -> what was lost, by example, those before it, way, window


def best_way(predictor, ids: tuple[str, ...]) -> str:
    """One of WAYS, for a ContextPredictor and the examples that it may use, oldest first; WHOLE before there is evidence."""
    context, window = predictor.examples.context, predictor.first.window
    known = _known.setdefault(predictor.network, WeakKeyDictionary()).setdefault(context, {})
    losses = dict.fromkeys(WAYS, 0.0)
    for n in range(max(1, len(ids) - RECENT), len(ids)):
        for way in WAYS:
            before = () if way == ALONE else ids[:n]
            key = (ids[n], before, way, window)
            if key not in known:
                known[key] = lost(predictor, context.read(ids[n]), ids[:n], way)
            losses[way] += known[key]
    return min(WAYS, key=losses.__getitem__)


def lost(predictor, entry: ContextEntry, before: tuple[str, ...], way: str) -> float:
    """By how much Dice falls short of GOAL, summed over the mask before the first click and after each."""
    step = -(-max(entry.image.shape) // SIDE)
    image, truth = entry.image[::step, ::step], entry.mask[::step, ::step]
    spacing = (entry.info.spacing[0] * step, entry.info.spacing[1] * step)
    first = SlicePredictor(predictor.first.network, spacing, predictor.first.window)
    rng, request = np.random.default_rng(0), Request(image, (), None)
    if way == WHOLE:
        request = replace(request, previous=predictor.answer(request, before, way, first))
    total = 0.0
    for clicks in range(CLICKS + 1):
        mask = np.zeros(truth.shape, bool) if request.previous is None else request.previous > 0
        short = GOAL - overlap(mask, truth)
        if short <= 0:
            break
        total += short
        if clicks < CLICKS:
            request = replace(request, prompts=(*request.prompts, Robot().prompt(truth, mask, rng)))
            request = replace(request, previous=predictor.answer(request, before, way, first))
    return total


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    """Dice; 1 where both are empty."""
    total = np.count_nonzero(mask) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(mask & truth) / total if total else 1.0
