"""Contact sheet: every example of a context at a glance, hung as radiologists hang images."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ..geometry import normalise
from ..io import LoadedImage
from ..report import SliceView, slice_view
from .entry import ContextEntry, EntryInfo

TILE, LINE, COLUMNS = 208, 30, 6  # pixels, pixels of text under a tile, tiles in a row
MASK, TEXT, OFF = (255, 176, 0), (230, 230, 230), (255, 110, 100)


def contact_sheet(entries: Sequence[ContextEntry]) -> Image.Image:
    """One tile for each entry: the slice with its mask's outline, and under it the id, the case and the prompts.

    Entries that are not used are struck through.
    """
    columns = max(1, min(COLUMNS, len(entries)))
    rows = max(1, -(-len(entries) // columns))
    sheet = Image.new("RGB", (columns * TILE, rows * (TILE + LINE)), "black")
    for n, entry in enumerate(entries):
        corner = (n % columns * TILE, n // columns * (TILE + LINE))
        sheet.paste(draw_tile(entry), corner)
    return sheet


def draw_tile(entry: ContextEntry) -> Image.Image:
    """TILE x (TILE + LINE) pixels."""
    view = view_of(entry.info)
    pixels = view.pixels(normalise(np.nan_to_num(entry.image.astype(np.float32)), None))
    height, width = pixels.shape[0] * view.aspect, pixels.shape[1]
    scale = (TILE - 8) / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shown = np.stack([resized(pixels, size)] * 3, axis=-1)
    shown[outline(resized(view.pixels(entry.mask), size) > 127)] = MASK
    tile = Image.new("RGB", (TILE, TILE + LINE), "black")
    tile.paste(Image.fromarray(shown), ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    draw = ImageDraw.Draw(tile)
    if not entry.info.enabled:
        draw.line([(6, 6), (TILE - 6, TILE - 6)], fill=OFF, width=2)
    for row, words in enumerate(captions(entry.info)):
        draw.text((6, TILE + 13 * row), words, fill=TEXT if entry.info.enabled else OFF)
    return tile


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 of size (width, height) from values of 0 to 1."""
    picture = Image.fromarray(np.rint(np.asarray(pixels, np.float32) * 255).astype(np.uint8))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))


def view_of(info: EntryInfo) -> SliceView:
    if info.affine is None:
        return SliceView(False, (False, False), info.spacing[0] / info.spacing[1], ())
    return slice_view(LoadedImage(np.empty((1, 1, 1)), np.reshape(info.affine, (4, 4)), "", ""), info.provenance.axis)


def outline(mask: np.ndarray) -> np.ndarray:
    """The mask's pixels that touch a pixel outside of it; bool (rows, columns)."""
    inside = np.pad(mask, 1)
    return mask & ~(inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:])


def captions(info: EntryInfo) -> tuple[str, str]:
    """Two short lines: which entry, and where it comes from."""
    source = info.provenance
    prompts = sum(source.prompts.values())
    where = "" if info.affine is None else f" {'KJI'[source.axis]}={source.index}"
    state = "" if info.enabled else "  (off)"
    return f"{info.id[:8]}{state}", f"case {source.case[:6] or '-'}{where}, {prompts} prompt{'s' * (prompts != 1)}"
