"""A finished run becomes a shipped weight file: half precision, an entry in the manifest, a model card."""
from __future__ import annotations

import dataclasses
import json
import subprocess
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..types import InteractiveSegError
from ..weights import read_state, sha256, weights_folder
from .bundle import DataSet, read_bundle
from .recipes import find_recipe
from .sets import objection

AVERAGED = "module."  # prefix of the EMA's tensors in a checkpoint
TEACHER = AVERAGED + "teacher."  # of what only training needs
ABOUT = "about"  # what some networks say of themselves
FAILURES, DATA = "## Where they fail", "## Training data"  # sections of a card
RESEARCH = "research use only: the training data include sets under non-commercial and research-only terms, see the card"
COMMERCIAL = "commercial use allowed: every training set is under terms that allow it, the card names them for attribution"


def export(run: Path, bundle: Path, identifier: str, report: Path | None = None, notes: str = "",
           mean_with: Path | None = None) -> Path:
    """Write models/IDENTIFIER.safetensors and .md from a run's checkpoint, and the manifest's entry. Returns the weights' path.

    report: a folder that `interactive-seg evaluate` wrote; its table goes into the card. notes: what the settings do not say.
    mean_with: weights to be averaged with the run's, such as those that it began from.
    """
    path = weights_folder() / f"{identifier}.safetensors"
    about, tensors = averaged(run)
    if mean_with is not None:
        tensors = mean(tensors, mean_with)
        about["sources"] = about.get("sources") and [*about["sources"], sha256(mean_with)]
        notes = f"The mean of what this run came to and `{sha256(mean_with)[:8]}`. {notes}".strip()
    terms = licence(about, bundle)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_weights(path, about["family"], tensors)
    entry = {"id": identifier, "family": about["family"], "file": path.name, "sha256": sha256(path), "licence": terms,
             "card": f"{identifier}.md", "parameters": sum(t.numel() for t in tensors.values())}
    add_to_manifest(entry)
    path.with_suffix(".md").write_text(card(entry, about, bundle, report, notes), encoding="utf8")
    return path


