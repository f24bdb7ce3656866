"""Pictures of masks on images, and the HTML page that collects them. Knows neither models nor sessions."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import ArrayLike

from .geometry import normalise
from .io import LoadedImage
from .placement import in_slices
from .prompts import Box, Click, Prompt, Scribble
from .types import InteractiveSegError, bounding_box

POSITIVE, NEGATIVE = "#2ee65c", "#ff3b30"
MASK_LINE = {"colors": "#ffb000", "linewidths": 1.6}
REFERENCE_LINE = {"colors": "#5ac8fa", "linewidths": 0.9, "linestyles": "dashed"}
LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))  # towards larger and towards smaller RAS
MOST_SLICES = 12  # on one picture


@dataclass(frozen=True)
class SliceView:
    """How radiologists hang a slice: the patient's left on the right, front or head at the top.

    transpose: the slice's rows run across. flip: whether what then runs down, and what runs across, is mirrored.
    aspect: height of a shown pixel over its width, in mm. letters: what lies left, right, top and bottom; empty for a
    picture that is not of a patient.
    """

    transpose: bool
    flip: tuple[bool, bool]
    aspect: float
    letters: tuple[str, ...]

    def pixels(self, plane: np.ndarray) -> np.ndarray:
        """A slice (row, column) as it is shown."""
        plane = plane.T if self.transpose else plane
        return plane[:: -1 if self.flip[0] else 1, :: -1 if self.flip[1] else 1]

    def places(self, positions: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
        """Positions (n, 2) as (row, column) in a slice of this shape, to (n, 2) as (x, y) in the shown one."""
        yx = np.asarray(positions, float)[:, :: -1 if self.transpose else 1]
        last = np.array(shape[:: -1 if self.transpose else 1]) - 1.0
        return np.where(self.flip, last - yx, yx)[:, ::-1]


def slice_view(image: LoadedImage, axis: int) -> SliceView:
    """The radiological view of the slices along an array axis; a picture without a third axis is shown as it is."""
    spacing = image.spacing
    if image.array.ndim == 2:
        return SliceView(False, (False, False), spacing[0] / spacing[1], ())
    cosines = (image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0))[:, ::-1]  # (R A S, k j i)
    anatomy = max(permutations(range(3)), key=lambda order: sum(abs(cosines[order[n], n]) for n in range(3)))
    vertical, horizontal = sorted((n for n in range(3) if n != axis), key=lambda n: -anatomy[n])
    flip = tuple(bool(cosines[anatomy[n], n] > 0) for n in (vertical, horizontal))
    letters = LETTERS[anatomy[horizontal]] + LETTERS[anatomy[vertical]]
    return SliceView(vertical > horizontal, flip, spacing[vertical] / spacing[horizontal], letters)


def prompts_by_slice(prompts: Sequence[Prompt], shape: tuple[int, ...], axis: int) -> dict[int, list[Prompt]]:
    """The voxel prompts of a session by the slice they speak of, in the order of the slices, positions (row, column)."""
    found: dict[int, list[Prompt]] = {}
    for prompt in prompts:
        for index, local in in_slices(prompt, shape, axis).items():
            found.setdefault(index, []).append(local)
    return dict(sorted(found.items()))


def overlay(
    image: LoadedImage,
    mask: np.ndarray,
    prompts: Sequence[Prompt],
    axis: int,
    window: tuple[float, float] | None = None,
    reference: np.ndarray | None = None,
    indices: Sequence[int] = (),
    closer: bool = False,
) -> bytes:
    """A PNG of the prompted slices (of the mask's largest slice when there are none): the mask's contour, the prompts.

    mask, reference: bool, the image's shape; the reference is a thin dashed line. prompts: a session's own, in voxels.
    axis: the array axis whose slices are shown. window: (low, high) intensities. indices: other slices than those. closer:
    show the object's surroundings instead of the whole slices.
    """
    by_slice = prompts_by_slice(prompts, mask.shape, axis)
    indices = list(indices) or list(by_slice) or [int(_planes(mask, axis).sum(axis=(1, 2)).argmax())]
    shown = [indices[n] for n in np.unique(np.linspace(0, len(indices) - 1, min(len(indices), MOST_SLICES)).astype(int))]
    view = slice_view(image, axis)
    columns = min(len(shown), 4)
    rows = -(-len(shown) // columns)
    held = mask if reference is None else mask | reference
    top, bottom, left, right = _surroundings(view.pixels(_planes(held, axis).any(axis=0)), closer)
    height, width = bottom - top, right - left
    side = 6.0 if columns == 1 else 4.0
    size = (columns * side, rows * (side * min(max(height * view.aspect / width, 0.35), 2.0) + 0.35))
    figure = Figure(figsize=size, facecolor="black", layout="constrained")
    for panel, index in enumerate(shown):
        axes = figure.add_subplot(rows, columns, panel + 1)
        _draw_slice(axes, _planes(image.array, axis)[index], view, window)
        if view.letters:
            axes.set_title(f"slice {'KJI'[axis]} = {index}", color="white", fontsize=9)
        for which, style in ((reference, REFERENCE_LINE), (mask, MASK_LINE)):
            if which is not None:
                _draw_contour(axes, view.pixels(_planes(which, axis)[index]), style)
        for prompt in by_slice.get(index, []):
            _draw_prompt(axes, prompt, view, _planes(mask, axis).shape[1:])
        axes.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _surroundings(shown: np.ndarray, closer: bool) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what to show of a slice, half-open; the object with as much again around it."""
    (top, left), (bottom, right) = bounding_box(shown)
    height, width = shown.shape
    if not closer or bottom == top:
        return 0, height, 0, width
    margin = max(bottom - top, right - left, 24) // 2
    return max(top - margin, 0), min(bottom + margin, height), max(left - margin, 0), min(right + margin, width)


def _planes(array: np.ndarray, axis: int) -> np.ndarray:
    """The slices of an array along an axis, (slice, row, column); a 2D image is one slice."""
    return array[None] if array.ndim == 2 else np.moveaxis(array, axis, 0)


def _draw_slice(axes: Axes, plane: np.ndarray, view: SliceView, window: tuple[float, float] | None) -> None:
    pixels = normalise(np.nan_to_num(view.pixels(plane)), window)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, aspect=view.aspect)
    axes.set_axis_off()
    corners = ((0.03, 0.5), (0.97, 0.5), (0.5, 0.96), (0.5, 0.04))
    for letter, (x, y) in zip(view.letters, corners):
        mark = axes.text(x, y, letter, transform=axes.transAxes, color="#ffe08a", fontsize=10, ha="center", va="center")
        mark.set_path_effects([Stroke(linewidth=2, foreground="black"), Normal()])


