"""Where networks run, and on how many threads: the only file that touches torch's global settings."""
from __future__ import annotations

import os

from .types import InteractiveSegError


def choose_device(name: str = "auto") -> str:
    """"auto" to CUDA, then Apple MPS, then the CPU; any other name is checked and returned."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, there in available.items() if there)
    if not available.get(name.split(":")[0], False):
        usable = ", ".join(device for device, there in available.items() if there)
        raise InteractiveSegError(f"The device {name!r} is not there; this machine has {usable}: choose one of them or auto.")
    return name


def half_precision(device: str):
    """The torch.dtype in which networks run fast there and stay accurate; None where that is the weights' own, float32."""
    import torch

    if device.startswith("cuda"):
        return torch.float16
    capabilities = getattr(torch.cpu, "get_capabilities", dict)() if device == "cpu" else {}
    return torch.bfloat16 if capabilities.get("amx_bf16") else None


def set_threads(count: int | None = None) -> int:
    """CPU threads of the networks; by default one core less than the process may use, so that the window stays alive."""
    import torch

    if count is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count = max(1, cores - 1)
    torch.set_num_threads(count)
    return count
