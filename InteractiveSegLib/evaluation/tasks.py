"""Labelled images on disk become 2D evaluation items: image, object, subject. Knows the packs' layout, no models."""
from __future__ import annotations

import fnmatch
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..types import InteractiveSegError

MIN_PIXELS = 10  # smaller objects are skipped: a border of one pixel decides their Dice
SLICES_PER_VOLUME = 4  # evenly from the first to the last slice that shows the object, both ends included
SMALL_SHARE = 0.01  # of the image
THIN_RATIO = 0.2  # largest inscribed radius by square root of area; a disk has 0.56, a 1:10 rod 0.16
HOLE_SHARE = 0.1  # of the filled object
PART_SHARE = 0.05  # of the object: what counts as a part of its own


@dataclass(frozen=True, eq=False)
class Item:
    """One object in one 2D image.

    image: (row, column), the pack's own type, padding cropped off. truth: bool, the image's shape.
    task: "pack/label". spacing: mm per (row, column), None where the pack does not know it.
    slice_index: row of the pack's image stack, or k in a volume. subsets: which hard kinds it belongs to.
    """

    task: str
    pack: str
    subject: str
    source: str
    slice_index: int
    image: np.ndarray
    truth: np.ndarray
    spacing: tuple[float, float] | None
    subsets: tuple[str, ...]


def load_items(data: Path, task_filter: str = "*", max_images: int | None = None, seed: int = 0) -> list[Item]:
    """Items of one pack file or of every pack of a folder, sorted by task.

    task_filter: glob on "pack/label". max_images: at most so many images per task, taken in turn from subject after
    subject in a seeded order. Objects under MIN_PIXELS pixels and packs whose labels come from a model are left out.
    """
    items: list[Item] = []
    for path in _pack_files(Path(data)):
        tasks = by_task(list(_read_pack(path, task_filter)))
        for task in sorted(tasks):
            items += _spread_over_subjects(tasks[task], max_images, seed)
    if not items:
        raise InteractiveSegError(f"No task of {data} matches '{task_filter}': give a glob on pack/label: '*acdc*/*'.")
    return items


def hard_subsets(truth: np.ndarray, end_slice: bool = False) -> tuple[str, ...]:
    """Hard kinds that an object (bool, not empty) belongs to, of: small, thin, ring, multi-part, end-slice."""
    area = int(truth.sum())
    padded = np.pad(truth, 1)  # the image's edge ends the object
    parts = np.bincount(ndimage.label(padded, np.ones((3, 3)))[0].ravel())[1:]
    filled = int(ndimage.binary_fill_holes(padded).sum())
    checks = {
        "small": area < SMALL_SHARE * truth.size,
        "thin": ndimage.distance_transform_edt(padded).max() < THIN_RATIO * np.sqrt(area),
        "ring": filled - area >= HOLE_SHARE * filled,
        "multi-part": np.count_nonzero(parts >= PART_SHARE * area) > 1,
        "end-slice": end_slice,
    }
    return tuple(name for name, holds in checks.items() if holds)


def _pack_files(data: Path) -> list[Path]:
    if data.is_file():
        return [data]
    files = sorted(data.glob("*.npz"))
    if not files:
        raise InteractiveSegError(f"{data} holds no pack (.npz): give a folder of packs or one pack file.")
    return files


def _read_pack(path: Path, task_filter: str) -> Iterator[Item]:
    try:
        pack = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InteractiveSegError(f"{path} is not a pack: give a .npz file of images and masks.") from error
    with pack:
        if "pseudo" in path.stem:
            return
        names = json.loads(str(pack["labels"])) if "labels" in pack else {}
        if "images" in pack:
            yield from _read_images(pack, path.stem, names, task_filter)
        elif "index" in pack:
            yield from _read_volumes(pack, path.stem, names, task_filter)
        else:
            raise InteractiveSegError(f"{path} has neither 'images' nor 'index': give a pack of images or volumes.")


def _wanted(pack: str, names: dict[str, str], present: np.ndarray, task_filter: str) -> dict[int, str]:
    """Label value -> task name, of the labels that the filter lets pass."""
    tasks = {int(label): f"{pack}/{names.get(str(label), str(label))}" for label in present if label != 0}
    return {label: task for label, task in tasks.items() if fnmatch.fnmatchcase(task, task_filter)}


def _read_images(pack: np.lib.npyio.NpzFile, name: str, names: dict[str, str], task_filter: str) -> Iterator[Item]:
    images, masks, subjects, sources = pack["images"], pack["masks"], pack["subject"], pack["id"]
    wanted = _wanted(name, names, np.unique(masks), task_filter)
    for n, (y, x, height, width) in enumerate(pack["roi_yxhw"]):
        image, labels = (stack[n, y : y + height, x : x + width] for stack in (images, masks))
        for label, task in wanted.items():
            truth = labels == label
            if truth.sum() >= MIN_PIXELS:
                yield Item(task, name, str(subjects[n]), str(sources[n]), n, image, truth, None, hard_subsets(truth))


def _read_volumes(pack: np.lib.npyio.NpzFile, name: str, names: dict[str, str], task_filter: str) -> Iterator[Item]:
    for entry in json.loads(str(pack["index"])):
        wanted = _wanted(name, names, np.array(entry["labels_present"]), task_filter)
        if not wanted:
            continue
        image, labels = pack[f"img_{entry['key']}"], pack[f"lab_{entry['key']}"]
        spacing = tuple(float(step) for step in entry["spacing_zyx_mm"][1:])
        for label, task in wanted.items():
            shown = np.flatnonzero((labels == label).sum(axis=(1, 2)) >= MIN_PIXELS)
            picks = np.unique(np.linspace(0, len(shown) - 1, SLICES_PER_VOLUME).round().astype(int))
            for k in shown[picks[picks >= 0]]:
                truth = labels[k] == label
                subsets = hard_subsets(truth, end_slice=k in (shown[0], shown[-1]))
                yield Item(task, name, entry["subject"], entry["key"], int(k), image[k], truth, spacing, subsets)


def by_task(items: Sequence[Item]) -> dict[str, list[Item]]:
    """The items of each task, in their order."""
    tasks: dict[str, list[Item]] = {}
    for item in items:
        tasks.setdefault(item.task, []).append(item)
    return tasks


def subjects_in_turn(items: Sequence[Item], rng: np.random.Generator) -> list[int]:
    """All indices of a task's items, shuffled, but every subject's first item before any subject's second one."""
    turn: dict[str, int] = {}
    ranked = []
    for n in rng.permutation(len(items)):
        subject = items[n].subject
        turn[subject] = turn.get(subject, -1) + 1
        ranked.append((turn[subject], int(n)))
    order = {subject: place for place, subject in enumerate(turn)}
    ranked.sort(key=lambda entry: (entry[0], order[items[entry[1]].subject]))
    return [n for _, n in ranked]


def _spread_over_subjects(items: list[Item], max_images: int | None, seed: int) -> list[Item]:
    if max_images is None or len(items) <= max_images:
        return items
    rng = np.random.default_rng([seed, zlib.crc32(items[0].task.encode())])
    return [items[n] for n in sorted(subjects_in_turn(items, rng)[:max_images])]
