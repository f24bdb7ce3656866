"""Where an image lies in the patient, and a user's prompts as voxels and as slices of it: checked here, once."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .geometry import affine_from_spacing, ras_to_position
from .prompts import Box, Click, Lasso, Prompt, Scribble
from .types import InteractiveSegError, bounding_box

ORDER = {2: "(row, column)", 3: "(k, j, i)"}


@dataclass(frozen=True, eq=False)
class Placement:
    """spacing: mm in array order; affine: 4x4, (i, j, k, 1) -> RAS mm."""

    spacing: tuple[float, ...]
    affine: np.ndarray

    @classmethod
    def of(cls, ndim: int, spacing: Sequence[float] | None, affine: np.ndarray | None) -> Placement:
        """From what the caller gave: spacing of the affine when there is one, else the spacing, else 1 mm."""
        if spacing is not None:
            given, spacing = spacing, finite_numbers(spacing, ndim)
            if spacing is None or min(spacing) <= 0:
                raise InteractiveSegError(f"Got the spacing {given}, expected {ndim} positive millimetres in array order.")
        if affine is None:
            spacing = spacing or (1.0,) * ndim
            return cls(spacing, affine_from_spacing(spacing))
        affine = np.asarray(affine, float)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            raise InteractiveSegError(f"Got the affine {affine.tolist()}, expected an invertible 4x4 matrix in mm.")
        lengths = tuple(float(v) for v in np.linalg.norm(affine[:3, :3], axis=0)[::-1][3 - ndim:])
        if spacing is not None and not np.allclose(spacing, lengths, rtol=0.01):
            raise InteractiveSegError(f"The spacing {spacing} contradicts the affine's {lengths}: give only one of them.")
        return cls(lengths, affine)


def finite_numbers(numbers: Sequence[float], count: int) -> tuple[float, ...] | None:
    """So many finite numbers, or None where these are not."""
    try:
        found = np.array(numbers, dtype=float)
    except (TypeError, ValueError, OverflowError):
        return None
    return tuple(found.tolist()) if found.shape == (count,) and np.isfinite(found).all() else None


def check_image(image: np.ndarray) -> np.ndarray:
    """The image as a real, finite 2D or 3D array; voxels that are NaN or infinite take the smallest finite value."""
    image = np.asarray(image)
    if image.ndim not in (2, 3) or image.size == 0:
        raise InteractiveSegError(
            f"Got an image of shape {image.shape}, expected (row, column) or (k, j, i): choose one channel and one frame."
        )
    if image.dtype == bool:
        return image.astype(np.uint8)
    if image.dtype.kind not in "iuf":
        raise InteractiveSegError(f"Got an image of type {image.dtype}, expected real numbers: convert it first.")
    if image.dtype.kind == "f":
        finite = np.isfinite(image)
        if not finite.any():
            raise InteractiveSegError("The image holds no finite number, only NaN or infinity: check how it was made.")
        if not finite.all():
            image = np.where(finite, image, image[finite].min())
    return image


def voxel_prompt(prompt: Prompt, shape: tuple[int, ...], placement: Placement) -> Prompt:
    """The prompt with whole voxel indices inside the image, scribbles cropped to what was drawn; or one clear sentence."""
    if isinstance(prompt, Click):
        position = prompt.position
        if prompt.position_ras is not None:
            place = _place(prompt.position_ras, "click in RAS", "(R, A, S)")
            position = ras_to_position(placement.affine, place, len(shape))
        return replace(prompt, position=_voxel(position, shape, "click"), position_ras=None)
    if isinstance(prompt, Box):
        start = tuple(max(0, int(np.floor(v))) for v in _place(prompt.start, "box", ORDER[len(shape)]))
        stop = tuple(min(n, int(np.ceil(v))) for v, n in zip(_place(prompt.stop, "box", ORDER[len(shape)]), shape))
        if any(b <= a for a, b in zip(start, stop)):
            where = f"from {prompt.start} to {prompt.stop}"
            raise InteractiveSegError(f"The box {where} lies outside the image of shape {shape}: draw it inside.")
        return replace(prompt, start=start, stop=stop)
    if isinstance(prompt, Lasso):
        return replace(prompt, points=tuple(_voxel(p, shape, "lasso", clip=True) for p in prompt.points))
    return _crop(prompt, shape)


def _voxel(position: Sequence[float], shape: tuple[int, ...], what: str, clip: bool = False) -> tuple[int, ...]:
    voxel = tuple(int(np.floor(v + 0.5)) for v in _place(position, what, ORDER[len(shape)]))
    if clip:
        return tuple(min(max(v, 0), n - 1) for v, n in zip(voxel, shape))
    if any(not 0 <= v < n for v, n in zip(voxel, shape)):
        raise InteractiveSegError(f"The {what} at voxel {voxel} lies outside the image of shape {shape}: place it inside.")
    return voxel


def _place(position: Sequence[float], what: str, order: str) -> tuple[float, ...]:
    """The position as finite numbers, as many as `order` names; or one clear sentence."""
    numbers = finite_numbers(position, order.count(",") + 1)
    if numbers is None:
        raise InteractiveSegError(f"Got a {what} at {position}, expected {order} in finite numbers: correct it.")
    return numbers


def _crop(scribble: Scribble, shape: tuple[int, ...]) -> Scribble:
    mask, origin = np.asarray(scribble.mask), scribble.origin or (0,) * len(shape)
    _place(origin, "scribble", ORDER[len(shape)])
    stop = tuple(o + n for o, n in zip(origin, mask.shape))
    if mask.ndim != len(shape) or (scribble.origin is None and mask.shape != shape) or any(o < 0 or o % 1 for o in origin) or any(
        b > n for b, n in zip(stop, shape)
    ):
        raise InteractiveSegError(f"Got a scribble of shape {mask.shape} at {origin}, expected {shape} or a part of it.")
    start, end = bounding_box(mask != 0)
    if start == end:
        raise InteractiveSegError("The scribble is empty: draw at least one voxel.")
    part = mask[tuple(slice(a, b) for a, b in zip(start, end))] != 0
    return replace(scribble, mask=part, origin=tuple(int(o) + s for o, s in zip(origin, start)))


def in_slices(prompt: Prompt, shape: tuple[int, ...], axis: int) -> dict[int, Prompt]:
    """The prompt as the slices along `axis` see it: index -> prompt in that slice's (row, column). {0: prompt} in 2D."""
    if len(shape) == 2:
        return {0: prompt}

    def drop(position: Sequence[int]) -> tuple[int, ...]:
        return tuple(v for a, v in enumerate(position) if a != axis)

    if isinstance(prompt, Click):
        return {prompt.position[axis]: Click(drop(prompt.position), prompt.positive)}
    if isinstance(prompt, Box):
        flat = Box(drop(prompt.start), drop(prompt.stop))
        return dict.fromkeys(range(prompt.start[axis], prompt.stop[axis]), flat)
    if isinstance(prompt, Lasso):
        indices = {point[axis] for point in prompt.points}
        if len(indices) > 1:
            raise InteractiveSegError(f"The lasso spans slices {sorted(indices)} of axis {axis}: draw it in one.")
        return {indices.pop(): replace(prompt, points=tuple(drop(p) for p in prompt.points))}
    planes = np.moveaxis(prompt.mask, axis, 0)
    return {
        prompt.origin[axis] + n: Scribble(plane, prompt.positive, drop(prompt.origin))
        for n, plane in enumerate(planes)
        if plane.any()
    }