def save_average(run: Path, path: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """Write a run's averaged weights in half precision; what run.json says of it, and the tensors."""
    about, tensors = averaged(run)
    write_weights(path, about["family"], tensors)
    return about, tensors


def averaged(run: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    """What run.json says of a run, and its averaged weights in half precision."""
    try:
        about = json.loads((run / "run.json").read_text(encoding="utf8"))
        state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)["ema"]
    except (OSError, KeyError, RuntimeError) as error:
        raise InteractiveSegError(f"{run} is no training run ({error}): give a folder that `train` made.") from error
    return about, {k[len(AVERAGED):]: v.half().contiguous() for k, v in state.items()
                   if k.startswith(AVERAGED) and not k.startswith(TEACHER)}


def mean(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Half of a network's tensors and half of a file's, in half precision (weight averaging, Wortsman et al. 2022)."""
    others = read_state(path)
    shapes = [{name: tensor.shape for name, tensor in of.items()} for of in (tensors, others)]
    if shapes[0] != shapes[1] or not torch.equal(tensors.get(ABOUT, torch.zeros(0)), others.get(ABOUT, torch.zeros(0))):
        raise InteractiveSegError(f"{path} holds another network than the run: give weights that such a run could begin from.")
    return {name: ((tensor.float() + others[name].float()) / 2).half() for name, tensor in tensors.items()}


def write_weights(path: Path, family: str, tensors: dict[str, torch.Tensor]) -> None:
    """Tensors as a weight file that others may read."""
    save_file(tensors, path, {"family": family})
    path.chmod(0o644)


def add_to_manifest(entry: dict) -> None:
    """Replace the manifest's entry of the same id, or append."""
    entries = [e for e in listed() if e["id"] != entry["id"]] + [entry]
    text = json.dumps(sorted(entries, key=lambda e: e["id"]), indent=1) + "\n"
    (weights_folder() / "manifest.json").write_text(text, encoding="utf8")


def listed() -> list[dict]:
    """The manifest's entries; none before the first export."""
    path = weights_folder() / "manifest.json"
    return json.loads(path.read_text(encoding="utf8")) if path.exists() else []


def licence(about: dict, bundle: Path) -> str:
    """COMMERCIAL where all that the weights were made from allows it, the bundle's sets and other weights, else RESEARCH."""
    sources, given = about.get("sources"), sha256(bundle)
    if sources is not None and given not in sources:
        raise InteractiveSegError(f"{bundle} is not what this run was trained from: give the bundle that it read.")
    free = {given, *(entry["sha256"] for entry in listed() if entry["licence"] == COMMERCIAL)}
    allowed = all(not objection(d.licence) for d in sets_read(about["family"], bundle))
    return COMMERCIAL if allowed and sources is not None and free.issuperset(sources) else RESEARCH


def commit() -> str:
    """The revision of the code that trained, as far as git knows."""
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def card(entry: dict, about: dict, bundle: Path, report: Path | None, notes: str) -> str:
    """The model card in Markdown."""
    recipe = find_recipe(about["family"])(bundle)
    hidden = ("bundle", "name", "pool")
    settings = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe) if f.name not in hidden}
    lines = [
        f"# {entry['id']}",
        "",
        f"Family: {about['family']}. {entry['parameters']:,} parameters, half precision. SHA-256 `{entry['sha256']}`.",
        f"Licence of the weights: {entry['licence']}. Not for clinical decisions.",
        "",
        "## Training",
        "",
        f"{about['step']:,} optimiser steps, {about['hours']:.2f} h on {about['device']}, seed {about['seed']}, "
        f"{date.today().isoformat()}, code {commit()}.",
        "Command: `interactive-seg train " + about["family"] + " --bundle train.bundle --minutes N`.",
        "",
        *(f"- {name.replace('_', ' ')}: {value}" for name, value in settings.items()),
        *(["", notes] if notes else []),
        "",
        "## Measured",
        "",
        (report / "summary.md").read_text(encoding="utf8") if report else "See the README, `interactive-seg evaluate`.",
        "",
        DATA,
        "",
        *data_table(sets_read(about["family"], bundle)),
        "",
    ]
    return "\n".join(lines)


def write_failures(identifier: str, words: str) -> Path:
    """Put what is said of the failures of some weights into their card, in place of what stood there.

    Returns where the card expects the plot of them.
    """
    card = weights_folder() / f"{identifier}.md"
    if identifier not in {entry["id"] for entry in listed()} or not card.exists():
        names = ", ".join(entry["id"] for entry in listed())
        raise InteractiveSegError(f"No weights {identifier!r} with a card are listed: choose one of {names}.")
    plot = card.with_name(f"{identifier}-failures.png")
    before, found, after = card.read_text(encoding="utf8").partition(f"\n{DATA}\n")
    if not found:
        raise InteractiveSegError(f"{card.name} has no section {DATA!r}, before which failures belong: export the weights anew.")
    before = before.partition(f"\n{FAILURES}\n")[0].rstrip()
    section = f"{FAILURES}\n\n{words}\n\n![Each object's Dice in the end]({plot.name})"
    card.write_text(f"{before}\n\n{section}\n{found}{after}", encoding="utf8")
    return plot


def sets_read(family: str, bundle: Path) -> list[DataSet]:
    """The bundle's sets that a recipe reads: those that it names, or all."""
    named = getattr(find_recipe(family)(bundle), "sets", ())
    return [d for d in read_bundle(bundle) if not named or d.name in named]


def data_table(datasets: Sequence[DataSet]) -> Sequence[str]:
    """One row per data set: name, modality, cases, subjects, licence."""
    rows = ["| data set | modality | cases | subjects | licence as its source states it |", "| --- | --- | ---: | ---: | --- |"]
    for d in datasets:
        licence = d.licence.replace("|", "/")
        rows.append(f"| {d.name} | {d.modality} | {len(d.cases)} | {len({c.subject for c in d.cases})} | {licence} |")
    return rows
