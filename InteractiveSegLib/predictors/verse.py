"""Slices of a heart, names and clicks become logits at the slice's own resolution, with VerSe.

A slice is looked at twice: whole, to find the heart, then closely, which is another picture of it and encoded by itself. The
close look's features are kept, so that a later click costs the click's path and the decoder alone; the whole look at the slice
that is shown is kept from the warm-up.
"""
from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy import ndimage
from skimage.segmentation import clear_border
from torch.nn import functional as F

from ..device import records_kernels, send
from ..geometry import Canvas, Window, normalise
from ..models.layers.replayed import replayed
from ..models.verse.fuser import draw_prompts
from ..models.verse.queries import pad_clicks
from ..plan import Plan
from ..prompts import Click
from ..rasterise import drawn_mask
from ..robot import largest_component
from ..types import InteractiveSegError, bounding_box
from . import Setting
from .slices import NEAR, Request, keep_prompts

AUTO, AUTO_CLICK, CLICK = "auto", "auto+click", "click"
MARGIN = 1.35  # the close look is this much larger than what was found
NEAREST = 110.0  # mm, the least side of a close look: it shows what surrounds a structure
CLOSER = 0.85  # a close look is worth it when its side is less than this share of the slice's
AGREED = 0.15  # of the slices must hold a pixel of the heart for it to count in a volume
STROKE_CLICKS = 8  # clicks that a scribble is read as
ONE_PIECE = ("LV", "myocardium", "RV", "LA")  # by name, only the largest part of these counts
KINDS = {AUTO: ((True, False),), AUTO_CLICK: ((True, False), (True, True)), CLICK: ((False, True),)}  # by name, with clicks
SETTLED = 5  # prompts on a slice from which on corrections are small
ALIKE = 0.7  # Dice of an answer and the one before it; a small correction does not change more
FLAT = 5  # pixels, the least width of an area where nothing was measured
NEVER_SAW = "These weights never saw {}, so it stays empty until you click: no data here shows it."
NOWHERE = -10.0  # logit beside the close look, and of a target that was never trained

log = logging.getLogger(__name__)
Key = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Look:
    """A slice on a canvas, encoded: the maps of one slice, batch 1."""

    canvas: Canvas
    features: list[torch.Tensor]


