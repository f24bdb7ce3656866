"""What was said to a case, as JSON: the lines of the journal, and the file that gives prompts to several cases.

An action is a dictionary with one of these keys, positions in voxels (k, j, i) or (row, column):
  {"click": [7, 120, 88]}, {"click_ras": [R, A, S]}, {"box": [[start], [stop]]}, {"lasso": [[...], [...], [...]]},
  {"scribble": [[...], ...]} with the voxels that were drawn; "positive": false where the object is not, "axis": 2 when it
  speaks to slices along another array axis than the study's;
  {"predict": [slices]}, {"propagate": true}, or {"propagate": [slices]} from the model's answers on these; perhaps with "axis": 2
  and "extent": [first, stop] of the slices to fill, "fuse": false where no mask of the round before stays,
  {"undo": true}, {"redo": true}, {"reset": true}, {"set_mask": {...}},
  with "tilted": true where that is the answer to a prompt in a view that follows no slices, "anew": true where the program
  emptied a slice or put a prediction there;
  {"restore": {"mask": {...}, "prompts": [...]}} where a mask and the prompts behind it were put in the place of what was there;
  of both the journal knows with "drawn": [slices] which ones an edit by hand changed, along the study's axis;
  {"resume": true} where the case was opened again, past which nothing is undone.
"""
from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..files import partial
from ..prompts import Box, Click, Lasso, Prompt, Scribble
from ..session import InteractiveSession
from ..types import InteractiveSegError, bounding_box

FORMAT = "interactive-seg prompts 1"
PROMPTS = ("click", "click_ras", "box", "lasso", "scribble")
FLAGS = ("propagate", "undo", "redo", "reset")
OTHERS = (*FLAGS, "predict", "set_mask", "restore", "resume")
FAR = 2.0**31  # voxels or mm from the origin, where no image is any more
Action = dict[str, Any]


def action_of(prompt: Prompt) -> Action:
    """A prompt as an action."""
    if isinstance(prompt, Box):
        return {"box": [whole(prompt.start), whole(prompt.stop)]}
    if isinstance(prompt, Lasso):
        action = {"lasso": [plain(point) for point in prompt.points]}
    elif isinstance(prompt, Scribble):
        drawn = np.argwhere(prompt.mask) + (prompt.origin or (0,) * np.ndim(prompt.mask))
        action = {"scribble": drawn.tolist()}
    elif prompt.position is None:
        action = {"click_ras": plain(prompt.position_ras)}
    else:
        action = {"click": plain(prompt.position)}
    return action if prompt.positive else {**action, "positive": False}


def plain(numbers: Any) -> list[float]:
    return [float(n) if float(n) % 1 else int(n) for n in numbers]


def whole(numbers: Any) -> list[int]:
    return [int(n) for n in numbers]


def prompt_of(action: Action) -> Prompt:
    """The prompt of an action; InteractiveSegError with one sentence for anything else."""
    kind = next((key for key in PROMPTS if key in action), None) if isinstance(action, dict) else None
    rest = set(action) - {kind, "positive", "axis"} if kind is not None else {""}
    if rest or not isinstance(action.get("positive", True), bool) or action.get("axis", 0) not in (0, 1, 2):
        raise InteractiveSegError(f"Got the prompt {shortened(action)}, expected one of {', '.join(PROMPTS)}, perhaps with "
                                  '"positive": false: correct it.')
    positive = action.get("positive", True)
    try:
        numbers = np.array(action[kind], dtype=float)
    except (TypeError, ValueError, OverflowError):
        numbers = np.full(1, np.nan)
    if numbers.ndim != (1 if kind.startswith("click") else 2) or numbers.size == 0 or not (np.abs(numbers) < FAR).all():
        raise InteractiveSegError(f"Got the prompt {shortened(action)}, whose places are not numbers within an image, all of one "
                                  "length: correct it.")
    if kind == "click":
        return Click(tuple(numbers.tolist()), positive)
    if kind == "click_ras":
        return Click(position_ras=tuple(numbers.tolist()), positive=positive)
    if kind == "box":
        if len(numbers) != 2:
            raise InteractiveSegError(f"Got the box {shortened(action)}, expected [[start], [stop]]: correct it.")
        return Box(tuple(np.floor(numbers[0]).astype(int).tolist()), tuple(np.ceil(numbers[1]).astype(int).tolist()))
    if kind == "lasso":
        return Lasso(tuple(map(tuple, numbers.tolist())), positive)
    return scribble_of(np.rint(numbers).astype(int), positive)


