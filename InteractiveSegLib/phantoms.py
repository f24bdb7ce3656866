"""Generated studies that look like the real thing, with their ground truth. Knows nothing of models or prompts.

Each scene is painted analytically on a grid finer than the image and averaged down (partial volume), on warped
coordinates (no organ is an ellipsoid), then gets what a scanner adds: texture, a bias field or attenuation, and the
noise of its kind (Gaussian in CT, Rician in MR, speckle in ultrasound).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

FINE = (3, 2, 2)  # samples of a voxel along k, j, i


@dataclass(frozen=True, eq=False)
class Phantom:
    """A generated image and its truth.

    image: (k, j, i) int16, or (row, column) uint8. labels: uint8, the image's shape, 0 background.
    affine: (i, j, k, 1) to RAS in mm, 4x4. names: label value to structure. modality: DICOM's word.
    window: (low, high), the intensities worth seeing.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray
    names: dict[int, str]
    modality: str
    window: tuple[float, float]


@dataclass(frozen=True)
class Tissue:
    """What a scene is painted with: mean signal, its texture (standard deviation), and the label (0: background)."""

    signal: float
    texture: float = 0.0
    label: int = 0


Waves = tuple[np.ndarray, np.ndarray, np.ndarray]
Painter = Callable[[np.ndarray], np.ndarray]  # (3, ...) R A S mm around the centre -> index into the tissues


