"""Pictures in a study: PNG, JPEG and TIFF are opened in Slicer as volumes of one slice and accepted on their own grid."""
from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from InteractiveSegBridge.mrml import volume_array
from InteractiveSegBridge.workbench import _shared, workbench
from InteractiveSegSelfTest.phantom import CENTRE_KJI, phantom_array
from page_stage import TASK

from InteractiveSegLib import Box, Click, InteractiveSegError, Lasso, Scribble
from InteractiveSegLib.annotation import Study
from InteractiveSegLib.io import read_image
from InteractiveSegLib.placement import in_slices
from InteractiveSegLib.robot import in_volume

CENTRE, BESIDE = (0, *CENTRE_KJI[1:]), (0, 40, 28)


@pytest.fixture()
def pictures(tmp_path):
    """a.png in grey and b.tif in colours."""
    plane = np.clip(phantom_array()[CENTRE_KJI[0]], 0, 255).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(plane), str(tmp_path / "a.png"))
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([plane, plane // 2, plane // 3], -1), isVector=True), str(tmp_path / "b.tif"))
    return tmp_path


@pytest.fixture()
def next_case(make_page, pictures):
    """Opens the next case on a page of its own."""

    def opened():
        stage = make_page()
        stage.open(pictures)
        stage.panel.nextButton.click()
        stage.settle()
        stage.show_slice_of(CENTRE)
        return stage

    return opened


def test_a_picture_is_annotated_and_accepted_like_any_case(next_case, pictures):
    stage = next_case()
    assert (volume_array(stage.volume) == read_image(pictures / "a.png").array[None]).all()
    stage.click(CENTRE)
    stage.click(BESIDE, control=True)
    stage.settle()
    mask = stage.mask()
    assert mask.shape[0] == 1 and mask[CENTRE] and not mask[BESIDE]
    case = Study(pictures, TASK, model="flood").open("a")
    assert case.session.prompts == (Click(CENTRE[1:]), Click(BESIDE[1:], positive=False)), "as the command gives them"
    assert (case.mask == mask[0]).all()
    stage.page.editor.undo()
    assert stage.mask()[CENTRE]
    engine = stage.panel.segment._case_engine
    with pytest.raises(InteractiveSegError, match="cuts across"):
        engine.set_slice(1, 40)
    with pytest.raises(InteractiveSegError):
        list(engine.propagate())


def test_an_accepted_picture_has_its_mask_on_its_own_grid_and_colours_are_read_as_grey(next_case, pictures):
    stage = next_case()
    stage.click(CENTRE)
    stage.settle()
    mask = stage.mask()
    stage.panel.acceptButton.click()
    stage.settle()
    written, image = (read_image(path) for path in (pictures / "annotations" / "left_atrium" / "a.seg.nrrd", pictures / "a.png"))
    assert (written.array.reshape(image.array.shape) > 0).tolist() == mask[0].tolist()
    assert np.allclose(written.affine[:2, :2], image.affine[:2, :2])
    assert stage.rows()[0][:3] == ["a", "accepted", "1"]
    assert stage.volume.GetName() == "b"
    assert (volume_array(stage.volume) == read_image(pictures / "b.tif").array[None]).all()


def test_a_picture_left_in_work_is_there_again_with_prompts_and_what_was_painted(next_case, pictures):
    stage = next_case()
    stage.click(CENTRE)
    stage.settle()
    painted = stage.mask()
    painted[0, 2:5, 2:5] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(painted.astype(np.uint8), stage.segmentation, stage.segment_id, stage.volume)
    stage.panel.keep()
    stage.settle()
    stage.page.editor.setActiveEffect(None)
    _shared.pop().close()
    slicer.mrmlScene.Clear(0)
    again = next_case()
    assert (again.mask() == painted).all()
    assert workbench().prompts(again.page.logic.editorNode()) == (Click(CENTRE),)
    again.panel.acceptButton.click()
    again.settle()
    assert Study(pictures, TASK, model="flood").record("a").by_hand


@pytest.mark.parametrize("prompt", [Click((3, 4), False), Box((1, 2), (5, 6)), Scribble(np.eye(3, dtype=bool), True, (2, 1)),
                                    Lasso(((1, 1), (1, 5), (4, 3)))], ids=lambda prompt: type(prompt).__name__)
def test_a_prompt_of_a_picture_is_one_of_its_only_slice_and_back(prompt):
    [(index, back)] = in_slices(in_volume(prompt, 0, 0), (1, 9, 9), 0).items()
    assert index == 0
    if isinstance(prompt, Scribble):
        assert np.array_equal(back.mask, prompt.mask)
        assert back.origin == prompt.origin
    else:
        assert back == prompt
