"""A small picture of an example: its slice with the outline of its mask."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk

MOST_PIXELS = 192
OUTLINE = (255, 160, 40)


def write_thumbnail(entry, path: Path) -> None:
    """entry: a ContextEntry. Writes a PNG no larger than MOST_PIXELS."""
    step = -(-max(entry.image.shape) // MOST_PIXELS)
    image, mask = entry.image[::step, ::step].astype(np.float32), entry.mask[::step, ::step]
    low, high = np.percentile(image, (0.5, 99.5))
    gray = np.clip((image - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    inside = np.pad(mask, 1)
    core = mask & inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    pixels = np.repeat(gray[..., None], 3, axis=2)
    pixels[mask & ~core] = OUTLINE
    data = vtk.vtkImageData()
    data.SetDimensions(pixels.shape[1], pixels.shape[0], 1)
    data.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(pixels[::-1]).reshape(-1, 3), deep=True))
    writer = vtk.vtkPNGWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(data)
    writer.Write()