def _waves(rng: np.random.Generator, count: int, shortest_mm: float, longest_mm: float) -> Waves:
    """Random plane waves; their sum is a smooth random field that can be asked for anywhere."""
    length = rng.uniform(shortest_mm, longest_mm, count)
    way = rng.normal(size=(count, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    phases, weights = rng.uniform(0, 2 * np.pi, count), rng.normal(size=(count, 3))
    return tuple(part.astype(np.float32) for part in (way * (2 * np.pi / length)[:, None], phases, weights))


def _field(waves: Waves, points: np.ndarray) -> np.ndarray:
    """Smooth field of unit variance at points (3, ...): three components, (3, ...)."""
    vectors, phases, weights = waves
    value = np.zeros(points.shape, np.float32)
    for vector, phase, weight in zip(vectors, phases, weights):
        wave = np.sin(np.tensordot(vector, points, 1) + phase)
        value += weight.reshape((3,) + (1,) * (points.ndim - 1)) * wave
    return value * np.float32(np.sqrt(2 / len(phases)))


def _ellipsoid(points: np.ndarray, centre: tuple, radii: tuple, turn: float = 0.0) -> np.ndarray:
    """Level set of an ellipsoid, below 1 inside; turned about the S axis by `turn` degrees."""
    x, y, z = (points[n] - centre[n] for n in range(3))
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    return ((c * x + s * y) / radii[0]) ** 2 + ((c * y - s * x) / radii[1]) ** 2 + (z / radii[2]) ** 2


ABDOMEN = (
    Tissue(-1000.0), Tissue(-105.0, 8), Tissue(48.0, 8), Tissue(-95.0, 14), Tissue(112.0, 6, 1), Tissue(62.0, 6, 2),
    Tissue(175.0, 8, 3), Tissue(-60.0, 12), Tissue(128.0, 5, 4), Tissue(185.0, 4, 5), Tissue(420.0, 45, 6),
    Tissue(150.0, 40, 6), Tissue(-880.0, 20), Tissue(28.0, 8),
)  # fmt: skip


def paint_abdomen(p: np.ndarray) -> np.ndarray:
    """Upper abdomen: liver with a lesion, kidneys, spleen, aorta, vertebra, stomach with air."""
    tissue = np.zeros(p.shape[1:], np.uint8)
    flat = p.copy()
    flat[2] = 0
    tissue[_ellipsoid(flat, (0, 0, 0), (158, 112, 1)) < 1] = 1
    tissue[_ellipsoid(flat, (0, 0, 0), (146, 99, 1)) < 1] = 2
    tissue[_ellipsoid(flat, (0, 6, 0), (132, 84, 1)) < 1] = 3
    stomach = _ellipsoid(p, (-48, 38, 12), (46, 30, 60), 20) < 1
    tissue[stomach] = 13
    tissue[stomach & (p[1] > 50)] = 12
    tissue[_ellipsoid(p, (-98, -22, 14), (28, 42, 50), -25) < 1] = 8
    tissue[_ellipsoid(p, (66, 14, 8), (76, 66, 62), 18) < 1] = 4
    tissue[_ellipsoid(p, (84, 20, -4), (15, 13, 16)) < 1] = 5
    for side in (1, -1):
        kidney = _ellipsoid(p, (side * 58, -46, -22 + 6 * side), (24, 30, 48), 35 * side)
        tissue[kidney < 1] = 6
        tissue[_ellipsoid(p, (side * 50, -42, -22 + 6 * side), (13, 12, 26), 35 * side) < 1] = 7
    disc = _ellipsoid(flat, (0, -52, 0), (23, 18, 1))
    tissue[disc < 1] = 10
    tissue[disc < 0.78] = 11
    tissue[_ellipsoid(flat, (0, -82, 0), (7, 24, 1)) < 1] = 10
    tissue[_ellipsoid(flat, (0, -75, 0), (10, 8, 1)) < 1] = 2
    tissue[_ellipsoid(flat, (-12, -24, 0), (11, 11, 1)) < 1] = 9
    return tissue


HEAD = (
    Tissue(6.0), Tissue(205.0, 12), Tissue(24.0, 4), Tissue(42.0, 3), Tissue(108.0, 5), Tissue(158.0, 4, 1),
    Tissue(44.0, 2, 2), Tissue(128.0, 4), Tissue(70.0, 12, 3), Tissue(225.0, 18, 4),
)  # fmt: skip


def paint_head(p: np.ndarray) -> np.ndarray:
    """Head: scalp, skull, folded cortex, white matter, ventricles, and a ring-enhancing tumour."""
    tissue = np.zeros(p.shape[1:], np.uint8)
    for number, radii in ((1, (82, 98, 88)), (2, (75, 91, 81)), (3, (70, 86, 76))):
        tissue[_ellipsoid(p, (0, 0, 0), radii) < 1] = number
    around, along = np.arctan2(p[1], p[0]), np.arctan2(p[2], np.hypot(p[0], p[1]))
    folds = 0.055 * np.sin(22 * around + 3 * np.sin(5 * along)) + 0.045 * np.sin(17 * along + 2 * np.sin(6 * around))
    brain = _ellipsoid(p, (0, 0, 0), (66, 82, 72)) + folds
    falx = np.abs(p[0]) > 1.6
    tissue[(brain < 1) & falx] = 4
    tissue[(brain + 1.6 * folds < 0.72) & falx] = 5
    for side in (1, -1):
        tissue[_ellipsoid(p, (side * 12, -2, -4), (11, 16, 12)) < 1] = 7
        horn = _ellipsoid(p, (side * (9 + 0.006 * p[1] ** 2), -4, 14), (7, 42, 11))
        tissue[horn < 1] = 6
    tumour = _ellipsoid(p, (34, 26, 20), (19, 16, 17))
    tissue[tumour < 1] = 9
    tissue[tumour < 0.55] = 8
    return tissue


HEART = (
    Tissue(8.0), Tissue(215.0, 14), Tissue(78.0, 8), Tissue(20.0, 6), Tissue(112.0, 8), Tissue(205.0, 10, 1),
    Tissue(88.0, 7, 2), Tissue(210.0, 10, 3), Tissue(190.0, 16),
)  # fmt: skip


def paint_heart(p: np.ndarray) -> np.ndarray:
    """Short axis of the heart, apex down: cavities bright as bSSFP has them, the myocardium a ring, lungs dark."""
    tissue = np.zeros(p.shape[1:], np.uint8)
    flat = p.copy()
    flat[2] = 0
    tissue[_ellipsoid(flat, (0, -14, 0), (125, 92, 1)) < 1] = 1
    tissue[_ellipsoid(flat, (0, -14, 0), (116, 83, 1)) < 1] = 2
    for side in (1, -1):
        tissue[_ellipsoid(flat, (side * 62, -18, 0), (46, 60, 1), 8 * side) < 1] = 3
    tissue[_ellipsoid(p, (48, 28, -45), (62, 44, 48)) < 1] = 4
    fat = _ellipsoid(p, (-2, 6, 0), (62, 52, 60), 20) < 1
    tissue[fat] = 8
    wall = _ellipsoid(p, (-14, 0, 14), (36, 34, 62))
    right = _ellipsoid(p, (22, 16, 20), (34, 40, 54), 25)
    tissue[(right < 1.14) & fat] = 6
    tissue[right < 1] = 5
    below_base = p[2] < 40
    tissue[(wall < 1)] = 6
    tissue[_ellipsoid(p, (-14, 0, 20), (25, 23, 56)) < 1] = 7
    for x, y in ((-26, 12), (-6, -15)):
        tissue[(_ellipsoid(p, (x, y, 4), (5, 5, 26)) < 1) & below_base] = 6
    return tissue


@dataclass(frozen=True)
class Scene:
    """How a volume is painted and scanned. spacing: mm (k, j, i). turns: degrees about R, A, S of an oblique grid."""

    paint: Painter
    tissues: tuple[Tissue, ...]
    names: dict[int, str]
    modality: str
    window: tuple[float, float]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    turns: tuple[float, float, float]
    warp_mm: float
    noise: float
    bias: float


SCENES = {
    "abdomen": Scene(
        paint_abdomen, ABDOMEN, {1: "liver", 2: "liver lesion", 3: "kidneys", 4: "spleen", 5: "aorta", 6: "vertebra"},
        "CT", (-160, 240), (18, 128, 168), (5.0, 2.0, 2.0), (0, 0, 0), 3.0, 14.0, 0.0,
    ),
    "head": Scene(
        paint_head, HEAD, {1: "white matter", 2: "ventricles", 3: "tumour core", 4: "tumour rim"},
        "MR", (0, 260), (40, 128, 112), (4.0, 1.6, 1.6), (9, -6, 14), 3.0, 7.0, 0.35,
    ),
    "heart": Scene(
        paint_heart, HEART, {1: "right ventricle", 2: "myocardium", 3: "left ventricle"},
        "MR", (0, 260), (10, 144, 144), (9.0, 1.5, 1.5), (38, 22, -47), 3.0, 9.0, 0.3,
    ),
}  # fmt: skip


def make_volume(name: str, seed: int, detail: float = 1.0) -> Phantom:
    """The scene `name` of SCENES. detail: below 1 makes fewer and larger voxels of the same body."""
    scene, rng = SCENES[name], np.random.default_rng([seed, sorted(SCENES).index(name)])
    shape = tuple(max(4, round(n * detail)) for n in scene.shape)
    spacing = np.array(scene.spacing) * np.array(scene.shape) / np.array(shape)
    warp, bias = _waves(rng, 6, 70, 180), _waves(rng, 4, 220, 500)
    signal_of = np.array([t.signal for t in scene.tissues], np.float32)
    texture_of = np.array([t.texture for t in scene.tissues], np.float32)
    label_of = np.array([t.label for t in scene.tissues])
    image, labels = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    for k in range(shape[0]):
        points = _fine_points(shape, spacing, k)
        tissue = scene.paint(points + np.float32(scene.warp_mm) * _field(warp, points))
        grain = ndimage.gaussian_filter(rng.standard_normal(tissue.shape).astype(np.float32), (0, 1.5, 1.5)) * 5
        gain = np.exp(scene.bias * 0.5 * _field(bias, points)[0])
        image[k] = _average(gain * (signal_of[tissue] + texture_of[tissue] * grain))
        shares = [_average((label_of[tissue] == label).astype(np.float32)) for label in (0, *scene.names)]
        labels[k] = np.array([0, *scene.names])[np.argmax(shares, axis=0)]
    image = ndimage.gaussian_filter(image, (0, 0.5, 0.5))
    image = _add_noise(image, scene, rng)
    image = np.rint(image).astype(np.int16)
    return Phantom(image, labels, _affine(shape, spacing, scene.turns), scene.names, scene.modality, scene.window)


def _axis_points(size: int, mm: float, fine: int) -> np.ndarray:
    """Millimetres from the centre of the samples along one axis, `fine` in each voxel."""
    return ((np.arange(size * fine) + 0.5) / fine - size / 2).astype(np.float32) * np.float32(mm)


def _fine_points(shape: tuple[int, ...], spacing: np.ndarray, k: int) -> np.ndarray:
    """R A S mm, on the unturned grid, of slice k: (3, FINE[0], rows FINE[1], columns FINE[2])."""
    s, a, r = (_axis_points(n, mm, fine) for n, mm, fine in zip(shape, spacing, FINE))
    s = s[k * FINE[0] : (k + 1) * FINE[0]]
    return np.stack(np.broadcast_arrays(-r[None, None, :], -a[None, :, None], s[:, None, None]))


def _average(fine: np.ndarray) -> np.ndarray:
    """Samples of one slice to voxels."""
    _, rows, columns = fine.shape
    return fine.reshape(FINE[0], rows // FINE[1], FINE[1], columns // FINE[2], FINE[2]).mean(axis=(0, 2, 4))


def _add_noise(image: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    noise = scene.noise * rng.standard_normal((2, *image.shape)).astype(np.float32)
    if scene.modality == "CT":  # reconstruction kernels correlate it in the slice
        return np.maximum(image + 1.9 * ndimage.gaussian_filter(noise[0], (0, 0.6, 0.6)), -1024)
    return np.hypot(image + noise[0], noise[1])


def _affine(shape: tuple[int, ...], spacing: np.ndarray, turns: tuple[float, float, float]) -> np.ndarray:
    """The grid runs to the patient's left, back and head, turned by `turns`; its centre is RAS 0."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turns, degrees=True).as_matrix() @ np.diag([-1, -1, 1]) * spacing[::-1]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    return affine


def make_ultrasound(seed: int, detail: float = 1.0) -> Phantom:
    """A sector scan of a liver with a cyst and a solid nodule: speckle made in beam coordinates, then scan-converted."""
    rng = np.random.default_rng([seed, 9])
    depths, beams = round(360 * detail), round(160 * detail)
    depth, angle = np.meshgrid(np.linspace(20, 160, depths), np.radians(np.linspace(-34, 34, beams)), indexing="ij")
    points = np.stack([depth * np.sin(angle), depth * np.cos(angle), np.zeros_like(depth)]).astype(np.float32)
    moved = points + 3 * _field(_waves(rng, 6, 40, 90), points)
    cyst = _ellipsoid(moved, (-18, 92, 0), (19, 15, 99), 20) < 1
    nodule = _ellipsoid(moved, (30, 112, 0), (13, 11, 99)) < 1
    echo = 1.0 + 0.25 * _field(_waves(rng, 5, 25, 60), points)[0]
    echo[nodule], echo[cyst] = 0.38, 0.015
    echo[np.abs(moved[1] - 148 - 0.002 * moved[0] ** 2) < 1.6] = 6.0  # diaphragm
    enhancement = np.cumsum(cyst, axis=0) * (140 / depths) * 0.03  # what lies behind fluid is brighter
    scatter = rng.standard_normal((2, *echo.shape)) * echo * np.exp(enhancement - 0.006 * (depth - 20))
    re, im = (ndimage.gaussian_filter(s, (1.3 * detail, 1.6 * detail)) for s in scatter)
    decibel = 20 * np.log10(np.hypot(re, im) + 1e-6)
    polar = np.clip((decibel - np.percentile(decibel, 99.7) + 52) / 52, 0, 1)
    size = round(224 * detail)
    y, x = np.meshgrid(np.linspace(14, 162, size), np.linspace(-82, 82, size), indexing="ij")
    where = [(np.hypot(x, y) - 20) / 140 * (depths - 1), (np.degrees(np.arctan2(x, y)) + 34) / 68 * (beams - 1)]
    image = ndimage.map_coordinates(polar, where, order=1, cval=0)
    labels = ndimage.map_coordinates(cyst + 2 * nodule.astype(np.uint8), where, order=0, cval=0).astype(np.uint8)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    return Phantom(np.rint(255 * image).astype(np.uint8), labels, affine, {1: "cyst", 2: "nodule"}, "US", (0, 255))
