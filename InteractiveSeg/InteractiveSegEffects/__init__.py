"""The Segment Editor effects of this extension, one per user action. Slicer finds each class under this package's name."""
from __future__ import annotations

from pathlib import Path

from InteractiveSegLib import InteractiveSegError

from .InteractiveBoxEffect import InteractiveBoxEffect
from .InteractiveClickEffect import InteractiveClickEffect
from .InteractiveLassoEffect import InteractiveLassoEffect
from .InteractiveScribbleEffect import InteractiveScribbleEffect

EFFECTS = (InteractiveClickEffect, InteractiveScribbleEffect, InteractiveBoxEffect, InteractiveLassoEffect)


def register_effects() -> None:
    """Put the effects into the Segment Editor. Call once, when Slicer has started.

    Slicer looks the class up as <folder name>.<file name>, so this package must be imported before; setPythonSource
    says only by its return value that it found nothing.
    """
    import qSlicerSegmentationsEditorEffectsPythonQt as effects  # exists in the application only

    for effect_class in EFFECTS:
        path = Path(__file__).with_name(f"{effect_class.__name__}.py")
        scripted_effect = effects.qSlicerSegmentEditorScriptedEffect(None)
        if not scripted_effect.setPythonSource(path.as_posix()):
            raise InteractiveSegError(
                f"Slicer could not load the effect {effect_class.__name__} from {path}: reinstall the extension."
            )
        scripted_effect.self().register()
