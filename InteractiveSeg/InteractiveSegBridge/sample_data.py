"""Generated patients in Slicer's Sample Data module: images to try everything on, made here; nothing is downloaded."""
from __future__ import annotations

import logging

import slicer

from .resources import resource_path

logger = logging.getLogger(__name__)

CATEGORY = "Interactive Segmentation"
SCENES = {"abdomen": "Generated abdomen CT", "head": "Generated head MR", "heart": "Generated heart MR"}


def register_sample_data() -> None:
    """Add the images to the Sample Data module. Call once, when Slicer has started."""
    try:
        import SampleData  # not in every build
    except ImportError:
        logger.info("Slicer has no Sample Data module.")
        return
    for scene, title in SCENES.items():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=title.replace(" ", ""),
            sampleDescription=title,
            uris="generated",  # Slicer wants one; the function below makes the image
            fileNames=f"{scene}.nrrd",
            nodeNames=title,
            customDownloader=lambda source, scene=scene: [load_sample(scene)],
            thumbnailFileName=str(resource_path("Icons/InteractiveSeg.png")),
        )


def load_sample(scene: str):
    """One of SCENES as a volume node, shown in the slice views where there are any."""
    from InteractiveSegLib.phantoms import make_volume  # needs scipy

    phantom = make_volume(scene, seed=0)
    volume = slicer.util.addVolumeFromArray(phantom.image, phantom.affine, SCENES[scene])
    if getattr(slicer.app, "layoutManager", None) is not None and slicer.app.layoutManager() is not None:
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume
