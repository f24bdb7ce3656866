"""The cases in a folder: image files, and DICOM series wherever they lie. Reads names and headers only."""
from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..files import check_path
from ..io.dicom import Series, list_series
from ..types import InteractiveSegError

log = logging.getLogger(__name__)
IMAGES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
STATE = "study.sqlite"  # in the results' folder
SEGMENTATIONS = (".seg.nrrd", ".seg.nhdr")


@dataclass(frozen=True)
class CaseFile:
    """One image to annotate.

    name: for lists and for the results' files. source: the file, or the folder that holds a series, relative to the study
    with forward slashes. series: a DICOM series' UID, empty for files. title: what it is, in words.
    """

    name: str
    source: str
    series: str = ""
    title: str = ""


def find_cases(study: Path, leave_out: Collection[Path] = ()) -> list[CaseFile]:
    """Every case below a folder. leave_out: folders that hold results or references."""
    if not check_path(study).is_dir():
        raise InteractiveSegError(f"{study} is not a folder: give the folder that holds the cases.")
    skipped = {path.resolve() for path in leave_out}
    images, others, unusable = [], [], []
    for path in walk(study, skipped):
        try:
            check_path(result_of(check_path(path.relative_to(study))))
        except InteractiveSegError as error:
            unusable.append(str(error))
            continue
        lower = path.name.lower()
        if lower.endswith(IMAGES):
            if not lower.endswith(SEGMENTATIONS):
                images.append(path.relative_to(study).as_posix())
        else:
            others.append(path)
    if unusable:
        log.warning("%s file(s) of %s are left out: %s", len(unusable), study, unusable[0])
    stems = Counter(stem(source) for source in images)
    files = [CaseFile(stem(s) if stems[stem(s)] == 1 else s, s, title=PurePosixPath(s).name) for s in images]
    found = [*files, *series_cases(study, others)]
    return with_own_names(found)


def result_of(image: Path) -> Path:
    """The longest name that an image's file leads to: that of its mask. Of another file, as of DICOM, its own."""
    name = image.name
    return image.with_name(f"{stem(name)}{SEGMENTATIONS[0]}") if name.lower().endswith(IMAGES) else image


def walk(folder: Path, skipped: Collection[Path]) -> Iterator[Path]:
    """The files below a folder, in order, without hidden ones, the skipped folders, and the results of any study."""
    for at, folders, files in os.walk(folder):
        here = Path(at)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and (here / n).resolve() not in skipped
                            and not (here / n / STATE).exists())
        yield from (here / name for name in sorted(files) if not name.startswith("."))


def stem(source: str) -> str:
    """A relative path without the image's suffix."""
    suffix = next((s for s in IMAGES if source.lower().endswith(s)), "")
    return source[: len(source) - len(suffix)]


def series_cases(study: Path, files: Collection[Path]) -> list[CaseFile]:
    """One case for each DICOM series in each folder. It is called like the folder, with its number where that holds several."""
    folders: dict[str, list[Path]] = {}
    for path in files:
        folders.setdefault(path.parent.relative_to(study).as_posix(), []).append(path)
    cases = []
    for folder, members in folders.items():
        cases += folder_cases(folder, list_series(members))
    return cases


def folder_cases(folder: str, found: list[Series]) -> list[CaseFile]:
    cases = []
    for series in found:
        number = re.sub(r"[^\w. -]", "_", f"series {series.number or series.uid[-8:]}")
        if folder == ".":
            name = number
        else:
            name = folder if len(found) == 1 else f"{folder}/{number}"
        cases.append(CaseFile(name, folder, series.uid, series.title))
    return cases


def with_own_names(cases: list[CaseFile]) -> list[CaseFile]:
    """The cases with " (2)" and so on behind a name that several have."""
    seen: Counter[str] = Counter()
    named = []
    for case in cases:
        seen[case.name] += 1
        named.append(case if seen[case.name] == 1 else replace(case, name=f"{case.name} ({seen[case.name]})"))
    return named


def find_reference(folder: Path, case: CaseFile) -> Path | None:
    """The reference of a case in a folder of references: the file that is called like the case or like its image."""
    endings = (*SEGMENTATIONS, *IMAGES, ".dcm")
    for name in (case.name, stem(case.source), PurePosixPath(case.name).name):
        for ending in endings:
            path = folder / f"{name}{ending}"
            if path.is_file():
                return path
    return None
