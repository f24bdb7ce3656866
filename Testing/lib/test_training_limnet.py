"""Training LIM-Net's three networks: what they are shown, and that a tiny one learns from it. Generated data."""
import json

import numpy as np
import pytest
import torch
from brightness import see_brightness
from shapes import ellipsoid

from InteractiveSegLib.cli import main
from InteractiveSegLib.models.limnet import quality, ritm, xmem
from InteractiveSegLib.training import round_pairs
from InteractiveSegLib.training.bundle import Case, DataSet, read_bundle, write_bundle
from InteractiveSegLib.training.clips import Clips, painted_clip, picture_clip, reflected, start_mask, volume_clip
from InteractiveSegLib.training.loop import Trainer
from InteractiveSegLib.training.recipes.limnet_click import LIMNetClickRecipe, as_points, first_clicks, next_clicks
from InteractiveSegLib.training.recipes.limnet_fusion import LIMNetFusionRecipe
from InteractiveSegLib.training.recipes.limnet_memory import LIMNetMemoryRecipe, read
from InteractiveSegLib.training.round_pairs import RoundPairs
from InteractiveSegLib.training.tasks import SliceRef

EGG = ellipsoid((24, 40, 36), (12, 20, 18), (8, 12, 9))
DISK = ellipsoid((64, 64), (30, 34), (14, 10))


def picture_of(mask):
    noise = np.random.default_rng(0).normal(0, 4, mask.shape)
    return np.clip(60 + 120 * mask + noise, 0, 255).astype(np.uint8)


def sets():
    egg = Case(picture_of(EGG), 2 * EGG.astype(np.uint8), "a", (1.0, 1.0, 1.0))
    disk = Case(picture_of(DISK), DISK.astype(np.uint8), "b", (1.0, 1.0))
    return [DataSet("3d_egg", {2: "egg"}, "CC0", "MR", [egg]), DataSet("2d_disk", {1: "disk"}, "CC0", "photo", [disk])]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "train.bundle"
    write_bundle(iter(sets()), path)
    return path


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_clip_of_a_volume_follows_the_object_until_it_ends(axis):
    ends = []
    for seed in range(12):
        index = EGG.shape[axis] // 2
        images, masks = volume_clip(SliceRef(sets()[0].cases[0], axis, index, 0), [2], np.random.default_rng(seed), 48, 6)
        assert images.shape == masks.shape == (6, 48, 48)
        assert masks[0].any()
        assert images[masks].mean() > images[~masks].mean() + 0.3
        ends.append(not masks[-1].any())
    assert any(ends)
    assert not all(ends)


def test_clips_turn_back_at_the_ends_of_a_volume():
    assert reflected(np.arange(-2, 8), 5).tolist() == [2, 1, 0, 1, 2, 3, 4, 3, 2, 1]
    assert reflected(np.arange(3), 1).tolist() == [0, 0, 0]
    assert reflected(np.arange(4), 2).tolist() == [0, 1, 0, 1]


def test_a_picture_becomes_a_clip_in_which_its_object_moves_and_may_vanish():
    case = sets()[1].cases[0]
    areas = []
    for seed in range(20):
        images, masks = picture_clip(case.image, DISK, (1.0, 1.0), np.random.default_rng(seed), 48, 6)
        seen = masks.any(axis=(1, 2))
        assert images[masks].mean() > images[~masks].mean() + 0.3
        assert not seen[np.flatnonzero(~seen)[:1].tolist() or slice(0, 0)].any(), "what vanished stays away"
        areas.append([mask.sum() for mask in masks])
    areas = np.array(areas)
    assert (areas[:, -1] == 0).any()
    assert (areas[:, -1] > 0).any()
    assert (np.diff(areas, axis=1) != 0).any(axis=1).all()


def test_a_painted_object_is_one_connected_region():
    from scipy import ndimage

    for seed in range(8):
        images, masks = painted_clip(np.random.default_rng(seed), 48, 6)
        assert ndimage.label(masks)[1] == 1
        assert masks[0].any()
        assert 0 <= images.min() <= images.max() <= 1


def test_clips_start_with_the_object_and_most_with_a_good_mask():
    clips, rng = Clips(sets()), np.random.default_rng(0)
    starts = []
    for _ in range(30):
        images, masks = clips.draw(rng, 32, 4)
        assert images.shape == masks.shape == (4, 32, 32)
        start = start_mask(masks[0], rng)
        assert start.any()
        starts.append((start == masks[0]).all())
    assert 0.3 < np.mean(starts) < 0.9


