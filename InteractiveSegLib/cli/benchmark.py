"""`interactive-seg benchmark`: what one prompt costs on this machine, ours and the classical tools', on one made slice."""
from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ..device import choose_device, set_threads
from ..evaluation.peers import available_peers
from ..evaluation.protocol import Segmenter, SessionSegmenter
from ..prompts import Click
from ..types import InteractiveSegError

PUBLISHED_WIDTHS = (192, 192, 192, 192)


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        "benchmark",
        help="time one prompt, with CPU seconds, threads and peak memory",
        description="Clicks on a made slice: load, first prompt, steady prompt (median and 95th percentile), peak memory.",
        epilog="example:\n  interactive-seg benchmark --size 512 --threads 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="scribbleprompt", help="model family (default: scribbleprompt)")
    add("--weights", type=Path, help="weights file (default: the shipped ones)")
    add("--size", type=int, default=512, metavar="PX", help="rows and columns of the slice (default: 512)")
    add("--prompts", type=int, default=20, metavar="N", help="clicks of the network; peers get a quarter (default: 20)")
    add("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    add("--threads", type=int, help="CPU threads (default: one less than the machine has)")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.size < 32 or args.prompts < 1:
        raise InteractiveSegError(f"--size {args.size} --prompts {args.prompts}: give at least 32 pixels and 1 prompt.")
    threads, device = set_threads(args.threads), choose_device(args.device)
    image, clicks = made_slice(args.size)
    print(f"{args.size} x {args.size} slice, {threads} thread(s), {_device_name(device)}, {_versions()}")
    print("\n| method | load s | first s | median s | p95 s | CPU s | peak MB |\n|---|---|---|---|---|---|---|")
    _measure(args.model, lambda: SessionSegmenter(args.model, args.weights, device), image, clicks, args.prompts)
    with tempfile.TemporaryDirectory() as folder:
        published = _random_published(Path(folder))
        name = "published size, random weights"
        _measure(name, lambda: SessionSegmenter("scribbleprompt", published, device), image, clicks, args.prompts)
    for name, peer in available_peers().items():
        _measure(name, peer, image, clicks, max(1, args.prompts // 4))
    print("\nMedian and p95: wall seconds of the prompts after the first. CPU s: processor seconds of one prompt, all threads.")
    print("Peak MB: the process's high-water mark so far, so that later rows cannot be lower; on CUDA the device's own.")
    return 0


def made_slice(size: int) -> tuple[np.ndarray, list[Click]]:
    """A noisy bright ellipse (size, size) float32, and clicks in and around it, positive and negative by turns."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    inside = (rows / 0.3) ** 2 + (columns / 0.2) ** 2 < 1
    image = (inside + 0.3 * rows + rng.normal(0, 0.2, inside.shape)).astype(np.float32)
    pools = (np.argwhere(inside), np.argwhere(~inside))
    clicks = [Click((size // 2, size // 2))]
    for n in range(1, 64):
        row, column = rng.choice(pools[n % 2])
        clicks.append(Click((int(row), int(column)), positive=n % 2 == 0))
    return image, clicks


def _measure(name: str, make, image: np.ndarray, clicks: list[Click], count: int) -> None:
    begin = time.perf_counter()
    segmenter: Segmenter = make()
    load = time.perf_counter() - begin
    segmenter.start(image)
    wall, cpu = [], []
    for n in range(count + 1):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        segmenter.add(clicks[n % len(clicks)])
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - cpu_begin)
    steady = wall[1:]
    figures = (load, wall[0], np.median(steady), np.percentile(steady, 95), np.median(cpu[1:]))
    print("| " + " | ".join([name, *(f"{figure:.3f}" for figure in figures), f"{_peak_megabytes():.0f}"]) + " |", flush=True)


def _random_published(folder: Path) -> Path:
    """Seeded random weights of the published network's size: the same arithmetic, no meaning."""
    import torch
    from safetensors.torch import save_file

    from ..models.scribbleprompt import build

    torch.manual_seed(0)
    path = folder / "published.safetensors"
    save_file(build(PUBLISHED_WIDTHS).state_dict(), path)
    return path


def _peak_megabytes() -> float:
    import torch

    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _versions() -> str:
    import torch

    return f"torch {torch.__version__}, Python {platform.python_version()}, {datetime.date.today().isoformat()}"
