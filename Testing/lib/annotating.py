"""Studies to annotate: small folders of every kind of file, tiny weights of a network that learns from a context, and a process
that annotates until it is killed."""
from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from shapes import affine_of, ellipsoid

from InteractiveSegLib.annotation import Study
from InteractiveSegLib.annotation.robot import prompt_until
from InteractiveSegLib.demo_study import write_dicom_series, write_volume
from InteractiveSegLib.io import Segment, write_segmentation
from InteractiveSegLib.phantoms import Phantom
from InteractiveSegLib.robot import Robot

AFFINE = affine_of((12, -7, 30), (1, 1, 3))
SHAPE = (5, 40, 48)
TASK = "left atrium"


def body(seed: int) -> tuple[Phantom, np.ndarray]:
    """A bright ellipsoid in noise, its place by the seed, and its mask."""
    rng = np.random.default_rng(seed)
    truth = ellipsoid(SHAPE, (2, *rng.uniform(16, 26, 2)), (1.8, 9, 11))
    image = np.clip(rng.normal(60, 8, SHAPE) + 120 * truth, 0, 255).astype(np.int16)
    return Phantom(image, truth.astype(np.uint8), AFFINE, {1: TASK}, "MR", (0.0, 255.0)), truth


def write_study(folder, cases) -> None:
    """FOLDER/scans and FOLDER/masks. cases: file names below scans; a name without suffix becomes a DICOM folder."""
    for seed, name in enumerate(cases):
        phantom, truth = body(seed)
        path = folder / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = name.split(".")[0]
        reference = folder / "masks" / f"{plain}.seg.nrrd"
        reference.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            sitk.WriteImage(sitk.GetImageFromArray(phantom.image[2].astype(np.uint8)), str(path))
            write_segmentation(reference, truth[2], np.eye(4), [Segment(TASK)])
            continue
        (write_volume if "." in name else write_dicom_series)(path, phantom)
        write_segmentation(reference, truth, AFFINE, [Segment(TASK)])


def write_tiny_weights(path):
    """MultiverSeg of two levels of four features, untrained."""
    import torch
    from safetensors.torch import save_file

    from InteractiveSegLib.models.multiverseg import MultiverSegConfig, MultiverSegNet

    torch.manual_seed(0)
    save_file(MultiverSegNet(MultiverSegConfig((4, 4))).state_dict(), path)
    return path


def annotate_once(folder, weights) -> None:
    """One case elsewhere, so that processes forked from this one have loaded everything and die at their work."""
    from InteractiveSegLib.device import set_threads

    set_threads(1)
    study = Study(folder / "scans", TASK, folder / "once", folder / "masks", model="multiverseg", weights=weights, device="cpu")
    for _ in range(2):
        case = study.open()
        for _ in [*prompt_until(case, Robot(), 0.95, 1, np.random.default_rng(0))]:
            pass
        study.accept()


def annotate(folder, weights, told) -> None:
    """Annotate FOLDER's study to the end, over and over, and tell after each action what must survive from now on."""
    study = Study(folder / "scans", TASK, folder / "out", folder / "masks", model="multiverseg", weights=weights, device="cpu")
    while True:
        while study.next() is not None:
            case = study.open()
            told.send(("journal", case.name, len(case.actions)))
            if not case.actions and case.can_predict:
                for _ in case.predict():
                    told.send(("journal", case.name, len(case.actions)))
            for n, _ in enumerate(prompt_until(case, Robot(), 0.95, 1, np.random.default_rng(0))):
                told.send(("journal", case.name, len(case.actions)))
                if n == 3:
                    case.undo()
                    told.send(("journal", case.name, len(case.actions)))
            study.accept()
            told.send(("accepted", case.name, 0))
        for case in study.cases:
            told.send(("reopened", case.name, 0))
            study.reopen(case.name)


def check_study(folder, weights, told) -> None:
    """After a kill: everything can be read, what was told is there, and the open case goes on from where it was.

    told: what `annotate` sent, oldest first; at most one action more may be on disk, one that could not be told any more.
    """
    from InteractiveSegLib.annotation.actions import unpack_mask
    from InteractiveSegLib.io import read_image

    study = Study(folder / "scans", TASK, folder / "out", folder / "masks", model="multiverseg", weights=weights, device="cpu")
    cases = {case.name: case for case in study.cases}
    journals = {name: study.state.journal(name, TASK) for name in cases}
    lengths, accepted = {}, set()
    for what, name, count in told:
        lengths[name] = max(lengths.get(name, 0), count)
        accepted = accepted | {name} if what == "accepted" else accepted - {name}
    for name, (actions, _) in journals.items():
        last = bool(told) and told[-1][1] == name
        assert lengths.get(name, 0) <= len(actions) <= lengths.get(name, 0) + 1, (name, len(actions), lengths, last)
    held = {name for name, case in cases.items() if case.status == "accepted"}
    unsaid = held - accepted
    assert accepted <= held and len(unsaid) <= 1, (accepted, held)
    for name in held:
        mask = read_image(study.mask_file(name)).array.reshape(SHAPE if "png" not in cases[name].source else SHAPE[1:]) > 0
        assert np.array_equal(mask, unpack_mask(journals[name][1], mask.shape)), name
    table = (study.results / "cases.csv").read_text().splitlines()
    assert len(table) == len(cases) + 1
    upcoming = study.next()
    if upcoming is not None:
        was = study.state.journal(upcoming.name, TASK)[1]
        case = study.open()
        assert np.array_equal(case.mask, unpack_mask(was, case.mask.shape) if was is not None else np.zeros(case.mask.shape))
    examples = study.context.enabled()
    assert {entry.info.provenance.case for entry in examples} <= {study.context.digest(name) for name in held}
    assert all(entry.mask.any() for entry in examples)
