"""A radiologist's hour on slicer-core and the doubles, with a picture of each step; and what writing a change back costs.

Run by `make tour`. Steps that need weights which are not shipped are named and left out.
"""
from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(HERE / "doubles"), str(ROOT / "InteractiveSeg"), str(ROOT)]
importlib.import_module("qtshim")  # installs `qt`

import headless  # noqa: E402
import scripted_module  # noqa: E402
import segment_editor  # noqa: E402
import slicer  # noqa: E402
from page_stage import PageStage  # noqa: E402
from picture import SlicePicture, write_surface  # noqa: E402
from slice_widget import SliceWidgetDouble  # noqa: E402

from InteractiveSegLib.demo_study import write_dicom_series, write_volume  # noqa: E402
from InteractiveSegLib.models import list_families  # noqa: E402
from InteractiveSegLib.phantoms import make_volume  # noqa: E402

VIEW = (500, 400)
SCREENSHOTS = {"scribble": "slicer_clicks", "predicted_from_the_examples": "slicer_predicted", "propagate_3d": "slicer_surface"}
TASK = "liver"


class Tour:
    """The page, a view, a numbered picture of each step, and a line about it."""

    def __init__(self, output: Path) -> None:
        self.output, self.number = output, 0
        self.stage = None

    def start(self) -> None:
        """Start Slicer: everything but the files is new."""
        from InteractiveSegBridge import workbench

        if workbench._shared:
            workbench._shared.pop().close()
        self.application = headless.install()
        slicer.util.showStatusMessage = lambda text, duration=0: None
        self.dialogs = []
        slicer.util.errorDisplay = lambda text, **_: self.dialogs.append(text)
        slicer.qMRMLSegmentEditorWidget = segment_editor.SegmentEditorWidgetDouble
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        effects.qSlicerSegmentEditorEffectFactory._instance = None
        scripted_module.install()
        view = SliceWidgetDouble(self.application.application_logic, self.application.scene, "Red", VIEW)
        segment_editor.SegmentEditorWidgetDouble.views = (view,)
        sys.modules.pop("InteractiveSeg", None)
        import InteractiveSeg

        InteractiveSeg.register_effects()
        page = InteractiveSeg.InteractiveSegWidget()
        page.setup()
        page.enter()
        self.stage, self.picture = PageStage(page, view), SlicePicture(view)

    def step(self, name: str) -> None:
        """Wait until nothing is running, then take a picture of the slice and one of the surface."""
        self.stage.settle()
        self.number += 1
        stem = f"{self.number:02d}_{name.replace(' ', '_')}"
        if self.stage.panel.segment is not None:
            self.stage.event("MouseMoveEvent", (2, 2))
            self.picture.write(self.stage.volume, self.output / f"{stem}.png")
            if self.stage.mask().any():
                write_surface(self.stage.segmentation, self.output / f"{stem}_3d.png")
        voxels = int(self.stage.mask().sum()) if self.stage.panel.segment is not None else 0
        told = self.dialogs.pop() if self.dialogs else self.stage.panel.statusLabel.text
        print(f"{self.number:2d} {name}: {voxels} voxels. {told}")

    def effect(self, name: str):
        self.stage.page.editor.setActiveEffectByName(name)
        return self.stage.page.editor.activeEffect().self()

    def look_at(self, kji, window, tilt_degrees: float = 0.0) -> None:
        self.stage.show_slice_of(kji, 0, tilt_degrees)
        node = self.stage.view.mrmlSliceNode()
        node.SetFieldOfView(380.0, 380.0 * VIEW[1] / VIEW[0], 1.0)
        node.UpdateMatrices()
        display = self.stage.volume.GetDisplayNode()
        display.SetAutoWindowLevel(0)
        display.SetWindowLevelMinMax(*window)
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")


def make_study(folder: Path) -> dict:
    """Two patients, one as DICOM, one as NIfTI."""
    phantoms = {"patient_1": make_volume("abdomen", 0, 0.6), "patient_2": make_volume("abdomen", 5, 0.6)}
    folder.mkdir(parents=True)
    write_dicom_series(folder / "patient_1", phantoms["patient_1"])
    write_volume(folder / "patient_2.nii.gz", phantoms["patient_2"])
    return phantoms


