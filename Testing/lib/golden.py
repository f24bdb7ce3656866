"""Deterministic weights for which the published networks' outputs were recorded: one rule from a tensor's name and shape."""
import csv
import hashlib
import re
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / "data"
EMBEDDINGS = ("query_feat.weight", "query_embed.weight", "level_embed.weight", "point_embeddings.0.weight",
              "point_embeddings.1.weight", "not_a_point_embed.weight", "relative_position_bias_table",
              "positional_encoding_gaussian_matrix")
OWN = ("num_batches_tracked", "relative_position_index")  # integer buffers keep the module's own values


def drawn(name, shape):
    """Standard normal numbers that follow from a name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).standard_normal(shape)


def rule_weight(key, shape, adjust=()):
    """The tensor of that name. adjust: (pattern, factor, offset) of a network, applied last where the pattern is found."""
    value = drawn(key, shape)
    if key.endswith("running_var"):
        value = 0.5 + 0.5 * np.abs(value)
    elif key.endswith("running_mean"):
        value = 0.1 * value
    elif key.endswith(".scale"):
        value = np.full(shape, 0.05)
    elif key.endswith(".weight") and shape == (1,):  # the slope of a PReLU
        value = 0.25 + 0.05 * value
    elif key.endswith(".weight") and len(shape) == 1:  # the gain of a norm
        value = 1 + 0.1 * value
    elif key.endswith("bias") and len(shape) == 1:
        value = 0.05 * value
    elif not key.endswith(EMBEDDINGS):
        value = value * np.sqrt(1 / np.prod(shape[1:]))
    for pattern, factor, offset in adjust:
        if re.search(pattern, key):
            value = value * factor + offset
    return torch.tensor(value, dtype=torch.float32)


def published_state(table, adjust=()):
    """Name -> tensor for every drawn entry of a table of names and shapes in `data`."""
    with (DATA / table).open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    shapes = {row["key"]: () if row["shape"] == "scalar" else tuple(map(int, row["shape"].split("x"))) for row in rows}
    return {key: rule_weight(key, shape, adjust) for key, shape in shapes.items() if not key.endswith(OWN)}


def smooth_image(name, side, grid=8, grain=0.03):
    """The (side, side) image in [0, 1] of that name: a coarse random grid, bilinear with aligned corners, and white noise."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    generator = np.random.default_rng(seed)
    place = np.linspace(0, grid - 1, side)[:, None]
    weights = np.maximum(0, 1 - np.abs(place - np.arange(grid)))
    coarse, noise = generator.uniform(0, 1, (grid, grid)), generator.standard_normal((side, side))
    return torch.tensor(np.clip(weights @ coarse @ weights.T + grain * noise, 0, 1), dtype=torch.float32)
