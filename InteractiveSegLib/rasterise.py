"""Prompts of one slice as the three maps that 2D networks read. The single path, for training and for use alike.

Source: ScribblePrompt (Wong et al. 2024) section 3.3: boxes filled, clicks one pixel, scribbles as drawn.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .geometry import Canvas
from .prompts import Box, Click, Lasso, Prompt, Scribble

BOX, POSITIVE, NEGATIVE = range(3)
MASK_LOGIT = 4.0  # a mask that no network made enters as the previous prediction with these logits, + inside and - outside


def lasso_mask(lasso: Lasso, shape: tuple[int, int]) -> np.ndarray:
    """Bool (rows, columns): the inside of a lasso whose points are (row, column)."""
    from skimage.draw import polygon2mask

    return polygon2mask(shape, np.asarray(lasso.points, float))


def prompt_maps(prompts: Sequence[Prompt], canvas: Canvas) -> np.ndarray:
    """(3, size, size) float32 in {0, 1}: boxes, positive, negative. Prompts are in the slice's (row, column).

    A lasso around the object fills the box channel with its inside; a negative one is a thick negative scribble. Where
    prompts contradict each other, the later one wins.
    """
    maps = np.zeros((3, canvas.size, canvas.size), np.float32)
    for prompt in prompts:
        if isinstance(prompt, Box):
            inside = np.zeros(canvas.shape, bool)
            inside[prompt.start[0]:prompt.stop[0], prompt.start[1]:prompt.stop[1]] = True
            maps[BOX] = np.maximum(maps[BOX], canvas.mark(inside))
        elif isinstance(prompt, Lasso) and prompt.positive:
            maps[BOX] = np.maximum(maps[BOX], canvas.mark(lasso_mask(prompt, canvas.shape)))
        else:
            clicked = isinstance(prompt, Click)
            drawn = click_pixel(prompt, canvas) if clicked else canvas.mark(drawn_mask(prompt, canvas.shape)) > 0
            maps[POSITIVE if prompt.positive else NEGATIVE][drawn] = 1
            maps[NEGATIVE if prompt.positive else POSITIVE][drawn] = 0
    return maps


def click_pixel(click: Click, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """The canvas pixel of a click as an index; empty when it lies beside the canvas."""
    row, column, inside = canvas.locate(*np.array(click.position)[:, None])
    return row[inside], column[inside]


def drawn_mask(prompt: Prompt, shape: tuple[int, int]) -> np.ndarray:
    """Bool (rows, columns): the pixels that a click, a scribble or a negative lasso names."""
    if isinstance(prompt, Lasso):
        return lasso_mask(prompt, shape)
    drawn = np.zeros(shape, bool)
    if isinstance(prompt, Scribble):
        row, column = prompt.origin or (0, 0)
        drawn[row:row + prompt.mask.shape[0], column:column + prompt.mask.shape[1]] = prompt.mask
    elif isinstance(prompt, Click):
        drawn[int(prompt.position[0]), int(prompt.position[1])] = True
    return drawn


def mask_to_logits(mask: np.ndarray) -> np.ndarray:
    """A bool mask as logits, float32."""
    return np.where(mask, np.float32(MASK_LOGIT), np.float32(-MASK_LOGIT))
