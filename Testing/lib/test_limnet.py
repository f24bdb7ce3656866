"""LIM-Net's networks and memory are the published ones: same names and shapes, same numbers on the same weights."""
import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import DATA, drawn, published_state

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.models.limnet import ritm, xmem
from InteractiveSegLib.models.limnet.memory import Memory, MemoryConfig
from InteractiveSegLib.models.limnet.propagation import EncodedSlices, Tracker, encode, halved, propagate
from InteractiveSegLib.models.limnet.ritm import RITM, RITM_H18S, RITM_H32, RITMConfig, click_maps
from InteractiveSegLib.models.limnet.xmem import XMem, XMemConfig
from InteractiveSegLib.weights import load_strictly

RITM_SCALES = ((r"fuse_layers\..*\.1\.weight$", 0.3, 0.0), (r"branches\..*\.bn2\.weight$", 0.5, 0.0),
               (r"^maps_transform\.2\.weight$", 20.0, 0.0))
XMEM_SCALES = ((r"^key_proj\.key_proj\.weight$", 0.2, 0.0), (r"^decoder\.pred\.weight$", 0.4, 0.0),
               (r"^decoder\.pred\.bias$", 1.0, -1.8))
SMALL = XMemConfig(key=16, value=32, hidden=8, width=8, key_depths=(1, 1, 1), value_depths=(1, 1, 1))
RECORDED = {"t_min": 3, "t_max": 5, "prototypes": 64}


def smooth_rgb(name, height, width, grid=8):
    """The (3, height, width) image of that name in [0, 1]: a coarse random grid, bilinear, and white noise."""
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
    rows, columns = (np.maximum(0, 1 - np.abs(np.linspace(0, grid - 1, n)[:, None] - np.arange(grid))) for n in (height, width))
    coarse, noise = generator.uniform(0, 1, (3, grid, grid)), generator.standard_normal((3, height, width))
    return np.clip(rows @ coarse @ columns.T + 0.03 * noise, 0, 1)


def recorded_clip(name="xmem.clip", count=14, length=14, pace=2):
    """The first slices (3, 96, 128) in [0, 1] of a recorded clip: a window that moves over one image, with grain."""
    wide = smooth_rgb(name, 96, 128 + pace * length, grid=12).astype(np.float32)
    grain = [(0.02 * drawn(f"{name}.grain{t}", (3, 96, 128))).astype(np.float32) for t in range(count)]
    slices = [np.rint(255 * np.clip(wide[..., pace * t:pace * t + 128] + grain[t], 0, 1)) for t in range(count)]
    return torch.tensor(np.stack(slices) / 255, dtype=torch.float32)


def table(name):
    with (DATA / name).open() as file:
        return {row["key"]: row["shape"] for row in csv.DictReader(file, delimiter="\t")}


def names_and_shapes(network):
    return {key: "x".join(map(str, value.shape)) or "scalar" for key, value in network.state_dict().items()}


def with_rule_weights(network, keys, scales):
    load_strictly(network, {**network.state_dict(), **published_state(keys, scales)}, Path("published.pt"))
    return network.eval()