def place(phantom) -> tuple:
    """(a voxel well inside the structure, one of its rim, one outside) in the slice that shows most of it."""
    label = next(value for value, name in phantom.names.items() if TASK in name.lower())
    truth = phantom.labels == label
    k = int(truth.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(truth[k])
    order = np.argsort(np.hypot(rows - rows.mean(), columns - columns.mean()))
    inside = (k, int(rows[order[0]]), int(columns[order[0]]))
    rim = (k, int(rows[order[-len(order) // 8]]), int(columns[order[-len(order) // 8]]))
    return inside, rim, (k, int(rows.max()) + 4, int(columns.mean())), truth


def first_case(tour: Tour, phantom) -> None:
    """Click, correct, scribble, box, propagate, fix a slice, undo twice, mask, protect a neighbour, accept."""
    stage = tour.stage
    inside, rim, outside, truth = place(phantom)
    stage.panel.nextButton.click()
    tour.step("open")
    stage = tour.stage
    tour.look_at(inside, phantom.window)
    stage.click(inside)
    tour.step("click")
    stage.click(outside, control=True)
    tour.step("correct with a negative click")
    tour.effect("InteractiveScribble")
    stage.drag(inside, rim)
    tour.step("scribble")
    tour.effect("InteractiveBox")
    k = inside[0]
    rows, columns = np.nonzero(truth[k])
    stage.drag((k, rows.min() - 2, columns.min() - 2), (k, rows.max() + 2, columns.max() + 2))
    tour.step("box")
    effect = tour.effect("InteractiveClick")
    effect.panel.firstSpin.setValue(max(0, k - 6))
    effect.panel.lastSpin.setValue(min(truth.shape[0] - 1, k + 6))
    effect.panel.propagateButton.click()
    tour.step("propagate")
    beside = (k + 2, inside[1], inside[2])
    tour.look_at(beside, phantom.window)
    stage.click(beside)
    tour.step("fix a slice")
    stage.page.editor.undo()
    tour.step("undo")
    stage.page.editor.undo()
    tour.step("undo again")
    tour.look_at(inside, phantom.window, tilt_degrees=30)
    stage.click(inside)
    tour.step("click in a tilted view")
    stage.page.editor.undo()
    tour.look_at(inside, phantom.window)
    protect_and_mask(tour, phantom, inside)


def protect_and_mask(tour: Tour, phantom, inside) -> None:
    """A finished neighbour stays whole, and voxels outside of an intensity range are not written."""
    stage = tour.stage
    node = stage.page.logic.editorNode()
    image = phantom.image
    node.SourceVolumeIntensityMaskOn()
    node.SetSourceVolumeIntensityMaskRange(float(image[inside]) - 60, float(image[inside]) + 60)
    stage.click((inside[0], inside[1] + 3, inside[2]))
    tour.step("mask by intensity")
    node.SourceVolumeIntensityMaskOff()
    neighbour = stage.segmentation.GetSegmentation().AddEmptySegment("finished neighbour")
    finished = np.zeros(image.shape, np.uint8)
    k, j, i = inside
    finished[k - 2 : k + 3, j - 12 : j - 2, i - 12 : i - 2] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(finished, stage.segmentation, neighbour, stage.volume)
    node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
    kept = stage.mask(neighbour)
    stage.click((k, j + 6, i))
    tour.step("protect a neighbour")
    assert (stage.mask(neighbour) == kept).all(), "the finished neighbour is whole"
    node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteAllSegments)


def second_case(tour: Tour, folder: Path, phantom) -> None:
    """Accept, predict the next case from the examples, be killed, reopen, go on."""
    tour.stage.panel.acceptButton.click()
    tour.step("accept and open the next")
    inside = place(phantom)[0]
    tour.look_at(inside, phantom.window)
    if tour.stage.panel.study.case.can_predict:
        tour.stage.panel.predictButton.click()
        tour.step("predicted from the examples")
    else:
        print("   (no prediction from examples: the model that learns from them has no shipped weights)")
    tour.stage.click(inside)
    tour.step("a click on the second case")
    before = tour.stage.mask()
    tour.start()  # as if Slicer had been killed
    open_study(tour, folder)
    tour.step("reopened after a kill")
    tour.stage.panel.nextButton.click()
    tour.stage.settle()
    assert (tour.stage.mask() == before).all(), "nothing is lost"
    tour.look_at(inside, phantom.window)
    tour.step("gone on with")
    tour.stage.panel.acceptButton.click()
    tour.step("accepted")


def open_study(tour: Tour, folder: Path) -> None:
    from InteractiveSegBridge.advice import missing_weights

    ready = [family for family in list_families() if not missing_weights(family) and not family.volumetric and not family.targets]
    model = next((family for family in ready if family.contextual), ready[0]).name
    panel = tour.stage.panel
    panel.folderEdit.text, panel.taskEdit.text = str(folder), TASK
    panel.familyCombo.setCurrentIndex(panel.familyCombo.findData(model))
    panel.openButton.click()
    tour.stage.settle()


def time_write_back() -> None:
    """A 200 x 200 change in a 512 x 512 x 300 volume, an undo state included."""
    from InteractiveSegBridge.segment import write_updates
    from stage import CoreStage

    from InteractiveSegLib import MaskUpdate

    application = headless.install()
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    stage = CoreStage(application, effects.qSlicerSegmentEditorEffectFactory.instance().registered)
    large = np.zeros((300, 512, 512), np.int16)
    stage.volume = slicer.util.addVolumeFromArray(large, np.diag([0.7, 0.7, 1.0, 1.0]), "Large")
    stage.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(stage.volume)
    stage.logic.SetSourceVolumeNode(stage.volume)
    stage.choose("InteractiveClick")
    stage.settle()
    organ = np.zeros((200, 300, 300), bool)
    organ[20:-20, 20:-20, 20:-20] = True
    target, chosen = (stage.active.scripted, stage.segmentation, stage.volume), stage.segment_id
    write_updates(*target, {chosen: MaskUpdate((50, 100, 100), (250, 400, 400), organ)})
    seconds, processor, noticing = [], [], []
    from InteractiveSegBridge.workbench import workbench

    session = workbench().segment(stage.editor_node)
    for number in range(12):
        square = np.zeros((1, 200, 200), bool)
        square[0, number : 190 + number // 2, 5:195] = True
        begin, busy = time.perf_counter(), time.process_time()
        write_updates(*target, {chosen: MaskUpdate((240, 150 + number, 150), (241, 350 + number, 350), square)})
        seconds.append(time.perf_counter() - begin)
        processor.append(time.process_time() - busy)
        busy = time.process_time()
        session.look(None)
        session.wrote()
        noticing.append(time.process_time() - busy)
    print(f"write-back of 200 x 200 in 512 x 512 x 300, undo included: median {1000 * np.median(seconds):.1f} ms on the clock, "
          f"{1000 * np.median(processor):.1f} ms of processor time; noticing it again {1000 * np.median(noticing):.0f} ms")


def time_first_mask() -> None:
    """From choosing the effect to the first mask on a slice of 512 x 512, with shipped weights, before anything is loaded."""
    from stage import CoreStage

    assert "torch" not in sys.modules, "loading it is part of the time"
    application = headless.install()
    slicer.util.showStatusMessage = lambda text, duration=0: None
    import InteractiveSegEffects
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    InteractiveSegEffects.register_effects()
    stage = CoreStage(application, effects.qSlicerSegmentEditorEffectFactory.instance().registered)
    k, j, i = np.indices((40, 512, 512), sparse=True)
    ball = ((k - 20) / 12) ** 2 + ((j - 250) / 90) ** 2 + ((i - 260) / 70) ** 2 < 1
    image = (np.where(ball, 150, 20) + np.random.default_rng(0).normal(0, 5, ball.shape)).astype(np.int16)
    stage.volume = slicer.util.addVolumeFromArray(image, np.diag([0.4, 0.4, 2.0, 1.0]), "Large")
    stage.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(stage.volume)
    stage.logic.SetSourceVolumeNode(stage.volume)
    stage.show_slice_of((20, 250, 260))
    begin, busy = time.perf_counter(), time.process_time()
    stage.choose("InteractiveClick")
    stage.click((20, 250, 260))
    settle_and_tell(stage, "first mask after choosing the effect, torch and the network loaded in between", begin, busy)
    for words, kji in (("the next click", (20, 280, 290)), ("a click on another slice", (24, 250, 260))):
        stage.show_slice_of(kji)
        begin, busy = time.perf_counter(), time.process_time()
        stage.click(kji)
        settle_and_tell(stage, words, begin, busy)
    assert stage.mask().any()


def settle_and_tell(stage, words: str, begin: float, busy: float) -> None:
    """Turn the event loop until the answer is there; say how long that took, and how long the window stood still at most."""
    from InteractiveSegBridge.workbench import workbench

    longest, longest_busy = 0.0, 0.0
    while workbench().worker.busy:
        turn, turn_busy = time.perf_counter(), time.process_time()
        slicer.app.processEvents()
        longest = max(longest, time.perf_counter() - turn)
        longest_busy = max(longest_busy, time.process_time() - turn_busy)
    print(f"{words}: {time.perf_counter() - begin:.2f} s on the clock, {time.process_time() - busy:.2f} s of processor time; the "
          f"window stood still for {1000 * longest:.0f} ms at most, {1000 * longest_busy:.0f} ms of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("tour"))
    parser.add_argument("--screenshots", type=Path, help="copy the README's pictures into this folder")
    parser.add_argument("--times", action="store_true", help="only the times, no pictures")
    args = parser.parse_args()
    output = args.output
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    import qt

    application = qt.QApplication.instance() or qt.QApplication([])
    time_first_mask()
    if args.times:
        time_write_back()
        return
    phantoms = make_study(output / "study")
    tour = Tour(output)
    tour.start()
    open_study(tour, output / "study")
    first_case(tour, phantoms["patient_1"])
    second_case(tour, output / "study", phantoms["patient_2"])
    for step, name in SCREENSHOTS.items() if args.screenshots else ():
        shutil.copyfile(next(output.glob(f"[0-9]*_{step}.png")), args.screenshots / f"{name}.png")
    time_write_back()
    application.quit()


if __name__ == "__main__":
    main()
