"""Labelled volumes on disk become evaluation items, one object each. Knows the packs' layout, no models."""
from __future__ import annotations

import fnmatch
import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...types import InteractiveSegError


@dataclass(frozen=True, eq=False)
class Volume:
    """One object in one volume. image: (k, j, i); truth: bool, its shape; task: "pack/label"; spacing: mm, array order."""

    task: str
    pack: str
    subject: str
    source: str
    image: np.ndarray
    truth: np.ndarray
    spacing: tuple[float, ...]

    @property
    def label(self) -> str:
        """The pack's word for the object."""
        return self.task.removeprefix(f"{self.pack}/")


def load_volumes(data: Path, task_filter: str = "*", max_volumes: int | None = None, seed: int = 0) -> list[Volume]:
    """Objects of one pack file or of every pack of a folder, sorted by task. Labels that come from a model are left out.

    task_filter: glob on "pack/label". max_volumes: at most so many per task, of as many subjects, in a seeded order.
    """
    data = Path(data)
    volumes: list[Volume] = []
    for path in [data] if data.is_file() else sorted(data.glob("*.npz")):
        if "pseudo" not in path.stem:
            volumes += read_pack(path, task_filter, max_volumes, seed)
    if not volumes:
        raise InteractiveSegError(f"No volume of {data} has a task that matches '{task_filter}': give a glob on pack/label.")
    return sorted(volumes, key=lambda volume: volume.task)


def read_pack(path: Path, task_filter: str, max_volumes: int | None, seed: int) -> list[Volume]:
    """The objects of one pack; none when it holds no volumes."""
    with np.load(path, allow_pickle=False) as pack:
        if "index" not in pack.files:
            return []
        names = {int(label): name for label, name in json.loads(str(pack["labels"])).items()}
        entries = json.loads(str(pack["index"]))
        volumes = []
        for label, name in names.items():
            task = f"{path.stem}/{name}"
            if not fnmatch.fnmatchcase(task, task_filter) or label == 0:
                continue
            having = [entry for entry in entries if label in entry["labels_present"]]
            for entry in some_of(having, max_volumes, np.random.default_rng([seed, zlib.crc32(task.encode())])):
                image, truth = pack[f"img_{entry['key']}"], pack[f"lab_{entry['key']}"] == label
                spacing = tuple(float(step) for step in entry["spacing_zyx_mm"])
                volumes.append(Volume(task, path.stem, entry["subject"], entry["key"], image, truth, spacing))
        return volumes


def some_of(entries: list[dict], count: int | None, rng: np.random.Generator) -> list[dict]:
    """At most `count` entries in a random order, a second one of a subject only after all others had one."""
    seen: dict[str, int] = {}
    ranked = []
    for n in rng.permutation(len(entries)):
        subject = entries[n]["subject"]
        ranked.append((seen.get(subject, 0), len(ranked), int(n)))
        seen[subject] = seen.get(subject, 0) + 1
    return [entries[n] for _, _, n in sorted(ranked)[:count]]
