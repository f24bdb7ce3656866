"""VerSe in a session: hearts by name, by name then click, by click; what is computed once is kept."""
import logging

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import save_file
from shapes import ellipsoid

from InteractiveSegLib import Click, InteractiveSegError, InteractiveSession, Scribble
from InteractiveSegLib.cli import main
from InteractiveSegLib.geometry import Canvas
from InteractiveSegLib.io import Segment, read_image, write_segmentation
from InteractiveSegLib.models import find_family, load
from InteractiveSegLib.models.verse.network import VerSeConfig, build
from InteractiveSegLib.plan import PLANS, Plan
from InteractiveSegLib.predictors.slices import Request
from InteractiveSegLib.predictors.verse import (
    NOWHERE,
    SETTLED,
    VerSePredictor,
    canvas_clicks,
    drop_islands,
    heart_mask,
    keep_settled,
    spread,
)
from InteractiveSegLib.terminology import HEART

THREE = ("LV", "myocardium", "RV")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny network with weights that answer something, the same each time."""
    torch.manual_seed(0)
    network = build(VerSeConfig(base=8, width=64, feedforward=64, rounds=1))
    path = tmp_path_factory.mktemp("verse") / "tiny.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return path


@pytest.fixture
def heart():
    """(image, truth of the cavity): a bright ball in a dark ring, 5 slices of 150 x 160, 8 x 1.5 x 1.5 mm."""
    shape = (5, 150, 160)
    cavity = ellipsoid(shape, (2, 70, 90), (2.2, 14, 14))
    ring = ellipsoid(shape, (2, 70, 90), (2.6, 22, 22)) & ~cavity
    image = np.random.default_rng(0).normal(90, 10, shape) + 110 * cavity - 60 * ring
    return image.astype(np.float32), cavity


@pytest.fixture
def session_of(weights, heart):
    def make(**options):
        return InteractiveSession(heart[0], spacing=(8.0, 1.5, 1.5), model="verse", weights=weights, device="cpu", **options)

    return make


@pytest.fixture
def calls(monkeypatch):
    """How many slices were encoded, and how many answers each call of the decoder gave."""
    from InteractiveSegLib.models.verse.network import VerSe

    counts = {"encoded": 0, "decoded": []}
    encode, decode = VerSe.encode, VerSe.decode

    def counted_encode(self, images):
        counts["encoded"] += len(images)
        return encode(self, images)

    def counted_decode(self, features, prompts, *rest):
        counts["decoded"].append(len(prompts))
        return decode(self, features, prompts, *rest)

    monkeypatch.setattr(VerSe, "encode", counted_encode)
    monkeypatch.setattr(VerSe, "decode", counted_decode)
    return counts


def test_by_name_every_slice_and_every_target_is_answered_in_batches(session_of, calls):
    session = session_of(targets=THREE, mode="auto")
    session.predict()
    assert session.labels.max() <= 3 and session.labels.any(axis=(1, 2)).sum() > 1, "slices besides the current one"
    assert calls["encoded"] in (5, 10), "each slice once whole and at most once closely"
    assert sum(calls["decoded"]) in (15, 30) and max(calls["decoded"]) > 3
    before = calls["encoded"]
    session.predict()
    assert calls["encoded"] == before, "a second look at the same slices encodes nothing"


def test_only_so_many_encoded_slices_are_kept_and_the_others_are_encoded_again(session_of, calls, monkeypatch):
    monkeypatch.setitem(PLANS, "cpu", Plan(looks=2))
    session = session_of(targets=THREE, mode="auto")
    session.predict()
    labels, encoded = session.labels.copy(), calls["encoded"]
    assert len(session._predictor().predictor.looks) == 2
    session.predict()
    assert calls["encoded"] > encoded and np.array_equal(session.labels, labels)


def test_a_slice_that_is_kept_holds_no_other_in_memory(session_of):
    session = session_of(targets=THREE, mode="auto")
    session.predict()
    for look in session._predictor().predictor.looks.values():
        assert all(level.untyped_storage().nbytes() == level.nbytes for level in look.features)


def test_the_warm_up_records_one_target_and_all_of_a_slice(session_of, calls, monkeypatch):
    session_of(targets=THREE).warm_up()
    assert set(calls["decoded"]) == {1}
    monkeypatch.setattr("InteractiveSegLib.predictors.verse.records_kernels", lambda device: True)
    session_of(targets=THREE).warm_up()
    assert set(calls["decoded"]) == {1, 3}


def test_several_targets_of_one_slice_share_a_pass(session_of, calls):
    session_of(targets=THREE, mode="auto").predict([2])
    assert set(calls["decoded"]) == {3}


@pytest.mark.parametrize("mode", ["auto+click", "click"])
def test_a_later_click_costs_one_pass_of_the_decoder_and_no_encoding(session_of, calls, mode):
    session = session_of(targets=("LV",), mode=mode)
    session.add(Click((2, 70, 90)))
    encoded, decoded = calls["encoded"], len(calls["decoded"])
    session.add(Click((2, 75, 95)))
    assert calls["encoded"] == encoded and len(calls["decoded"]) == decoded + 1


@pytest.mark.parametrize("mode", ["auto+click", "click"])
def test_the_slice_shown_is_encoded_by_the_warm_up_and_answered_as_without_it(session_of, calls, mode):
    warm, cold = session_of(targets=("LV",), mode=mode), session_of(targets=("LV",), mode=mode)
    warm.warm_up()
    costs = []
    for session in (warm, cold):
        before = calls["encoded"]
        session.add(Click((2, 70, 90)))
        costs.append(calls["encoded"] - before)
    assert costs[0] == costs[1] - 1, "the look at the whole slice was there already"
    assert warm.mask.any() and np.array_equal(warm.probability, cold.probability)


def test_a_first_click_that_wants_no_closer_look_costs_one_pass(session_of, calls):
    session = session_of(targets=("LV",), mode="click")
    predictor = session._predictor()
    session.warm_up()
    predictor.predictor.closer = lambda whole, mask: None
    before = len(calls["decoded"])
    session.add(Click((2, 70, 90)))
    assert len(calls["decoded"]) == before + 1 and session.mask[2, 70, 90]


def test_what_was_clicked_is_in_the_mask_and_what_was_clicked_away_is_not(session_of):
    session = session_of(targets=("LV",), mode="click")
    stroke = np.zeros(session.shape, bool)
    stroke[2, 60:64, 80:99] = True
    session.add(Click((2, 70, 90)))
    session.add(Scribble(stroke, positive=False))
    session.add(Click((2, 62, 90)))
    assert session.mask[2, 70, 90] and session.mask[2, 62, 90]
    assert not (session.mask & stroke).sum() > 1
    assert not session.mask[[0, 1, 3, 4]].any(), "clicks speak to their own slice"


def test_a_click_by_name_changes_one_slice_and_undo_brings_it_back(session_of):
    session = session_of(targets=THREE)
    session.predict()
    before = session.labels.copy()
    place = tuple(int(v) for v in np.argwhere(before[1] == 0)[0])
    update = session.add(Click((1, *place), label="RV"))
    assert session.labels[(1, *place)] == 3 and update.start[0] == 1 and update.stop[0] == 2
    session.undo()
    assert np.array_equal(session.labels, before)


def test_each_mode_refuses_what_it_cannot_do_in_one_sentence(session_of):
    with pytest.raises(InteractiveSegError, match='mode="auto\\+click" to correct'):
        session_of(targets=("LV",), mode="auto").add(Click((2, 70, 90)))
    with pytest.raises(InteractiveSegError, match="no answer before a click"):
        session_of(targets=("LV",), mode="click").predict()
    with pytest.raises(InteractiveSegError, match="does not know liver"):
        session_of(targets=("liver",))


def test_a_target_without_training_says_so_once_and_stays_empty_until_clicked(session_of, caplog):
    session = session_of(targets=("edema",))
    with caplog.at_level(logging.WARNING):
        assert session.predict().empty
        session.add(Click((2, 70, 90)))
    assert session.mask[2, 70, 90]
    assert session.notice == "", "it was clicked now"
    session.predict([3])
    assert session.notice.startswith("These weights never saw edema, so it stays empty"), "once in the log, each time here"
    assert [record.getMessage() for record in caplog.records].count(
        "These weights never saw edema, so it stays empty until you click: no data here shows it.") == 1


def test_targets_are_known_by_their_titles_and_in_any_case(session_of):
    session = session_of(targets=("Left Ventricle", "rv", " myocardium"))
    assert session.targets == ("LV", "RV", "myocardium")
    session.add(Click((2, 70, 90), label="left ventricle"))
    assert session.mask_of("lv")[2, 70, 90] and session.mask_of("LV")[2, 70, 90]
    with pytest.raises(InteractiveSegError, match="different names"):
        session_of(targets=("LV", "left ventricle"))
    atrium = InteractiveSession(np.zeros((8, 8, 8)), model="tis", targets=("Left Atrium",))
    assert atrium.targets == ("left atrium",)


def test_what_the_shipped_weights_never_saw_is_marked_in_every_list(capsys):
    family = find_family("verse")
    assert load("verse", None, "cpu").unseen == family.unseen == ("edema",)
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert "targets: LV, myocardium, RV, edema (untrained), scar, LA\n" in printed
    assert "targets: anterior, posterior\n" in printed


def test_a_click_beside_the_close_look_brings_the_whole_slice_back(session_of):
    session = session_of(targets=("LV",), mode="click")
    session.add(Click((2, 70, 90)))
    predictor = session._predictor().predictor
    predictor.place((0, 2), predictor.closer(predictor.whole(session.image[2]), disc_mask(session)))
    assert not predictor.canvases[0, 2].covers().all()
    session.add(Click((2, 2, 2)))
    assert predictor.canvases[0, 2].covers().all() and session.mask[2, 2, 2]


def disc_mask(session):
    return ellipsoid(session.shape[1:], (70, 90), (8, 8))


def test_the_slices_of_a_volume_agree_on_where_the_heart_is():
    inside, stray = np.full((40, 40), -1.0), np.full((40, 40), -1.0)
    inside[10:20, 12:22] = 1
    stray[35:, 35:] = 1
    requests = [Request(np.zeros((40, 40)), (), None, "LV", (0, k)) for k in range(10)]
    found = heart_mask(requests, [inside] * 9 + [np.maximum(inside, stray)])
    assert np.array_equal(found, inside > 0)
    assert not heart_mask(requests[:1], [np.full((40, 40), -1.0)]).any(), "nothing found is no heart"
    assert heart_mask(requests, [stray] + [np.full((40, 40), -1.0)] * 9).any(), "what only one slice shows still counts"


def test_a_scribble_is_read_as_points_far_from_each_other_and_of_its_own_sign():
    stroke = np.zeros((40, 40), bool)
    stroke[20, 3:38] = True
    points = spread(stroke)
    assert len(points) == 8 and all(stroke[p] for p in points)
    columns = sorted(c for _, c in points)
    assert columns[0] == 3 and columns[-1] == 37 and min(np.diff(columns)) >= 3
    request = Request(np.zeros((40, 40)), (Scribble(stroke[20:21], False, (20, 0)), Click((5, 6))), None)
    clicks = canvas_clicks(request, Canvas((40, 40), (1.0, 1.0), 40))
    assert clicks[True] == [(5, 6)] and len(clicks[False]) == 8 and all(row == 20 for row, _ in clicks[False])


def test_on_the_command_line_names_become_segments_with_titles_and_codes(tmp_path, weights, heart, capsys):
    from InteractiveSegLib.cli import main

    sitk.WriteImage(sitk.GetImageFromArray(heart[0]), str(tmp_path / "heart.nrrd"))
    out = tmp_path / "out.seg.nrrd"
    options = [str(tmp_path / "heart.nrrd"), "--model", "verse", "--weights", str(weights), "-o", str(out)]
    assert main(["segment", *options, "--target", "myocardium,RV"]) == 0
    written = sitk.ReadImage(str(out))
    assert [written.GetMetaData(f"Segment{n}_Name") for n in (0, 1)] == ["myocardium", "right ventricle"]
    assert HEART["RV"].entry in written.GetMetaData("Segment1_Tags")
    assert set(np.unique(sitk.GetArrayFromImage(written))) <= {0, 1, 2}
    assert main(["segment", *options, "--target", "LV,RV", "--click", "2,70,90"]) == 1
    assert "give one --target" in capsys.readouterr().err


def test_the_command_starts_each_target_from_the_segment_that_is_called_so(tmp_path, weights, heart, capsys):
    sitk.WriteImage(sitk.GetImageFromArray(heart[0]), str(tmp_path / "heart.nrrd"))
    start, out = tmp_path / "start.seg.nrrd", tmp_path / "out.seg.nrrd"
    labels, affine = np.zeros(heart[0].shape, np.uint8), read_image(tmp_path / "heart.nrrd").affine
    labels[1:3, 60:80, 80:100], labels[1:3, 60:80, 20:40] = 1, 2
    options = [str(tmp_path / "heart.nrrd"), "--model", "verse", "--weights", str(weights), "--initial-mask", str(start)]
    write_segmentation(start, labels, affine, [Segment.of("LV", 1), Segment.of("RV", 2)])
    for targets in ("RV", "RV,LV"):
        assert main(["segment", *options, "-o", str(out), "--target", targets]) == 0
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(out)))
        assert np.array_equal(written == 1, labels == 2)
        assert np.array_equal(written == 2, labels == 1) or targets == "RV"
    write_segmentation(start, labels, affine, [Segment("a", 1), Segment("b", 2)])
    assert main(["segment", *options, "-o", str(out), "--target", "RV,LV"]) == 1
    assert "has no segment that is one of RV, LV" in capsys.readouterr().err


def test_by_name_only_the_largest_part_of_a_chamber_counts_in_the_volume_and_a_scar_keeps_its_parts():
    def answers():
        logits = np.full((3, 20, 20), -1, np.float32)
        logits[:, 4:9, 4:9] = 1  # the chamber, on every slice
        logits[1, 12:19, 12:19] = 1  # larger on its slice, smaller in the volume
        return list(logits)

    for target, parts in (("LV", 1), ("scar", 2)):
        found = answers()
        drop_islands([Request(logits, (), None, target, (0, k)) for k, logits in enumerate(found)], found)
        assert all((logits[4:9, 4:9] > 0).all() for logits in found)
        assert (found[1][12:19, 12:19] > 0).all() == (parts == 2)


def test_where_nothing_was_measured_nothing_is_found_by_name(weights, heart):
    """An empty slice, and the padding around a tilted field of view, are no heart; a click there still counts."""
    image = heart[0].copy()
    image[1] = 0
    image[3, :, :60] = image[3].min()
    session = InteractiveSession(image, spacing=(8.0, 1.5, 1.5), model="verse", weights=weights, device="cpu", targets=THREE,
                                 mode="auto+click")
    session.predict()
    assert session.labels[[0, 2, 4]].any() and session.labels[3, :, 60:].any()
    assert not session.labels[1].any() and not session.labels[3, :, :60].any()
    session.add(Click((1, 70, 90), label="LV"))
    assert session.mask_of("LV")[1, 70, 90]


def test_an_empty_slice_or_a_broken_one_does_not_cost_the_others():
    """A structure goes on beyond a slice on which nothing was measured, not beyond one that is sure to show nothing; much that is
    found on one broken slice is not the structure."""
    def pieces(*slices):
        found = [np.full((60, 60), -3, np.float32) for _ in slices]
        for logits, (row, column, side) in zip(found, slices):
            logits[row:row + side, column:column + side] = 3 if side else NOWHERE
            if not side:
                logits[:] = NOWHERE if (row, column) == (0, 0) else 2 * NOWHERE
        drop_islands([Request(logits, (), None, "LV", (0, k)) for k, logits in enumerate(found)], found)
        return [int((logits > 0).sum()) for logits in found]

    assert pieces((5, 5, 8), (0, 0, 0), (5, 5, 8), (5, 5, 8)) == [64, 0, 64, 64]
    assert pieces((5, 5, 8), (9, 9, 0), (5, 5, 8), (5, 5, 8)) == [0, 0, 64, 64]
    assert pieces((5, 5, 8), (5, 5, 8), (5, 5, 8), (20, 20, 38)) == [64, 64, 64, 0]


def test_late_on_a_slice_an_answer_that_loses_the_mask_counts_around_the_click_alone():
    image = np.zeros((60, 60), np.float32)
    before = np.where(np.hypot(*(np.indices((60, 60)) - 30)) < 20, 5, -5).astype(np.float32)
    clicks = (*[Click((30, 20 + n)) for n in range(SETTLED - 1)], Click((30, 11), positive=False))

    def kept(answer, prompts):
        logits = answer.copy()
        keep_settled(logits, Request(image, prompts, before))
        return logits

    lost = np.full((60, 60), -5, np.float32)
    mended = kept(lost, clicks)
    assert mended[30, 11] < 0 and mended[30, 20] > 0 and (mended != before).sum() < 100, "the edge gives way where it was clicked"
    assert np.array_equal(kept(lost, clicks[1:]), lost), "earlier an answer may change everything"
    smaller = np.where(np.hypot(*(np.indices((60, 60)) - 30)) < 17, 5, -5).astype(np.float32)
    assert np.array_equal(kept(smaller, clicks), smaller), "what resembles the mask before is taken as it is"
    assert np.array_equal(kept(lost, (*clicks[:-1], Click((30, 30), positive=False))), lost), "the middle takes all of it away"


def test_a_session_keeps_a_nearly_right_mask_that_the_network_loses_late(session_of, heart, monkeypatch):
    session = session_of(targets=("LV",), mode="click")
    for n in range(SETTLED - 1):
        session.add(Click((2, 70, 86 + n)))
    session.set_mask(heart[1])
    nothing = np.full(session.shape[1:], -5, np.float32)
    monkeypatch.setattr(VerSePredictor, "by_clicks", lambda self, requests, *_: [nothing.copy() for _ in requests])
    edge = int(np.flatnonzero(heart[1][2, 70])[0])
    session.add(Click((2, 70, edge), positive=False))
    assert not session.mask[2, 70, edge]
    assert session.mask[2].sum() > 0.9 * heart[1][2].sum()
