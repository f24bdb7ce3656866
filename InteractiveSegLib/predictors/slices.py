"""One slice, its prompts and what was there before become logits at the slice's own resolution.

The single preprocessing path of 2D families: the same slice gives the same answer as an image or inside a volume. It knows
a network's canvas, never a session or a volume.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..geometry import Canvas, Window, normalise
from ..plan import Plan
from ..prompts import Box, Click, Lasso, Prompt, Scribble
from ..rasterise import MASK_LOGIT, drawn_mask, prompt_maps
from ..types import bounding_box
from . import Setting

MARGIN = 1.5  # the second look is this much larger than what it looks at
MIDDLE = 0.8  # of a piece's greatest depth: a click at least as deep is in its middle
COMPACT = 0.5  # a piece is compact when its greatest depth is this share of the radius of a disk as large
ALIKE = 0.9  # Dice of an answer and the one before it, above which a prompt was a small correction
NEAR = 2  # pixels; a piece so near to a prompt is the prompt's
CLOSER = 0.6  # a second look is worth it when its side is less than this share of the slice's


@dataclass(frozen=True, eq=False)
class Request:
    """What to predict of one slice and one target.

    image: (rows, columns); prompts in its (row, column); previous: logits (rows, columns) or None; target: its name; key:
    (array axis, index) of the slice, by which a predictor may keep what it computed of the image.
    """

    image: np.ndarray
    prompts: tuple[Prompt, ...]
    previous: np.ndarray | None
    target: str = ""
    key: tuple[int, int] = (0, 0)


def prompted_area(prompts: Sequence[Prompt], shape: tuple[int, int]) -> np.ndarray:
    """Bool (rows, columns): everything that the prompts name, boxes and lassos filled."""
    area = np.zeros(shape, bool)
    for prompt in prompts:
        if isinstance(prompt, Box):
            area[prompt.start[0]:prompt.stop[0], prompt.start[1]:prompt.stop[1]] = True
        elif isinstance(prompt, Lasso) or prompt.positive:
            area |= drawn_mask(prompt, shape)
    return area


def closer_canvas(canvas: Canvas, mask: np.ndarray, prompts: Sequence[Prompt]) -> Canvas | None:
    """A canvas around the mask and the prompts, when that shows them clearly larger; else None.

    Never finer than the slice's own pixels: what a magnified blur shows is guessed, and measured worse.
    """
    start, stop = bounding_box(mask | prompted_area(prompts, canvas.shape))
    if start == stop:
        return None
    spacing = np.array(canvas.spacing)
    middle = (np.array(start) + stop) / 2
    side = (np.array(stop) - start) * spacing
    whole = (np.array(canvas.shape) * spacing).max()
    reach = max(side.max() * MARGIN, canvas.size * spacing.min())  # mm
    if reach > CLOSER * whole:
        return None
    half = reach / spacing / 2
    return Canvas(canvas.shape, canvas.spacing, canvas.size, (*(middle - half), *(middle + half)))


class SlicePredictor:
    """Runs a 2D interactive network on slices of one spacing.

    network: has `size` and `predict(images, prompts, previous)`, see models.scribbleprompt.SliceNetwork.
    spacing: (row, column) in mm. window: intensities (low, high) or None for the slice's percentiles. batch: slices per call.
    """

    def __init__(self, network, spacing: tuple[float, float], window: Window = None, batch: int = Plan.batch) -> None:
        self.network, self.spacing, self.window, self.batch = network, spacing, window, batch

    @classmethod
    def of(cls, setting: Setting) -> SlicePredictor:
        return cls(setting.network(), setting.spacing, setting.window, setting.plan.batch)

    def warm_up(self, image: np.ndarray, key: tuple[int, int]) -> None:
        """Run once on a slice (rows, columns), so that the first prompt is as quick as the next. key: see Request."""
        self.predict([Request(image, (), None, key=key)])

    def predict(self, requests: Sequence[Request]) -> list[np.ndarray]:
        """Logits (rows, columns) float32 of each request; prompts are kept: theirs is the last word on their own pixels."""
        images = [normalise(request.image, self.window) for request in requests]
        canvases: list[Canvas | None] = [Canvas(i.shape, self.spacing, self.network.size) for i in images]
        logits = self.look(requests, images, canvases, [request.previous for request in requests])
        closer = [closer_canvas(c, found > 0, r.prompts) for c, found, r in zip(canvases, logits, requests)]
        second = self.look(requests, images, closer, logits)
        logits = [(one + two) / 2 for one, two in zip(logits, second)]
        for request, found in zip(requests, logits):
            keep_local(found, request)
            keep_prompts(found, request)
        return logits

    def look(
        self,
        requests: Sequence[Request],
        images: Sequence[np.ndarray],
        canvases: Sequence[Canvas | None],
        before: Sequence[np.ndarray | None],
    ) -> list[np.ndarray]:
        """One pass over the canvases that are not None; where a canvas does not reach, `before` stays."""
        results = list(before)
        chosen = [i for i, canvas in enumerate(canvases) if canvas is not None]
        for begin in range(0, len(chosen), self.batch):
            batch = chosen[begin:begin + self.batch]
            size = self.network.size
            shrunk = [np.zeros((size, size), np.float32) if before[i] is None else canvases[i].shrink(before[i]) for i in batch]
            found = self.network.predict(
                np.stack([canvases[i].shrink(images[i]) for i in batch]),
                np.stack([prompt_maps(requests[i].prompts, canvases[i]) for i in batch]),
                np.stack(shrunk),
            )
            for i, canvas_logits in zip(batch, found):
                expanded = canvases[i].expand(canvas_logits)
                covers = canvases[i].covers()
                results[i] = expanded if covers.all() else np.where(covers, expanded, before[i])
        return results


def keep_local(logits: np.ndarray, request: Request) -> None:
    """Where a click or a stroke changes little, it changes nothing but what it lies on. Changes logits in place.

    Of the pieces of the change only those at the prompt are taken; an answer that differs more than ALIKE is taken as it is.
    Ours: a quarter fewer prompts make a mask worse, at nearly the same number of them, see models/CAMPAIGN.md.
    """
    prompt = request.prompts[-1] if request.prompts else None
    if not isinstance(prompt, (Click, Scribble)) or request.previous is None:
        return
    before, after = request.previous > 0, logits > 0
    if 2 * np.count_nonzero(before & after) <= ALIKE * (np.count_nonzero(before) + np.count_nonzero(after)):
        return
    pieces, _ = ndimage.label(before != after, np.ones((3, 3)))
    near = ndimage.binary_dilation(drawn_mask(prompt, logits.shape), np.ones((3, 3)), iterations=NEAR)
    away = (pieces > 0) & ~np.isin(pieces, pieces[near])
    logits[away] = request.previous[away]


def keep_prompts(logits: np.ndarray, request: Request) -> None:
    """Set the pixels of clicks and strokes to what they said, in the order given. Changes logits in place.

    A piece whose middle the last click says is wrong is gone, see `denied`.
    """
    logits[denied(logits > 0, request)] = -MASK_LOGIT
    for prompt in request.prompts:
        if isinstance(prompt, Box) or (isinstance(prompt, Lasso) and prompt.positive):
            continue
        drawn = drawn_mask(prompt, logits.shape)
        if prompt.positive:
            logits[drawn] = np.maximum(logits[drawn], MASK_LOGIT)
        else:
            logits[drawn] = np.minimum(logits[drawn], -MASK_LOGIT)


def denied(mask: np.ndarray, request: Request) -> np.ndarray:
    """Bool (rows, columns): the part of a mask that the last click takes away as a whole.

    That is the piece of the mask before, carried there or automatic, in whose middle a negative click lies, with what the
    answer added to it, unless a positive prompt speaks for it. Only a compact piece has a middle. Ours.
    """
    none = np.zeros(mask.shape, bool)
    click = request.prompts[-1] if request.prompts else None
    if not isinstance(click, Click) or click.positive or request.previous is None:
        return none
    place = int(click.position[0]), int(click.position[1])
    if request.previous[place] <= 0:
        return none
    piece = piece_at(request.previous > 0, place)
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    compact = depth.max() >= COMPACT * np.sqrt(piece.sum() / np.pi)
    if not compact or depth[place] < MIDDLE * depth.max():
        return none
    whole = piece_at(mask | piece, place)
    spoken_for = any((whole & prompted_area([prompt], mask.shape)).any() for prompt in request.prompts[:-1])
    return none if spoken_for else whole


def piece_at(mask: np.ndarray, position: tuple[int, int]) -> np.ndarray:
    """Bool (rows, columns): the connected piece of a mask that holds a pixel of it."""
    pieces, _ = ndimage.label(mask, np.ones((3, 3)))
    return pieces == pieces[position]
