"""Python packages inside Slicer: what is missing, how to get it, and a text for a forum thread. Shows no dialog of its own.

torch comes from the PyTorch extension, which finds the build for this computer's graphics driver; plain pip does not.
"""
from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys

import slicer

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib import weights as weight_files

from .resources import resource_path

TORCH_REQUIREMENT = ">=2.2"
IMPORT_NAMES = {"scikit-image": "skimage"}  # where the package's name is not the module's
REQUESTER = "InteractiveSeg"


def missing_packages() -> list[str]:
    """Names of the packages that prediction needs and this Python does not have."""
    return [name for name in ("torch", *_requirement_names()) if not _installed(name)]


def install_missing() -> str:
    """Install what is missing, asking the user first. Returns the reason why it did not work, or ''."""
    missing = missing_packages()
    reason = _install_torch() if "torch" in missing else ""
    if reason or set(missing) <= {"torch"}:
        return reason
    return _install_requirements()


def diagnosis() -> str:
    """Python, torch, graphics card and weights, one per line."""
    lines = [
        f"Slicer {slicer.app.applicationVersion}, Python {platform.python_version()}, {platform.platform()}",
        *(f"{name}: {'installed' if _installed(name) else 'MISSING'}" for name in ("torch", *_requirement_names())),
    ]
    if _installed("torch"):
        import torch  # only at the button: it takes seconds

        cards = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        lines.append(f"torch {torch.__version__}, graphics cards: {', '.join(cards) or 'none that torch can use'}")
    lines.append(f"Weights in {weight_files.weights_folder()}:")
    try:
        for entry in weight_files.read_manifest():
            present = (weight_files.weights_folder() / entry["file"]).exists()
            lines.append(f"  {entry['id']} ({entry['family']}): {'present' if present else 'MISSING'}; {entry['licence']}")
    except InteractiveSegError as error:
        lines.append(f"  {error}")
    return "\n".join(lines)


def _requirements() -> list[str]:
    lines = resource_path("requirements.txt").read_text(encoding="utf8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _requirement_names() -> list[str]:
    return [requirement.split(">=")[0] for requirement in _requirements()]


def _installed(name: str) -> bool:
    return importlib.util.find_spec(IMPORT_NAMES.get(name, name)) is not None


def _install_torch() -> str:
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
            packaging.pip_ensure(requirements, requester=REQUESTER)
        elif slicer.util.confirmOkCancelDisplay(f"Install {', '.join(_requirements())} into Slicer's Python?"):
            slicer.util.pip_install(_requirements())
    except (RuntimeError, subprocess.CalledProcessError) as error:
        return f"{', '.join(_requirement_names())} could not be installed ({error}): see the Python console of {sys.executable}."
    importlib.invalidate_caches()
    missing = missing_packages()
    return f"Still missing: {', '.join(missing)}; the installation was declined or needs a restart." if missing else ""