def test_training_reads_the_memory_as_inference_does():
    from InteractiveSegLib.models.limnet.memory import Memory, MemoryConfig

    torch.manual_seed(0)
    network = xmem.XMem(xmem.XMemConfig(key=8, value=16, hidden=8, width=4)).eval()
    with torch.inference_mode():
        first, second = (network.encode_key(network.normalise(torch.rand(1, 1, 64, 64))) for _ in range(2))
        value, _ = network.encode_value(first, torch.zeros(1, 1, 8, 4, 4), (torch.rand(1, 1, 64, 64) > 0.5).float())
        memory = Memory(MemoryConfig(top_k=16))
        memory.write(first.key[0], first.shrinkage[0], first.selection[0], value[0], prompted=True)
        expected = memory.read(second.key[0], second.selection[0])
        assert torch.allclose(read([first], [value], second)[0], expected, atol=1e-5)


def test_the_memory_network_learns_to_follow_one_object_and_ignores_others(bundle, tmp_path):
    recipe = LIMNetMemoryRecipe(bundle, key=8, value=16, hidden=8, width=4, key_depths=(1, 1, 1), value_depths=(1, 1, 1), size=48,
                                small=32, length=3, short=3, batch=4, learning_rate=3e-3, warmup_steps=5, ema_decay=0.9)
    trainer = Trainer(recipe, tmp_path)
    first = trainer.figures
    trainer.train(steps=5, workers=0)
    first = dict(trainer.figures)
    trainer.progress = 0.0
    trainer.train(steps=25, workers=0)
    assert trainer.figures["loss"] < first["loss"]
    weights = trainer.model.value_encoder.conv1.weight
    assert not weights[:, 4].any(), "other objects' masks are never seen in training and must not disturb"
    assert weights[:, 3].any()


def test_first_and_next_clicks_tell_the_truth():
    mask = np.roll(DISK, 8, axis=0)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        for row, column, positive in first_clicks(DISK, rng):
            assert DISK[row, column] == positive
        clicks = next_clicks(DISK, mask, rng)
        assert clicks
        for row, column, positive in clicks:
            assert DISK[row, column] == positive != mask[row, column]
    assert next_clicks(DISK, DISK, np.random.default_rng(0)) == []


def test_clicks_reach_the_network_as_disks_where_they_were_made():
    points = as_points([[(10, 20, True), (30, 5, False), (12, 22, True)], [(3, 4, False)]])
    assert points.shape == (2, 4, 3)
    maps = ritm.click_maps(points, 40, 40, radius=0)
    assert maps[0, 0].nonzero().tolist() == [[10, 20], [12, 22]]
    assert maps[0, 1].nonzero().tolist() == [[30, 5]]
    assert not maps[1, 0].any()
    assert maps[1, 1].nonzero().tolist() == [[3, 4]]


def test_the_click_network_learns_and_loads_with_the_shape_it_was_trained_in(bundle, tmp_path):
    recipe = LIMNetClickRecipe(bundle, width=4, context=8, modules=(1, 1, 1), depth=1, stem=8, size=48, small=32, batch=4,
                               learning_rate=3e-3, warmup_steps=5, ema_decay=0.9)
    trainer = Trainer(recipe, tmp_path)
    trainer.train(steps=8, workers=0)
    first = dict(trainer.figures)
    trainer.progress = 0.0
    trainer.train(steps=32, workers=0)
    assert trainer.figures["loss"] < first["loss"]
    path = tmp_path / "click.pt"
    torch.save(trainer.model.state_dict(), path)
    assert ritm.load(path, "cpu").config == trainer.model.config


def test_pairs_are_masks_of_two_rounds_and_know_which_is_better(monkeypatch):
    see_brightness(monkeypatch)
    monkeypatch.setattr(round_pairs, "MODELS", ("scribbleprompt",))
    source = RoundPairs(sets(), np.random.default_rng(0))
    pairs = [pair for _ in range(8) for pair in source.more()]
    assert len(pairs) > 10
    for pair in pairs:
        image, previous, current = pair.seen.astype(np.float32) / 255
        wrong = [np.mean((mask > 0.5) != (image > 0.5)) for mask in (previous, current)]  # the object is what is bright
        if abs(pair.gain) > 0.1:
            assert (wrong[0] < wrong[1]) == (pair.gain > 0)
    assert {pair.gain > 0 for pair in pairs} == {True, False}, "the newer mask is not always the better one"


def test_a_long_volume_is_cut_to_a_part_that_shows_the_object():
    truth = np.zeros((80, 20, 20), np.uint8)
    truth[30:75, 5:9, 5:9] = 3
    for seed in range(20):
        case = Case(truth * 50, truth, "a", (3.0, 1.0, 1.0))
        image, shown, spacing = round_pairs.slab(case, 3, np.random.default_rng(seed))
        assert len(image) == len(shown) == round_pairs.MOST_SLICES and spacing == (3.0, 1.0, 1.0)
        assert shown.any() and np.array_equal(image == 150, shown)


