"""The session: one image, one object, the prompts given so far and the mask. The only object with a memory.

It knows models, prompts and geometry. It knows nothing of files, windows or Slicer.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .geometry import Window, check_slices, check_window, resolve_axis, stack_axis
from .history import Action, Memory, SliceKey, SliceState, StateKey
from .models import find_family
from .placement import Placement, check_image, in_slices, voxel_prompt
from .plan import Plan, check_most, make_plan
from .predictors import Setting, make_predictor
from .prompts import Prompt
from .rasterise import mask_to_logits
from .rounds import Progress, Rounds, propagated
from .targets import addressed, check_labels, check_targets, find_label, find_target, merged
from .types import InteractiveSegError, LabelUpdate, bounding_box


class InteractiveSession:
    """Segment one object, or several that exclude each other, in an image by prompts.

    image: (row, column) or (k, j, i), any real numbers. spacing: mm in array order. affine: 4x4, (i, j, k, 1) -> RAS mm.
    model: a family's name. weights: a file instead of the shipped ones. device: "auto", "cpu", "cuda", "mps", or a torch.device.
    window: intensities (low, high) that the network should see, as the reader's display would show them; by default each
    slice's 0.5 and 99.5 percentiles. axis: along which slices are taken in a volume, see `set_slice`; by
    default the axis along which it was scanned (`geometry.stack_axis`).
    targets: names of the objects, one by default. mode: how the family is used, where it has several ways.
    context: accepted examples (a ContextSet) of a family that learns from them; `accept` adds to it. examples: the most of them
    that a prediction uses, 1 to 256, by default what suits the device.

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
        axis: int | str | None = None,
        targets: Sequence[str] | None = None,
        mode: str | None = None,
        context: Any = None,
        examples: int | None = None,
    ) -> None:
        self.family = find_family(model)
        self.image = check_image(image)
        self.placement = Placement.of(self.image.ndim, spacing, affine)
        own, likely = self.family.targets, () if weights is not None else sum(self.family.lists, ())
        self.targets = check_targets(targets or own or ("object",), own, self.family.title, likely)
        self._mode, self._most = self.family.check_mode(mode), check_most(examples)
        self.context = self.family.check_context(context, self.targets)
        self.window, self.device, self.weights = check_window(window), device, Path(weights) if weights is not None else None
        self.shape = self.image.shape
        self.axis, self.index = 0, 0
        self._plan: Plan | None = None
        self._predictors: dict[int | None, Any] = {}
        self._propagators: dict[tuple, Any] = {}
        self._accepted: dict[StateKey, str] = {}
        self._labels = np.zeros(self.shape, np.uint8)
        self._memory = Memory()
        self._done: list[Action] = []
        self._undone: list[Action] = []
        axis = stack_axis(self.shape, self.placement.spacing) if axis is None else axis
        self.set_slice(axis, self.shape[resolve_axis(axis, self.image.ndim, self.placement.affine)] // 2)

    # what is there

    @property
    def labels(self) -> np.ndarray:
        """uint8, the image's shape: 0 outside of every target, n inside targets[n - 1]. Cannot be written to; see set_labels."""
        view = self._labels.view()
        view.flags.writeable = False
        return view

    @property
    def mask(self) -> np.ndarray:
        """Bool, the image's shape: what lies in any target. Cannot be written to; see set_mask."""
        mask = self._labels.view(bool) if len(self.targets) == 1 else self._labels != 0
        mask.flags.writeable = False
        return mask

    def mask_of(self, target: str) -> np.ndarray:
        """Bool, the image's shape: one target."""
        return self._labels == self._label_of(target)

    @property
    def probability(self) -> np.ndarray:
        """float32, the image's shape: the network's probability of the first target on predicted slices, elsewhere 0 and 1."""
        return self.probability_of(self.targets[0])

    def probability_of(self, target: str) -> np.ndarray:
        """float32, the image's shape: the network's probability on predicted slices, elsewhere the mask as 0 and 1."""
        label = self._label_of(target)
        probability = (self._labels == label).astype(np.float32)
        for (axis, index, of), state in self._memory.slices.items():
            if of == label and self.is_current((axis, index, of), state):
                self._slice(probability, (axis, index))[...] = 1 / (1 + np.exp(-np.clip(state.logits, -30, 30)))
        return probability

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts given so far, oldest first, positions as voxel indices in array order."""
        return self._memory.prompts

    @property
    def rounds(self) -> Rounds | None:
        """Which round of propagation each slice came from; None before the first."""
        return self._memory.rounds

    @property
    def mode(self) -> str | None:
        """How the family is used, for as long as the session lives; None where it has one way."""
        return self._mode

    @property
    def plan(self) -> Plan:
        """On which device the model runs and how much of everything is there at a time; `plan.sentence` tells the user."""
        if self._plan is None:
            examples = sum(info.enabled for info in self.context.infos()) if self.context is not None else 0
            mm = self.placement.spacing
            self._plan = make_plan(self.family, self.shape, self.device, examples, self.targets, self.weights, mm, self._most)
        return self._plan

    @property
    def notice(self) -> str:
        """A sentence on how the last prediction used the context, or on what the weights never saw; else ""."""
        predictor = self._predictors.get(self.axis)
        return getattr(predictor.predictor, "notice", "") if predictor is not None else ""

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
        count, index = (1, 0) if self.image.ndim == 2 else (self.shape[axis], index)
        [index] = check_slices([index], count, axis)
        self.axis, self.index = axis, index

    def add(self, prompt: Prompt) -> LabelUpdate:
        """Give a prompt; every slice of the working axis that it touches is predicted again. Returns what changed."""
        name = type(prompt).__name__
        if name not in self.family.prompts:
            known = ", ".join(self.family.prompts)
            raise InteractiveSegError(f"{self.family.title} does not understand a {name}: give one of {known}.")
        label = find_label(prompt, self.targets)
        prompt = voxel_prompt(prompt, self.shape, self.placement)
        prompts = (*self.prompts, prompt)
        if self.family.volumetric:
            return self._refine(replace(self._memory, prompts=prompts, since=(*self._memory.since, prompt)))
        touched = in_slices(prompt, self.shape, self.axis)
        slices, asked = self._heard(self._memory.slices, touched, label, self.axis)
        update = self._predict(replace(self._memory, slices=slices, prompts=prompts), asked)
        self.index = min(touched, key=lambda index: abs(index - self.index))
        return update

    def predict(self, slices: Iterable[int] | None = None) -> LabelUpdate:
        """What the model says before any prompt, or once more: of the current slice, or of these along the working axis.

        A family that knows its targets by name answers for all slices by default, a volumetric one always for the volume.
        """
        if self.family.volumetric:
            start = self._predictor().automatic(self.image)
            return self._replace(replace(self._memory, start=start, since=()), start)
        count = 1 if self.image.ndim == 2 else self.shape[self.axis]
        chosen = [self.index] if slices is None else check_slices(slices, count, self.axis)
        if slices is None and self.family.sweeps and self.image.ndim == 3:
            chosen = list(range(count))
        keys = [(self.axis, index, label) for index in chosen for label in range(1, len(self.targets) + 1)]
        states = {key: self._memory.slices.get(key, SliceState()) for key in keys}
        if not self.family.automatic and not all(state.prompts for state in states.values()):
            raise InteractiveSegError(f"{self.family.title} needs a prompt before it can answer: click inside the object.")
        return self._predict(replace(self._memory, slices={**self._memory.slices, **states}), keys)

    def set_mask(self, mask: np.ndarray, target: str | None = None) -> LabelUpdate:
        """Replace a target's mask, as after an edit by hand; prompts stay, and the next prediction starts from it.

        target: its name, to be left out where there is only one. What it loses becomes background, what it wins is its own.
        """
        mask = np.asarray(mask)
        if mask.shape != self.shape:
            raise InteractiveSegError(f"Got a mask of shape {mask.shape}, expected the image's {self.shape}: resample it first.")
        if mask.dtype.kind == "f" and np.isnan(mask).any():
            raise InteractiveSegError("Got a mask with NaN in it, expected 0 outside and another number inside: fill them first.")
        if target is None and len(self.targets) > 1:
            raise InteractiveSegError(f"Got a mask without target=: say which of {', '.join(self.targets)} it is.")
        label = self._label_of(target or self.targets[0])
        return self.set_labels(np.where(mask != 0, np.uint8(label), np.where(self._labels == label, np.uint8(0), self._labels)))

    def set_labels(self, labels: np.ndarray) -> LabelUpdate:
        """Replace the label map: whole numbers of the image's shape, 0 for background, n for targets[n - 1]."""
        labels = check_labels(labels, self.shape, len(self.targets))
        start = labels.copy() if self.family.volumetric else None
        return self._replace(replace(self._memory, start=start, since=()), labels)

    def restore(self, labels: np.ndarray, prompts: Iterable[tuple[Prompt, int]], rounds: Rounds | None = None) -> LabelUpdate:
        """Replace the label map and the prompts behind it, as they were kept elsewhere, without asking the model.

        labels: as for set_labels. prompts: oldest first, each with the array axis along whose slices it was given. rounds: where
        the labels come from, if that is known.
        """
        voxels, slices = [], {}
        for prompt, axis in prompts:
            label = find_label(prompt, self.targets)
            voxels.append(voxel_prompt(prompt, self.shape, self.placement))
            slices, _ = self._heard(slices, in_slices(voxels[-1], self.shape, axis), label, axis)
        update = self.set_labels(labels)
        self._memory = replace(self._memory, prompts=tuple(voxels), slices=slices, rounds=rounds or self._memory.rounds)
        self._done[-1] = replace(self._done[-1], after=self._memory)
        return update

    def propagate(self, from_slice=None, axis=None, extent=None, fuse=None, weights=None) -> Iterator[Progress]:
        """Carry masks through the volume, a slice at a time; one undoable action when the last is done, none if closed before.

        See rounds.propagated for what the arguments are.
        """
        memory = self._memory
        labels, rounds = yield from propagated(self, memory.slices, self._propagators, from_slice, axis, extent, fuse, weights)
        if self._memory is not memory:
            raise InteractiveSegError("The session changed while masks were carried through it: propagate again.")
        self._replace(replace(memory, rounds=rounds), labels)

    def reset(self) -> LabelUpdate:
        """Forget all prompts and clear the labels. Can be undone."""
        return self._replace(Memory(), np.zeros(self.shape, np.uint8))

    def undo(self) -> LabelUpdate:
        """Back to before the last action, exactly. Does nothing when there is none."""
        return self._travel(self._done, self._undone, backwards=True)

    def redo(self) -> LabelUpdate:
        """The last undone action again, exactly."""
        return self._travel(self._undone, self._done, backwards=False)

    def accept(self, case: str = "") -> tuple[str, ...]:
        """Add every slice that was prompted or predicted and holds the object to the context; their ids there.

        case: what the user calls the case; only a keyed hash of it is kept. Accepting again replaces what was accepted before.
        """
        from .acceptance import keep_accepted

        return keep_accepted(self, self._memory.slices, self._accepted, case)

    def warm_up(self) -> None:
        """Load the network now and run it once, so that the first prompt is as quick as the next."""
        image = self.image if self.family.volumetric else self._slice(self.image, (self.axis, self.index))
        self._predictor().warm_up(image, (self.axis, self.index))

    def retreat(self, failure: str) -> Plan:
        """Go on after a device failed: nothing of the session stays there. The plan of now on; its `sentence` says why."""
        from .predictors.fallback import retreat

        self._propagators.clear()
        self._plan = retreat(self.plan, failure, self._predictors.values())
        return self._plan

    def release(self) -> None:
        """Give back the memory that networks take, on a graphics card too. Nothing is forgotten; the next prompt loads again."""
        from . import models
        from .device import release_memory

        self._predictors.clear()
        self._propagators.clear()
        models.load.cache_clear()
        if self._plan is not None:
            release_memory(self._plan.device)
            self._plan = None

    # how it is done

    def _heard(
        self, slices: dict[StateKey, SliceState], touched: dict[int, Prompt], label: int, axis: int
    ) -> tuple[dict[StateKey, SliceState], list[StateKey]]:
        """The slices with a prompt's parts added to what each target has heard there, and which of them these are."""
        slices, asked = dict(slices), []
        for index, local in touched.items():
            heard = addressed(local, label, self._slice(self._labels, (axis, index)))
            for of, words in heard.items():
                key = (axis, index, of)
                state = slices.get(key, SliceState())
                slices[key] = replace(state, prompts=(*state.prompts, words))
                asked.append(key)
        return slices, asked

    def _predict(self, memory: Memory, keys: list[StateKey]) -> LabelUpdate:
        """Predict these slices and targets, and commit."""
        from .predictors.slices import Request

        requests = []
        for key in keys:
            image, state = self._slice(self.image, key[:2]), memory.slices[key]
            requests.append(Request(image, state.prompts, self._previous(key, state), self.targets[key[2] - 1], key[:2]))
        answers = dict(zip(keys, self._predictor().predict(requests) if requests else ()))
        slices = {**memory.slices, **{key: replace(memory.slices[key], logits=logits) for key, logits in answers.items()}}
        indices = sorted({key[1] for key in keys}) or [self.index]
        low, high = indices[0], indices[-1] + 1
        flat = self.image.ndim == 2
        slab = self._labels if flat else self._labels[(slice(None),) * self.axis + (slice(low, high),)]
        new = slab.copy()
        for index in indices:
            here = {key[2]: logits for key, logits in answers.items() if key[1] == index}
            view = self._slice(new, (self.axis, index - low))
            view[...] = merged(view, here, self._known((self.axis, index), memory, here))
        start, stop = bounding_box(new != slab)
        box = tuple(slice(a, b) for a, b in zip(start, stop))
        crop, old = new[box].copy(), slab[box].copy()
        if start != stop and not flat:
            start, stop = (tuple(v + low * (a == self.axis) for a, v in enumerate(corner)) for corner in (start, stop))
        return self._commit(replace(memory, slices=slices), LabelUpdate(start, stop, old, crop, self.targets))

    def _refine(self, memory: Memory) -> LabelUpdate:
        """Ask a volumetric family for the whole volume, from the automatic result or what the user put in its place."""
        predictor = self._predictor()
        start = memory.start if memory.start is not None else predictor.automatic(self.image)
        return self._replace(replace(memory, start=start), predictor.refine(self.image, start, self._labels, memory.since))

    def _predictor(self):
        of = None if self.family.volumetric else self.axis
        if of not in self._predictors:
            whole = self.family.volumetric or self.image.ndim == 2
            spacing = tuple(s for a, s in enumerate(self.placement.spacing) if whole or a != self.axis)
            setting = Setting(self.family, spacing, self.plan, self.window, self.targets, self.mode, self.context, self.weights)
            self._predictors[of] = make_predictor(setting, self.retreat)
        return self._predictors[of]

    def _previous(self, key: StateKey, state: SliceState) -> np.ndarray | None:
        """Logits to start from: the last answer while the mask still is that answer, else the mask, else nothing.

        An answer that no prompt followed is not where the next one starts: the same question gets the same answer.
        """
        if self.is_current(key, state):
            return state.logits if state.prompts else None
        mask = self._slice(self._labels, key[:2]) == key[2]
        return mask_to_logits(mask) if mask.any() else None

    def _known(self, key: SliceKey, memory: Memory, but: Iterable[int]) -> dict[int, np.ndarray]:
        """The logits behind what the other targets hold in a slice."""
        others = ((label, memory.slices.get((*key, label))) for label in range(1, len(self.targets) + 1) if label not in but)
        return {label: state.logits for label, state in others if state and self.is_current((*key, label), state)}

    def is_current(self, key: StateKey, state: SliceState) -> bool:
        """True while the labels hold nothing of the target but what these logits said, less what other targets took."""
        if state.logits is None:
            return False
        labels = self._slice(self._labels, key[:2])
        return np.array_equal((state.logits > 0) & ((labels == 0) | (labels == key[2])), labels == key[2])

    def _label_of(self, target: str) -> int:
        found = find_target(target, self.targets)
        if found is None:
            raise InteractiveSegError(f"There is no target {target!r} here: choose one of {', '.join(self.targets)}.")
        return self.targets.index(found) + 1

    def _slice(self, volume: np.ndarray, key: SliceKey) -> np.ndarray:
        """The view (rows, columns) of one slice."""
        return volume if volume.ndim == 2 else volume[(slice(None),) * key[0] + (key[1],)]

    def _replace(self, memory: Memory, labels: np.ndarray) -> LabelUpdate:
        """Commit a whole label map."""
        start, stop = bounding_box(labels != self._labels)
        box = tuple(slice(a, b) for a, b in zip(start, stop))
        return self._commit(memory, LabelUpdate(start, stop, self._labels[box].copy(), labels[box].copy(), self.targets))

    def _commit(self, memory: Memory, update: LabelUpdate) -> LabelUpdate:
        self._done.append(Action(self._memory, memory, update))
        self._undone.clear()
        self._labels[update.slices] = update.labels
        self._memory = memory
        return update

    def _travel(self, source: list[Action], target: list[Action], backwards: bool) -> LabelUpdate:
        if not source:
            zeros = (0,) * self.image.ndim
            return LabelUpdate(zeros, zeros, np.zeros(zeros, np.uint8), np.zeros(zeros, np.uint8), self.targets)
        action = source.pop()
        target.append(action)
        self._memory = action.before if backwards else action.after
        update = replace(action.update, before=action.update.labels, labels=action.update.before) if backwards else action.update
        self._labels[update.slices] = update.labels
        return update