def check_other(action: Action) -> None:
    """One sentence for an action that is no prompt, unless it can be done: a file may say anything with the same words."""
    kind = next(key for key in OTHERS if key in action)
    value, more = action[kind], set(action) - {kind}
    if kind == "propagate":
        right, more = (value is True or are_whole(value)) and fits_round(action), more - {"axis", "extent", "fuse"}
    elif kind == "predict":
        right = are_whole(value)
    elif kind == "set_mask":
        right, more = isinstance(value, dict) and all(action[key] is True for key in more), more - {"tilted", "anew"}
    elif kind == "restore":
        right = isinstance(value, dict) and isinstance(value.get("mask"), dict) and isinstance(value.get("prompts"), list)
    else:
        right = kind in FLAGS and value is True
    if more or not right:
        known = ", ".join(f'{{"{flag}": true}}' for flag in FLAGS)
        raise InteractiveSegError(f"Got the action {shortened(action)}, expected a prompt, {known}, "
                                  '{"predict": [slices]}, or a mask as the program writes it: correct it.')
    for said in value["prompts"] if kind == "restore" else ():
        prompt_of(said)


def are_whole(value: Any) -> bool:
    return isinstance(value, list) and all(type(index) is int for index in value)


def fits_round(action: Action) -> bool:
    """Whether what an action says of how masks are carried can be done."""
    extent = action.get("extent", [0, 1])
    return (are_whole(extent) and len(extent) == 2 and type(action.get("axis", 0)) is int and 0 <= action.get("axis", 0) < 3
            and isinstance(action.get("fuse", False), bool))


def scribble_of(voxels: np.ndarray, positive: bool) -> Scribble:
    """voxels: (n, dimensions)."""
    origin = voxels.min(axis=0)
    shape = voxels.max(axis=0) - origin + 1
    if origin.min() < 0 or np.prod(shape.astype(float)) > 2**31:
        raise InteractiveSegError(f"Got a scribble from {origin.tolist()} with the size {shape.tolist()}: draw it in the image.")
    mask = np.zeros(shape, bool)
    mask[tuple((voxels - origin).T)] = True
    return Scribble(mask, positive, tuple(origin.tolist()))


def shortened(action: Any) -> str:
    text = json.dumps(action, default=str)
    return text if len(text) < 80 else f"{text[:77]}..."


def pack_mask(mask: np.ndarray) -> Action:
    """A bool array as JSON: its box, one bit per voxel, compressed."""
    start, stop = bounding_box(mask)
    crop = mask[tuple(slice(a, b) for a, b in zip(start, stop))]
    bits = base64.b64encode(zlib.compress(np.packbits(crop), 1)).decode()
    return {"shape": list(mask.shape), "start": list(start), "stop": list(stop), "bits": bits}