class VerSePredictor:
    """One working axis of one image. spacing: (row, column) in mm; mode: "auto+click", "auto" or "click"; targets: how many."""

    def __init__(self, network, spacing: tuple[float, float], window: Window, mode: str, plan: Plan, targets: int = 1) -> None:
        self.network, self.spacing, self.window, self.mode, self.plan = network, spacing, window, mode, plan
        self.targets = targets
        self.device = next(network.parameters()).device
        self.canvases: dict[Key, Canvas] = {}
        self.looks: OrderedDict[Key, Look] = OrderedDict()
        self.warned: set[str] = set()
        self.notice = ""

    @classmethod
    def of(cls, setting: Setting) -> VerSePredictor:
        return cls(setting.network(), setting.spacing, setting.window, setting.mode, setting.plan, len(setting.targets))

    @torch.inference_mode()
    def warm_up(self, image: np.ndarray, key: Key) -> None:
        """Run once on a slice, so that the first answer is as quick as the next; a slice that is new stays encoded."""
        canvas = self.whole(image)
        look = Look(canvas, self.encode([image], [canvas])[0])
        middle = Click(tuple(n // 2 for n in image.shape))
        # What is recorded is recorded for one target and for all of a slice.
        counts = sorted({1, min(self.targets, self.plan.batch)}) if records_kernels(self.device) else (1,)
        for (by_name, clicked), count in product(KINDS[self.mode], counts):
            request = Request(image, (middle,) * clicked, None, self.network.queries[0])
            self.decode([request] * count, [look] * count, by_name)
        if key not in self.canvases:
            self.looks[key] = look

    @torch.inference_mode()
    def predict(self, requests: Sequence[Request]) -> list[np.ndarray]:
        """Logits (rows, columns) float32 of each request; clicks and strokes have the last word on their own pixels."""
        for request in requests:
            self.check(request)
        empty = dict.fromkeys(r.target for r in requests if not (r.prompts or self.knows(r.target)))
        self.notice = NEVER_SAW.format(", ".join(empty)) if empty else ""
        silent = [r for r in requests if not r.prompts or (self.mode == AUTO_CLICK and r.previous is None)]
        answers = {id(r): found for r, found in zip(silent, self.by_name(silent))}
        for by_name in (True, False):
            spoken = [r for r in requests if r.prompts and by_name == (self.mode == AUTO_CLICK and self.knows(r.target))]
            starts = [answers.get(id(r), r.previous) for r in spoken]
            for request, found in zip(spoken, self.by_clicks(spoken, starts, by_name)):
                keep_settled(found, request)
                keep_prompts(found, request)
                answers[id(request)] = found
        return [answers[id(request)] for request in requests]

    def check(self, request: Request) -> None:
        if self.mode == AUTO and request.prompts:
            raise InteractiveSegError('Got a prompt in the mode "auto": make the session with mode="auto+click" to correct.')
        if self.mode == CLICK and not request.prompts:
            raise InteractiveSegError('The mode "click" has no answer before a click: click, or use mode="auto+click".')
        if not self.knows(request.target) and self.mode != CLICK and request.target not in self.warned:
            self.warned.add(request.target)
            log.warning("%s", NEVER_SAW.format(request.target))

    def knows(self, target: str) -> bool:
        return target not in self.network.unseen

    # by name

    def by_name(self, requests: Sequence[Request]) -> list[np.ndarray]:
        """The automatic answers; all slices of the call agree on where the heart is."""
        known = [r for r in requests if self.knows(r.target)]
        asked = [r for r in known if r.key not in self.canvases]
        found: dict[int, np.ndarray] = {}
        if asked:
            for request in asked:
                self.place(request.key, self.whole(request.image))
            first = self.named(asked)
            closer = self.closer(self.whole(asked[0].image), heart_mask(asked, first))
            if closer is None:
                found = {id(r): logits for r, logits in zip(asked, first)}
            else:
                for request in asked:
                    self.place(request.key, closer)
        rest = [r for r in known if id(r) not in found]
        found.update((id(r), logits) for r, logits in zip(rest, self.named(rest)))
        drop_islands(known, [found[id(r)] for r in known])
        return [found[id(r)] if id(r) in found else np.full(r.image.shape, NOWHERE, np.float32) for r in requests]

    def named(self, requests: Sequence[Request]) -> list[np.ndarray]:
        """The decoder's answers by name on the canvases that the slices are kept on, nothing where nothing was measured."""
        found = self.by_looks(requests, [None] * len(requests), by_name=True)
        for request, logits in zip(requests, found):
            logits[unmeasured(request.image)] = NOWHERE
        return found

    # by clicks

    def by_clicks(self, requests: Sequence[Request], starts: Sequence[np.ndarray | None], by_name: bool) -> list[np.ndarray]:
        """Answers to prompts, from the logits in `starts` or from nothing."""
        new = {r.key: r for r in requests if r.key not in self.canvases}
        found: dict[int, np.ndarray] = {}
        if new:
            for key, request in new.items():
                self.place(key, self.whole(request.image))
            asked = [(r, start) for r, start in zip(requests, starts) if r.key in new]
            first = self.by_looks([r for r, _ in asked], [start for _, start in asked], by_name)
            for key in new:
                here = [(r, logits) for (r, _), logits in zip(asked, first) if r.key == key]
                closer = self.closer(self.canvases[key], np.any([(logits > 0) | said(r) for r, logits in here], axis=0))
                if closer is None:
                    found.update((id(r), logits) for r, logits in here)
                else:
                    self.place(key, closer)
        for request in requests:  # a prompt beside the close look: look at the whole slice from now on
            if (said(request) & ~self.canvases[request.key].covers()).any():
                self.place(request.key, self.whole(request.image))
        rest = [(r, start) for r, start in zip(requests, starts) if id(r) not in found]
        later = self.by_looks([r for r, _ in rest], [start for _, start in rest], by_name)
        found.update((id(r), logits) for (r, _), logits in zip(rest, later))
        return [found[id(r)] for r in requests]

    # looking

    def whole(self, image: np.ndarray) -> Canvas:
        return Canvas(image.shape, self.spacing, self.network.config.size)

    def closer(self, whole: Canvas, mask: np.ndarray) -> Canvas | None:
        """A canvas around the mask, when that shows it clearly larger; else None."""
        start, stop = bounding_box(mask)
        if start == stop:
            return None
        spacing = np.array(self.spacing)
        middle, side = (np.array(start) + stop) / 2, ((np.array(stop) - start) * spacing).max()
        reach = max(MARGIN * side, NEAREST)
        if reach > CLOSER * (np.array(whole.shape) * spacing).max():
            return None
        half = reach / spacing / 2
        return Canvas(whole.shape, self.spacing, whole.size, (*(middle - half), *(middle + half)))

    def place(self, key: Key, canvas: Canvas) -> None:
        """From now on the slice is looked at on this canvas."""
        self.canvases[key] = canvas
        if key in self.looks and self.looks[key].canvas != canvas:
            del self.looks[key]

    def remember(self, requests: Sequence[Request]) -> list[Look]:
        """The encoded slice of each request of a batch, old or new; those that were asked for longest ago are forgotten."""
        lost = {r.key: r.image for r in requests if r.key not in self.looks}
        if lost:
            canvases = [self.canvases[key] for key in lost]
            for key, canvas, features in zip(lost, canvases, self.encode(list(lost.values()), canvases)):
                self.looks[key] = Look(canvas, features)
        looks = [self.looks[r.key] for r in requests]
        for request in requests:
            self.looks.move_to_end(request.key)
        while len(self.looks) > self.plan.looks:
            self.looks.popitem(last=False)
        return looks

    def encode(self, images: Sequence[np.ndarray], canvases: Sequence[Canvas]) -> list[list[torch.Tensor]]:
        """The features of each slice on its canvas, in one batch."""
        shrunk = np.stack([canvas.shrink(normalise(image, self.window)) for image, canvas in zip(images, canvases)])
        maps = replayed(self.network, "encode", self.network.encode, send(shrunk, self.device)[:, None])
        if len(shrunk) == 1:
            return [list(maps)]
        return [[level[i:i + 1].clone() for level in maps] for i in range(len(shrunk))]  # a view would keep the whole batch

    def by_looks(self, requests: Sequence[Request], starts: Sequence[np.ndarray | None], by_name: bool) -> list[np.ndarray]:
        """One pass of the decoder over the requests, each on the canvas that its slice is kept on."""
        found = []
        size = self.plan.batch  # slices and targets per call of the decoder
        for begin in range(0, len(requests), size):
            batch = [Request(r.image, r.prompts, start, r.target, r.key) for r, start in
                     zip(requests[begin:begin + size], starts[begin:begin + size])]
            found += self.decode(batch, self.remember(batch), by_name)
        return found

    def decode(self, requests: Sequence[Request], looks: Sequence[Look], by_name: bool) -> list[np.ndarray]:
        """Logits (rows, columns) of each request. by_name: with its target's object queries; clicks wherever there are any."""
        size = self.network.config.size
        previous = np.zeros((len(requests), 1, size, size), np.float32)
        for i, (request, look) in enumerate(zip(requests, looks)):
            if request.previous is not None:
                previous[i, 0] = look.canvas.shrink(1 / (1 + np.exp(-np.clip(request.previous, -30, 30))))
        points = [canvas_clicks(request, look.canvas) for request, look in zip(requests, looks)]
        clicks = tuple(pad_clicks([of[sign] for of in points], sign).to(self.device) for sign in (True, False))
        prompts = draw_prompts(clicks, send(previous, self.device))
        features = [torch.cat(level) for level in zip(*(look.features for look in looks))]
        queries = self.network.queries
        targets = torch.tensor([queries.index(r.target) for r in requests], device=self.device) if by_name else None
        spoken = any(request.prompts for request in requests)
        last = self.answer(features, prompts, targets, clicks if spoken else None)
        logits = F.interpolate(last.float(), (size, size), mode="bilinear", align_corners=False)[:, 0].cpu().numpy()
        return [np.where(look.canvas.covers(), look.canvas.expand(x), np.float32(NOWHERE)) for look, x in zip(looks, logits)]


    def answer(self, features: list[torch.Tensor], prompts: torch.Tensor, targets: torch.Tensor | None,
               clicks: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        """The last layer's logits, see VerSe.decode."""
        network, levels, named, spoken = self.network, len(features), targets is not None, clicks is not None

        def decode(*inputs: torch.Tensor) -> list[torch.Tensor]:
            rest = inputs[levels + 1:]
            return network.decode(list(inputs[:levels]), inputs[levels], rest[0] if named else None,
                                  rest[named:] if spoken else None)[-1:]

        inputs = [*features, prompts, *([targets] if named else []), *(clicks or ())]
        return replayed(network, ("decode", named, spoken), decode, *inputs)[0]


def heart_mask(requests: Sequence[Request], logits: Sequence[np.ndarray]) -> np.ndarray:
    """Bool (rows, columns): where the slices agree that the heart is, its largest part."""
    slices: dict[Key, np.ndarray] = {}
    for request, found in zip(requests, logits):
        slices[request.key] = slices.get(request.key, False) | (found > 0)
    share = np.mean(list(slices.values()), axis=0)
    return largest_component(share >= min(AGREED, share.max()) if share.any() else share > 0)


def unmeasured(image: np.ndarray) -> np.ndarray:
    """Bool (rows, columns): the flat area of the lowest value that reaches the edge of the slice, as around a field of view.

    All of a slice that shows nothing. A heart's black blood has noise, and lies inside.
    """
    flat = ndimage.binary_opening(np.pad(image == image.min(), FLAT, mode="edge"), np.ones((FLAT, FLAT)))[FLAT:-FLAT, FLAT:-FLAT]
    return flat & ~clear_border(flat)


def drop_islands(requests: Sequence[Request], logits: Sequence[np.ndarray]) -> None:
    """Of each target that is one piece, keep the largest part of the volume that these slices are. Changes logits in place.

    Slices on which nothing was measured part nothing, those that show nothing do. A slice counts for as much as the median one at
    most: a broken slice on which much is found does not cost what the others agree on.
    """
    for target in ONE_PIECE:
        mine = sorted(((r.key, found) for r, found in zip(requests, logits) if r.target == target and (found != NOWHERE).any()),
                      key=lambda pair: pair[0])
        if not mine:
            continue
        parts, count = ndimage.label(np.stack([found > 0 for _, found in mine]))
        if count > 1:
            areas = np.array([np.bincount(part.ravel(), minlength=count + 1)[1:] for part in parts])  # (slices, parts)
            usual = np.median(areas.sum(axis=1)[areas.any(axis=1)])
            largest = np.minimum(areas, usual).sum(axis=0).argmax() + 1
            for (_, found), part in zip(mine, parts):
                found[(part > 0) & (part != largest)] = NOWHERE


def keep_settled(logits: np.ndarray, request: Request) -> None:
    """Late on a slice, an answer that is unlike the one before it counts around the last prompt only. Changes logits in place.

    That is as far as twice the prompt's distance from the edge before: as large as the error that it marks. Ours, measured in
    models/CAMPAIGN.md: now and then a click on a nearly right mask made the network lose all of it.
    """
    if request.previous is None or len(request.prompts) < SETTLED:
        return
    before, after = request.previous > 0, logits > 0
    edge = before & ~ndimage.binary_erosion(before)
    if not edge.any() or 2 * np.count_nonzero(before & after) >= ALIKE * (np.count_nonzero(before) + np.count_nonzero(after)):
        return
    drawn = drawn_mask(request.prompts[-1], logits.shape)
    reach = 2 * ndimage.distance_transform_edt(~edge)[drawn].max() + NEAR
    away = ndimage.distance_transform_edt(~drawn) > reach
    logits[away] = request.previous[away]


def said(request: Request) -> np.ndarray:
    """Bool (rows, columns): what the prompts of a request name."""
    return np.any([drawn_mask(prompt, request.image.shape) for prompt in request.prompts], axis=0)


def canvas_clicks(request: Request, canvas: Canvas) -> dict[bool, list[tuple[int, int]]]:
    """Positive (True) and negative (False) clicks as (row, column) of the canvas; scribbles are read as some of their points."""
    found: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for prompt in request.prompts:
        points = [prompt.position] if isinstance(prompt, Click) else spread(drawn_mask(prompt, request.image.shape))
        rows, columns, inside = canvas.locate(*np.array(points).T)
        found[prompt.positive] += list(zip(rows[inside].tolist(), columns[inside].tolist()))
    return found


def spread(stroke: np.ndarray) -> list[tuple[int, int]]:
    """Up to STROKE_CLICKS pixels of a stroke, far from each other: the deepest one first, then always the farthest."""
    points = np.argwhere(stroke)
    depth = ndimage.distance_transform_edt(np.pad(stroke, 1))[1:-1, 1:-1][stroke]
    chosen = [points[depth.argmax()]]
    for _ in range(min(STROKE_CLICKS, len(points)) - 1):
        distance = np.min([np.abs(points - c).sum(axis=1) for c in chosen], axis=0)
        chosen.append(points[distance.argmax()])
    return [tuple(int(v) for v in point) for point in chosen]
