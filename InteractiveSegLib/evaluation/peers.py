"""What a Slicer user has today, behind one interface: marker watershed, random walker, Grow from seeds. No networks.

Each peer turns prompts into seeds and spreads the seeds over one 2D slice. Settings are the most favourable ones of those
tried on 42 training images of 21 tasks (every second image for the slow ones), by the mean Dice of the first ten clicks:
  * a click is a disk of CLICK_RADIUS 2 pixels (of 1, 2, 3, 5); a scribble stays as drawn; later seeds override earlier;
  * the image's border is background wherever no prompt says otherwise (giving it up after the first negative prompt cost
    watershed and Grow from seeds a tenth of the Dice);
  * outside a box is background, and an ellipse of BOX_CORE 0.7 (of 0.3, 0.5, 0.7; by Dice after the box) of its size at
    its centre is object.
"""
from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod

import numpy as np
from scipy import ndimage

from ..geometry import normalise
from ..prompts import Box, Click, Prompt, Scribble
from ..types import InteractiveSegError

CLICK_RADIUS = 2
BOX_CORE = 0.7
OBJECT, BACKGROUND = 1, 2


class Peer(ABC):
    """Seeds in, mask out, for one 2D slice. `start` an image, then `add` prompts in (row, column)."""

    name = ""

    def start(self, image: np.ndarray, spacing: tuple[float, float] | None = None) -> None:
        """Take a slice (row, column) of any numeric type and forget the one before. The spacing plays no role here."""
        self.image = normalise(image)
        self.seeds = np.zeros(image.shape, np.uint8)
        self.seeds[[0, -1], :] = self.seeds[:, [0, -1]] = BACKGROUND
        self.prepare()

    def add(self, prompt: Prompt) -> np.ndarray:
        """Add a click, scribble or box; returns the new mask, bool (row, column)."""
        draw_seeds(self.seeds, prompt)
        if not (self.seeds == OBJECT).any() or not (self.seeds == BACKGROUND).any():
            return self.seeds == OBJECT
        return self.spread()

    @abstractmethod
    def prepare(self) -> None:
        """What is computed once per image, from self.image (float32 in 0..1)."""

    @abstractmethod
    def spread(self) -> np.ndarray:
        """The mask that follows from self.seeds, in which both kinds of seed are present; bool (row, column)."""


class Watershed(Peer):
    """Marker watershed on the gradient magnitude (Gaussian, sigma 1 pixel, of 0.5, 1 and 2, by Dice(5))."""

    name = "watershed"
    sigma = 1.0

    def prepare(self) -> None:
        self.relief = ndimage.gaussian_gradient_magnitude(self.image, self.sigma)

    def spread(self) -> np.ndarray:
        from skimage.segmentation import watershed  # slow to import, and only needed here

        return watershed(self.relief, self.seeds.astype(np.int32)) == OBJECT


class RandomWalker(Peer):
    """Grady's random walker (scikit-image, direct solver: exact, and the fastest), beta 1000 (of 30, 130, 1000,
    3000) on intensities 0..1."""

    name = "random-walker"
    beta = 1000.0

    def prepare(self) -> None:
        if not self.image.any():  # constant: scikit-image divides by the standard deviation
            self.image[0, 0] = 1

    def spread(self) -> np.ndarray:
        from skimage.segmentation import random_walker

        return random_walker(self.image, self.seeds.astype(np.int32), beta=self.beta, mode="bf") == OBJECT


class GrowFromSeeds(Peer):
    """Slicer's own Grow from seeds (vtkImageGrowCutSegment), seed locality 0 (of 0, 0.5, 5, 50), Slicer's default.

    The filter wants three voxels along every axis and drops seeds on the outermost ones: the slice is padded by one
    pixel all around and stands between two copies of itself that carry no seeds.
    """

    name = "grow-from-seeds"
    locality = 0.0

    def __init__(self) -> None:
        import slicer  # an optional package: slicer-core
        import vtk.util.numpy_support

        self._slicer, self._vtk = slicer, vtk

    def prepare(self) -> None:
        levels = np.pad((self.image * 1000).astype(np.int16), 1, mode="edge")
        self.filter = self._slicer.vtkImageGrowCutSegment()
        self.filter.SetDistancePenalty(self.locality)
        self.filter.SetIntensityVolume(self._image_data(np.repeat(levels[None], 3, axis=0)))

    def spread(self) -> np.ndarray:
        seeds = np.zeros((3, *(n + 2 for n in self.seeds.shape)), np.uint8)
        seeds[1, 1:-1, 1:-1] = self.seeds
        self.filter.Reset()  # it would not forget a seed that was overridden
        self.filter.SetSeedLabelVolume(self._image_data(seeds))
        self.filter.Update()
        grown = self._vtk.util.numpy_support.vtk_to_numpy(self.filter.GetOutput().GetPointData().GetScalars())
        return grown.reshape(seeds.shape)[1, 1:-1, 1:-1] == OBJECT

    def _image_data(self, array_kji: np.ndarray):
        data = self._vtk.vtkImageData()
        data.SetDimensions(array_kji.shape[::-1])
        data.GetPointData().SetScalars(self._vtk.util.numpy_support.numpy_to_vtk(array_kji.ravel(), deep=True))
        return data


PEERS = {peer.name: peer for peer in (Watershed, RandomWalker, GrowFromSeeds)}


def available_peers() -> dict[str, type[Peer]]:
    """PEERS without those whose optional package is missing."""
    has_slicer = importlib.util.find_spec("slicer") is not None
    return {name: peer for name, peer in PEERS.items() if has_slicer or peer is not GrowFromSeeds}


def draw_seeds(seeds: np.ndarray, prompt: Prompt) -> None:
    """Draw a prompt's seeds into a label array (row, column), in place: OBJECT, BACKGROUND, 0 for unknown."""
    rows, columns = np.ogrid[: seeds.shape[0], : seeds.shape[1]]
    if isinstance(prompt, Click):
        row, column = prompt.position
        disk = (rows - row) ** 2 + (columns - column) ** 2 <= CLICK_RADIUS**2
        seeds[disk] = OBJECT if prompt.positive else BACKGROUND
    elif isinstance(prompt, Scribble):
        seeds[prompt.mask] = OBJECT if prompt.positive else BACKGROUND
    elif isinstance(prompt, Box):
        (row0, column0), (row1, column1) = prompt.start, prompt.stop
        height, width = row1 - row0, column1 - column0
        middle_row, middle_column = (row0 + row1 - 1) / 2, (column0 + column1 - 1) / 2
        inside = np.zeros(seeds.shape, bool)
        inside[row0:row1, column0:column1] = True
        seeds[~inside] = BACKGROUND
        core = ((rows - middle_row) / height) ** 2 + ((columns - middle_column) / width) ** 2 <= (BOX_CORE / 2) ** 2
        core[(row0 + row1) // 2, (column0 + column1) // 2] = True
        seeds[core] = OBJECT
    else:
        raise InteractiveSegError(f"A peer got a {type(prompt).__name__}: give it a click, a scribble or a box.")
