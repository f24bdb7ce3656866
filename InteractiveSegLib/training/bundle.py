"""One file with all training data, small enough to travel: images as WebP, labels as LZMA, a manifest in JSON.

The file is a ZIP. `manifest.json` lists the sets; of each set, `NAME/images` holds WebP pictures one after another and
`NAME/labels` (`NAME/scribbles`) the label maps as raw bytes. 2D images and volume slices are stored alike.
"""
from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..types import InteractiveSegError

log = logging.getLogger(__name__)
FORMAT = 1
QUALITY = 88  # WebP; above 40 dB on the packs, a quarter of the lossless size


@dataclass
class Case:
    """One image or volume with its labels. Arrays are uint8, (row, column) or (k, j, i)."""

    image: np.ndarray
    labels: np.ndarray
    subject: str
    spacing: tuple[float, ...]  # mm, array order
    scribbles: np.ndarray | None = None  # an expert's: label value where drawn, `unmarked` elsewhere


@dataclass
class DataSet:
    """The cases of one source, with what its manifest says."""

    name: str
    labels: dict[int, str]
    licence: str
    modality: str
    cases: list[Case] = field(default_factory=list)

    @property
    def is_3d(self) -> bool:
        return self.cases[0].image.ndim == 3


def read_pack(path: Path, licence: str, modality: str) -> DataSet:
    """One .npz pack (2D: images, masks, roi_yxhw, subject; 3D: index, img_KEY, lab_KEY and scr_KEY) as a DataSet."""
    with np.load(path) as pack:
        labels = {int(k): str(v) for k, v in json.loads(str(pack["labels"])).items()}
        dataset = DataSet(path.stem, labels, licence, modality)
        if "index" in pack.files:
            for entry in json.loads(str(pack["index"])):
                key = entry["key"]
                scribbles = pack[f"scr_{key}"] if f"scr_{key}" in pack.files else None
                dataset.cases.append(
                    Case(pack[f"img_{key}"], pack[f"lab_{key}"], entry["subject"], tuple(entry["spacing_zyx_mm"]), scribbles)
                )
        else:
            images, masks, regions, subjects = (pack[k] for k in ("images", "masks", "roi_yxhw", "subject"))
            for image, mask, (y, x, h, w), subject in zip(images, masks, regions, subjects):
                box = np.s_[y:y + h, x:x + w]
                dataset.cases.append(Case(image[box].copy(), mask[box].copy(), str(subject), (1.0, 1.0)))
    return dataset


def list_packs(folder: Path) -> list[dict]:
    """The packs of a data folder that has a manifest.json, in the order of their names, or one pack of such a folder.

    Each is a dict of name, path, licence and modality; what the manifest does not say is "not stated".
    """
    paths = [folder] if folder.is_file() else sorted(folder.glob("*.npz"))
    if not paths:
        raise InteractiveSegError(f"No .npz pack lies in {folder}: give the folder that holds the training packs.")
    manifest = paths[0].parent / "manifest.json"
    entries = json.loads(manifest.read_text()) if manifest.exists() else []
    entries = entries if isinstance(entries, list) else entries.get("datasets", entries.get("packs", []))
    about = {entry["name"]: entry for entry in entries}
    said = {path: {key: about.get(path.stem, {}).get(key) or "not stated" for key in ("licence", "modality")} for path in paths}
    return [{"name": path.stem, "path": path, **said[path]} for path in paths]


def write_bundle(datasets: Iterator[DataSet], path: Path) -> int:
    """Write the bundle; returns its size in bytes."""
    sets = []
    partial = path.with_name(path.name + ".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for dataset in datasets:
            pictures, offsets = io.BytesIO(), []
            for case in dataset.cases:
                for plane in case.image.reshape(-1, *case.image.shape[-2:]):
                    begin = pictures.tell()
                    Image.fromarray(plane).save(pictures, "WEBP", quality=QUALITY, method=4)
                    offsets.append(pictures.tell() - begin)
            archive.writestr(f"{dataset.name}/images", pictures.getvalue(), zipfile.ZIP_STORED)
            for kind in ("labels", "scribbles"):
                arrays = [getattr(case, kind) for case in dataset.cases]
                if all(a is not None for a in arrays):
                    archive.writestr(f"{dataset.name}/{kind}", b"".join(a.tobytes() for a in arrays), zipfile.ZIP_LZMA)
            cases = [{"shape": c.image.shape, "subject": c.subject, "spacing": c.spacing} for c in dataset.cases]
            about = {k: getattr(dataset, k) for k in ("name", "labels", "licence", "modality")}
            sets.append({**about, "offsets": offsets, "cases": cases})
            log.info("%s: %d cases", dataset.name, len(cases))
        archive.writestr("manifest.json", json.dumps({"format": FORMAT, "sets": sets}), zipfile.ZIP_LZMA)
    partial.replace(path)
    return path.stat().st_size


def read_bundle(path: Path) -> list[DataSet]:
    """Everything in the bundle, decoded into memory."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InteractiveSegError(
            f"{path} is not a training bundle ({error}): make one with `interactive-seg data pack FOLDER -o {path.name}`."
        ) from error
    with archive:
        manifest = json.loads(archive.read("manifest.json"))
        if manifest["format"] != FORMAT:
            raise InteractiveSegError(f"{path} has bundle format {manifest['format']}, expected {FORMAT}: pack it again.")
        return [_read_set(archive, about) for about in manifest["sets"]]


def _read_set(archive: zipfile.ZipFile, about: dict) -> DataSet:
    labels = {int(k): v for k, v in about["labels"].items()}
    dataset = DataSet(about["name"], labels, about["licence"], about["modality"])
    pictures = io.BytesIO(archive.read(f"{dataset.name}/images"))
    raw = {k: archive.read(f"{dataset.name}/{k}") for k in ("labels", "scribbles") if f"{dataset.name}/{k}" in archive.namelist()}
    offsets, begin = iter(about["offsets"]), 0
    for entry in about["cases"]:
        shape, count = tuple(entry["shape"]), int(np.prod(entry["shape"]))
        planes = []
        for _ in range(count // (shape[-1] * shape[-2])):
            with Image.open(io.BytesIO(pictures.read(next(offsets)))) as picture:
                planes.append(np.asarray(picture.convert("L")))
        arrays = {k: np.frombuffer(v, np.uint8, count, begin).reshape(shape) for k, v in raw.items()}
        begin += count
        dataset.cases.append(Case(np.stack(planes).reshape(shape), arrays["labels"], entry["subject"],
                                  tuple(entry["spacing"]), arrays.get("scribbles")))
    return dataset
