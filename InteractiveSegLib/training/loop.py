"""The one training loop: any family, any device, stopped and resumed at any step. It knows losses, never what they mean.

A recipe says what to train (see `Recipe`); the loop does optimiser, learning rate, mixed precision, EMA, checkpoints, a
log (log.csv) and its picture (curve.png).
"""
from __future__ import annotations

import csv
import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from ..device import device_failure, moved
from ..types import InteractiveSegError
from ..weights import is_shipped, load_strictly, read_state, sha256, shipped_file
from .recipes import TEACHERS

log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 120
LOG_STEPS = 50
SETTLING = 30  # batches by which batch norms are measured in the end
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch norms, nothing where a recipe has other norms
OWN = ("teacher.", "about")  # of a run, not of the weights that it starts from: a head for training, what it says of itself
BATCH_NORMS = torch.nn.modules.batchnorm._BatchNorm


class Recipe(Protocol):
    """What a family brings to the loop. `bundle` is the file, or the folder of volumes, that it reads.

    Optional: `stages`, shares of a cycle at which the learning rate starts anew; `memory_format` of the weights; `sets`, names of
    the bundle's sets that it reads instead of all. What the network holds as `teacher` is for training alone. `ablation`: the
    network lacks a part, which weights to start from may have.
    """

    bundle: Path
    name: str
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    ema_decay: float

    def build(self) -> nn.Module:
        """The network with fresh weights."""

    def batches(self, seed: int, workers: int) -> Iterator[Any]:
        """Endless batches of tensors on the CPU."""

    def losses(self, model: nn.Module, batch: Any, progress: float) -> Iterator[tuple[torch.Tensor, dict[str, float]]]:
        """One or more (loss, figures for the log) per batch; the loop steps the optimiser after each."""


@dataclass
class Budget:
    """When a cycle of training ends, and how far it is: 0 at its start, 1 at its end. An interrupted cycle goes on."""

    minutes: float | None
    steps: int | None
    begun_at: float = 0.0  # progress when this call began

    def progress(self, seconds: float, steps: int) -> float:
        done = steps / self.steps if self.steps else seconds / (60 * self.minutes)
        return min(1.0, self.begun_at + (1 - self.begun_at) * done)


