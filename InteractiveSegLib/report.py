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

from .geometry import normalise, ras_to_position
from .io import LoadedImage
from .prompts import Box, Click, Prompt, Scribble
from .types import InteractiveSegError

POSITIVE, NEGATIVE = "#2ee65c", "#ff3b30"
MASK_LINE = {"colors": "#ffb000", "linewidths": 1.6}
REFERENCE_LINE = {"colors": "#5ac8fa", "linewidths": 0.9, "linestyles": "dashed"}
LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))  # towards larger and towards smaller RAS
MOST_SLICES = 12  # on one picture


@dataclass(frozen=True)
class SliceView:
    """How radiologists hang a slice: the patient's left on the right, front or head at the top.

    vertical, horizontal: array axes shown downwards and rightwards. flip: whether each of them runs backwards.
    aspect: height of a pixel over its width, in mm. letters: what lies left, right, top and bottom; empty for a picture
    that is not of a patient.
    """

    vertical: int
    horizontal: int
    flip: tuple[bool, bool]
    aspect: float
    letters: tuple[str, ...]

    def pixels(self, array: np.ndarray, axis: int, index: int) -> np.ndarray:
        """One slice of a volume (or a 2D image itself) as it is shown, (row, column)."""
        plane = array if array.ndim == 2 else np.take(array, index, axis)
        if self.vertical > self.horizontal:
            plane = plane.T
        return plane[:: -1 if self.flip[0] else 1, :: -1 if self.flip[1] else 1]

    def place(self, position: Sequence[float], shape: tuple[int, ...]) -> tuple[float, float]:
        """(x, y) in the shown slice of a position in array order."""
        y, x = position[self.vertical], position[self.horizontal]
        y = shape[self.vertical] - 1 - y if self.flip[0] else y
        x = shape[self.horizontal] - 1 - x if self.flip[1] else x
        return float(x), float(y)


def slice_view(image: LoadedImage, axis: int) -> SliceView:
    """The radiological view of the slices along an array axis; a picture without a third axis is shown as it is."""
    spacing = image.spacing
    if image.array.ndim == 2:
        return SliceView(0, 1, (False, False), spacing[0] / spacing[1], ())
    cosines = (image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0))[:, ::-1]  # (R A S, k j i)
    anatomy = max(permutations(range(3)), key=lambda order: sum(abs(cosines[order[n], n]) for n in range(3)))
    vertical, horizontal = sorted((n for n in range(3) if n != axis), key=lambda n: -anatomy[n])
    flip = tuple(bool(cosines[anatomy[n], n] > 0) for n in (vertical, horizontal))
    letters = LETTERS[anatomy[horizontal]] + LETTERS[anatomy[vertical]]
    return SliceView(vertical, horizontal, flip, spacing[vertical] / spacing[horizontal], letters)


def prompted_slices(prompts: Sequence[Prompt], image: LoadedImage, axis: int) -> list[int]:
    """Indices along `axis` of the slices that the prompts speak of, in order; [0] for a 2D image."""
    if image.array.ndim == 2:
        return [0]
    found: set[int] = set()
    for prompt in prompts:
        if isinstance(prompt, Box):
            found.update(range(int(prompt.start[axis]), int(prompt.stop[axis])))
        elif isinstance(prompt, Scribble):
            found.update(np.flatnonzero(prompt.mask.any(axis=tuple(n for n in range(3) if n != axis))).tolist())
        elif isinstance(prompt, Click):
            found.add(round(click_position(prompt, image)[axis]))
        else:
            found.update(round(point[axis]) for point in prompt.points)
    return sorted(index for index in found if 0 <= index < image.array.shape[axis])


def click_position(click: Click, image: LoadedImage) -> tuple[float, ...]:
    """Where a click is, in array order, whether it was given in voxels or in RAS millimetres."""
    if click.position is not None:
        return click.position
    return ras_to_position(image.affine, click.position_ras, image.array.ndim)