def test_the_quality_network_learns_from_what_the_other_networks_got_wrong(bundle, tmp_path, monkeypatch):
    torch.manual_seed(0)
    see_brightness(monkeypatch)
    monkeypatch.setattr(round_pairs, "MODELS", ("scribbleprompt",))
    monkeypatch.setattr(round_pairs, "FEWEST", 20)
    recipe = LIMNetFusionRecipe(bundle, width=4, depths=(1, 1, 1, 1), batch=16, learning_rate=3e-3, warmup_steps=5)
    trainer = Trainer(recipe, tmp_path)
    trainer.train(steps=90, workers=0)
    assert trainer.figures["right"] > 0.6
    path = tmp_path / "quality.pt"
    torch.save(trainer.model.state_dict(), path)
    assert quality.load(path, "cpu").config == trainer.model.config


@pytest.mark.parametrize("config", [quality.RESNET18, quality.RESNET50, quality.QualityConfig(8, (1, 2, 1, 1))])
def test_the_quality_network_is_the_resnet_of_that_depth(config, tmp_path):
    network = quality.QualityNetwork(config)
    counted = {quality.RESNET18: 11_177_025, quality.RESNET50: 23_510_081}
    assert sum(p.numel() for p in network.parameters()) == counted.get(config, sum(p.numel() for p in network.parameters()))
    assert quality.config_of(network.state_dict(), tmp_path) == config


def test_the_quality_network_looks_around_both_masks_wherever_they_lie():
    image, previous, current = torch.zeros(2, 60, 100), torch.zeros(2, 60, 100), torch.zeros(2, 60, 100)
    previous[0, 10:20, 70:80] = current[0, 10:20, 80:90] = 1
    image[0, 10:20, 70:90] = 1
    seen = quality.views(image, previous.bool(), current.bool())
    assert seen.shape == (2, 3, quality.VIEW, quality.VIEW)
    assert torch.allclose(seen[0, 0], seen[0, 1] + seen[0, 2], atol=1e-4)
    columns = seen[0, 0].amax(dim=0).nonzero()
    assert quality.VIEW / quality.MARGIN * 0.95 < columns.max() - columns.min() + 1 < quality.VIEW / quality.MARGIN * 1.08
    assert abs((columns.max() + columns.min()) / 2 - quality.VIEW / 2) < 1.5
    batch = quality.QualityNetwork(quality.QualityConfig(4, (1, 1, 1, 1))).eval()
    both = batch.previous_better(image, previous.bool(), current.bool())
    assert torch.allclose(both[:1], batch.previous_better(image[:1], previous[:1].bool(), current[:1].bool()), atol=1e-6)
    assert ((both > 0) & (both < 1)).all()


def test_a_single_pack_of_another_folder_joins_the_bundle_and_its_unnamed_labels_are_objects_of_clips(bundle, tmp_path):
    for folder, key in (("train", "a"), ("more", "b")):
        (tmp_path / folder).mkdir()
        index = json.dumps([{"key": key, "subject": key, "spacing_zyx_mm": [1.0, 1.0, 1.0]}])
        np.savez(tmp_path / folder / f"3d_{key}.npz", index=index, labels=json.dumps({"0": "see the source"}),
                 **{f"img_{key}": picture_of(EGG), f"lab_{key}": 7 * EGG.astype(np.uint8)})
    path = tmp_path / "two.bundle"
    assert main(["data", "pack", str(tmp_path / "train"), str(tmp_path / "more" / "3d_b.npz"), "-o", str(path)]) == 0
    packed = read_bundle(path)
    assert [dataset.name for dataset in packed] == ["3d_a", "3d_b"]
    assert [list(table) for tables in Clips([*packed, *read_bundle(bundle)]).volumes for table in tables] == [[7], [7], [2]]


@pytest.mark.parametrize("sheet", ["defects", "clips"])
def test_the_command_draws_what_training_shows(sheet, bundle, tmp_path):
    path = tmp_path / "sheet.png"
    assert main(["data", sheet, "--bundle", str(bundle), "-o", str(path), "--columns", "2"]) == 0
    from PIL import Image

    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    green = (picture[..., 1] > 200) & (picture[..., 0] < 80)
    assert green.sum() > 500
    assert main(["data", sheet, "--bundle", str(bundle), "-o", str(tmp_path / "no" / "x.png"), "--columns", "2"]) != 0
