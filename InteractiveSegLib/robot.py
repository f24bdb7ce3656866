"""The robot user: where a person would click, scribble or draw a box next. One simulator for training and for evaluation.

Arrays are one slice, bool (row, column). Sources: ScribblePrompt (Wong et al. 2024) section 3.2 and MultiverSeg (Wong et
al. 2025) section 4: centre, random and border clicks; line, centreline and contour scribbles; boxes with jitter;
corrections from the error region. RITM's rule for the centre: the error's point farthest from its edge.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from .prompts import Box, Click, Lasso, Prompt, Scribble


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest 8-connected component of a bool array; all False when it is empty."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3), bool))
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def error_region(truth: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, bool]:
    """The largest connected component of the error, and whether it is missing (True: a positive prompt mends it)."""
    missing = largest_component(truth & ~mask)
    surplus = largest_component(mask & ~truth)
    positive = missing.sum() >= surplus.sum()
    return (missing if positive else surplus), bool(positive)


def depth(region: np.ndarray) -> np.ndarray:
    """Distance of each pixel of the region to the nearest pixel outside, the image's rim counting as outside."""
    return ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]


def centre_click(region: np.ndarray, rng: np.random.Generator, jitter: float = 0.0) -> tuple[int, int]:
    """The point farthest from the region's edge; moved by N(0, jitter) pixels but kept inside the region."""
    inside = depth(region)
    centre = np.unravel_index(int(inside.argmax()), region.shape)
    if jitter > 0:
        moved = np.clip(np.rint(centre + rng.normal(0, jitter, 2)).astype(int), 0, np.array(region.shape) - 1)
        if region[tuple(moved)]:
            centre = moved
        else:
            points = np.argwhere(region)
            centre = points[np.abs(points - moved).sum(axis=1).argmin()]
    return int(centre[0]), int(centre[1])


