"""One example of a context: a slice, its mask, where they lie, and where they come from; and its form as bytes.

Nothing that names a person fits in: a case and weights are hashes, a model and prompts words of this library's. Numpy only.
"""
from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..database import now
from ..models import FAMILIES
from ..prompts import Box, Click, Lasso, Scribble
from ..types import InteractiveSegError

MAX_SIDE = 8192  # pixels
DTYPES = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
KINDS = tuple(kind.__name__ for kind in (Click, Box, Scribble, Lasso))
CASE = re.compile(r"([0-9a-f]{32})?")
WEIGHTS = re.compile(r"([0-9a-f]{64})?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def require(condition: bool, got: str) -> None:
    if not condition:
        raise InteractiveSegError(f"Got a context entry with {got}: it is damaged, or was not written by this library.")


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


@dataclass(frozen=True)
class Provenance:
    """Where an example comes from.

    case: `ContextSet.digest` of what the user calls the case, or "". axis, index: which slice of a volume's array.
    prompts: how many of each of KINDS were used, such as {"Click": 3}. model: its name as `list_families` gives it; weights:
    SHA-256 of the file; either may be "".
    """

    case: str = ""
    axis: int = 0
    index: int = 0
    prompts: dict[str, int] = field(default_factory=dict)
    model: str = ""
    weights: str = ""
    time: str = field(default_factory=now)

    def __post_init__(self) -> None:
        for name, rule in (("case", CASE), ("weights", WEIGHTS), ("time", TIME)):
            value = getattr(self, name)
            require(isinstance(value, str) and rule.fullmatch(value) is not None, f"the {name} {value!r}")
        require(isinstance(self.model, str) and self.model in ("", *FAMILIES), f"the model {self.model!r}")
        require(is_count(self.axis) and self.axis <= 2 and is_count(self.index), f"the slice {self.axis!r}, {self.index!r}")
        prompts = self.prompts if isinstance(self.prompts, dict) else {"?": None}
        require(all(kind in KINDS and is_count(n) for kind, n in prompts.items()), f"the prompts {self.prompts!r}")


@dataclass(frozen=True)
class EntryInfo:
    """All of an entry but its pixels.

    shape: (rows, columns). dtype: of the image, one of DTYPES. spacing: (row, column) in mm. affine: the 16 numbers, row by
    row, of the volume's matrix (i, j, k, 1) -> RAS mm, or None for a picture. sha256: of both arrays' bytes.
    """

    id: str
    shape: tuple[int, int]
    dtype: str
    spacing: tuple[float, float]
    affine: tuple[float, ...] | None
    provenance: Provenance
    sha256: str
    enabled: bool = True

    def __post_init__(self) -> None:
        require(isinstance(self.id, str) and re.fullmatch(r"[0-9a-f]{32}", self.id) is not None, f"the id {self.id!r}")
        require(len(self.shape) == 2 and all(is_count(n) and 0 < n <= MAX_SIDE for n in self.shape), f"the shape {self.shape!r}")
        require(self.dtype in DTYPES, f"the type {self.dtype!r}")
        numbers = (*self.spacing, *(self.affine or ()))
        require(all(isinstance(n, (int, float)) and math.isfinite(n) for n in numbers), "a geometry that is not of numbers")
        require(len(self.spacing) == 2 and min(self.spacing) > 0, f"the spacing {self.spacing!r}")
        require(self.affine is None or len(self.affine) == 16, "an affine that is not of 16 numbers")
        require(isinstance(self.enabled, bool), f"enabled {self.enabled!r}")

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of the image and of the mask, one bit per pixel."""
        pixels = self.shape[0] * self.shape[1]
        return pixels * np.dtype(self.dtype).itemsize, -(-pixels // 8)


@dataclass(frozen=True, eq=False)
class ContextEntry:
    """image: (rows, columns) as it was, any numeric type. mask: bool (rows, columns)."""

    info: EntryInfo
    image: np.ndarray
    mask: np.ndarray


def make_entry(image: np.ndarray, mask: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0), affine: np.ndarray | None = None,
               provenance: Provenance | None = None) -> ContextEntry:
    """A new entry from what `ContextSet.add` takes; InteractiveSegError for what can be none."""
    image, mask = np.asarray(image), np.asarray(mask)
    if image.ndim != 2 or not image.size or image.shape != mask.shape or image.dtype.name not in DTYPES:
        raise InteractiveSegError(f"Got an image {image.shape} of {image.dtype} and a mask {mask.shape} for the context, "
                                  "expected one slice and its mask of equal shape: give (rows, columns) of one of "
                                  f"{', '.join(DTYPES)}.")
    if mask.dtype.kind not in "biuf":
        raise InteractiveSegError(f"Got a mask of {mask.dtype} for the context, expected bool or numbers: give 1 in the object.")
    if max(image.shape) > MAX_SIDE:
        raise InteractiveSegError(f"Got a slice of {image.shape[0]} x {image.shape[1]} pixels for the context, expected at most "
                                  f"{MAX_SIDE} along a side: give a part of it, or one with larger pixels.")
    numbers, matrix = (np.asarray(given) for given in (spacing, np.eye(4) if affine is None else affine))
    if numbers.shape != (2,) or numbers.dtype.kind not in "iuf" or not ((numbers > 0) & np.isfinite(numbers)).all():
        raise InteractiveSegError(f"Got the spacing {spacing!r} for the context, expected the pixels' height and width in mm: "
                                  "give two numbers above 0.")
    if matrix.shape != (4, 4) or matrix.dtype.kind not in "iuf" or not np.isfinite(matrix).all():
        raise InteractiveSegError(f"Got an affine {matrix.shape} of {matrix.dtype} for the context, expected 4x4 finite numbers: "
                                  "give the volume's, or leave it out.")
    mask = mask > 0.5
    rows = None if affine is None else tuple(float(n) for n in matrix.ravel())
    info = EntryInfo(secrets.token_hex(16), image.shape, image.dtype.name, tuple(float(n) for n in numbers), rows,
                     provenance or Provenance(), digest_of(*to_bytes(image, mask)))
    return ContextEntry(info, image.copy(), mask)


def info_to_json(info: EntryInfo) -> str:
    return json.dumps(asdict(info), sort_keys=True)


def info_from_json(text: str | bytes, **changes: Any) -> EntryInfo:
    """The inverse, with some fields changed; InteractiveSegError for anything that is not a whole entry."""
    try:
        fields = {**json.loads(text), **changes}
        fields["provenance"] = Provenance(**fields["provenance"])
        for name in ("shape", "spacing", "affine"):
            fields[name] = None if fields[name] is None and name == "affine" else tuple(fields[name])
        return EntryInfo(**fields)
    except (TypeError, KeyError, AttributeError, OverflowError, RecursionError, ValueError) as error:
        if isinstance(error, InteractiveSegError):
            raise
        raise InteractiveSegError(f"Got a context entry that cannot be read ({error}): it is damaged.") from error


def to_bytes(image: np.ndarray, mask: np.ndarray) -> tuple[bytes, bytes]:
    """Little-endian pixels, and one bit per pixel of the mask; both row by row."""
    return image.astype(image.dtype.newbyteorder("<")).tobytes(), np.packbits(mask).tobytes()


def digest_of(image: bytes, mask: bytes) -> str:
    return hashlib.sha256(image + mask).hexdigest()


def from_bytes(info: EntryInfo, image: bytes, mask: bytes) -> ContextEntry:
    """The entry, or InteractiveSegError when the bytes are not those that were written."""
    whole = (len(image), len(mask)) == info.sizes and digest_of(image, mask) == info.sha256
    require(whole, f"other pixels than were written ({info.id})")
    pixels = np.frombuffer(image, np.dtype(info.dtype).newbyteorder("<")).reshape(info.shape).astype(info.dtype)
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), count=info.shape[0] * info.shape[1])
    return ContextEntry(info, pixels, bits.reshape(info.shape).astype(bool))