def unpack_mask(packed: Action, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse; InteractiveSegError when it is damaged or of another image."""
    mask = np.zeros(shape, bool)
    try:
        if tuple(packed["shape"]) != shape:
            raise ValueError(packed["shape"])
        crop = mask[tuple(slice(a, b) for a, b in zip(packed["start"], packed["stop"]))]
        bits = np.frombuffer(zlib.decompress(base64.b64decode(packed["bits"])), np.uint8)
        crop[...] = np.unpackbits(bits, count=crop.size).reshape(crop.shape)
    except (TypeError, KeyError, ValueError, IndexError, zlib.error) as error:
        raise InteractiveSegError("Got a mask in a journal that does not fit the image: the image was changed, or the journal is "
                                  "damaged: start the case over (`interactive-seg annotate --start-over`).") from error
    return mask


def perform(session: InteractiveSession, action: Action) -> Any:
    """Do an action; returns what the session says to it."""
    if not isinstance(action, dict) or not any(key in action for key in OTHERS):
        prompt = prompt_of(action)
        if action.get("axis", session.axis) != session.axis and len(session.shape) == 3:
            session.set_slice(action["axis"], 0)
        return session.add(prompt)
    check_other(action)
    if "predict" in action:
        return session.predict(slices=action["predict"])
    if "propagate" in action:
        answers = None if action["propagate"] is True else action["propagate"]
        fuse = action.get("fuse", None if answers is None else False)
        return list(session.propagate(answers, action.get("axis"), action.get("extent"), fuse))
    if "set_mask" in action:
        return session.set_mask(unpack_mask(action["set_mask"], session.shape))
    if "restore" in action:
        kept = action["restore"]
        prompts = [(prompt_of(said), said.get("axis", session.axis)) for said in kept["prompts"]]
        return session.restore(unpack_mask(kept["mask"], session.shape), prompts)
    return getattr(session, next(key for key in FLAGS if key in action))()


def standing(actions: Sequence[Action]) -> list[Action]:
    """The prompts among some actions that were not undone."""
    before: list[Action] = []
    done: list[Action] = []
    undone: list[Action] = []
    for action in actions:
        if "resume" in action:
            before, done, undone = effective(before, done), [], []
        elif "undo" in action or "redo" in action:
            source, target = (done, undone) if "undo" in action else (undone, done)
            if source:
                target.append(source.pop())
        else:
            done.append(action)
            undone = []
    return effective(before, done)


def effective(before: list[Action], done: list[Action]) -> list[Action]:
    """The prompts that count when `done` follows on the prompts `before`."""
    counted = list(before)
    for action in done:
        if "reset" in action:
            counted = []
        elif "restore" in action:
            counted = list(action["restore"]["prompts"])
        elif any(key in action for key in PROMPTS):
            counted.append(action)
    return counted


def repeatable(actions: Sequence[Action]) -> list[Action]:
    """What a person said, without what the program did by itself."""
    return [{key: value for key, value in actions[n].items() if key != "drawn"} for n in said_at(actions)]


def said_at(actions: Sequence[Action]) -> list[int]:
    """Which of some actions a person said. A prediction that was taken back and made again was not taken back in the end."""
    last = max((n for n, action in enumerate(actions) if "predict" in action), default=0)
    said: list[int] = []
    done: list[bool] = []  # whether the program did it by itself
    undone: list[bool] = []
    for n, action in enumerate(actions):
        alone = made_alone(action)
        if "resume" in action:
            done, undone = [], []
        elif "undo" in action or "redo" in action:
            source, target = (done, undone) if "undo" in action else (undone, done)
            if source:
                target.append(source.pop())
                alone = target[-1] and n < last
        else:
            done.append(alone)
            undone = []
        if not alone:
            said.append(n)
    return said


def made_alone(action: Action) -> bool:
    """Whether the program does such an action by itself."""
    return "predict" in action or "resume" in action or isinstance(action.get("propagate"), list)


def read_prompts(path: Path) -> dict[str, list[Action]]:
    """The actions of a file for each case that it names, checked as far as possible without the images."""
    try:
        table = json.loads(path.read_text(encoding="utf8"), object_pairs_hook=once)
    except (OSError, ValueError, RecursionError) as error:
        raise InteractiveSegError(f"{path} cannot be read as JSON ({error}): correct it.") from error
    cases = table.get("cases") if isinstance(table, dict) and table.get("format") == FORMAT else None
    if not isinstance(cases, dict) or not all(isinstance(actions, list) for actions in cases.values()):
        raise InteractiveSegError(f'{path} is no list of prompts, expected {{"format": "{FORMAT}", "cases": {{NAME: [...]}}}}: '
                                  "see `interactive-seg annotate --help`.")
    for name, actions in cases.items():
        for action in actions:
            other = isinstance(action, dict) and any(key in action for key in OTHERS)
            try:
                (check_other if other else prompt_of)(action)
            except InteractiveSegError as error:
                raise InteractiveSegError(f"{path}, case {name}: {error}") from error
    return cases


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no key hides another: Python alone would keep the last."""
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            raise ValueError(f"{key!r} is there {count} times")
    return dict(pairs)


def write_prompts(path: Path, cases: dict[str, list[Action]]) -> None:
    """The inverse: a file that `read_prompts` reads, whole or not at all."""
    lines = ",\n".join(
        f"  {json.dumps(name)}: [\n" + ",\n".join(f"   {json.dumps(action)}" for action in actions) + "\n  ]"
        for name, actions in cases.items()
    )
    replace_bytes(path, f'{{\n "format": "{FORMAT}",\n "cases": {{\n{lines}\n }}\n}}\n'.encode())


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    part = partial(path)
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise InteractiveSegError(f"{path} cannot be written ({error.strerror}): choose another place.") from error
