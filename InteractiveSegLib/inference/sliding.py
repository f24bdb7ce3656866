"""A volume through a 3D network, window by window with Gaussian weights, as nnU-Net predicts. Knows tensors only."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.inferers import SlidingWindowInferer

OVERLAP = 0.5


def predict_volume(
    network: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], volume: torch.Tensor, patch: Sequence[int],
    mirror: Sequence[int] = (),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (classes, k, j, i) and features (f, k, j, i) of a volume (channels, k, j, i), on the volume's device.

    network: (1, channels, *patch) -> logits, features. mirror: axes of the volume, 0 to 2; the logits are averaged over all
    their flips, as nnU-Net does; the features are those of the volume as it is.
    """
    inferer = SlidingWindowInferer(tuple(patch), sw_batch_size=1, overlap=OVERLAP, mode="gaussian")
    with torch.inference_mode():
        logits, features = inferer(volume[None], network)
        flips = [[]]
        for axis in mirror:
            flips += [flip + [axis + 2] for flip in flips]
        for flip in flips[1:]:
            logits += inferer(volume[None].flip(flip), lambda x: network(x)[0]).flip(flip)
    return logits[0] / len(flips), features[0]
