"""The prompts of one training sequence, drawn from the robot's repertoire in the mixtures of the papers.

ScribblePrompt section 3.2 and MultiverSeg section 4: an opening of boxes, clicks and scribbles, then corrections from the
error region. Clicks lie in the middle, anywhere and on the border alike: what it costs and brings is in models/CAMPAIGN.md.
"""
from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from scipy import ndimage

from .. import robot
from ..geometry import Canvas
from ..prompts import Click, Lasso, Prompt, Scribble
from ..rasterise import prompt_maps


def stroke_or_click(region: np.ndarray, positive: bool, rng: np.random.Generator, scribbles: float) -> Prompt:
    """One prompt inside the region: with probability `scribbles` a stroke, else a click."""
    if rng.random() < scribbles:
        draw = (robot.line_scribble, robot.centreline_scribble, robot.contour_scribble)[rng.integers(3)]
        stroke = draw(region, rng)
        if rng.random() < 0.4:
            stroke = ndimage.binary_dilation(stroke) & region
        return Scribble(stroke, positive)
    habit = rng.integers(3)
    if habit == 0:
        return Click(robot.centre_click(region, rng, jitter=0 if rng.random() < 0.5 else 2), positive)
    return Click((robot.random_click if habit == 1 else robot.border_click)(region, rng), positive)


def loose_lasso(truth: np.ndarray, rng: np.random.Generator) -> Lasso:
    """A polygon around the object with a wobbling distance."""
    from skimage.morphology import convex_hull_image

    points = np.argwhere(convex_hull_image(truth))
    centre = points.mean(axis=0)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 24))
    directions = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    reach = (directions @ (points - centre).T).max(axis=1) * rng.uniform(1.0, 1.3, 24) + rng.uniform(1, 5)
    return Lasso(tuple(map(tuple, centre + directions * reach[:, None])))


def opening(truth: np.ndarray, rng: np.random.Generator) -> list[Prompt]:
    """What a user gives before seeing any mask."""
    if rng.random() < 0.45:  # a single click or stroke, most often in the middle of the largest part
        region = robot.largest_component(truth)
        return [stroke_or_click(region, True, rng, scribbles=0.2)]
    prompts: list[Prompt] = []
    if rng.random() < 0.5:
        around = rng.random() < 0.15 and truth.sum() > 30
        prompts.append(loose_lasso(truth, rng) if around else robot.bounding_rectangle(truth, rng, rng.uniform(0, 10)))
        if rng.random() < 0.5:
            return prompts
    for _ in range(rng.integers(0 if prompts else 1, 4)):
        prompts.append(stroke_or_click(truth, True, rng, scribbles=0.4))
    if not truth.all():
        nearby = ~truth & (ndimage.distance_transform_edt(~truth) < 0.2 * len(truth)) if rng.random() < 0.5 else ~truth
        for _ in range(rng.integers(0, 3)):
            prompts.append(stroke_or_click(nearby, False, rng, scribbles=0.4))
    return prompts


def correction(truth: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> list[Prompt]:
    """What a user adds on seeing a mask: often one prompt in the largest error, else several, each in an error of its own.

    Several at once let a few training steps reach the many prompts that a hard object collects.
    """
    wrong = [(positive, *ndimage.label(error, np.ones((3, 3), bool))) for positive, error in
             ((True, truth & ~mask), (False, mask & ~truth))]
    parts = [(positive, labels, n + 1, size) for positive, labels, _ in wrong
             for n, size in enumerate(np.bincount(labels.ravel())[1:])]
    if not parts:
        return []
    sizes = np.array([size for *_, size in parts], float)
    if rng.random() < 0.45:
        chosen = [int(sizes.argmax())]
    else:
        count = min(int(rng.integers(1, 7)), len(parts))
        chosen = rng.choice(len(parts), count, replace=False, p=sizes / sizes.sum()).tolist()
    return [stroke_or_click(parts[n][1] == parts[n][2], parts[n][0], rng, scribbles=0.2) for n in chosen]


def next_maps(truth: np.ndarray, mask: np.ndarray | None, seed: int) -> np.ndarray:
    """(3, size, size) float32 of new prompts for a canvas; mask None: the opening. A pure function, for worker processes."""
    rng = np.random.default_rng(seed)
    prompts = opening(truth, rng) if mask is None else correction(truth, mask, rng)
    return prompt_maps(prompts, Canvas(truth.shape, (1.0, 1.0), truth.shape[0]))


def batch_maps(truths: Sequence[np.ndarray], masks: Sequence[np.ndarray | None], rng: np.random.Generator,
               pool: ProcessPoolExecutor | None) -> np.ndarray:
    """(B, 3, size, size) new prompts of a batch; in worker processes when there is a pool."""
    run = map if pool is None else partial(pool.map, chunksize=4)
    return np.stack(list(run(next_maps, truths, masks, rng.integers(2**31, size=len(truths)).tolist())))
