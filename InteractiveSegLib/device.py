"""Where networks run, in which numbers, on how many threads, and what a device's failure is: the one file with a policy.

The only file that touches torch's global settings. Importing it needs no torch.
"""
from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .types import InteractiveSegError

if TYPE_CHECKING:
    import torch

EAGER = "INTERACTIVESEG_EAGER"  # environment, any value: kernels are launched one by one, never recorded and replayed
FLOAT32 = "INTERACTIVESEG_FLOAT32"  # environment, any value: no half precision and no TensorFloat-32 anywhere
MOST_THREADS = 256  # that may be asked for on a smaller machine
FULL = "has no memory left"
GONE = "does not answer any more"
BROKEN = ("CUDA error", "CUDA driver", "cudaError", "CUDNN_STATUS", "CUBLAS_STATUS", "cuDNN error", "MPS backend", "No CUDA GPUs")

NO_ROOM = ("out of memory", "STATUS_ALLOC_FAILED", "DefaultCPUAllocator")

_lost: set[str] = set()  # kinds of devices that failed for good in this process


def available_devices() -> tuple[str, ...]:
    """The kinds of devices that can be used, the fastest first: "cuda", "mps", "cpu"."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return tuple(kind for kind, is_there in there.items() if is_there and kind not in _lost)


def choose_device(device: str | torch.device | None = "auto") -> str:
    """"auto" or None to CUDA, then Apple MPS, then the CPU; the name of any other is checked and returned.

    A device that failed for good in this process is passed over, also when it is asked for by name.
    """
    usable = available_devices()
    name = "auto" if device is None else str(device)
    kind, _, number = name.partition(":")
    if name == "auto" or kind in _lost:
        name = usable[0]
    elif kind not in usable or (":" in name and not number.isdecimal()):
        raise InteractiveSegError(
            f"The device {name!r} is not there; this machine has {', '.join(usable)}: choose one of them or auto."
        )
    if name.startswith("cuda"):
        import torch

        torch.backends.cudnn.allow_tf32 = FLOAT32 not in os.environ
    return name


def half_precision(device: str):
    """The torch.dtype in which the large networks run fast there with the same masks; None where that is float32."""
    import torch

    kind = str(device).split(":")[0]
    if FLOAT32 in os.environ:
        return None
    if kind == "cuda":
        return torch.float16
    has_units = getattr(torch.cpu, "_is_amx_tile_supported", None)  # a processor that multiplies bfloat16 itself
    return torch.bfloat16 if kind == "cpu" and has_units is not None and has_units() else None


def training_precision(device):
    """The context in which a network's forward pass is trained there: bfloat16 where the device multiplies it itself, or float32.

    A processor without such units computes bfloat16 three times slower than float32.
    """
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half_precision(device) is not None)


def records_kernels(device: str) -> bool:
    """Whether a network's kernels are recorded once and replayed there, see models.layers.replayed."""
    return str(device).startswith("cuda") and EAGER not in os.environ


def send(array, device):
    """A numpy array as a tensor on the device; to CUDA through pinned memory, so that nobody waits for the copy."""
    import torch

    tensor = torch.from_numpy(array)
    if str(device).startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def set_threads(count: int | None = None) -> int:
    """CPU threads of the networks; by default one core less than the process may use, so that the window stays alive."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count is None:
        count = max(1, cores - 1)
    elif not 1 <= count <= max(MOST_THREADS, cores):  # torch dies of too many without a word
        raise InteractiveSegError(f"Got {count} threads, expected 1 to {max(MOST_THREADS, cores)}: leave --threads out.")
    torch.set_num_threads(count)
    return count


def device_failure(error: RuntimeError | MemoryError) -> str:
    """FULL, GONE, or "" when the error has nothing to do with the device."""
    import torch

    text = str(error)
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(words in text for words in NO_ROOM):
        return FULL
    return GONE if any(words in text for words in BROKEN) else ""


def lose(device: str) -> None:
    """Never choose this kind of device again in this process: after an error of CUDA every later call fails too."""
    _lost.add(device.split(":")[0])


def release_memory(device: str) -> None:
    """Give what torch keeps of a device's memory back to it."""
    import gc

    import torch

    gc.collect()  # networks and their sessions may refer to each other
    kind = device.split(":")[0]
    if kind == "cuda" and kind in available_devices():
        torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()


def free_memory(device: str) -> int | None:
    """Bytes that may still be used there; None where the system does not say."""
    if device.startswith("cuda"):
        import torch

        kept_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept_by_torch
    if sys.platform == "win32":
        return _free_windows()
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024
    except (OSError, StopIteration):
        names = getattr(os, "sysconf_names", {})
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in names else 0
        return whole // 2 or None  # macOS tells only what there is; half of it is taken to be free


def _free_windows() -> int:
    """Bytes of free memory."""

    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong) for name in ("total", "free", "page_total", "page", "virtual_total", "virtual", "extended")
        ]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return status.free
