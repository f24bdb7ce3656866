"""Which use of the examples would have cost the fewest prompts: slices of accepted cases are annotated again, by a robot,
with the examples of the cases before them. Ours, not the paper's. Knows nothing of networks.

Slices of one case never vouch for each other: they are too alike. What is known of an example does not change when others
follow, so that only a new one has to be tried; the set keeps it beside the example, for the next process too.
"""
from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import partial

import numpy as np

from ..context import ContextEntry
from ..context.kept import number_of
from ..robot import Robot
from .slices import Request, SlicePredictor

WHOLE = "whole"  # the examples answer for the whole slice, before any prompt
AROUND = "around"  # the first prompt says where the object is, and the examples what it is
ALONE = "alone"  # the prompts alone
WAYS = (WHOLE, AROUND, ALONE)
RECENT = 6  # cases that decide
PROMPTS = 3  # of the robot on a slice
GOAL = 0.9  # Dice
SIDE = 320  # pixels of a slice that is tried; larger ones are thinned out
RULES = 1  # one more with each change to what `lost` counts or an answer is: what earlier versions kept is tried anew


def best_way(predictor, ids: tuple[str, ...]) -> str:
    """One of WAYS, for a ContextPredictor and the examples that it may use, oldest first.

    One slice is believed as there is nothing against it. The slices of one volume are not: the next one has slices where the
    object is small, or is not, and a wrong start on each of them costs more than one on a picture.
    """
    context, window = predictor.examples.context, predictor.first.window
    losses = dict.fromkeys(WAYS, 0.0)
    cases = predictor.examples.cases(ids)
    if len(cases) == 1 and len(ids) > 1:
        return ALONE
    for n in range(max(1, len(cases) - RECENT), len(cases)):
        before = tuple(entry_id for case in cases[:n] for entry_id in case)
        for way in WAYS:
            asked = json.dumps([RULES, predictor.weights, [] if way == ALONE else before, way, window])
            key = hashlib.sha256(asked.encode()).hexdigest()
            for entry_id in spread(cases[n]):
                losses[way] += number_of(context, entry_id, key, partial(tried, predictor, entry_id, before, way))
    return min(WAYS, key=losses.__getitem__)


def tried(predictor, entry_id: str, before: tuple[str, ...], way: str) -> float:
    return lost(predictor, predictor.examples.context.read(entry_id), before, way)


def spread(case: tuple[str, ...]) -> tuple[str, ...]:
    """Three slices of a case from its beginning, middle and end, as far as there are."""
    return tuple(dict.fromkeys(case[len(case) * place // 6] for place in (1, 3, 5)))


def lost(predictor, entry: ContextEntry, before: tuple[str, ...], way: str) -> float:
    """By how much Dice falls short of GOAL, summed over the mask before the first prompt and after each.

    In a volume an answer before any prompt costs one prompt more, which takes it back on a slice where the object is not.
    """
    step = -(-max(entry.image.shape) // SIDE)
    image, truth = entry.image[::step, ::step], entry.mask[::step, ::step]
    spacing = (entry.info.spacing[0] * step, entry.info.spacing[1] * step)
    first = SlicePredictor(predictor.first.network, spacing, predictor.first.window)
    rng, request = np.random.default_rng(0), Request(image, (), None)
    if way == WHOLE:
        request = replace(request, previous=predictor.answer(request, before, way, first))
    total = GOAL if way == WHOLE and entry.info.affine is not None else 0.0
    robot = Robot(habit(entry.info.provenance.prompts))
    for given in range(PROMPTS + 1):
        mask = np.zeros(truth.shape, bool) if request.previous is None else request.previous > 0
        short = GOAL - overlap(mask, truth)
        if short <= 0:
            break
        total += short
        if given < PROMPTS:
            request = replace(request, prompts=(*request.prompts, robot.prompt(truth, mask, rng, first=given == 0)))
            request = replace(request, previous=predictor.answer(request, before, way, first))
    return total


def habit(prompts: dict[str, int]) -> str:
    """The robot that prompts as the person did who made the example: {"Click": 3} clicks. See Robot.kind."""
    if prompts.get("Scribble", 0) > prompts.get("Click", 0):
        return "scribbles"
    return "box" if prompts.get("Box", 0) else "clicks"


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    """Dice; 1 where both are empty."""
    total = np.count_nonzero(mask) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(mask & truth) / total if total else 1.0