def overlay(
    image: LoadedImage,
    mask: np.ndarray,
    prompts: Sequence[Prompt],
    axis: int,
    window: tuple[float, float] | None = None,
    reference: np.ndarray | None = None,
) -> bytes:
    """A PNG of the prompted slices (of the mask's largest slice when there are none): the mask's contour, the prompts.

    mask, reference: bool, the image's shape; the reference is drawn as a thin dashed line. axis: the array axis whose
    slices are shown. window: (low, high) intensities.
    """
    slices = prompted_slices(prompts, image, axis)
    if not slices:
        slices = [int(mask.sum(axis=tuple(n for n in range(3) if n != axis)).argmax())]
    shown = [slices[n] for n in np.unique(np.linspace(0, len(slices) - 1, min(len(slices), MOST_SLICES)).astype(int))]
    view = slice_view(image, axis)
    columns = min(len(shown), 4)
    rows = -(-len(shown) // columns)
    height, width = (image.array.shape[view.vertical] * view.aspect, image.array.shape[view.horizontal])
    side = 6.0 if columns == 1 else 4.0
    size = (columns * side, rows * (side * min(max(height / width, 0.35), 2.0) + 0.35))
    figure = Figure(figsize=size, facecolor="black", layout="constrained")
    for panel, index in enumerate(shown):
        axes = figure.add_subplot(rows, columns, panel + 1)
        _draw_slice(axes, image, view, axis, index, window)
        for which, style in ((mask, MASK_LINE), (reference, REFERENCE_LINE)):
            shape = None if which is None else view.pixels(which, axis, index)
            if shape is not None and shape.any():
                axes.contour(np.pad(shape.astype(float), 1), levels=[0.5], extent=_padded(shape), **style)
        for prompt in prompts:
            if index in prompted_slices([prompt], image, axis):
                _draw_prompt(axes, prompt, image, view, axis, index)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _padded(shape: np.ndarray) -> tuple[float, float, float, float]:
    """Contour coordinates of an array padded by one pixel, so that a mask at the image's rim has a closed line."""
    return (-1.0, shape.shape[1], -1.0, shape.shape[0])


def _draw_slice(axes: Axes, image: LoadedImage, view: SliceView, axis: int, index: int, window: object) -> None:
    pixels = view.pixels(image.array, axis, index)
    axes.imshow(normalise(np.nan_to_num(pixels), window), cmap="gray", vmin=0, vmax=1, aspect=view.aspect)
    axes.set_axis_off()
    if not view.letters:
        return
    axes.set_title(f"slice {'KJI'[axis]} = {index}", color="white", fontsize=9)
    left, right, top, bottom = view.letters
    for letter, x, y in ((left, 0.03, 0.5), (right, 0.97, 0.5), (top, 0.5, 0.96), (bottom, 0.5, 0.04)):
        mark = axes.text(x, y, letter, transform=axes.transAxes, color="#ffe08a", fontsize=10, ha="center", va="center")
        mark.set_path_effects([Stroke(linewidth=2, foreground="black"), Normal()])


def _draw_prompt(axes: Axes, prompt: Prompt, image: LoadedImage, view: SliceView, axis: int, index: int) -> None:
    shape = image.array.shape
    if isinstance(prompt, Box):
        (x0, y0), (x1, y1) = (view.place(c, shape) for c in (prompt.start, [n - 1 for n in prompt.stop]))
        (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
        outline = np.array([(x0, y0), (x1 + 1, y0), (x1 + 1, y1 + 1), (x0, y1 + 1), (x0, y0)]) - 0.5
        axes.plot(*outline.T, color=POSITIVE, linewidth=1.2, linestyle=":")
        return
    color = POSITIVE if prompt.positive else NEGATIVE
    if isinstance(prompt, Scribble):
        rows, columns = np.nonzero(view.pixels(prompt.mask, axis, index))
        axes.scatter(columns, rows, s=3, c=color, marker="s", linewidths=0)
    elif isinstance(prompt, Click):
        x, y = view.place(click_position(prompt, image), shape)
        axes.plot(x, y, "o" if prompt.positive else "x", color=color, fillstyle="none", markersize=8, markeredgewidth=2)
    else:
        corners = np.array([view.place(point, shape) for point in (*prompt.points, prompt.points[0])])
        axes.plot(*corners.T, color=color, linewidth=1.2)


def write_png(path: str | Path, png: bytes) -> None:
    """Write a picture; one sentence when that fails."""
    try:
        Path(path).write_bytes(png)
    except OSError as error:
        raise InteractiveSegError(f"{path} cannot be written ({error.strerror}): choose another place.") from error


@dataclass(frozen=True)
class Picture:
    """A picture of the report with the line under it."""

    title: str
    caption: str
    png: bytes


STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #888; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .3rem; } p { margin: .3rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } figure { margin: 0; } figcaption { color: var(--quiet); }
img { max-width: 100%; max-height: 46rem; border-radius: 4px; display: block; margin: .4rem 0; }
"""


def html_page(
    title: str, intro: str, header: Sequence[str], rows: Sequence[Sequence[str]], pictures: Sequence[Picture]
) -> str:
    """One self-contained page: a table, then the pictures, which are inside the file."""

    def cells(values: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(value)}</{tag}>" for value in values) + "</tr>"

    table = "\n".join([cells(header, "th"), *(cells(row, "td") for row in rows)])
    figures = "\n".join(
        f"<h2>{html.escape(p.title)}</h2>\n<figure><img alt='{html.escape(p.title, quote=True)}' "
        f"src='data:image/png;base64,{base64.b64encode(p.png).decode()}'>"
        f"<figcaption>{html.escape(p.caption)}</figcaption></figure>"
        for p in pictures
    )
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n<p>{html.escape(intro)}</p>\n"
        f"<table>{table}</table>\n{figures}\n</body></html>\n"
    )
