"""What correcting a cube of voxels costs: seconds and peak memory, each size in a process of its own. Prints nothing."""
from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from .speed import begin, high_water, in_fresh_process, resident

CLICKS = 20


def refinement_table(sizes: tuple[int, ...], threads: int, device: str, weights: Path | None = None) -> str:
    """Markdown: reading the volume once, then a click among up to CLICKS, in a crop of size x size x size voxels."""
    lines = ["| crop | automatic result s | first click s | median click s | 95th percentile s | CPU s per click | peak MB |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for size in sizes:
        found = in_fresh_process(time_clicks, size, threads, device, weights)
        lines.append(f"| {size}³ | " + " | ".join(f"{figure:.2f}" for figure in found[:-1]) + f" | {found[-1]:.0f} |")
    return "\n".join(lines)


def time_clicks(size: int, threads: int, device: str, weights: Path | None) -> tuple[float, float, float, float, float, float]:
    """(automatic s, first s, median s and 95th percentile of the others, CPU s, MiB above the network itself) of clicks on a ball
    that fills the cube."""
    from ..models import load
    from ..predictors.tis import TISPredictor
    from ..prompts import Click

    begin(device, threads)
    network = load("tis-hippocampus", weights, device)
    names, rng = network.config.targets, np.random.default_rng(0)
    predictor = TISPredictor(network, network.config.spacing, names)
    ball = ((np.indices((size,) * 3) - size // 2) ** 2).sum(axis=0) < (0.48 * size) ** 2
    start = (ball * (1 + (np.arange(size) > size // 2) * (len(names) > 1))[None, :, None]).astype(np.uint8)
    image = rng.normal(100 * ball, 20).astype(np.float32)
    held = resident(device)
    start_time = time.perf_counter()
    predictor.automatic(image)
    automatic = time.perf_counter() - start_time
    clicks, wall, cpu = [], [], []
    for n in range(CLICKS):
        clicks.append(Click(tuple(int(p) for p in rng.integers(0, size, 3)), label=names[n % len(names)]))
        start_time, cpu_time = time.perf_counter(), time.process_time()
        predictor.refine(image, start, start, clicks)
        wall.append(time.perf_counter() - start_time)
        cpu.append(time.process_time() - cpu_time)
    steady = (float(np.median(wall[1:])), float(np.percentile(wall[1:], 95)))
    return automatic, wall[0], *steady, float(np.median(cpu)), high_water(device) - held
