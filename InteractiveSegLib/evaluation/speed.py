"""What a prediction with examples costs: seconds and peak memory, each figure from a process of its own. Prints nothing."""
from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PATIENCE = 6.0  # seconds after which a prediction is not repeated any more


@dataclass(frozen=True)
class Job:
    """One figure to measure. how: "ours", "bfloat16" (ours with rounded numbers) or "authors" (their way of computing).

    weights: a file, or None for random ones of the widths `features`. examples: in the context. repeats: at most.
    """

    how: str
    examples: int
    features: tuple[int, ...]
    weights: Path | None = None
    device: str = "cpu"
    threads: int = 1
    repeats: int = 10


@dataclass(frozen=True)
class Cost:
    """encode: seconds to read the examples, once. seconds, cpu: wall and processor seconds of a prediction, medians; first and
    p95: wall seconds of the first after a warm-up, and the 95th percentile of the others. network: MiB that it takes.
    megabytes: peak above what the process held with the network and its input. checksum: tells whether answers agree."""

    encode: float
    seconds: float
    cpu: float
    megabytes: float
    checksum: float
    first: float
    p95: float
    network: float


def in_fresh_process(function: Callable, *arguments):
    """What the function returns, called in a process of its own: a process never gives its high-water mark back."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def begin(device: str, threads: int) -> None:
    """What a process that measures sets before anything else."""
    from ..device import choose_device, set_threads

    set_threads(threads)
    choose_device(device)


def wait_for(device: str) -> None:
    """Until the device has done all that it was asked for."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device.startswith("mps"):
        torch.mps.synchronize()


def measure(job: Job) -> Cost:
    """Run a job in a fresh process."""
    return in_fresh_process(run_job, job)


def run_job(job: Job) -> Cost:
    """The job itself; its peak is that of the whole process."""
    begin(job.device, job.threads)
    rng, before = np.random.default_rng(0), resident(job.device)
    network = make_network(job)
    size = network.size
    image, prompts, previous = rng.random((1, size, size)), np.zeros((1, 3, size, size)), np.zeros((1, size, size))
    prompts[0, 1, size // 2, size // 2] = 1
    images, masks = rng.random((job.examples, size, size)), rng.random((job.examples, size, size)) > 0.5
    held = resident(job.device)
    _prepared(network, job, images, masks)(image, prompts, previous)  # the warm-up
    wait_for(job.device)
    start = time.perf_counter()
    predict = _prepared(network, job, images, masks)
    wait_for(job.device)
    encode = time.perf_counter() - start
    start = time.perf_counter()
    predict(image, prompts, previous)
    first = time.perf_counter() - start
    wall, cpu, spent = [], [], 0.0
    while not wall or (len(wall) < job.repeats and spent < PATIENCE):
        start, cpu_start = time.perf_counter(), time.process_time()
        answer = predict(image, prompts, previous)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
        spent += wall[-1]
    peak = high_water(job.device) - held
    return Cost(encode, float(np.median(wall)), float(np.median(cpu)), peak, float(np.abs(answer).mean()), first,
                float(np.percentile(wall, 95)), held - before)


def make_network(job: Job):
    """A ContextNetwork of the job's weights, or of random ones."""
    import torch

    from ..device import half_precision
    from ..models.multiverseg import ContextNetwork, MultiverSegConfig, MultiverSegNet, load

    if job.weights is not None:
        return load(job.weights, job.device)
    torch.manual_seed(0)
    precision = half_precision(job.device) if job.how == "ours" and job.device != "cpu" else None
    return ContextNetwork(MultiverSegNet(MultiverSegConfig(job.features)), job.device, precision)


def _prepared(network, job: Job, images: np.ndarray, masks: np.ndarray) -> Callable[..., np.ndarray]:
    """The prediction as a function of image, prompts and previous logits."""
    import torch

    from ..models.layers.cross_conv import MemoryPlan
    from ..plan import PLANS

    if job.how == "ours":
        context = network.encode(images, masks)
        plan = MemoryPlan(PLANS[job.device.split(":")[0]].chunk)
        return lambda *target: network.predict(*target, context, plan)
    kind = torch.bfloat16 if job.how == "bfloat16" else torch.float32
    net = network.network.to(kind, memory_format=torch.channels_last if job.how == "bfloat16" else torch.preserve_format)
    support = torch.from_numpy(np.stack([images, masks], axis=1).astype(np.float32))[None].to(network.device, kind)
    if job.examples == 0:
        support = torch.full((1, 1, 2, network.size, network.size), 0.5, device=network.device, dtype=kind)
    forward = authors_forward if job.how == "authors" else type(net).__call__

    @torch.inference_mode()
    def predict(image: np.ndarray, prompts: np.ndarray, previous: np.ndarray) -> np.ndarray:
        x = np.concatenate([image[:, None], prompts, previous[:, None]], axis=1).astype(np.float32)
        return forward(net, torch.from_numpy(x).to(network.device, kind), support)[:, 0].float().cpu().numpy()

    return predict


def authors_forward(net, target, support):
    """The published computation with our tensors: all examples at once, and every block makes every example's features.

    net: a CrossUNet. target (B, channels, H, W), support (B, S, channels, H, W) -> logits (B, 1, H, W). Restated from the
    released code, whose convolution over (target, example) pairs is split like ours.
    """
    import torch
    from torch.nn import functional as F

    from ..models.layers.cross_conv import SLOPE, over_entries, pool, pooled, upsample

    def block(layer, u, v):
        z = layer.cross.target_term(u)[:, None] + layer.cross.support_term(v)
        z = F.leaky_relu(z, SLOPE) if layer.cross.activation else z
        return layer.target(z.mean(dim=1)), over_entries(layer.support, z)

    u, v, skips = target, support, []
    for layer in net.enc_blocks[:-1]:
        u, v = block(layer, u, v)
        skips.append((u, v))
        u, v = pool(u), pooled(v)
    u, v = block(net.enc_blocks[-1], u, v)
    for layer in net.dec_blocks:
        u_skip, v_skip = skips.pop()
        u = torch.cat([upsample(u), u_skip], dim=1)
        v = torch.cat([over_entries(upsample, v), v_skip], dim=2)
        u, v = block(layer, u, v)
    return net.out_conv(u)


def resident(device: str) -> float:
    """MiB that the process, or this process on the device, holds now."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**20
    with suppress(OSError):  # Linux forgets the high-water mark so far
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS") or high_water(device)


def high_water(device: str) -> float:
    """MiB that it held at most."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    if sys.platform == "win32":
        return float("nan")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def reserved(device: str) -> float:
    """MiB that torch took from a graphics card at most, for what was allocated and between it."""
    import torch

    return torch.cuda.max_memory_reserved(device) / 2**20


def _status(name: str) -> float | None:
    """A line of Linux's account of this process, in MiB."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith(name + ":")), None)
