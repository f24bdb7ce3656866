"""The session: one image, one object, the prompts given so far and the mask. The only object with a memory.

It knows models, prompts and geometry. It knows nothing of files, windows or Slicer.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .geometry import Window, resolve_axis
from .models import find_family
from .placement import Placement, check_image, in_slices, voxel_prompt
from .prompts import Prompt
from .rasterise import mask_to_logits
from .types import InteractiveSegError, MaskUpdate, bounding_box

SliceKey = tuple[int, int]  # (array axis, index along it)


@dataclass(frozen=True, eq=False)
class SliceState:
    """The prompts of one slice in its (row, column), and the logits (rows, columns) that answered them."""

    prompts: tuple[Prompt, ...] = ()
    logits: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Memory:
    """Everything but the mask that undo must bring back. Replaced whole, never changed."""

    prompts: tuple[Prompt, ...] = ()
    slices: dict[SliceKey, SliceState] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Action:
    """One undoable step: the memory on both sides of it and the mask's box [start, stop) on both sides."""

    before: Memory
    after: Memory
    old: MaskUpdate
    new: MaskUpdate


class InteractiveSession:
    """Segment one object in an image by prompts.

    image: (row, column) or (k, j, i), any real numbers. spacing: mm in array order. affine: 4x4, (i, j, k, 1) -> RAS mm.
    model: a family's name. weights: a file instead of the shipped ones. device: "auto", "cpu", "cuda", "mps".
    window: intensities (low, high) that the network should see, as the reader's display would show them; by default each
    slice's 0.5 and 99.5 percentiles. axis: along which slices are taken in a volume, see `set_slice`.

    Raises InteractiveSegError with one sentence for anything that the caller can mend.
    """

    def __init__(
        self,
        image: np.ndarray,
        spacing: tuple[float, ...] | None = None,
        affine: np.ndarray | None = None,
        model: str = "scribbleprompt",
        device: str = "auto",
        weights: str | Path | None = None,
        window: Window = None,
        axis: int | str = 0,
    ) -> None:
        self.family = find_family(model)
        self.image = check_image(image)
        self.placement = Placement.of(self.image.ndim, spacing, affine)
        if window is not None and not window[1] > window[0]:
            raise InteractiveSegError(f"The window {tuple(window)} is empty: give (low, high) with low below high.")
        self.window, self.device, self.weights = window, device, Path(weights) if weights is not None else None
        self.shape = self.image.shape
        self.axis, self.index = 0, 0
        self._predictors: dict[int, Any] = {}
        self._mask = np.zeros(self.shape, bool)
        self._memory = Memory()
        self._done: list[Action] = []
        self._undone: list[Action] = []
        self.set_slice(axis, self.shape[resolve_axis(axis, self.image.ndim, self.placement.affine)] // 2)

    # what is there

    @property
    def mask(self) -> np.ndarray:
        """The mask now: bool, the image's shape. A view that cannot be written to; see set_mask."""
        view = self._mask.view()
        view.flags.writeable = False
        return view

    @property
    def probability(self) -> np.ndarray:
        """float32, the image's shape: the network's probability on predicted slices, elsewhere the mask as 0 and 1."""
        probability = self._mask.astype(np.float32)
        for key, state in self._memory.slices.items():
            if self._is_current(key, state):
                self._slice(probability, key)[...] = 1 / (1 + np.exp(-np.clip(state.logits, -30, 30)))
        return probability

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts given so far, oldest first, positions as voxel indices in array order."""
        return self._memory.prompts

    @property
    def can_undo(self) -> bool:
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        return bool(self._undone)

    # what a user does

    def set_slice(self, axis: int | str, index: int) -> None:
        """Work on slices along an array axis: 0, 1, 2, "K", "J", "I", or "axial", "coronal", "sagittal" (the nearest one)."""
        axis = resolve_axis(axis, self.image.ndim, self.placement.affine)
        count = 1 if self.image.ndim == 2 else self.shape[axis]
        if self.image.ndim == 2:
            index = 0
        if not 0 <= index < count:
            raise InteractiveSegError(f"Got slice {index}, but axis {axis} has slices 0 to {count - 1}: choose one of them.")
        self.axis, self.index = axis, int(index)

    def add(self, prompt: Prompt) -> MaskUpdate:
        """Give a prompt; every slice of the working axis that it touches is predicted again. Returns what changed."""
        name = type(prompt).__name__
        if name not in self.family.prompts:
            known = ", ".join(self.family.prompts)
            raise InteractiveSegError(f"{self.family.title} does not understand a {name}: give one of {known}.")
        prompt = voxel_prompt(prompt, self.shape, self.placement)
        touched = in_slices(prompt, self.shape, self.axis)
        slices = dict(self._memory.slices)
        for index, local in touched.items():
            state = slices.get((self.axis, index), SliceState())
            slices[self.axis, index] = replace(state, prompts=(*state.prompts, local))
        update = self._predict(replace(self._memory, slices=slices, prompts=(*self.prompts, prompt)), list(touched))
        self.index = min(touched, key=lambda index: abs(index - self.index))
        return update

    def predict(self) -> MaskUpdate:
        """What the model says of the current slice, before any prompt if it can."""
        state = self._memory.slices.get((self.axis, self.index), SliceState())
        if not state.prompts and not self.family.automatic:
            raise InteractiveSegError(f"{self.family.title} needs a prompt before it can answer: click inside the object.")
        return self._predict(replace(self._memory, slices={**self._memory.slices, (self.axis, self.index): state}), [self.index])

    def set_mask(self, mask: np.ndarray) -> MaskUpdate:
        """Replace the mask, as after an edit by hand; prompts stay, and the next prediction starts from it."""
        mask = np.asarray(mask)
        if mask.shape != self.shape:
            raise InteractiveSegError(f"Got a mask of shape {mask.shape}, expected the image's {self.shape}: resample it first.")
        mask = mask != 0
        start, stop = bounding_box(mask != self._mask)
        box = tuple(slice(a, b) for a, b in zip(start, stop))
        return self._commit(self._memory, MaskUpdate(start, stop, mask[box].copy()))

    def reset(self) -> MaskUpdate:
        """Forget all prompts and clear the mask. Can be undone."""
        start, stop = bounding_box(self._mask)
        return self._commit(Memory(), MaskUpdate(start, stop, np.zeros([b - a for a, b in zip(start, stop)], bool)))

    def undo(self) -> MaskUpdate:
        """Back to before the last action, exactly. Does nothing when there is none."""
        return self._travel(self._done, self._undone, lambda action: (action.before, action.old))

    def redo(self) -> MaskUpdate:
        """The last undone action again, exactly."""
        return self._travel(self._undone, self._done, lambda action: (action.after, action.new))

    def warm_up(self) -> None:
        """Load the network now and run it once, so that the first prompt is as quick as the next."""
        from .predictor import Request

        image = self._slice(self.image, (self.axis, self.index))
        self._predictor().predict([Request(image, (), None)])

    # how it is done

    def _predict(self, memory: Memory, indices: list[int]) -> MaskUpdate:
        from .predictor import Request

        keys = [(self.axis, index) for index in indices]
        states = [memory.slices[key] for key in keys]
        requests = [Request(self._slice(self.image, key), s.prompts, self._previous(key, s)) for key, s in zip(keys, states)]
        answers = self._predictor().predict(requests)
        slices = dict(memory.slices)
        low, high = (0, 0) if self.image.ndim == 2 else (min(indices), max(indices) + 1)
        slab = self._mask if self.image.ndim == 2 else self._slab(low, high)
        new = slab.copy()
        for key, logits in zip(keys, answers):
            slices[key] = replace(slices[key], logits=logits)
            self._slice(new, (key[0], key[1] - low))[...] = logits > 0
        start, stop = bounding_box(new != slab)
        crop = new[tuple(slice(a, b) for a, b in zip(start, stop))].copy()
        if start != stop and self.image.ndim == 3:
            start, stop = (tuple(v + low * (a == self.axis) for a, v in enumerate(corner)) for corner in (start, stop))
        return self._commit(replace(memory, slices=slices), MaskUpdate(start, stop, crop))

    def _predictor(self):
        if self.axis not in self._predictors:
            from .device import choose_device
            from .models import load
            from .predictor import SlicePredictor

            network = load(self.family.name, self.weights, choose_device(self.device))
            in_plane = tuple(s for a, s in enumerate(self.placement.spacing) if self.image.ndim == 2 or a != self.axis)
            self._predictors[self.axis] = SlicePredictor(network, in_plane, self.window)
        return self._predictors[self.axis]

    def _previous(self, key: SliceKey, state: SliceState) -> np.ndarray | None:
        """Logits to start from: the last answer while the mask still is that answer, else the mask, else nothing."""
        if self._is_current(key, state):
            return state.logits
        mask = self._slice(self._mask, key)
        return mask_to_logits(mask) if mask.any() else None

    def _is_current(self, key: SliceKey, state: SliceState) -> bool:
        return state.logits is not None and np.array_equal(state.logits > 0, self._slice(self._mask, key))

    def _slice(self, volume: np.ndarray, key: SliceKey) -> np.ndarray:
        """The view (rows, columns) of one slice."""
        return volume if volume.ndim == 2 else volume[(slice(None),) * key[0] + (key[1],)]

    def _slab(self, low: int, high: int) -> np.ndarray:
        return self._mask[(slice(None),) * self.axis + (slice(low, high),)]

    def _commit(self, memory: Memory, new: MaskUpdate) -> MaskUpdate:
        old = MaskUpdate(new.start, new.stop, self._mask[new.slices].copy())
        self._done.append(Action(self._memory, memory, old, new))
        self._undone.clear()
        self._mask[new.slices] = new.mask
        self._memory = memory
        return new

    def _travel(self, source: list[Action], target: list[Action], side) -> MaskUpdate:
        if not source:
            zeros = (0,) * self.image.ndim
            return MaskUpdate(zeros, zeros, np.zeros(zeros, bool))
        target.append(source.pop())
        self._memory, update = side(target[-1])
        self._mask[update.slices] = update.mask
        return update
