"""Masks of some slices of a volume carried to the others, and the choice between two rounds of them. Arrays in, arrays out.

It knows LIM-Net's networks and the canvas on which they see a slice; nothing of sessions, prompts or targets.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from . import models
from .appearance import SliceGuide, Ways
from .device import half_precision, send
from .geometry import Canvas, Window, normalise
from .interpolation import Between
from .models.limnet.memory import PUBLISHED, MemoryConfig
from .models.limnet.propagation import EncodedSlices, propagate
from .plan import Plan
from .types import bounding_box

FILL = 0.6  # share of the canvas's side that the objects take on the slices they are known on
ROOM = 0.8  # the canvas moves when they take more of it
FINEST = 0.5  # slice pixels per canvas pixel, at least: finer shows nothing new
WIDER = 1.6  # how much more a canvas shows after an object reached its edge
BATCH = 16  # slices per call of the quality network
AHEAD = 8  # slices that a graphics card encodes together
TRUST = 0.5  # weight of the network's logits beside what the shape of known masks says of a slice between them
EDGE = 1.0  # pixels within which that shape is unsure of its edge
LEAST = 0.05  # probability below which a canvas pixel need not be brought to the slice
SAMPLES = 2_000_000  # voxels that the volume's window is estimated from

Box = tuple[slice, slice]
Found = dict[int, np.ndarray]  # slice -> probabilities (objects, rows, columns) as uint8, 255 is certain


def volume_window(stack: np.ndarray) -> tuple[float, float]:
    """The 0.5 and 99.5 percentiles of a volume, so that a structure looks alike on all its slices."""
    step = max(1, round((stack.size / SAMPLES) ** (1 / 3)))
    low, high = np.percentile(stack[::step, ::step, ::step], (0.5, 99.5))
    return (float(low), float(high)) if high > low else (float(stack.min()), float(stack.max()) + 1)


def region_around(middle: np.ndarray, side: float, canvas: Canvas) -> tuple[float, float, float, float] | None:
    """The square region of a slice with that middle, pixels, and side, mm; None when it would be nearly all of the slice."""
    if side >= 0.9 * (np.array(canvas.shape) * canvas.spacing).max():
        return None
    half = side / np.array(canvas.spacing) / 2
    return (*(middle - half), *(middle + half))


def framed(area: np.ndarray, canvas: Canvas, fill: float) -> Canvas:
    """The canvas moved so that the area, bool (rows, columns) and not empty, takes that share of its side."""
    low, high = (np.array(corner) for corner in bounding_box(area))
    side = max(((high - low) * canvas.spacing).max() / fill, canvas.size * FINEST * min(canvas.spacing))
    return replace(canvas, region=region_around((low + high) / 2, side, canvas))


def blended(shares: torch.Tensor, distances: np.ndarray) -> torch.Tensor:
    """The network's probabilities and the interpolated shape's as one; where the distances are 0 the network's own.

    shares: (objects, rows, columns) in [0, 1]; distances: see interpolation.Between.
    """
    known = distances.any(axis=(1, 2))
    if not known.any():
        return shares
    both = (TRUST * shares.clamp(0.002, 0.998).logit() + send(distances, shares.device) / EDGE).sigmoid()
    return torch.where(send(known, shares.device)[:, None, None], both, shares)


class Propagator:
    """Carries masks along one axis of one volume. Encoded slices are kept between calls.

    image: (k, j, i). spacing: mm in array order. plan: the device, and how many bytes of encoded slices it keeps. window:
    intensities (low, high), by default the volume's. weights: a file of XMem's weights instead of the shipped ones. patience:
    empty slices in a row that end a run.
    """

    def __init__(
        self,
        image: np.ndarray,
        axis: int,
        spacing: tuple[float, ...],
        plan: Plan,
        window: Window = None,
        weights: Path | None = None,
        config: MemoryConfig = PUBLISHED,
        patience: int = 3,
    ) -> None:
        self.stack = np.moveaxis(image, axis, 0)  # (slices, rows, columns)
        self.spacing = tuple(s for a, s in enumerate(spacing) if a != axis)
        self.window = window or volume_window(self.stack)
        self.device, self.plan, self.config, self.patience = torch.device(plan.device), plan, config, patience
        self.precision = half_precision(plan.device)
        self.network = models.load("limnet-memory", weights, plan.device).to(memory_format=torch.channels_last)
        self.look(None)

    def look(self, region: tuple[float, float, float, float] | None) -> None:
        """See that region of the slices from now on, or all of them."""
        self.canvas = Canvas(self.stack.shape[1:], self.spacing, self.network.config.size, region)
        # Slices come and go at their own resolution; the canvas is on the device alone.
        ways = self.canvas.down, self.canvas.up
        self.down, self.up = ([send(np.ascontiguousarray(matrix), self.device) for matrix in way] for way in ways)
        self.rim = self.find_rim()
        self.on_canvas = lru_cache(maxsize=2 * AHEAD)(self.drawn)  # the guide looks at a slice again soon after it is encoded
        ahead = min(AHEAD, self.plan.batch) if self.device.type == "cuda" else 1
        self.slices = EncodedSlices(self.network, self.on_canvas, self.plan.kept, self.precision, ahead)
        self.ways = Ways(self.slices.kept, self.network)

    def drawn(self, index: int) -> torch.Tensor:
        """A slice as the networks see it: (1, size, size) in [0, 1]."""
        low, high = self.window
        image = send(np.ascontiguousarray(self.stack[index], np.float32), self.device)
        rows, columns = self.down
        return (rows @ ((image - low) / (high - low)).clamp(0, 1) @ columns)[None]

    def look_at(self, area: np.ndarray) -> None:
        """See the objects at a good size: area is where they are known to be, bool (rows, columns), not empty.

        What is seen now is kept if it does, so that slices need not be encoded anew.
        """
        if not self.slices.kept or (self.canvas.region is not None and not self.shows(area)):
            self.look(framed(area, self.canvas, FILL).region)

    def shows(self, area: np.ndarray) -> bool:
        """Whether the area lies well inside what is seen."""
        begin, end = np.split(np.array(self.canvas.region), 2)
        margin = (end - begin) * (1 - ROOM) / 2
        low, high = (np.array(corner) for corner in bounding_box(area))
        return bool((low >= begin + margin).all() and (high <= end - margin).all())

    def widen(self) -> None:
        """See more of the slices."""
        begin, end = np.split(np.array(self.canvas.region), 2)
        self.look(region_around((begin + end) / 2, ((end - begin) * self.spacing).max() * WIDER, self.canvas))

    def find_rim(self) -> torch.Tensor:
        """Numbers of the canvas's outermost pixels, row by row, where the slice goes on beyond them."""
        rim = np.ones((self.canvas.size,) * 2, bool)
        rim[1:-1, 1:-1] = False
        inside = self.canvas.shrink(np.ones(self.canvas.shape, np.float32)) > 0.5
        return send(np.flatnonzero(rim & inside), self.device)

    def cut_off(self, found: torch.Tensor) -> bool:
        """Whether an object (objects, size, size) goes on where the canvas ends but the slice does not."""
        return self.canvas.region is not None and bool((found.flatten(1)[:, self.rim] > 0.5).any())

    def masks_on_canvas(self, masks: np.ndarray) -> torch.Tensor:
        """(objects, rows, columns) bool -> (objects, size, size) of 0 and 1; what is too small for the canvas is a pixel."""
        seen = np.stack([self.canvas.shrink(mask) > 0.5 for mask in masks])
        for n, mask in enumerate(masks):
            if mask.any() and not seen[n].any():
                seen[n] = self.canvas.mark(mask) > 0
        return send(seen.astype(np.float32), self.device)

    def carry(self, known: Mapping[int, np.ndarray], extent: range, found: Found) -> Iterator[int]:
        """Fill `found` slice by slice from the slices with masks, and yield the index of each.

        known: slice -> bool (objects, rows, columns); an empty mask says that the object is not there. The outermost empty ones
        end the run. Slices that `found` does not hold in the end show nothing. Between two known slices a slice comes
        twice, and all may come again from the start when an object has outgrown what the networks were shown.
        """
        shown = sorted(index for index, masks in known.items() if masks.any())
        first = max((i + 1 for i in known if i < shown[0]), default=extent.start)
        last = min((i - 1 for i in known if i > shown[-1]), default=extent.stop - 1)
        inner = {index: masks for index, masks in known.items() if first <= index <= last}
        self.look_at(np.any([masks.any(axis=0) for masks in inner.values()], axis=0))
        between, whole = Between(inner), False
        while not whole:
            found.clear()
            whole = True
            given = {index: self.masks_on_canvas(masks) for index, masks in inner.items()}
            frames = {index: self.network.normalise(self.on_canvas(index)[None])[0, 0] for index in given}
            runs = propagate(self.network, self.slices, given, range(first, last + 1), self.config, self.patience, self.precision,
                             SliceGuide(frames, given, self.ways))
            for index, tensor in runs:
                if index in inner:
                    found[index] = inner[index] * np.uint8(255)
                elif self.cut_off(tensor):
                    self.widen()
                    whole = False
                    break
                else:
                    found[index] = self.expanded(tensor, between.distances(index))
                yield index

    @torch.inference_mode()
    def expanded(self, seen: torch.Tensor, distances: np.ndarray | None) -> np.ndarray:
        """Probabilities on the canvas -> on the slice, uint8 with 255 for certain; see `blended` where there are distances."""
        rows, columns = self.up
        if distances is None:
            there, (r, c) = self.reached(seen)
            shares = rows[there[0], r] @ seen[:, r, c].float() @ columns[c, there[1]]
        else:
            there = slice(None), slice(None)
            shares = blended((rows @ seen.float() @ columns).clamp(0, 1), distances)
        found = np.zeros((len(seen), *self.canvas.shape), np.uint8)
        found[(slice(None), *there)] = shares.mul_(255).add_(0.5).byte().cpu().numpy()
        return found

    def reached(self, seen: torch.Tensor) -> tuple[Box, Box]:
        """The part of the slice, and of the canvas, beyond which nothing is likelier than LEAST."""
        low, high = bounding_box((seen.amax(dim=0) > LEAST).cpu().numpy())
        return self.canvas.reach(low, high), tuple(slice(*ends) for ends in zip(low, high))

    def previous_better(self, indices: list[int], previous: np.ndarray, current: np.ndarray) -> np.ndarray:
        """For each of these slices the probability that its previous mask is the better one (paper, eq. 3), (slices,).

        previous, current: bool (slices, rows, columns), in the order of `indices`.
        """
        network = models.load("limnet-fusion", None, str(self.device))
        answers = []
        for begin in range(0, len(indices), BATCH):
            part = slice(begin, begin + BATCH)
            images = np.stack([normalise(self.stack[index], self.window) for index in indices[part]])
            seen = (torch.from_numpy(x).to(self.device) for x in (images, previous[part], current[part]))
            answers.append(network.previous_better(*seen).float().cpu().numpy())
        return np.concatenate(answers)
