"""Where networks run, in which numbers, on how many threads, and what a device's failure is: the one file with a policy.

The only file that touches torch's global settings. Importing it needs no torch.
"""
from __future__ import annotations

import ctypes
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from .types import InteractiveSegError

if TYPE_CHECKING:
    import torch

EAGER = "INTERACTIVESEG_EAGER"  # environment, any value: kernels are launched one by one, never recorded and replayed
FLOAT32 = "INTERACTIVESEG_FLOAT32"  # environment, any value: no half precision and no TensorFloat-32 anywhere
MOST_THREADS = 256  # that may be asked for on a smaller machine
FULL = "has no memory left"
GONE = "does not answer any more"
LACKING = "cannot compute all of this model"
# Words of errors. Where a card is too full for cuBLAS's and cuDNN's handles and workspaces, these two say it in their own way.
NO_ROOM = ("out of memory", "STATUS_ALLOC_FAILED", "STATUS_NOT_INITIALIZED", "able to find an engine to execute",
           "Unable to find a valid cuDNN", "Seems to be OOM", "DefaultCPUAllocator")
NOT_THERE = ("not currently implemented for the MPS device",)
BROKEN = ("CUDA error", "CUDA driver", "CUDA unknown error", "CUDA call failed", "cudaError", "CUDNN_STATUS", "CUBLAS_STATUS",
          "cuDNN error", "NVIDIA driver", "MPS backend", "No CUDA GPUs")
VERDICTS = ((FULL, NO_ROOM), (LACKING, NOT_THERE), (GONE, BROKEN))

recording = threading.Lock()  # held while kernels are recorded, one graph at a time, and while memory is given back
recorded: WeakSet = WeakSet()  # the recordings there are, see models.layers.replayed

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
    elif kind not in usable or (":" in name and not (number.isdecimal() and int(number) < _count(kind))):
        there = ", ".join(f"{kind} ({_count(kind)} of them)" if _count(kind) > 1 else kind for kind in usable)
        raise InteractiveSegError(f"The device {name!r} is not there; this machine has {there}: choose one of them or auto.")
    if name.startswith("cuda"):
        import torch

        torch.backends.cudnn.allow_tf32 = FLOAT32 not in os.environ
    return name


def _count(kind: str) -> int:
    """How many devices of a kind there are."""
    import torch

    return torch.cuda.device_count() if kind == "cuda" else 1


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

    A processor without such units computes bfloat16 three times slower than float32, and a card before Ampere emulates it.
    """
    import torch

    kind = torch.device(device).type
    has_units = half_precision(device) is not None and (kind != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0))
    return torch.autocast(kind, torch.bfloat16, enabled=has_units)


def records_kernels(device: str) -> bool:
    """Whether a network's kernels are recorded once and replayed there, see models.layers.replayed."""
    return str(device).startswith("cuda") and EAGER not in os.environ


def send(array, device):
    """A numpy array as a tensor on the device, see `moved`."""
    import torch

    return moved(torch.from_numpy(array), device)


def moved(tensor: torch.Tensor, device) -> torch.Tensor:
    """A tensor of the CPU on the device; to CUDA through pinned memory, so that nobody waits for the copy."""
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


def device_errors() -> tuple[type[Exception], ...]:
    """The classes of what is raised when a device fails; `device_failure` tells whether it was that."""
    import torch

    return RuntimeError, MemoryError, torch.cuda.DeferredCudaCallError


def device_failure(error: BaseException | None) -> str:
    """FULL, GONE, LACKING, or "" when neither the error nor what it was raised from has anything to do with the device."""
    import torch

    while error is not None:
        if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
            return FULL
        for verdict, words in VERDICTS:
            if any(word in str(error) for word in words):
                return verdict
        error = error.__cause__
    return ""


def lose(device: str) -> None:
    """Never choose this kind of device again in this process: after an error of CUDA every later call fails too."""
    _lost.add(device.split(":")[0])


def release_memory(device: str) -> None:
    """Give what torch keeps of a device's memory back to it. One that turns out to be broken is never chosen again."""
    import gc

    import torch

    gc.collect()  # networks and their sessions may refer to each other
    kind = device.split(":")[0]
    if kind not in available_devices():
        return
    if kind == "cuda":
        clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
        try:
            with recording:
                if clear is not None and not recorded:  # a recording goes on using the workspace that cuBLAS had for it
                    clear()
                torch.cuda.empty_cache()
        except RuntimeError as error:
            if device_failure(error) != GONE:
                raise
            lose(device)
    elif kind == "mps":
        torch.mps.empty_cache()


def free_memory(device: str) -> int | None:
    """Bytes that may still be used there; None where the system does not say."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        number = torch.device(device).index
        number = torch.cuda.current_device() if number is None else number
        own = [part for part in torch.cuda.memory_snapshot() if part["device"] == number]
        # What a recording keeps beside its maps nobody else can use.
        shared = [part for part in own if not any(part.get("segment_pool_id", ()))]
        return free + sum(part["total_size"] - part["allocated_size"] for part in shared)
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
