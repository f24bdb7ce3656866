"""Python packages inside Slicer: what is missing, how to get it, and a text for a forum thread. Shows no dialog of its own.

torch comes from the PyTorch extension, which finds the build for this computer's graphics driver; plain pip does not.
"""
from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import slicer

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib import weights as weight_files
from InteractiveSegLib.device import free_memory

from .resources import resource_path

TORCH_REQUIREMENT = ">=2.6"  # before it a weight file could run code
IMPORT_NAMES = {"scikit-image": "skimage"}  # where the package's name is not the module's
REQUESTER = "InteractiveSeg"
ALONE = ("monai",)  # installed without what it depends on: that is numpy, and a torch that pip might put in the place of ours


def missing_packages() -> list[str]:
    """Names of the packages that prediction needs and this Python does not have, or only in a version that is too old."""
    needed = [f"torch{TORCH_REQUIREMENT}", *_requirements()]
    return [_name(requirement) for requirement in needed if not _installed(_name(requirement)) or _is_too_old(requirement)]


def install_missing() -> str:
    """Install what is missing, asking the user first. Returns the reason why it did not work, or ''."""
    missing = missing_packages()
    reason = _install_torch() if "torch" in missing else ""
    if reason or set(missing) <= {"torch"}:
        return reason
    return _install_requirements()


def install_from(folder: str) -> str:
    """Install from a folder with wheels and weights, without the internet. Returns the reason why it did not work, or ''.

    The folder is what `pip download -d FOLDER torch` with the names in requirements.txt and a copy of the folder models/ make on
    another computer of the same kind.
    """
    path, missing = Path(folder), missing_packages()
    wheels, weights = any(path.glob("*.whl")), _offered_weights(path)
    if not wheels and not weights:
        return f"{path} holds neither wheels (*.whl) nor weights that this version knows: choose the offline folder."
    try:
        for source, target in weights:
            shutil.copyfile(source, target)
    except OSError as error:
        folder = weight_files.weights_folder()
        return f"The weights could not be copied to {folder} ({error.strerror}): run Slicer as its owner once."
    if not missing or not wheels:
        return f"Still missing: {', '.join(missing)}; the folder has no wheels." if missing else ""
    wanted = [requirement for requirement in [f"torch{TORCH_REQUIREMENT}", *_requirements()] if _name(requirement) in missing]
    if not slicer.util.confirmOkCancelDisplay(f"Install {', '.join(wanted)} from {path} into Slicer's Python?"):
        return "Nothing was installed: the installation was declined."
    try:
        _pip_install(wanted, "--no-index", "--find-links", str(path))
    except (RuntimeError, subprocess.CalledProcessError) as error:
        return f"The wheels in {path} could not be installed ({error}): they must be for this Python, see Diagnosis."
    return _still_missing()


def _offered_weights(folder: Path) -> list[tuple[Path, Path]]:
    """(file in the folder, its place here) of the weights that are listed here, are not whole here, and are whole there."""
    offered = []
    for entry in weight_files.read_manifest():
        target = weight_files.weights_folder() / entry["file"]
        source = next(iter(sorted(folder.rglob(entry["file"]))), None)
        whole = target.exists() and weight_files.sha256(target) == entry["sha256"]
        if source is not None and not whole and weight_files.sha256(source) == entry["sha256"]:
            offered.append((source, target))
    return offered


