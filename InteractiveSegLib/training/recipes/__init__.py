"""How each network is trained: one module per family, and the table that `interactive-seg train all` walks."""
from __future__ import annotations

import importlib

from ...types import InteractiveSegError

# Name of the run and of its weights -> module of this package and class, in the order in which `train all` gives them time.
RECIPES = {
    "scribbleprompt": "scribbleprompt:ScribblePromptRecipe",
    "multiverseg": "multiverseg:MultiverSegRecipe",
    "universeg": "universeg:UniverSegRecipe",
    "verse": "verse:VerSeRecipe",
    "unet-peer": "verse:UNetPeerRecipe",
    "tis-hippocampus": "tis:HippocampusRecipe",
    "tis-cardiac": "tis:CardiacRecipe",
    "tis-atrium": "tis:AtriumRecipe",
    "limnet-memory": "limnet_memory:LIMNetMemoryRecipe",
    "limnet-click": "limnet_click:LIMNetClickRecipe",
    "limnet-fusion": "limnet_fusion:LIMNetFusionRecipe",
}

# Left out by `train all`: VerSe without one of its parts, as in its paper's Table 4; TIS's correction, whole and without one of
# its parts, as in its Table 2.
ABLATIONS = {
    "verse-a1": "verse:WithoutSemanticQueries",
    "verse-a2": "verse:WithoutBackgroundBranch",
    "verse-a3": "verse:WithoutResidual",
    "tis-a0": "tis:CorrectionRecipe",
    "tis-a1": "tis:WithoutClickEncoding",
    "tis-a2": "tis:WithoutLabelAssignment",
}

# Recipe -> the shipped weights whose answers it learns from, beside the bundle.
TEACHERS = {"multiverseg": ("scribbleprompt", "universeg"), "limnet-fusion": ("scribbleprompt", "limnet-click", "limnet-memory")}


def find_recipe(name: str) -> type:
    """The recipe's class, a dataclass whose first field is the bundle; or one sentence that lists the names there are."""
    known = {**RECIPES, **ABLATIONS}
    if name not in known:
        raise InteractiveSegError(f"There is no recipe {name!r}: choose one of {', '.join(known)}.")
    module, recipe = known[name].split(":")
    return getattr(importlib.import_module(f".{module}", __package__), recipe)