def random_click(region: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Any pixel of the region."""
    row, column = np.argwhere(region)[rng.integers(region.sum())]
    return int(row), int(column)


def border_click(region: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """A pixel of the region next to its edge."""
    rim = region & (depth(region) < 2.5)
    return random_click(rim if rim.any() else region, rng)


def line_scribble(region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A straight stroke between two pixels of the region, as far as it stays inside."""
    from skimage.draw import line

    (r0, c0), (r1, c1) = random_click(region, rng), random_click(region, rng)
    stroke = np.zeros(region.shape, bool)
    stroke[line(r0, c0, r1, c1)] = True
    return stroke & region


def centreline_scribble(region: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """The region's skeleton; with a generator, only the part of it inside a random window, as a hand leaves gaps."""
    from skimage.morphology import skeletonize

    stroke = skeletonize(region)
    if rng is not None and stroke.sum() > 8:
        centre = np.argwhere(stroke)[rng.integers(stroke.sum())]
        reach = rng.uniform(0.2, 1.0) * max(region.shape)
        rows, columns = np.ogrid[: region.shape[0], : region.shape[1]]
        stroke = stroke & (np.abs(rows - centre[0]) < reach) & (np.abs(columns - centre[1]) < reach)
    return stroke if stroke.any() else region & (depth(region) == depth(region).max())


def contour_scribble(region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Part of a contour drawn inside the region at a random depth."""
    inside = depth(region)
    level = rng.uniform(0.2, 0.8) * inside.max()
    stroke = (inside >= level) & (inside < level + 1)
    if stroke.sum() > 12:
        centre = np.argwhere(stroke).mean(axis=0)
        rows, columns = np.indices(region.shape)
        angle = np.arctan2(rows - centre[0], columns - centre[1]) + np.pi
        begin, width = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 1.0) * 2 * np.pi
        part = stroke & ((angle - begin) % (2 * np.pi) < width)
        stroke = part if part.any() else stroke
    return stroke


def bounding_rectangle(truth: np.ndarray, rng: np.random.Generator, jitter: float = 0.0) -> Box:
    """The object's bounding box, each side moved outwards by up to `jitter` pixels (and inwards by a third of that)."""
    points = np.argwhere(truth)
    low, high = points.min(axis=0), points.max(axis=0) + 1
    low = np.rint(low - rng.uniform(-jitter / 3, jitter, 2)).astype(int)
    high = np.rint(high + rng.uniform(-jitter / 3, jitter, 2)).astype(int)
    low = np.clip(low, 0, np.array(truth.shape) - 1)
    high = np.clip(np.maximum(high, low + 1), 1, truth.shape)
    return Box((int(low[0]), int(low[1])), (int(high[0]), int(high[1])))


def large_box(truth: np.ndarray, rng: np.random.Generator) -> Box:
    """The object's bounding box with each side moved outwards by a quarter of its length, and a pixel at least."""
    return _moved_box(truth, np.ones(4))


def cutting_box(truth: np.ndarray, rng: np.random.Generator) -> Box:
    """The object's bounding box with one side, any, moved inwards by a quarter of its length."""
    return _moved_box(truth, -np.eye(4)[rng.integers(4)])


def _moved_box(truth: np.ndarray, outwards: np.ndarray) -> Box:
    """The bounding box with its first two and last two sides moved by so many quarters of its length."""
    points = np.argwhere(truth)
    low, high = points.min(axis=0), points.max(axis=0) + 1
    step = np.ceil((high - low) / 4).astype(int)
    low, high = low - (outwards[:2] * step).astype(int), high + (outwards[2:] * step).astype(int)
    low = np.clip(low, 0, np.array(truth.shape) - 1)
    high = np.clip(np.maximum(high, low + 1), 1, truth.shape)
    return Box((int(low[0]), int(low[1])), (int(high[0]), int(high[1])))


def beside(truth: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
    """A pixel outside of the object, not farther from it than its inside is deep; None where there is none."""
    away = ndimage.distance_transform_edt(~truth)
    ring = (away >= 2) & (away <= max(3, depth(truth).max()))
    return random_click(ring, rng) if ring.any() else None


def stray_scribble(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The object's centreline, and a straight stroke from it that goes on to a pixel beside the object."""
    from skimage.draw import line

    stroke = centreline_scribble(truth)
    end = beside(truth, rng)
    if end is not None:
        stroke = stroke.copy()
        stroke[line(*random_click(stroke, rng), *end)] = True
    return stroke


def in_volume(prompt: Prompt, axis: int, index: int) -> Prompt:
    """A prompt of one slice, (row, column), as one of the volume, (k, j, i), at that index of the array axis."""

    def put(position: tuple[float, ...], at: float) -> tuple[float, ...]:
        return (*position[:axis], at, *position[axis:])

    if isinstance(prompt, Click):
        return replace(prompt, position=put(prompt.position, index))
    if isinstance(prompt, Box):
        return replace(prompt, start=put(prompt.start, index), stop=put(prompt.stop, index + 1))
    if isinstance(prompt, Lasso):
        return replace(prompt, points=tuple(put(point, index) for point in prompt.points))
    origin = put(prompt.origin or (0, 0), index)
    return replace(prompt, mask=np.expand_dims(prompt.mask, axis), origin=origin)


HABITS = {
    "clicks": "the centre of the largest error",
    "scribbles": "its centreline",
    "box": "the object's box first, then clicks",
    "off-centre": "anywhere in the largest error",
    "border": "beside the edge of the largest error",
    "large-box": "a box with each side a quarter too far out, then clicks",
    "cutting-box": "a box that cuts a quarter off, then clicks",
    "stray": "a scribble that runs out of the object, then scribbles",
    "negative-first": "a negative click beside the object, then clicks",
}


@dataclass(frozen=True)
class Robot:
    """A user of one habit.

    kind: one of HABITS. jitter: standard deviation of the hand in pixels, of centre clicks and boxes; 0 is the ideal user.
    """

    kind: str = "clicks"
    jitter: float = 0.0

    def prompt(self, truth: np.ndarray, mask: np.ndarray, rng: np.random.Generator, first: bool = False) -> Prompt | None:
        """The next prompt for a slice, positions in (row, column); None when the mask is right everywhere."""
        region, positive = error_region(truth, mask)
        if not region.any():
            return None
        opening = self._opening(truth, rng) if first else None
        if opening is not None:
            return opening
        if self.kind in ("scribbles", "stray"):
            return Scribble(centreline_scribble(region, rng if self.jitter > 0 else None), positive)
        if self.kind == "off-centre":
            return Click(random_click(region, rng), positive)
        if self.kind == "border":
            return Click(border_click(region, rng), positive)
        return Click(centre_click(region, rng, self.jitter), positive)

    def _opening(self, truth: np.ndarray, rng: np.random.Generator) -> Prompt | None:
        """What a habit begins with, where that is not what it goes on with."""
        if self.kind == "box":
            return bounding_rectangle(truth, rng, jitter=2 * self.jitter)
        if self.kind == "large-box":
            return large_box(truth, rng)
        if self.kind == "cutting-box":
            return cutting_box(truth, rng)
        if self.kind == "stray":
            return Scribble(stray_scribble(truth, rng))
        position = beside(truth, rng) if self.kind == "negative-first" else None
        return None if position is None else Click(position, positive=False)
