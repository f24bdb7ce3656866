"""What was said to a case, said again from its journal or a file of prompts: the mask is the same."""
import json

import numpy as np
import pytest
from annotating import SHAPE, TASK, write_study
from brightness import see_brightness

from InteractiveSegLib import Click
from InteractiveSegLib.annotation import Study
from InteractiveSegLib.annotation.actions import check_other, repeatable
from InteractiveSegLib.cli.annotate import still_to_do
from InteractiveSegLib.types import InteractiveSegError


@pytest.fixture
def a_study(tmp_path, monkeypatch):
    """Makes the study of two equal volumes, with results in a folder of that name; LIM-Net's networks are stand-ins."""
    see_brightness(monkeypatch)
    write_study(tmp_path, ["a.nii.gz"])
    return lambda output: Study(tmp_path / "scans", TASK, tmp_path / output, model="scribbleprompt")


def repeated(study, actions):
    """The mask after the same actions in another study, as a file of prompts would bring them."""
    case = study.open("a")
    for action in json.loads(json.dumps(actions)):
        case.do(action)
    return case.mask


def test_a_prompt_without_an_axis_is_along_the_studys_whatever_came_before(a_study):
    case = a_study("first").open("a")
    case.session.set_slice(2, 0)
    case.add(Click((2, 20, 22)))
    case.session.set_slice(0, 0)
    case.add(Click((3, 20, 22)))
    assert [action.get("axis") for action in case.actions] == [2, None]
    assert np.array_equal(repeated(a_study("second"), case.actions), case.mask)


@pytest.mark.parametrize("options", [{"axis": 2}, {"extent": (1, 4)}, {"fuse": False}, {"axis": "K", "extent": (0, SHAPE[0])}])
def test_masks_are_carried_again_as_they_were(a_study, options):
    case = a_study("first").open("a")
    if options.get("axis") == 2:
        case.session.set_slice(2, 0)
    case.add(Click((2, 20, 22)))
    case.session.set_slice(0, 0)
    list(case.propagate(**options))
    assert case.mask[1].any()
    said = dict(case.actions[-1])
    check_other(said)
    assert np.array_equal(repeated(a_study("second"), case.actions), case.mask)
    assert said == {"propagate": True, **{key: list(v) if key == "extent" else v for key, v in options.items() if v not in
                                          ("K", (0, SHAPE[0]))}}


@pytest.mark.parametrize("wrong", [{"axis": 3}, {"axis": True}, {"extent": [2]}, {"extent": 4}, {"fuse": 1}, {"weights": "x"}])
def test_what_cannot_be_carried_so_is_refused(wrong):
    with pytest.raises(InteractiveSegError, match="Got the action"):
        check_other({"propagate": True, **wrong})


def test_a_file_with_what_the_program_does_by_itself_goes_on_after_an_interruption(a_study):
    file = [{"click": [2, 20, 22]}, {"predict": [2]}, {"click": [3, 20, 22]}, {"propagate": [2, 3]}, {"click": [1, 20, 22]}]
    for done in range(1, len(file)):
        case = a_study(str(done)).open("a")
        for action in file[:done]:
            case.do(action)
        afresh, left = still_to_do(a_study(str(done)).open("a"), file)
        assert not afresh and left in (file[done:], file[done - 1:]), "at most what the program does is done twice"
        assert file[done - 1] not in left or "click" not in file[done - 1]
    with pytest.raises(InteractiveSegError, match="that are not the first ones of the file"):
        still_to_do(case, [{"click": [4, 20, 22]}, *file[1:]])


def test_a_prediction_that_was_given_up_and_made_again_is_not_taken_back_by_the_file():
    click, answer, carry, undo = {"click": [2, 20, 22]}, {"predict": [2, 6]}, {"propagate": [2, 6]}, {"undo": True}
    assert repeatable([answer, undo, answer, carry, click, undo]) == [click, undo]
    assert repeatable([answer, carry, undo, undo, click]) == [undo, undo, click], "an answer that the user did not want"
    assert repeatable([click, undo, answer, undo, {"redo": True}, {"resume": True}, answer]) == [click, undo]
