"""Correcting a 3D label map with clicks: what holds whatever the network says, with one, two, five and twelve classes."""
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from shapes import ellipsoid

from InteractiveSegLib import Click, InteractiveSegError, InteractiveSession, Scribble
from InteractiveSegLib.inference.sliding import predict_volume
from InteractiveSegLib.models.tis.network import TISConfig, build, load
from InteractiveSegLib.models.tis.refinement import Refinement
from InteractiveSegLib.predictors import tis
from InteractiveSegLib.predictors.tis import labels_at

SHAPE = (16, 24, 20)


def names(count):
    return tuple(f"part {n}" for n in range(1, count + 1))


def a_network(count, seed=0, spacing=(1.0, 1.0, 1.0), **options):
    """A tiny network with weights that answer something, the same each time."""
    torch.manual_seed(seed)
    half = (2, 2, 2)
    network = build(TISConfig(names(count), spacing, (16, 16, 16), ((1, 1, 1), half, half), ((3, 3, 3),) * 3, (4, 8, 8), half,
                              width=8, heads=2, layers=2, **options))
    for head in (network.refinement.token_head, network.refinement.voxel_head):
        torch.nn.init.normal_(head.weight, std=3)
    return network.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Number of classes -> a file of weights."""
    folder = tmp_path_factory.mktemp("tis")
    paths = {count: folder / f"{count}.safetensors" for count in (1, 2, 5, 12)}
    for count, path in paths.items():
        save_file({k: v.contiguous() for k, v in a_network(count).state_dict().items()}, path)
    return paths


def a_start(count):
    """Labels 1 to count, side by side in an ellipsoid, and an image that shows them."""
    labels = ellipsoid(SHAPE, (8, 12, 10), (6, 9, 8)) * (1 + np.arange(SHAPE[1]) * count // SHAPE[1])[None, :, None]
    image = np.random.default_rng(0).normal(20 * labels, 4)
    return image.astype(np.float32), labels.astype(np.uint8)


def a_session(weights, count, **options):
    image, start = a_start(count)
    session = InteractiveSession(image, model="tis", weights=weights[count], targets=names(count), device="cpu", **options)
    session.set_labels(start)
    return session, start


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_a_click_of_each_class_changes_the_map_and_undo_brings_it_back(weights, count):
    session, start = a_session(weights, count)
    history = [start]
    for n, name in enumerate(names(count), start=1):
        place = (1, 1, n)
        session.add(Click(place, label=name))
        history.append(session.labels.copy())
        assert session.labels[place] == n
    assert session.labels.max() <= count
    for before in history[-2::-1]:
        session.undo()
        assert np.array_equal(session.labels, before)


def test_the_warm_up_corrects_once_and_changes_nothing(weights, monkeypatch):
    warm, cold = (a_session(weights, 2)[0] for _ in range(2))
    corrected, correct = [], Refinement.forward
    monkeypatch.setattr(Refinement, "forward", lambda *inputs: (corrected.append(1), correct(*inputs))[1])
    before = warm.labels.copy()
    warm.warm_up()
    assert corrected == [1] and np.array_equal(warm.labels, before)
    for session in (warm, cold):
        session.add(Click((1, 1, 1), label=names(2)[0]))
    assert np.array_equal(warm.labels, cold.labels)


def test_without_a_click_the_automatic_result_stays_as_it_is(weights):
    session, start = a_session(weights, 2)
    predictor = session._predictor()
    assert np.array_equal(predictor.refine(session.image, start, start, ()), start)
    session.predict()
    automatic = session.labels.copy()
    assert automatic.any()
    assert np.array_equal(predictor.refine(session.image, automatic, automatic, ()), automatic)


def test_a_class_that_no_click_names_or_lies_on_keeps_every_voxel(weights):
    session, start = a_session(weights, 5)
    update = session.add(Click((1, 1, 1), label="part 2"))
    assert np.count_nonzero(session.labels != start) > 1, "the network says something"
    for n in (1, 3, 4, 5):
        assert np.array_equal(session.labels == n, start == n)
    assert set(update.per_target) == {"part 2"}


def test_a_click_on_another_class_opens_it_for_change(weights):
    session, start = a_session(weights, 5)
    place = tuple(np.argwhere(start == 4)[0])
    session.add(Click(place, label="part 2"))
    changed = session.labels != start
    assert session.labels[place] == 2
    assert set(start[changed]) <= {0, 4, 2}
    assert set(session.labels[changed]) == {2}


@pytest.mark.parametrize("labels", [("part 1", "part 2"), ("part 2", "part 1"), ("part 1", "background")])
def test_of_two_clicks_on_one_place_the_later_counts(weights, labels):
    session, start = a_session(weights, 2)
    place = (8, 12, 10)
    shown = []
    for label in labels:
        session.add(Click(place, label=label))
        shown.append(session.labels.copy())
    alone, _ = a_session(weights, 2)
    alone.add(Click(place, label=labels[1]))
    assert session.mask_of(labels[1])[place] if labels[1] != "background" else session.labels[place] == 0
    same = (shown[0] == 0) & (start == 0)
    assert np.array_equal(session.labels[same], alone.labels[same]), "the network hears the later one alone"


def test_a_click_leaves_alone_what_earlier_clicks_made_of_other_classes(weights):
    session, _ = a_session(weights, 5)
    for n, place in ((2, (1, 1, 1)), (4, (14, 22, 18)), (1, (8, 20, 10))):
        before = session.labels.copy()
        under = before[place]
        session.add(Click(place, label=f"part {n}"))
        for other in {1, 2, 3, 4, 5} - {n, under}:
            assert np.array_equal(session.labels == other, before == other)


def test_a_click_given_twice_is_one_click(weights):
    session, _ = a_session(weights, 2)
    session.add(Click((8, 12, 10), label="part 2"))
    once = session.labels.copy()
    assert session.add(Click((8, 12, 10), label="part 2")).empty
    assert np.array_equal(session.labels, once)


@pytest.mark.parametrize("place", [(0, 0, 0), (15, 23, 19), (0, 12, 19)])
def test_clicks_on_the_rim_of_the_volume_count(weights, place):
    session, _ = a_session(weights, 2)
    session.add(Click(place, label="part 1"))
    assert session.labels[place] == 1


def test_a_negative_click_removes_and_never_adds(weights):
    session, start = a_session(weights, 2)
    session.add(Click((8, 8, 10), positive=False, label="part 1"))
    changed = session.labels != start
    assert session.labels[8, 8, 10] == 0
    assert set(start[changed]) == {1}
    assert set(session.labels[changed]) == {0}


def test_a_scribble_counts_on_each_voxel_that_it_names(weights):
    session, _ = a_session(weights, 2)
    stroke = np.zeros(SHAPE, bool)
    stroke[3, 4:16, 10] = True
    session.add(Scribble(stroke, label="part 2"))
    assert (session.labels[stroke] == 2).all()


def test_an_empty_start_needs_no_mask(weights):
    session, start = a_session(weights, 2)
    session.set_labels(np.zeros_like(start))
    session.add(Click((8, 12, 10), label="part 1"))
    assert session.labels[8, 12, 10] == 1


def test_targets_may_come_in_another_order_or_be_some_of_them(weights):
    image = a_start(2)[0]
    whole = InteractiveSession(image, model="tis", weights=weights[2], targets=names(2), device="cpu")
    turned = InteractiveSession(image, model="tis", weights=weights[2], targets=names(2)[::-1], device="cpu")
    part = InteractiveSession(image, model="tis", weights=weights[2], targets=("part 2",), device="cpu")
    for session in (whole, turned, part):
        session.predict()
    assert whole.mask_of("part 2").any()
    for name in names(2):
        assert np.array_equal(whole.mask_of(name), turned.mask_of(name))
    assert np.array_equal(whole.mask_of("part 2"), part.mask)


def test_a_volume_of_another_spacing_is_worked_on_at_the_networks(weights):
    image, start = (a.repeat(2, 0).repeat(2, 1)[..., ::2] for a in a_start(2))
    session = InteractiveSession(image, spacing=(0.5, 0.5, 2.0), model="tis", weights=weights[2], targets=names(2), device="cpu")
    session.set_labels(start)
    session.add(Click((1, 2, 1), label="part 1"))
    assert session.labels[1, 2, 1] == 1
    assert 1 < np.count_nonzero(session.labels != start) < start.size
    assert np.array_equal(session.labels == 2, start == 2)


@pytest.mark.parametrize("shape", [(20, 30, 24), (12, 10, 16), (10, 17, 12)])
@pytest.mark.parametrize("box", [np.s_[0:10, 0:15, 0:12], np.s_[2:9, 3:14, 1:8]])
def test_labels_come_back_at_the_place_where_they_were_found(shape, box):
    grid = (10, 15, 12)
    middles = [(np.arange(n) + 0.5) / n for n in grid]
    plane = np.add.outer(np.add.outer(middles[0], middles[1]), middles[2])[box] - 1.2
    logits = torch.from_numpy(np.stack([np.zeros_like(plane), plane])).float()
    place, labels = labels_at(logits, box, grid, shape)
    for part, cells, voxels, given in zip(place, grid, shape, box):
        assert abs(part.start / voxels - given.start / cells) <= 0.5 / voxels + 1e-9
        assert abs(part.stop / voxels - given.stop / cells) <= 0.5 / voxels + 1e-9
    wide = [(np.arange(n) + 0.5) / n for n in shape]
    truth = np.add.outer(np.add.outer(wide[0], wide[1]), wide[2])[place] - 1.2
    inner = (slice(1, -1),) * 3
    clear = np.abs(truth[inner]) > 1e-4
    assert np.array_equal(labels[inner][clear], (truth[inner] > 0)[clear])


def test_targets_that_no_weights_know_are_named_in_one_sentence():
    with pytest.raises(InteractiveSegError, match=r"spleen.*anterior, posterior.*left atrium"):
        InteractiveSession(np.zeros((8, 8, 8)), model="tis", targets=("spleen",)).predict()


@pytest.mark.parametrize("shape", [(1, 24, 20), (16, 24, 1)])
def test_a_lone_slice_is_refused_before_any_work(weights, shape):
    session = InteractiveSession(np.zeros(shape, np.float32), model="tis", targets=names(1), weights=weights[1])
    with pytest.raises(InteractiveSegError, match="needs volumes of 2 x 2 x 2 or more"):
        session.add(Click((0, 12, 0)))
    assert not session.prompts


def test_a_file_that_is_no_tis_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InteractiveSegError, match="holds no TIS"):
        load(tmp_path / "x.safetensors", "cpu")


@pytest.mark.parametrize("switch", ["click_encoding", "label_assignment"])
def test_the_parts_of_the_ablation_can_be_left_out(switch):
    features, start = torch.randn(4, 8, 8, 8), torch.zeros(8, 8, 8, dtype=torch.long)
    clicks = torch.tensor([[1, 2, 3], [6, 6, 6]]), torch.tensor([1, 2])
    without = a_network(2, **{switch: False})
    assert without.refinement(features, start, *clicks).shape == (3, 8, 8, 8)
    assert len(without.state_dict()) <= len(a_network(2).state_dict())


def test_a_large_crop_is_read_with_coarser_tokens_and_keeps_its_size(weights):
    from InteractiveSegLib.models.tis.prepare import CAP, token_stride

    assert token_stride((64, 64, 64), (1, 1, 1)) == (1, 1, 1)
    stride = token_stride((200, 300, 300), (2, 2, 2))
    assert np.prod(-(-np.array((200, 300, 300)) // stride)) <= CAP
    network = a_network(2)
    features, start = torch.randn(4, 9, 10, 11), torch.zeros(9, 10, 11, dtype=torch.long)
    clicks = torch.tensor([[8, 9, 10]]), torch.tensor([1])
    assert network.refinement(features, start, *clicks, stride=(4, 4, 4)).shape == (3, 9, 10, 11)


def test_a_volume_larger_than_a_window_is_read_whole_and_mirrored_on_demand():
    def network(x):
        ramp = torch.arange(x.shape[2], dtype=x.dtype)[:, None, None].expand(x.shape[2:])
        return torch.cat([x, ramp[None, None]], dim=1), 2 * x

    volume = torch.randn(1, 20, 12, 30)
    logits, features = predict_volume(network, volume, (8, 8, 8))
    assert torch.allclose(logits[:1], volume, atol=1e-5)
    assert torch.allclose(features, 2 * volume, atol=1e-5)
    mirrored, same = predict_volume(network, volume, (8, 8, 8), mirror=(0,))
    assert torch.allclose(mirrored[:1], volume, atol=1e-5), "flipped back"
    assert torch.allclose(mirrored[1], (logits[1] + logits[1].flip(0)) / 2, atol=1e-4)
    assert torch.allclose(same, features)


def test_the_mode_mirror_averages_over_the_axes_that_training_mirrored(tmp_path):
    image, _ = a_start(2)
    found = {}
    for mirror in ((), (2,)):
        path = tmp_path / f"{len(mirror)}.safetensors"
        save_file({k: v.contiguous() for k, v in a_network(2, mirror=mirror).state_dict().items()}, path)
        for mode in ("once", "mirror"):
            session = InteractiveSession(image, model="tis", weights=path, targets=names(2), device="cpu", mode=mode)
            session.predict()
            found[mirror, mode] = session.labels.copy()
    assert np.array_equal(found[(), "mirror"], found[(), "once"]), "nothing was mirrored in training"
    assert not np.array_equal(found[(2,), "mirror"], found[(2,), "once"])


@pytest.mark.parametrize("single, islands", [((), 2), ((True, False), 1), ((False, True), 1), ((True, True), 0)])
def test_islands_of_a_class_that_is_one_piece_are_no_result(monkeypatch, tmp_path, single, islands):
    def encoder(_network, volume, *_):  # finds class 1 at 1 and class 2 at 2
        values = volume[0].round()
        return torch.stack([(values == n).float() for n in range(3)]), torch.zeros(4, *values.shape)

    monkeypatch.setattr(tis, "predict_volume", encoder)
    monkeypatch.setattr(tis, "normalise", lambda image, clip: image)
    image = np.zeros((16, 16, 24), np.float32)
    for label, row in ((1, 0), (2, 8)):
        image[4:10, row:row + 6, 2:8] = label
        image[4:10, row:row + 3, 12:15] = label  # such as the other side's
        image[2, row, 22] = label
    path = tmp_path / "weights.safetensors"
    save_file({k: v.contiguous() for k, v in a_network(2, single=single).state_dict().items()}, path)
    session = InteractiveSession(image, model="tis", weights=path, targets=names(2), device="cpu")
    session.predict()
    wrong = image != session.labels
    assert (image[2, :, 22] > 0).sum() - wrong.sum() == islands, "what islands there are, stay"
    assert not wrong[:, :, :22].any()


def test_weights_that_say_less_of_themselves_than_new_ones_still_load(weights, tmp_path):
    state = load_file(weights[2])
    about = json.loads(bytes(state["about"].tolist()))
    del about["mirror"]
    state["about"] = torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8)
    save_file(state, tmp_path / "older.safetensors")
    network = load(tmp_path / "older.safetensors", "cpu")
    assert network.config.mirror == ()
    assert network.config.targets == names(2)
