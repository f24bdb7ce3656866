"""A case that is open: its session, of which every action is on disk when the method returns. Prints nothing, draws nothing."""
from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..acceptance import accepted_entries
from ..evaluation.metrics import dice
from ..io import LoadedImage
from ..key_slices import answer_volume
from ..placement import in_slices, voxel_prompt
from ..prompts import Prompt
from ..rounds import Progress, Rounds, carried_before
from ..session import InteractiveSession, SliceState
from ..types import LabelUpdate
from .actions import PROMPTS, Action, action_of, made_alone, pack_mask, perform, prompt_of, standing, unpack_mask
from .state import CaseRecord, StudyState

PAUSE = 120.0  # seconds between two actions; a longer pause counts as this much work


class OpenCase:
    """One case of a study while it is annotated.

    image: with its place in the patient. session: read from it what you like, but act through this object. reference: bool,
    the image's shape, or None. every_slice: each slice is answered by itself, none filled from others.
    """

    def __init__(self, state: StudyState, task: str, record: CaseRecord, image: LoadedImage, session: InteractiveSession,
                 reference: np.ndarray | None = None, every_slice: bool = False) -> None:
        self.state, self.task, self.name = state, task, record.name
        self.image, self.session, self.reference, self.every_slice = image, session, reference, every_slice
        self.prompts, self.seconds = record.prompts, record.seconds
        self.axis = session.axis
        self.undoable = self.redoable = 0  # actions since the case was opened
        self.actions, mask = state.journal(record.name, task)
        if self.actions:
            self._resume(mask)
        self.last = time.monotonic()

    @property
    def mask(self) -> np.ndarray:
        """Bool, the image's shape."""
        return self.session.mask

    @property
    def dice(self) -> float | None:
        """Against the reference; None without one."""
        return None if self.reference is None else float(dice(self.mask, self.reference))

    @property
    def by_hand(self) -> bool:
        """Whether the mask was drawn or edited by hand, which no prompt counts: it was replaced, and the prompts stayed.

        Edits that were undone count, too, as such prompts do.
        """
        return any(self._is_drawn(action, self.actions[:n]) for n, action in enumerate(self.actions))

    @property
    def can_predict(self) -> bool:
        """Whether the model has an answer before any prompt: it knows the object, or the context has examples."""
        family, context = self.session.family, self.session.context
        return family.automatic and (not family.contextual or any(info.enabled for info in context.infos()))

    def predict(self) -> Iterator[Progress]:
        """Segment the image without a prompt, step by step, from where an interruption left it; see key_slices.answer_volume.

        Nothing happens until the result is walked over.
        """
        done: set[int] = set()
        for action in self.actions:
            done = done.union(action.get("predict", ())) if made_alone(action) else set()
        yield from answer_volume(self.session, None, self.every_slice, done, lambda slices: self.do({"predict": slices}),
                                 self.propagate)

    def propagate(self, from_slice: Iterable[int] | None = None, axis: int | None = None, extent: tuple[int, int] | None = None,
                  fuse: bool | None = None) -> Iterator[Progress]:
        """Carry the masks of the slices that were prompted, or of these, to the others; see InteractiveSession.propagate.

        Nothing is changed before the last one is reached.
        """
        action: Action = {"propagate": True if from_slice is None else list(from_slice)}
        started = time.monotonic()
        yield from self.session.propagate(from_slice, axis, extent, fuse)
        self._pass_over(started)
        axis = self.session.rounds.axis
        if not axis == self.session.axis == self.axis:
            action["axis"] = axis
        if extent is not None and tuple(extent) != (0, self.session.shape[axis]):
            action["extent"] = [int(end) for end in extent]
        if fuse is False and from_slice is None:
            action["fuse"] = False
        self.note(action)

    def add(self, prompt: Prompt) -> LabelUpdate:
        """Give a prompt, to slices along the session's working axis."""
        action = action_of(prompt)
        return self.do(action if self.session.axis == self.axis else {**action, "axis": self.session.axis})

    def undo(self) -> LabelUpdate:
        """Take the last action back; nothing from before the case was opened."""
        return self.do({"undo": True})

    def redo(self) -> LabelUpdate:
        """Do it again."""
        return self.do({"redo": True})

    def reset(self) -> LabelUpdate:
        """Forget all prompts and clear the mask."""
        return self.do({"reset": True})

    def set_mask(self, mask: np.ndarray) -> LabelUpdate:
        """Replace the mask, as after an edit by hand."""
        return self.do({"set_mask": pack_mask(np.asarray(mask) != 0)})

    def do(self, action: Action) -> LabelUpdate:
        """Do any action of the journal. It is on disk when this returns; a process that is killed meanwhile loses it alone."""
        if ("undo" in action and not self.undoable) or ("redo" in action and not self.redoable):
            return self._nothing()  # the session would take back the whole case, as it was opened
        started = time.monotonic()
        before = self.mask.copy() if self.mask.ndim == 3 and self._is_drawn(action, self.actions) else None
        spoken = any(key in action for key in PROMPTS)  # along the study's axis, unless it says another one
        update = perform(self.session, {"axis": self.axis, **action} if spoken else action)
        if before is not None:
            changed = np.moveaxis(self.mask != before, self.axis, 0).any(axis=(1, 2))
            action = {**action, "drawn": np.flatnonzero(changed).tolist()}
        self._pass_over(started)
        self.note(action)
        return update

    def note(self, action: Action) -> None:
        """Count an action that was done to the session and write it down."""
        step = -1 if "undo" in action else 1
        self.undoable += step
        self.redoable = self.redoable - step if "undo" in action or "redo" in action else 0
        self.prompts += any(key in action for key in (*PROMPTS, "tilted"))
        self._pass_time()
        self.state.append(self.name, self.task, len(self.actions), action, pack_mask(self.mask), self.prompts, self.seconds)
        self.actions.append(action)

    @staticmethod
    def _is_drawn(action: Action, before: Sequence[Action]) -> bool:
        """Whether an action after these puts in a mask that was drawn or edited by hand."""
        if "restore" in action:
            return len(action["restore"]["prompts"]) == len(standing(before))
        return "set_mask" in action and not {"tilted", "anew"} & set(action)

    def _nothing(self) -> LabelUpdate:
        zeros = (0,) * len(self.session.shape)
        nothing = np.zeros(zeros, np.uint8)
        return LabelUpdate(zeros, zeros, nothing, nothing, self.session.targets)

    def _pass_over(self, started: float) -> None:
        """Before the first prompt a model is loaded, examples are tried, masks are carried: that is not the user's work."""
        if not self.prompts:
            self.last += time.monotonic() - started

    def _pass_time(self) -> None:
        now = time.monotonic()
        self.seconds += min(now - self.last, PAUSE)
        self.last = now

    def _resume(self, mask: Action | None) -> None:
        """The mask as it was left and the prompts behind it, whatever became of the model and the context since."""
        labels = unpack_mask(mask, self.session.shape) if mask is not None else np.zeros(self.session.shape, bool)
        prompts = [(prompt_of(action), action.get("axis", self.axis)) for action in standing(self.actions)]
        self.session.restore(labels, prompts, self._rounds(labels, prompts))
        self.last = time.monotonic()
        self.note({"resume": True})
        self.undoable = 0

    def _rounds(self, labels: np.ndarray, prompts: Iterable[tuple[Prompt, int]]) -> Rounds | None:
        """Where a mask comes from that these prompts, edits by hand and the program made; None where that is not known."""
        since = max((n for n, action in enumerate(self.actions) if "reset" in action), default=0)
        put = [action for action in self.actions[since:] if "set_mask" in action or "restore" in action]
        known = all("drawn" in action for action in put)
        filled = any("predict" in action or "propagate" in action for action in self.actions)
        if not known or not (put or filled) or labels.ndim == 2 or any(axis != self.axis for _, axis in prompts):
            return None
        voxels = [voxel_prompt(prompt, labels.shape, self.session.placement) for prompt, _ in prompts]
        own = {index for prompt in voxels for index in in_slices(prompt, labels.shape, self.axis)}
        return carried_before(labels, self.axis, (frozenset(own.union(*(action["drawn"] for action in put))),))

    def examples(self) -> list[dict[str, Any]]:
        """What the case teaches: the arguments of `ContextSet.add` for each slice that holds the object.

        Slices that hold no more of it than an answer in a tilted view cut of them teach nothing.
        """
        shape, axis = self.session.shape, self.session.axis
        said: dict[int, tuple[Prompt, ...]] = {}
        for prompt in self.session.prompts:
            for index, local in in_slices(prompt, shape, axis).items():
                said[index] = (*said.get(index, ()), local)
        planes = self.mask[None] if len(shape) == 2 else np.moveaxis(self.mask, axis, 0)
        held = [index for index in np.flatnonzero(planes.any(axis=(1, 2))).tolist() if self._answered(index, said)]
        states = {(axis, index, 1): SliceState(said.get(index, ())) for index in held}
        return list(accepted_entries(self.session, states, self.name).values())

    def _answered(self, index: int, said: Collection[int]) -> bool:
        """Whether a slice with some of the object was answered or drawn as a whole. said: the slices with prompts."""
        tilted = any("tilted" in action for action in self.actions)
        drawn = any({"propagate", "restore", "set_mask"} & set(action) and "tilted" not in action for action in self.actions)
        return not tilted or drawn or index in said or any(index in action.get("predict", ()) for action in self.actions)

    def results(self) -> dict[str, Any]:
        """What the study notes of an accepted case."""
        self._pass_time()
        voxels = int(self.mask.sum())
        flat = min(self.image.array.shape[:-2], default=1) == 1  # a picture or a lone slice has no volume
        volume = None if flat else round(voxels * float(np.prod(self.image.spacing)) / 1000, 4)
        return {"voxels": voxels, "volume_ml": volume, "dice": self.dice, "seconds": round(self.seconds, 3),
                "prompts": self.prompts}