def close(found, recorded):
    np.testing.assert_allclose(np.asarray(found), recorded, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def published_xmem():
    return with_rule_weights(XMem(), "keys_xmem.tsv", XMEM_SCALES)


@pytest.fixture
def small_xmem():
    torch.manual_seed(0)
    return XMem(SMALL).eval()


@pytest.mark.parametrize(("network", "keys"), [
    (lambda: RITM(RITM_H32), "keys_ritm_h32.tsv"), (lambda: RITM(RITM_H18S), "keys_ritm_h18s.tsv"), (XMem, "keys_xmem.tsv"),
], ids=["RITM H32", "RITM H18s", "XMem"])
def test_names_and_shapes_are_the_published_ones(network, keys):
    with torch.device("meta"):
        assert names_and_shapes(network()) == table(keys)


def test_ritm_gives_the_published_networks_numbers():
    network = with_rule_weights(RITM(RITM_H18S), "keys_ritm_h18s.tsv", RITM_SCALES)
    recorded = np.load(DATA / "ritm_h18s.npz")
    image = torch.tensor(smooth_rgb("ritm.h18s.image", 192, 256), dtype=torch.float32)[None]
    y, x = np.ogrid[:192, :256]
    disk = (y - 100) ** 2 + (x - 120) ** 2 <= 45**2
    previous = np.clip(0.9 * disk + 0.03 * drawn("ritm.h18s.prev", (192, 256)), 0, 1)
    previous = torch.tensor(previous, dtype=torch.float32)[None, None]
    five, one = torch.from_numpy(recorded["points5"]), torch.from_numpy(recorded["points1"])
    with torch.inference_mode():
        logits, first = network(image, five, previous)
        close(logits[..., ::2, ::2], recorded["logits5"])
        close(first[..., ::4, ::4], recorded["first5"])
        close(network(image, one, torch.zeros_like(previous))[0][..., ::2, ::2], recorded["logits1"])
    maps = np.unpackbits(recorded["maps5"]).reshape(1, 2, 192, 256)
    np.testing.assert_array_equal(click_maps(five, 192, 256, radius=5), maps)


def test_a_grey_slice_is_the_same_as_three_equal_channels():
    torch.manual_seed(0)
    network = RITM(RITMConfig(width=4, context=8, modules=(1, 1, 1), depth=1, stem=8)).eval()
    grey, previous = torch.rand(1, 1, 32, 40), torch.zeros(1, 1, 32, 40)
    points = torch.tensor([[[10.0, 12, 0], [-1, -1, -1]]])
    with torch.inference_mode():
        close(network(grey, points, previous)[0], network(grey.expand(-1, 3, -1, -1), points, previous)[0])


@pytest.mark.parametrize(("family", "network"), [
    (ritm, lambda: RITM(RITMConfig(width=4, context=8, modules=(1, 2, 1), depth=2, stem=8))), (xmem, lambda: XMem(SMALL)),
], ids=["RITM", "XMem"])
def test_a_file_of_weights_tells_the_networks_shape(tmp_path, family, network):
    saved = network()
    torch.save({"state_dict": saved.state_dict()}, tmp_path / "own.pth")
    assert family.load(tmp_path / "own.pth", "cpu").config == saved.config
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InteractiveSegError, match=r"other\.pth holds no"):
        family.load(tmp_path / "other.pth", "cpu")


def run(network, images, masks, config, ends=False):
    """(probabilities of every slice, (working, long-term) cells after every slice, tracker)."""
    tracker, found, cells = Tracker(network, config, images.shape[2:]), [], []
    for index, image in enumerate(images):
        found.append(tracker.step(encode(network, image), masks.get(index), last=ends and index == len(images) - 1))
        memory = tracker.memory
        cells.append((len(memory.prompted) + len(memory.working or ()), len(memory.long or ())))
    return torch.stack(found), cells, tracker


def test_a_clip_gives_the_published_numbers_through_a_consolidation(published_xmem):
    recorded = np.load(DATA / "xmem_14frames.npz")
    given, config = {0: torch.from_numpy(recorded["mask"])}, MemoryConfig(every=3, **RECORDED)
    found, cells, tracker = run(published_xmem, recorded_clip(), given, config, ends=True)
    close(found[[0, 3, 7, 11, 13]][..., ::2, ::2], recorded["prob"])
    close(tracker.hidden, recorded["hidden"])
    assert cells == list(zip(recorded["work"], recorded["long"]))


def test_a_full_long_term_memory_forgets_what_the_published_one_forgets(published_xmem):
    recorded = np.load(DATA / "xmem_longterm.npz")
    given, config = {0: torch.from_numpy(recorded["mask"])}, MemoryConfig(every=1, long_limit=160, **RECORDED)
    clip = recorded_clip("xmem.longclip", count=12, length=32, pace=1)
    found, cells, _ = run(published_xmem, clip, given, config)
    close(found[[8, 9, 11]][..., ::2, ::2], recorded["prob"])
    assert cells == list(zip(recorded["work"], recorded["long"]))


def test_two_objects_on_slices_that_need_padding_give_the_published_numbers(published_xmem):
    recorded = np.load(DATA / "xmem_pad_2obj.npz")
    given, config = {0: torch.from_numpy(recorded["mask"])}, MemoryConfig(every=2, **RECORDED)
    found, _, _ = run(published_xmem, torch.from_numpy(recorded["frames"]) / 255, given, config)
    close(found[[0, 1, 3]][..., ::2, ::2], recorded["prob"])