def diagnosis() -> str:
    """Slicer, Python, packages, graphics card, memory, weights, network settings, one per line; nothing about the data."""
    lines = [
        f"Slicer {slicer.app.applicationVersion}, Python {platform.python_version()}, {platform.platform()}",
        *map(_package_line, ("torch", "numpy", *_requirement_names())),
    ]
    if _installed("torch"):
        import torch  # only at the button: it takes seconds

        cards = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        cuda = torch.version.cuda or "not in this build"
        lines.append(f"torch {torch.__version__}, CUDA {cuda}, {torch.get_num_threads()} threads")
        lines.append(f"Graphics cards: {', '.join(cards) or 'none that torch can use'}")
    free = free_memory("cpu")
    lines.append(f"Memory: {f'{free / 1e9:.1f} GB free' if free else 'unknown'}, {os.cpu_count()} processor cores")
    proxies = sorted(urllib.request.getproxies())  # only which kinds: their addresses may hold secrets
    lines.append(f"Proxy: {', '.join(proxies) or 'none set'}")
    lines.append(f"Weights in {weight_files.weights_folder()}:")
    try:
        for entry in weight_files.read_manifest():
            path = weight_files.weights_folder() / entry["file"]
            whole = path.exists() and weight_files.sha256(path) == entry["sha256"]
            state = "whole" if whole else "DAMAGED" if path.exists() else "MISSING"
            lines.append(f"  {entry['id']} ({entry['family']}): {state}; {entry['licence']}")
    except InteractiveSegError as error:
        lines.append(f"  {error}")
    return "\n".join(lines)


def _package_line(name: str) -> str:
    if not _installed(name):
        return f"{name}: MISSING"
    try:
        return f"{name}: installed, {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{name}: installed"


def _requirements() -> list[str]:
    lines = resource_path("requirements.txt").read_text(encoding="utf8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _requirement_names() -> list[str]:
    return [_name(requirement) for requirement in _requirements()]


def _name(requirement: str) -> str:
    return requirement.split(">=")[0]


def _installed(name: str) -> bool:
    return importlib.util.find_spec(IMPORT_NAMES.get(name, name)) is not None


def _is_too_old(requirement: str) -> bool:
    name, _, least = requirement.partition(">=")
    try:
        there = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # a module without a record of its version, as Slicer bundles some
        return False
    return _numbers(there) < _numbers(least)


def _numbers(version: str) -> tuple[int, ...]:
    """(2, 10) of "2.10.1+cu128"."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _install_torch() -> str:
    if _installed("torch"):
        return (
            f"This torch is older than {TORCH_REQUIREMENT[2:]}: uninstall it in the module 'PyTorch Utils', restart Slicer and "
            "press this button again."
        )
    if importlib.util.find_spec("PyTorchUtils") is None:
        return (
            "torch is missing and the PyTorch extension is not installed: install 'PyTorch' in the Extensions Manager, "
            "restart Slicer and press this button again."
        )
    import PyTorchUtils  # the PyTorch extension's module

    try:
        torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(
            askConfirmation=True, torchVersionRequirement=TORCH_REQUIREMENT
        )
    except (ImportError, RuntimeError, subprocess.CalledProcessError) as error:
        return f"torch could not be installed ({error}): see the Python console, and the module PyTorch Utils."
    return "" if torch is not None else "torch was not installed: the installation was declined."


def _install_requirements() -> str:
    try:
        if importlib.util.find_spec("slicer.packaging") is not None:  # Slicer 5.12 and newer: asks and shows progress
            from slicer import packaging

            requirements = packaging.load_requirements(resource_path("requirements.txt"))
            packaging.pip_ensure([one for one in requirements if one.name not in ALONE], requester=REQUESTER)
            _pip_install([one for one in _requirements() if _name(one) in ALONE])
        elif slicer.util.confirmOkCancelDisplay(f"Install {', '.join(_requirements())} into Slicer's Python?"):
            _pip_install(_requirements())
    except (RuntimeError, subprocess.CalledProcessError) as error:
        return f"{', '.join(_requirement_names())} could not be installed ({error}): see the Python console of {sys.executable}."
    return _still_missing()


def _pip_install(requirements: list[str], *options: str) -> None:
    alone = [requirement for requirement in requirements if _name(requirement) in ALONE]
    rest = [requirement for requirement in requirements if requirement not in alone]
    for flags, wanted in (((), rest), (("--no-deps",), alone)):
        if wanted:
            slicer.util.pip_install([*options, *flags, *wanted])


def _still_missing() -> str:
    importlib.invalidate_caches()
    missing = missing_packages()
    return f"Still missing: {', '.join(missing)}; the installation was declined or needs a restart." if missing else ""
