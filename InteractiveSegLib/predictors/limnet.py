"""Clicks on a slice to logits at its own resolution, with LIM-Net's click network: RITM's zoom-in and, as an option, its flip.

Differences from RITM's own predictor: the region it looks at follows from the mask and the clicks alone, so that the same
clicks give the same answer in whatever order slices are visited.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..device import send
from ..geometry import Canvas, Window, normalise
from ..models.layers.replayed import replayed
from ..models.limnet.ritm import RITM
from ..plan import Plan
from ..prompts import Click
from ..rasterise import MASK_LOGIT
from . import Setting
from .slices import Request, closer_canvas, keep_prompts

STEP = 8  # places for clicks are added so many at a time, so that the network sees few shapes


class ClickPredictor:
    """Runs RITM on slices of one spacing. window: intensities (low, high) or None for the slice's percentiles.

    flip: average with the answer on the mirrored slice, as RITM's authors evaluate; twice the time. batch: slices per call.
    """

    def __init__(self, network: RITM, spacing: tuple[float, float], window: Window = None, flip: bool = False,
                 batch: int = Plan.batch) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self.spacing, self.window, self.flip = spacing, window, flip
        self.device = next(network.parameters()).device
        self.batch = batch

    @classmethod
    def of(cls, setting: Setting) -> ClickPredictor:
        return cls(setting.network(), setting.spacing, setting.window, setting.mode == "flip", setting.plan.batch)

    def warm_up(self, image: np.ndarray, key: tuple[int, int]) -> None:
        """Run once on a slice (rows, columns), so that the first prompt is as quick as the next. key: see Request."""
        self.predict([Request(image, (), None, key=key)])

    def predict(self, requests: Sequence[Request]) -> list[np.ndarray]:
        """Logits (rows, columns) float32 of each request; clicks are kept: theirs is the last word on their own pixels.

        The first click is answered on the whole slice, then on what was found; a later one on the mask that is there.
        A mask that no click made is looked at twice, as RITM does.
        """
        images = [normalise(request.image, self.window) for request in requests]
        whole = [Canvas(image.shape, self.spacing, self.network.config.size) for image in images]
        found = [request.previous for request in requests]
        first = [canvas if before is None or drawn(before) else None for canvas, before in zip(whole, found)]
        first = [zoomed(c, b, r.prompts) if c and b is not None else c for c, b, r in zip(first, found, requests)]
        found = self.look(requests, images, first, found)
        second = [zoomed(canvas, logits, r.prompts) for canvas, logits, r in zip(whole, found, requests)]
        # What the whole slice answered to a first click stands where no closer look is worth it.
        again = [None if c.region is None and r.previous is None else c for c, r in zip(second, requests)]
        found = self.look(requests, images, again, found)
        for request, logits in zip(requests, found):
            keep_prompts(logits, request)
        return found

    def look(
        self, requests: Sequence[Request], images: Sequence[np.ndarray], canvases: Sequence[Canvas | None],
        before: Sequence[np.ndarray | None],
    ) -> list[np.ndarray]:
        """One pass over the canvases that are not None; beyond a canvas there is nothing of the object."""
        results = list(before)
        chosen = [i for i, canvas in enumerate(canvases) if canvas is not None]
        for begin in range(0, len(chosen), self.batch):
            part = chosen[begin:begin + self.batch]
            seen = np.stack([canvases[i].shrink(images[i]) for i in part])
            masks = np.zeros_like(seen)
            for n, i in enumerate(part):
                if before[i] is not None:
                    masks[n] = canvases[i].shrink(1 / (1 + np.exp(-np.clip(before[i], -30, 30))))
            answers = self.ask(seen, points_on([requests[i].prompts for i in part], [canvases[i] for i in part]), masks)
            for i, answer in zip(part, answers):
                expanded = canvases[i].expand(answer)
                results[i] = np.where(canvases[i].covers(), expanded, np.float32(-MASK_LOGIT))
        return results

    @torch.inference_mode()
    def ask(self, images: np.ndarray, points: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Logits (B, size, size) of images in [0, 1] and masks, probabilities, both (B, size, size); points: ritm.click_maps."""
        image, clicks, mask = (send(x, self.device) for x in (images[:, None], points, masks[:, None]))
        logits = self.answer(image, clicks, mask)
        if self.flip:
            mirrored = clicks.clone()
            there = clicks[..., 1] >= 0
            mirrored[..., 1][there] = image.shape[3] - 1 - clicks[..., 1][there]
            logits = (logits + self.answer(image.flip(3), mirrored, mask.flip(3)).flip(3)) / 2
        return logits[:, 0].float().cpu().numpy()

    def answer(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The network's logits, without the auxiliary ones."""
        return replayed(self.network, "answer", lambda *given: self.network(*given)[:1], *inputs)[0]


def drawn(logits: np.ndarray) -> bool:
    """Whether they are a mask that somebody drew, see rasterise.mask_to_logits."""
    return bool((np.abs(logits) == MASK_LOGIT).all())


def zoomed(canvas: Canvas, logits: np.ndarray, prompts: Sequence[Click]) -> Canvas:
    """The canvas around the mask and the positive clicks, if that shows them clearly larger; else as it is."""
    return closer_canvas(canvas, logits > 0, prompts) or canvas


def points_on(prompts: Sequence[Sequence[Click]], canvases: Sequence[Canvas]) -> np.ndarray:
    """(B, 2N, 3) float32 as ritm.click_maps takes it: canvas rows and columns of the clicks that lie on the canvas."""
    sides: list[list[list[tuple[int, int, int]]]] = []
    for clicks, canvas in zip(prompts, canvases):
        both: list[list[tuple[int, int, int]]] = [[], []]
        for order, click in enumerate(clicks):
            row, column, inside = canvas.locate(*np.array(click.position)[:, None])
            if inside[0]:
                both[0 if click.positive else 1].append((int(row[0]), int(column[0]), order))
        sides.append(both)
    count = max([1, *(len(side) for both in sides for side in both)])
    count = -(-count // STEP) * STEP
    points = np.full((len(sides), 2, count, 3), -1, np.float32)
    for n, both in enumerate(sides):
        for sign, side in enumerate(both):
            points[n, sign, :len(side)] = np.array(side, np.float32).reshape(-1, 3)
    return points.reshape(len(sides), 2 * count, 3)