class Trainer:
    """One run folder: checkpoint.pt, log.csv, curve.png, run.json.

    sources: SHA-256 of the weights and the bundles that went into the run, None where it is too old to know.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, device: str = "cpu", seed: int = 0, start: Path | None = None
    ) -> None:
        """start: weights to begin from when the run is new, such as the shipped ones."""
        self.recipe, self.folder, self.seed = recipe, folder, seed
        self.device = torch.device(device)
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        network = recipe.build()
        if start is not None:
            own = network.state_dict()
            state = {**read_state(start), **{name: own[name] for name in own if name.startswith(OWN)}}
            state = {name: value for name, value in state.items() if name in own or not name.endswith(STATISTICS)}
            if getattr(recipe, "ablation", False):
                state = {name: state[name] for name in own if name in state}
            load_strictly(network, state, start)
        self.model = network.to(self.device, memory_format=getattr(recipe, "memory_format", torch.channels_last))
        self.ema = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.step, self.seconds, self.progress = 0, 0.0, 0.0
        given = (start, getattr(recipe, "encoder", None))
        self.sources: list[str] | None = [sha256(path) for path in given if path is not None]
        self.figures: dict[str, float] = {}
        if self.checkpoint.exists():
            self.resume()
        read = (Path(recipe.bundle), *(shipped_file(name) for name in TEACHERS.get(recipe.name, ()) if is_shipped(name)))
        if self.sources is not None:
            self.sources += [digest for path in read if path.is_file() and (digest := sha256(path)) not in self.sources]

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def resume(self) -> None:
        try:
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, KeyError, ValueError) as error:
            if device_failure(error):
                raise
            raise InteractiveSegError(
                f"The run in {self.folder} was made by another recipe ({error}): give another folder or delete it."
            ) from error
        self.step, self.seconds = state["step"], state["seconds"]
        self.progress = state["progress"] if state["progress"] < 1 else 0.0
        self.sources = state.get("sources")
        log.info("resumed %s at step %d", self.recipe.name, self.step)

    def save(self) -> None:
        state = {"model": self.model.state_dict(), "ema": self.ema.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "step": self.step, "seconds": self.seconds, "progress": self.progress, "sources": self.sources}
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)
        about = {"family": self.recipe.name, "step": self.step, "hours": round(self.seconds / 3600, 3),
                 "device": str(self.device), "seed": self.seed, "progress": self.progress, "sources": self.sources}
        (self.folder / "run.json").write_text(json.dumps(about, indent=1))
        draw_curve(self.folder)

    def learning_rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self.recipe.warmup_steps)
        stages = getattr(self.recipe, "stages", ())
        begin = max((stage for stage in stages if stage <= self.progress), default=0.0)
        end = min((stage for stage in stages if stage > self.progress), default=1.0)
        done = (self.progress - begin) / (end - begin)
        return self.recipe.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def train(self, minutes: float | None = None, steps: int | None = None, workers: int = 1) -> None:
        """Until the minutes or the steps are over; a checkpoint is written every two minutes and at the end."""
        budget = Budget(minutes, steps, self.progress)
        begin, first, saved, before = time.monotonic(), self.step, time.monotonic(), self.seconds
        batches = self.recipe.batches(self.seed + self.step, workers)
        bar = tqdm(total=1000, desc=self.recipe.name, unit="‰", mininterval=5)
        self.model.train()
        while self.progress < 1:
            self.train_batch(next(batches))
            now = time.monotonic()
            self.seconds = before + now - begin
            self.progress = budget.progress(now - begin, self.step - first)
            bar.update(int(1000 * self.progress) - bar.n)
            bar.set_postfix(step=self.step, **{k: f"{v:.3f}" for k, v in self.figures.items()}, refresh=False)
            if now - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = now
        self.settle(batches)
        self.save()
        bar.close()

    @torch.no_grad()
    def settle(self, batches: Iterator[Any], count: int = SETTLING) -> None:
        """Measure what the averaged network's batch norms see, as they would be used: over many batches, of the final canvas.

        What they kept are the last few batches' figures, of other weights.
        """
        norms = [layer for layer in self.ema.module.modules() if isinstance(layer, BATCH_NORMS)]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        self.ema.module.train()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean of all batches
        for _ in range(count):
            batch = [moved(t, self.device) for t in next(batches)]
            for _loss in self.recipe.losses(self.ema.module, batch, 1.0):
                pass
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum

    def train_batch(self, batch: Any) -> None:
        batch = [moved(t, self.device) for t in batch]
        for loss, figures in self.recipe.losses(self.model, batch, self.progress):
            rate = self.learning_rate()
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.ema.update_parameters(self.model)
            for name, value in figures.items():
                self.figures[name] = value + 0.99 * (self.figures.get(name, value) - value)
            self.step += 1
            if self.step % LOG_STEPS == 0:
                self.write_log(rate)

    def write_log(self, rate: float) -> None:
        path = self.folder / "log.csv"
        row = {"step": self.step, "seconds": round(self.seconds, 1), "learning rate": f"{rate:.3g}",
               **{k: round(v, 5) for k, v in self.figures.items()}}
        if not set(row) <= set(header(path)):  # a new log, or a stage with figures of its own
            rows = read_log(path)
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, dict.fromkeys(name for known in (*rows, row) for name in known))
                writer.writeheader()
                writer.writerows(rows)
        with path.open("a", newline="") as file:
            csv.DictWriter(file, header(path)).writerow(row)


def header(path: Path) -> list[str]:
    """The names of a log's columns; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return next(csv.reader(file), [])


def read_log(path: Path) -> list[dict]:
    """The rows of a log.csv; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:  # a value without a name comes from a log of an older form
        return [{name: value for name, value in row.items() if name} for row in csv.DictReader(file)]


def draw_curve(folder: Path) -> None:
    """curve.png from log.csv: every figure against the step."""
    from matplotlib.figure import Figure

    rows = read_log(folder / "log.csv")
    if not rows:
        return
    names = [n for n in rows[0] if n not in ("step", "seconds", "learning rate")]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in names:
        points = [(int(r["step"]), float(r[name])) for r in rows if r.get(name)]
        axes.plot(*zip(*points), label=name)
    axes.set(xlabel="optimiser step", title=folder.name, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / "curve.png", dpi=110)