def _draw_contour(axes: Axes, shown: np.ndarray, style: dict) -> None:
    """The outline of a mask; padded by one pixel, so that a mask at the image's rim has a closed line."""
    if shown.any():
        rows, columns = shown.shape
        axes.contour(np.pad(shown.astype(float), 1), levels=[0.5], extent=(-1, columns, -1, rows), **style)


def _draw_prompt(axes: Axes, prompt: Prompt, view: SliceView, shape: tuple[int, ...]) -> None:
    """A prompt in (row, column) of its slice: circle or cross, dotted box, stroke, closed curve."""
    if isinstance(prompt, Box):
        (r0, c0), (r1, c1) = np.array(prompt.start) - 0.5, np.array(prompt.stop) - 0.5
        outline = view.places([(r0, c0), (r0, c1), (r1, c1), (r1, c0), (r0, c0)], shape)
        axes.plot(*outline.T, color=POSITIVE, linewidth=1.2, linestyle=":")
        return
    color = POSITIVE if prompt.positive else NEGATIVE
    if isinstance(prompt, Scribble):
        stroke = view.places(np.argwhere(prompt.mask) + prompt.origin, shape)
        axes.scatter(*stroke.T, s=3, c=color, marker="s", linewidths=0)
    elif isinstance(prompt, Click):
        marker = "o" if prompt.positive else "x"
        axes.plot(*view.places([prompt.position], shape).T, marker, color=color, fillstyle="none", ms=8, mew=2)
    else:
        corners = view.places([*prompt.points, prompt.points[0]], shape)
        axes.plot(*corners.T, color=color, linewidth=1.2)


def write_png(path: str | Path, png: bytes) -> None:
    """Write a picture; one sentence when that fails."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(png)
    except OSError as error:
        raise InteractiveSegError(f"{path} cannot be written ({error.strerror}): choose another place.") from error


@dataclass(frozen=True)
class Picture:
    """A picture of the report with the line under it. narrow: others may stand beside it."""

    title: str
    caption: str
    png: bytes
    narrow: bool = False


STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #888; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .3rem; } p { margin: .3rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } figure { margin: 0; } figcaption { color: var(--quiet); }
img { max-width: 100%; max-height: 46rem; border-radius: 4px; display: block; margin: .4rem 0; }
main { display: flex; flex-wrap: wrap; gap: 0 1.5rem; } section { flex: 1 0 100%; } .narrow { flex: 0 1 21rem; }
"""


def html_page(
    title: str, intro: str, header: Sequence[str], rows: Sequence[Sequence[str]], pictures: Sequence[Picture]
) -> str:
    """One self-contained page: a table, then the pictures, which are inside the file."""

    def cells(values: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values) + "</tr>"

    table = "\n".join([cells(header, "th"), *(cells(row, "td") for row in rows)])
    figures = "\n".join(
        f"<section{' class=narrow' * p.narrow}><h2>{html.escape(p.title)}</h2>\n"
        f"<figure><img alt='{html.escape(p.title, quote=True)}' src='data:image/png;base64,{base64.b64encode(p.png).decode()}'>"
        f"<figcaption>{html.escape(p.caption)}</figcaption></figure></section>"
        for p in pictures
    )
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n<p>{html.escape(intro)}</p>\n"
        f"<table>{table}</table>\n<main>{figures}</main>\n</body></html>\n"
    )
