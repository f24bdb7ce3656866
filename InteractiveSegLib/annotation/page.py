"""One page on a study for a reader who was not there: the curve, the table, a picture of every accepted case."""
from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ..io import LoadedImage, read_mask
from ..placement import voxel_prompt
from ..report import Picture, html_page, overlay
from ..types import InteractiveSegError, counted
from .actions import prompt_of, replace_bytes, standing
from .results import in_order, make_folder
from .state import ACCEPTED, SKIPPED, CaseRecord
from .study import Study

SHOWN = 4  # slices of a volume
HEADER = ("", "case", "prompts", "seconds", "size", "Dice", "note")
log = logging.getLogger(__name__)


def write_page(study: Study) -> Path:
    """Write report.html into the results' folder. A case's picture is drawn once for each accepted mask."""
    pictures = []
    for case in in_order(study.cases):
        try:
            png = picture_of(study, case)
        except InteractiveSegError as error:  # the image went away since
            log.warning("%s has no picture: %s", case.name, error)
            continue
        pictures.append(Picture(case.name, caption_of(case), png, narrow=is_upright(png)))
    curve = study.results / "curve.png"
    if pictures and curve.exists():
        pictures.insert(0, Picture("Prompts per case", "", curve.read_bytes()))
    rows = [row_of(case, n) for n, case in enumerate(in_order(study.cases), start=1)]
    rows += [row_of(case) for case in study.cases if case.status != ACCEPTED]
    page = study.results / "report.html"
    replace_bytes(page, html_page(study.task.capitalize(), summary_of(study), HEADER, rows, pictures).encode())
    return page


def summary_of(study: Study) -> str:
    """The study in a paragraph."""
    cases = study.cases
    done, skipped = in_order(cases), sum(case.status == SKIPPED for case in cases)
    if not done:
        return f"{counted(len(cases), 'case')}, none accepted yet."
    prompts = np.array([case.prompts for case in done])
    words = f"{len(done)} of {len(cases)} cases accepted" + f", {skipped} skipped" * bool(skipped)
    words += f", with {counted(int(prompts.sum()), 'prompt')} in {sum(case.seconds for case in done) / 60:.1f} minutes of work. "
    by_hand = sum(case.by_hand for case in done)
    prompts = np.array([case.prompts for case in done if not case.by_hand])
    words += f"{by_hand} were drawn or edited by hand, too, and do not count here: " * bool(by_hand and len(prompts) >= 6)
    if len(prompts) >= 6:
        third = len(prompts) // 3
        words += f"The first {third} cases took {prompts[:third].mean():.1f} prompts each, the last {third} "
        words += f"{prompts[-third:].mean():.1f}. "
    scores = [case.dice for case in done if case.dice is not None]
    if scores:
        words += f"Dice against the references: mean {np.mean(scores):.3f}, lowest {min(scores):.3f}. "
    words += f"Segmented with {study.family.title}. In the pictures: orange, the accepted mask; "
    if scores:
        words += "blue and dashed, the reference; "
    return words + "green, prompts inside; red, prompts outside. Not for clinical decisions."


def row_of(case: CaseRecord, order: int | None = None) -> tuple[str, ...]:
    """A line of the table."""
    if case.voxels is None:
        size = ""
    else:
        size = f"{case.voxels} pixels" if case.volume_ml is None else f"{case.volume_ml:.3g} ml"
    return (str(order or ""), case.name, str(case.prompts), f"{case.seconds:.0f}", size,
            "" if case.dice is None else f"{case.dice:.3f}", case.note if case.status == ACCEPTED else
            f"{case.status} {case.note}".strip())


def caption_of(case: CaseRecord) -> str:
    words = counted(case.prompts, "prompt")
    return words if case.dice is None else f"{words}, Dice {case.dice:.3f}"


def is_upright(png: bytes) -> bool:
    """Whether a picture is about as high as wide; width and height stand at the same place in every PNG."""
    width, height = (int.from_bytes(png[at:at + 4], "big") for at in (16, 20))
    return width < 1.5 * height


def picture_of(study: Study, case: CaseRecord) -> bytes:
    """The case's overlay, drawn anew when the mask is newer than the picture."""
    path, mask_file = study.results / "pictures" / f"{case.name}.png", study.mask_file(case.name)
    if path.exists() and mask_file.exists() and path.stat().st_mtime > mask_file.stat().st_mtime:
        return path.read_bytes()
    image = study.read(case)
    mask, reference = read_mask(mask_file, image), study.read_reference(case, image)
    session = study.make_session(image)
    said = standing(study.state.journal(case.name, study.task)[0])
    prompts = [voxel_prompt(prompt_of(action), session.shape, session.placement) for action in said]
    slices = telling_slices(image, mask, reference, session.axis)
    png = overlay(image, mask, prompts, session.axis, session.window, reference, slices, closer=True)
    make_folder(path.parent)
    replace_bytes(path, png)
    return png


def telling_slices(image: LoadedImage, mask: np.ndarray, reference: np.ndarray | None, axis: int) -> list[int]:
    """Slices to show: spread evenly over the object's extent."""
    if image.array.ndim == 2:
        return [0]
    held = mask if reference is None else mask | reference
    others = tuple(n for n in range(3) if n != axis)
    indices = np.flatnonzero(held.any(axis=others))
    if indices.size == 0:
        return [mask.shape[axis] // 2]
    steps = (np.arange(min(SHOWN, indices.size)) + 0.5) / min(SHOWN, indices.size)
    return indices[(steps * indices.size).astype(int)].tolist()
