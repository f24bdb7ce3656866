"""Published checkpoints: where they lie, and how they come here checked. The only file that opens a connection.

What arrives is held to its hash, read as tensors alone, loaded into its network, and kept as .safetensors; the pickle that
it came in is deleted.
"""
from __future__ import annotations

import hashlib
import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from .models import NETWORKS
from .types import InteractiveSegError
from .weights import read_state

TIMEOUT = 60  # seconds without an answer
CHUNK = 2**20


@dataclass(frozen=True)
class Checkpoint:
    """A published file. network: its name in models.NETWORKS. megabytes: at most. digest: (algorithm, hexadecimal) as its
    publisher states it, or None where none is stated. licence: of the code it comes with."""

    url: str
    network: str
    megabytes: int
    licence: str
    digest: tuple[str, str] | None = None


RITM = "https://github.com/saic-vul/ritm_interactive_segmentation/releases/download/v1.0/"
XMEM = "https://github.com/hkchengrex/XMem/releases/download/v1.0/"
CHECKPOINTS = {
    "ritm-h32": Checkpoint(RITM + "coco_lvis_h32_itermask.pth", "limnet-click", 130, "MIT"),
    # The same file as RITM's, from a repository that states its hash.
    "ritm-h18": Checkpoint(
        "https://github.com/hkchengrex/Cutie/releases/download/v1.0/coco_lvis_h18_itermask.pth", "limnet-click", 45, "MIT",
        ("md5", "6fb97de7ea32f4856f2e63d146a09f31"),
    ),
    "ritm-h18s": Checkpoint(RITM + "coco_lvis_h18s_itermask.pth", "limnet-click", 20, "MIT"),
    "xmem": Checkpoint(XMEM + "XMem.pth", "limnet-memory", 300, "MIT"),
    "xmem-s012": Checkpoint(XMEM + "XMem-s012.pth", "limnet-memory", 300, "MIT"),
    "universeg": Checkpoint(
        "https://github.com/JJGO/UniverSeg/releases/download/weights/universeg_v1_nf64_ss64_STA.pt", "universeg", 10,
        "OpenRAIL++-M, research only",
    ),
}


def fetch(name: str, folder: Path, sha256: str | None = None, connect: Callable = urlopen) -> Path:
    """Download a checkpoint of CHECKPOINTS into a folder; the .safetensors file for `weights=`.

    sha256: what the file must have; needed where its publisher states no hash. connect: opens a URL, as urlopen does.
    """
    if name not in CHECKPOINTS:
        raise InteractiveSegError(f"There is no published checkpoint {name!r} here: choose one of {', '.join(CHECKPOINTS)}.")
    checkpoint = CHECKPOINTS[name]
    digest = ("sha256", sha256.lower()) if sha256 else checkpoint.digest
    if digest is None:
        raise InteractiveSegError(
            f"Nobody states a hash of {checkpoint.url}: give --sha256 from a source you trust, or download it and use --weights."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        arrived = Path(scratch) / checkpoint.url.rsplit("/", 1)[1]
        found = download(checkpoint, arrived, digest[0], connect)
        if found != digest[1]:
            raise InteractiveSegError(f"{checkpoint.url} has the {digest[0]} {found}, not {digest[1]}: it was not kept.")
        return convert(arrived, checkpoint.network, folder / f"{name}.safetensors")


def download(checkpoint: Checkpoint, path: Path, algorithm: str, connect: Callable) -> str:
    """Save the file and return its hash. It may not be larger than it is known to be."""
    hashed, size = hashlib.new(algorithm, usedforsecurity=False), 0
    try:
        with connect(checkpoint.url, timeout=TIMEOUT) as answer, path.open("wb") as file:
            while part := answer.read(CHUNK):
                size += len(part)
                if size > checkpoint.megabytes * 10**6:
                    raise InteractiveSegError(f"{checkpoint.url} is larger than {checkpoint.megabytes} MB: it was not kept.")
                hashed.update(part)
                file.write(part)
    except (URLError, OSError) as error:
        raise InteractiveSegError(
            f"{checkpoint.url} cannot be downloaded ({error}): download it yourself and use --weights."
        ) from error
    return hashed.hexdigest()


def convert(path: Path, network: str, target: Path) -> Path:
    """A PyTorch file as .safetensors, after its network has taken every tensor of it."""
    from safetensors.torch import save_file

    importlib.import_module(f".models.{NETWORKS[network]}", __package__).load(path, "cpu")
    save_file({key: value.contiguous() for key, value in read_state(path).items()}, target)
    return target