def test_going_down_from_a_middle_slice_gives_the_published_numbers(published_xmem):
    recorded, images = np.load(DATA / "xmem_from6_backward.npz"), recorded_clip()
    given, config = {6: torch.from_numpy(recorded["mask"])}, MemoryConfig(every=3, **RECORDED)
    found = dict(propagate(published_xmem, lambda index, _: encode(published_xmem, images[index]), given, range(7), config))
    close(torch.stack([found[3], found[0]])[..., ::2, ::2], recorded["prob"])
    assert torch.equal(found[6], given[6])


def a_slice(height, width, objects=1):
    """Key, shrinkage, selection and value of a slice to remember."""
    return torch.randn(4, height, width), 1 + torch.rand(1, height, width), torch.rand(4, height, width), \
        torch.rand(objects, 8, height, width)


def test_a_crop_smaller_than_the_number_of_answers_is_read():
    torch.manual_seed(0)
    memory = Memory(MemoryConfig(top_k=30))
    key, shrinkage, selection, value = a_slice(1, 2)
    memory.write(key, shrinkage, selection, value, prompted=True)
    readout = memory.read(key, selection)
    assert readout.shape == value.shape
    assert (readout >= value.amin(dim=(2, 3), keepdim=True)).all()
    assert (readout <= value.amax(dim=(2, 3), keepdim=True)).all()


def test_a_place_that_was_seen_before_gets_what_was_remembered_there():
    torch.manual_seed(0)
    memory = Memory(MemoryConfig())
    _, shrinkage, _, value = a_slice(6, 8, objects=2)
    key = 50 * torch.randn(4, 6, 8)
    memory.write(key, shrinkage, torch.ones_like(key), value, prompted=True)
    close(memory.read(key, torch.ones_like(key)), value)


def test_the_memory_stays_within_its_limits_however_long_the_run():
    torch.manual_seed(0)
    config = MemoryConfig(t_min=2, t_max=4, prototypes=10, long_limit=35, top_k=3)
    memory = Memory(config)
    memory.write(*a_slice(3, 4), prompted=True)
    for _ in range(60):
        memory.write(*a_slice(3, 4), prompted=False)
        memory.read(torch.randn(4, 3, 4), torch.rand(4, 3, 4))
        assert len(memory.prompted) + len(memory.working) < config.t_max * 12
        assert memory.long is None or 0 < len(memory.long) <= config.long_limit
    assert len(memory.long) > config.prototypes


def test_prompted_slices_are_never_compressed():
    torch.manual_seed(0)
    memory = Memory(MemoryConfig(t_min=2, t_max=3, prototypes=4, long_limit=20))
    slices = [a_slice(3, 4) for _ in range(12)]
    for number, remembered in enumerate(slices):
        memory.write(*remembered, prompted=number in (0, 6))
    assert torch.equal(memory.prompted.key, torch.cat([slices[0][0], slices[6][0]], dim=1).flatten(1))
    assert len(memory.long) > 0


@pytest.mark.parametrize("odd", [{"t_min": 5, "t_max": 5}, {"top_k": 0}, {"prototypes": 10, "long_limit": 10}])
def test_a_memory_that_cannot_work_is_refused(odd):
    with pytest.raises(InteractiveSegError):
        MemoryConfig(**odd)


def carried(network, given, start, stop):
    torch.manual_seed(1)
    images = torch.rand(6, 1, 40, 36)
    return list(propagate(network, lambda index, _: encode(network, images[index]), given, range(start, stop), patience=99))


def a_mask(top=8):
    mask = torch.zeros(1, 40, 36)
    mask[:, top:top + 20, 8:28] = 1
    return mask


def test_one_mask_goes_up_and_then_down(small_xmem):
    found = carried(small_xmem, {2: a_mask()}, 0, 6)
    assert [index for index, _ in found] == [2, 3, 4, 5, 1, 0]
    assert torch.equal(found[0][1], a_mask())
    assert all(p.shape == (1, 40, 36) and p.min() >= 0 and p.max() <= 1 for _, p in found)


def test_between_two_masks_both_runs_count_by_distance(small_xmem):
    given = {1: a_mask(4), 5: a_mask(14)}
    both = carried(small_xmem, given, 1, 6)
    assert [index for index, _ in both] == [1, 2, 3, 4, 5, 4, 3, 2]
    up, down = dict(both[:5]), dict(carried(small_xmem, {5: given[5]}, 1, 6))
    assert torch.equal(up[1], given[1])
    assert torch.equal(up[5], given[5])
    close(dict(both[5:])[2], 0.75 * up[2] + 0.25 * down[2])
    close(dict(both[5:])[4], 0.25 * up[4] + 0.75 * down[4])


