"""`interactive-seg benchmark`: what one prompt costs on this machine, ours and the classical tools', or what examples cost."""
from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from ..device import EAGER, FLOAT32, choose_device, set_threads
from ..evaluation import families
from ..evaluation.footprints import cases, measure_case
from ..evaluation.made import made_slice
from ..evaluation.peers import available_peers
from ..evaluation.protocol import Segmenter, SessionSegmenter
from ..evaluation.published import RANDOM
from ..evaluation.refinement_cost import refinement_table
from ..evaluation.speed import Job, high_water, measure
from ..evaluation.volumes.speed import RoundsJob, measure_rounds
from ..prompts import Click
from ..types import InteractiveSegError
from ..weights import shipped_file

AUTHORS_MOST = 16  # examples: with 64 the published computation of the published size needs many GB
STORED = 500


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        "benchmark",
        help="time every family, or one of its tasks, with peak memory",
        description="What every family costs on a device, beside the published way of computing it: load, first answer, steady "
                    "answer (median and 95th percentile), peak memory. With one of --size, --model, --context, --slices, "
                    "--volumes only that, in more detail; with --memory the estimates beside what was taken.",
        epilog="examples:\n  interactive-seg benchmark --device cuda\n  interactive-seg benchmark --memory --device cpu\n"
               "  interactive-seg benchmark --size 512 --threads 1\n"
               "  interactive-seg benchmark --context 0,1,4,16,64,128 --threads 2\n"
               "  interactive-seg benchmark --slices 24 --size 480",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--families", default=",".join(families.STEPS), metavar="NAMES",
        help="of the whole table or of --memory, these (default: %(default)s)")
    add("--quick", action="store_true", help="small sizes and few repeats, to see that it works")
    add("--memory", action="store_true", help="the estimate of each family's memory beside what a fresh process took")
    add("--eager", action="store_true", help="launch kernels one by one on CUDA instead of replaying recordings")
    add("--float32", action="store_true", help="no half precision and no TensorFloat-32")
    add("--model", help="a model family's clicks on a slice (default with --size: scribbleprompt)")
    add("--weights", type=Path, help="weights file (default: the shipped ones)")
    add("--size", type=int, metavar="PX", help="rows and columns of the slice (default: 512)")
    add("--prompts", type=int, default=20, metavar="N", help="clicks of the network; peers get a quarter (default: 20)")
    add("--context", metavar="SIZES", help="time MultiverSeg with so many examples instead, as 0,1,4,16,64,128")
    add("--slices", type=int, metavar="N", help="time two rounds of propagation through N slices instead")
    add("--kept", type=float, default=2.0, metavar="GIB", help="memory for encoded slices, with --slices (default: 2)")
    add("--volumes", metavar="SIZES", help="time TIS's clicks in cubes of so many voxels a side instead, as 64,96")
    add("--features", default="256,256,256,256", metavar="WIDTHS", help="its published widths (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    add("--threads", type=int, help="CPU threads (default: one less than the machine has)")
    return parser


def run(args: argparse.Namespace) -> int:
    whole = args.size is None and args.model is None
    args.size, args.model = args.size or 512, args.model or "scribbleprompt"
    if args.size < 32 or args.prompts < 1:
        raise InteractiveSegError(f"--size {args.size} --prompts {args.prompts}: give at least 32 pixels and 1 prompt.")
    for asked, name in ((args.eager, EAGER), (args.float32, FLOAT32)):
        if asked:
            os.environ[name] = "1"  # the processes that measure see it too
    threads, device = set_threads(args.threads), choose_device(args.device)
    if args.memory:
        return memory_table(args, threads, device)
    if args.context is not None:
        return context_tables(args, threads, device)
    if args.slices is not None:
        return rounds_table(args, threads, device)
    if args.model == "verse":
        return heart_table(args, threads, device)
    if args.volumes is not None:
        print(refinement_table(_numbers(args.volumes), threads, device, args.weights))
        return 0
    if whole:
        return families_table(args, threads, device)
    image, clicks = made_slice(args.size)
    print(f"{args.size} x {args.size} slice, {threads} thread(s), {device_name(device)}, {versions()}")
    print("\n| method | load s | first s | median s | p95 s | CPU s | peak MB |\n|---|---|---|---|---|---|---|")
    _measure(args.model, lambda: SessionSegmenter(args.model, args.weights, device), image, clicks, args.prompts, device)
    with tempfile.TemporaryDirectory() as folder:
        published = RANDOM["scribbleprompt"](Path(folder))
        name = "published size, random weights"
        _measure(name, lambda: SessionSegmenter("scribbleprompt", published, device), image, clicks, args.prompts, device)
    for name, peer in available_peers().items():
        _measure(name, peer, image, clicks, max(1, args.prompts // 4), device)
    print("\nMedian and p95: wall seconds of the prompts after the first. CPU s: processor seconds of one prompt, all threads.")
    print("Peak MB: the process's high-water mark so far, so that later rows cannot be lower; on CUDA the device's own.")
    return 0


def families_table(args: argparse.Namespace, threads: int, device: str) -> int:
    """Every family, shipped and of the published size."""
    names = family_names(args)
    print(f"{device_name(device)}, {threads} thread(s), {versions()}{_switches()}")
    columns = ("network", "step", "load s", "first s", "median s", "p95 s", "first / median", "as published s", "ratio",
               "peak MB")
    print(f"\n| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
    rates = []
    for row in families.family_rows(families.QUICK if args.quick else families.Effort(), device, threads, names):
        figures = [f"{x:.4f}" for x in (row.load, row.first, row.median, row.p95)]
        cells = [row.family, row.step, *figures, f"{row.start:.2f}", f"{row.theirs:.4f}", f"{row.ratio:.2f}", f"{row.peak:.0f}"]
        print("| " + " | ".join("" if cell == "nan" else cell for cell in cells) + " |", flush=True)
        if row.per > 1:
            rates.append(f"{row.family}, {row.step}: {row.per / row.first:.1f} slices/s in the first round, "
                         f"{row.per / row.median:.1f} in the second.")
    print("\n" + "\n".join(rates))
    print("Load has the warm-up in it; of so many examples it is reading them. First and median of a propagation are its two "
          "rounds. As published: the released computation with the same weights; ratio: its time over ours.")
    return 0


def family_names(args: argparse.Namespace) -> tuple[str, ...]:
    """Those that --families names."""
    names = tuple(args.families.split(","))
    if not set(names) <= set(families.STEPS):
        raise InteractiveSegError(f"Got --families {args.families}: choose among {', '.join(families.STEPS)}.")
    return names


def memory_table(args: argparse.Namespace, threads: int, device: str) -> int:
    """What each family was said to need, and what it took."""
    print(f"{device_name(device)}, {threads} thread(s), {versions()}{_switches()}")
    on_card, names, far = device.startswith("cuda"), family_names(args), 0
    columns = ["what", "estimate MB", "taken MB", "estimate / taken", *["reserved MB"] * on_card]
    print(f"\n| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
    for published in (False, True):
        for case in cases(published, large=device != "cpu", quick=args.quick):
            if case.family not in names:
                continue
            estimate, taken, reserved = measure_case(case, device, threads)
            far += not 0.8 <= estimate / taken <= 1.2
            print(f"| {case.title} | {estimate:.0f} | {taken:.0f} | {estimate / taken:.2f} |" + f" {reserved:.0f} |" * on_card,
                  flush=True)
    print(f"\n{far} of the estimates are more than 20 % off. Each row is a process of its own; taken: its peak above what it "
          "held before the network was loaded." + " Reserved: what torch took from the card, with the gaps in it." * on_card)
    return 0


def context_tables(args: argparse.Namespace, threads: int, device: str) -> int:
    """MultiverSeg with examples: our compact network, the published size, and the published way of computing it."""
    sizes, widths = _numbers(args.context), _numbers(args.features)
    weights = args.weights or shipped_file("multiverseg")
    print(f"128 x 128 canvas, {threads} thread(s), {device_name(device)}, {versions()}")
    print("\n| network | examples | read them s | median s | CPU s | peak MB |\n|---|---|---|---|---|---|")
    kinds = (("multiverseg, " + weights.stem, "ours", weights), ("published size", "ours", None),
             ("published size, bfloat16", "bfloat16", None), ("published size, as published", "authors", None))
    costs = {}
    for name, how, path in kinds:
        for size in sizes:
            if how == "authors" and size > AUTHORS_MOST:
                continue
            cost = measure(Job(how, size, widths, path, device, threads, args.prompts))
            costs[how if path is None else "compact", size] = cost
            figures = f"{cost.encode:.3f} | {cost.seconds:.3f} | {cost.cpu:.3f} | {cost.megabytes:.0f}"
            print(f"| {name} | {size} | {figures} |", flush=True)
    print()
    for size in sizes:
        if ("authors", size) in costs:
            ours, theirs, rounded = (costs[how, size] for how in ("ours", "authors", "bfloat16"))
            print(f"{size} examples, published size, by CPU seconds: {theirs.cpu / ours.cpu:.2f} times as fast as the published "
                  f"computation with the same answer (mean |logit| {ours.checksum:.6f} and {theirs.checksum:.6f}), and "
                  f"{theirs.cpu / rounded.cpu:.2f} times in bfloat16 ({rounded.checksum:.6f}).")
    print(f"Opening a store of {STORED} entries: {open_store(STORED):.4f} CPU s.")
    print("Peak MB: above the network itself, in a process of its own. Published sizes have random weights: the same arithmetic.")
    return 0


def rounds_table(args: argparse.Namespace, threads: int, device: str) -> int:
    """Two rounds of propagation through a made volume: the shipped network, and the published size."""
    if args.slices < 2 or args.kept < 0:
        raise InteractiveSegError(f"--slices {args.slices} --kept {args.kept}: give at least 2 slices and no negative memory.")
    print(f"{args.slices} slices of {args.size} x {args.size}, at most {args.kept:g} GiB of encoded slices, {threads} thread(s), "
          f"{device_name(device)}, {versions()}")
    print("\n| network | slices/s, first round | second | ratio | peak MB | encoded slices kept |\n|---|---|---|---|---|---|")
    for name, weights in (("limnet, shipped", args.weights or shipped_file("limnet-memory")), ("published size", None)):
        cost = measure_rounds(RoundsJob(args.slices, args.size, weights, int(args.kept * 2**30), device, threads))
        rates = f"{args.slices / cost.first:.2f} | {args.slices / cost.second:.2f} | {cost.first / cost.second:.2f}"
        print(f"| {name} | {rates} | {cost.megabytes:.0f} | {cost.kept_slices}, {cost.kept:.0f} MB |", flush=True)
    print("\nPeak MB: above the network and the volume, in a process of its own. The published size has random weights.")
    return 0


def heart_table(args: argparse.Namespace, threads: int, device: str) -> int:
    """VerSe on a made heart: the first click, the second, all slices by name."""
    from ..evaluation.heart_speed import SIDE, heart_rows

    print(f"{SIDE} x {SIDE} slices, {threads} thread(s), {device_name(device)}, {versions()}")
    print("\n| step | median s | CPU s |\n|---|---|---|")
    for what, seconds, used in heart_rows(args.weights, device):
        print(f"| {what} | {seconds:.3f} | {used:.3f} |", flush=True)
    return 0


def open_store(entries: int) -> float:
    """CPU seconds to open a store of so many entries and list one task's, the median of 20 times."""
    from ..context import ContextSet, ContextStore

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "context.sqlite"
        rows, columns = np.mgrid[:128, :128]
        examples, image = ContextSet(), ((rows * columns) % 251).astype(np.uint8)
        for n in range(entries):
            examples.add(image, rows > n % 128)
        ContextStore(path).open("study", "task").put(examples.enabled())
        times = []
        for _ in range(20):
            begin = time.process_time()
            if len(ContextStore(path).open("study", "task").infos()) != entries:
                raise InteractiveSegError(f"The store of {entries} entries lost some: run `interactive-seg benchmark` again.")
            times.append(time.process_time() - begin)
    return float(np.median(times))


def _numbers(text: str) -> tuple[int, ...]:
    if not all(part.isdigit() for part in text.split(",")):
        raise InteractiveSegError(f"Got {text!r}, expected whole numbers with commas: give them as 0,1,4,16.")
    return tuple(int(part) for part in text.split(","))


def _measure(name: str, make, image: np.ndarray, clicks: list[Click], count: int, device: str) -> None:
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
    print("| " + " | ".join([name, *(f"{figure:.3f}" for figure in figures), f"{high_water(device):.0f}"]) + " |", flush=True)


def device_name(device: str) -> str:
    """Of the processor; of a graphics card with the versions of what drives it."""
    import torch

    if device.startswith("cuda"):
        cudnn = torch.backends.cudnn.version()
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, cuDNN {cudnn}, driver {_driver()}"
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _driver() -> str:
    """The version of NVIDIA's driver, as nvidia-smi tells it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    asked = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return said[0] if said else "unknown"


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _switches() -> str:
    """What was switched off for this run."""
    return "".join(f", {words}" for name, words in ((EAGER, "eager"), (FLOAT32, "float32")) if name in os.environ)


def versions() -> str:
    import torch

    return f"torch {torch.__version__}, Python {platform.python_version()}, {datetime.date.today().isoformat()}"
