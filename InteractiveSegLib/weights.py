"""Weight files: which ones are shipped, where they lie, what they are worth; reading them safely. No network is known here."""
from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .types import InteractiveSegError

if TYPE_CHECKING:
    import torch

WRAPPERS = ("model", "state_dict")  # published checkpoints keep their tensors under one of these keys
# What torch's unpickler raises on a file that is none, or that wants to run code.
UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, pickle.UnpicklingError)
PREFIX = "module."  # left by distributed training


def weights_folder() -> Path:
    """INTERACTIVESEG_MODELS if set, else `models` beside or inside the package."""
    if "INTERACTIVESEG_MODELS" in os.environ:
        return Path(os.environ["INTERACTIVESEG_MODELS"])
    package = Path(__file__).resolve().parent
    beside = package.parent / "models"
    return beside if (beside / "manifest.json").exists() else package / "weights"


def read_manifest() -> list[dict[str, Any]]:
    """The shipped weights: id, family, file, sha256, licence, and where their model card lies."""
    path = weights_folder() / "manifest.json"
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InteractiveSegError(
            f"The list of shipped weights, {path}, cannot be read ({error}): reinstall, or give a weight file with weights=."
        ) from error


def is_shipped(family: str) -> bool:
    """Whether there are weights of a family; not where there is no list of any."""
    return (weights_folder() / "manifest.json").exists() and any(entry["family"] == family for entry in read_manifest())


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shipped_file(family: str) -> Path:
    """The shipped weights of a family (the first entry of the manifest), hash-checked."""
    for entry in read_manifest():
        if entry["family"] == family:
            path = weights_folder() / entry["file"]
            if not path.exists():
                raise InteractiveSegError(f"The weights {path} are missing: reinstall, or give a weight file with weights=.")
            if sha256(path) != entry["sha256"]:
                raise InteractiveSegError(f"The weights {path} are damaged (SHA-256 differs from the manifest): reinstall them.")
            return path
    raise InteractiveSegError(f"No weights for {family!r} are shipped: give a weight file with weights=.")


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, float32, from .safetensors or a PyTorch file read with weights_only=True; wrappers are removed."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE + (SafetensorError,) as error:
        if isinstance(error, pickle.UnpicklingError):  # torch's own words advise to read the file without any check
            reason = "it is damaged, or holds more than tensors"
        else:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InteractiveSegError(
            f"{path} cannot be read as weights ({reason}): give a .safetensors, .pt or .pth file that holds tensors only."
        ) from error
    for key in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise InteractiveSegError(f"{path} holds no table of tensors: give a file of weights only.")
    return {k[len(PREFIX):] if k.startswith(PREFIX) else k: v.float() for k, v in state.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """What a .safetensors file says of itself in words; nothing of any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def load_strictly(network: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load every tensor or none: one sentence names what is missing, superfluous or of another shape."""
    own = network.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [f"{k} is {tuple(state[k].shape)}, not {tuple(own[k].shape)}" for k in own.keys() & state.keys()
              if own[k].shape != state[k].shape]
    if missing or extra or shapes:
        found = [f"missing {', '.join(missing[:3])}"] * bool(missing) + [f"not expected {', '.join(extra[:3])}"] * bool(extra)
        reasons = "; ".join(found + shapes[:3])
        raise InteractiveSegError(f"{path} does not fit {type(network).__name__} ({reasons}): give weights of this family.")
    network.load_state_dict(state)