def test_a_stack_of_one_slice_is_its_mask(small_xmem):
    ((index, found),) = carried(small_xmem, {3: a_mask()}, 3, 4)
    assert index == 3
    assert torch.equal(found, a_mask())


def empty_from_now_on(network):
    """A network that sees no object on any slice."""
    network.decoder.pred.bias.data.fill_(-50)
    return network


def test_a_run_ends_where_the_object_ends_but_not_before_the_next_mask(small_xmem):
    given = {1: a_mask()[:, :32, :32], 9: a_mask()[:, :32, :32]}
    slices = EncodedSlices(empty_from_now_on(small_xmem), lambda index: torch.rand(1, 32, 32), limit=0)
    found = [index for index, _ in propagate(small_xmem, slices, given, range(100), patience=2)]
    assert found == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 8, 7, 6, 5, 4, 3, 2, 0]


def test_only_the_slices_that_are_due_are_encoded_and_none_of_them_twice(small_xmem):
    asked = []

    def image_of(index):
        asked.append(index)
        return torch.rand(1, 32, 32)

    slices = EncodedSlices(small_xmem, image_of, limit=10**7)
    for _ in range(2):
        run = propagate(small_xmem, slices, {4: a_mask()[:, :32, :32]}, range(2, 100))
        assert [next(run)[0], next(run)[0]] == [4, 5]
    assert asked == [4, 5]


def test_no_more_encoded_slices_are_kept_than_the_limit_allows(small_xmem):
    one = halved(encode(small_xmem, torch.rand(1, 32, 32)), torch.float16).nbytes
    slices = EncodedSlices(small_xmem, lambda index: torch.rand(1, 32, 32), limit=2 * one)
    for index in (0, 1, 2, 3):
        slices(index)
    assert sorted(slices.kept) == [0, 1]
    assert slices.nbytes == 2 * one < 0.6 * 2 * encode(small_xmem, torch.rand(1, 32, 32)).nbytes


def test_slices_encoded_together_are_those_encoded_alone_and_the_same_in_every_round(small_xmem):
    images = torch.rand(5, 1, 32, 32)
    alone = EncodedSlices(small_xmem, images.__getitem__, limit=10**7)
    together = EncodedSlices(small_xmem, images.__getitem__, limit=10**7, batch=3)
    for _ in range(2):
        for index in range(5):
            one, other = alone(index), together(index, range(index + 1, 5))
            for name in ("key", "f16", "skip4"):
                close(getattr(other, name), getattr(one, name))
    assert sorted(together.kept) == [0, 1, 2, 3, 4] and not together.ahead
    first = alone(2).skip4.clone()
    assert torch.equal(alone(2).skip4, first)


def test_half_precision_changes_little(small_xmem):
    images = torch.rand(4, 1, 32, 32)
    runs = []
    for precision in (None, torch.bfloat16):
        slices = EncodedSlices(small_xmem, images.__getitem__, 10**7, precision)
        run = propagate(small_xmem, slices, {0: a_mask()[:, :32, :32]}, range(4), patience=9, precision=precision)
        runs.append(torch.stack([found for _, found in run]))
    assert runs[1].dtype == torch.float32
    assert (runs[0] - runs[1]).abs().max() < 0.05


@pytest.mark.parametrize("given", [{}, {0: a_mask()}, {4: a_mask()}, {1: a_mask(), 3: a_mask().expand(2, -1, -1)}],
                         ids=["none", "below", "above", "one and two objects"])
def test_masks_that_cannot_be_carried_are_refused(small_xmem, given):
    with pytest.raises(InteractiveSegError):
        carried(small_xmem, given, 1, 4)


def test_the_hidden_state_begins_anew_where_a_mask_is_given(small_xmem):
    slices = [encode(small_xmem, torch.rand(1, 32, 32)) for _ in range(4)]
    mask = a_mask()[:, :32, :32]
    run, fresh = (Tracker(small_xmem, MemoryConfig(), (32, 32)) for _ in range(2))
    run.step(slices[0], mask)
    run.step(slices[1])
    run.step(slices[2], mask)
    fresh.step(slices[2], mask)
    assert torch.equal(run.hidden, fresh.hidden)


def test_a_run_starts_with_a_mask(small_xmem):
    with pytest.raises(InteractiveSegError, match="starts at a slice with a mask"):
        Tracker(small_xmem, MemoryConfig(), (32, 32)).step(encode(small_xmem, torch.rand(1, 32, 32)))
