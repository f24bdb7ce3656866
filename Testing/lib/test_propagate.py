"""One slice becomes the volume: what is carried, what stays, where it ends, and what is refused."""
import numpy as np
import pytest
import torch
from brightness import bright, see_brightness
from shapes import ellipsoid, overlap

from InteractiveSegLib import Click, InteractiveSegError, InteractiveSession, appearance
from InteractiveSegLib.appearance import Appearance, SliceGuide
from InteractiveSegLib.interpolation import Between
from InteractiveSegLib.models.limnet.propagation import Drawn
from InteractiveSegLib.plan import Plan
from InteractiveSegLib.propagation import Propagator

SHAPE = (14, 60, 72)
BALL = ellipsoid(SHAPE, (7, 28, 40), (4.5, 14, 14))


@pytest.fixture
def networks(monkeypatch):
    return see_brightness(monkeypatch)


def a_session(truth=BALL, slices=(7,), axis=0, **options):
    """A session on an image that shows the truth, with the right mask on some slices."""
    session = InteractiveSession(bright(truth), axis=axis, **options)
    drawn = np.zeros(truth.shape, np.uint8)
    where = (slice(None),) * axis + (list(slices),)
    drawn[where] = truth[where]
    session.set_labels(drawn)
    return session


def carried(session, **options):
    """The Progress of a whole propagation."""
    return list(session.propagate(**options))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_slice_becomes_the_object_along_any_axis(networks, axis):
    middle = (7, 28, 40)[axis]
    session = a_session(slices=(middle,), axis=axis)
    steps = carried(session)
    assert overlap(session.mask, BALL) > 0.95
    kept = (slice(None),) * axis + (middle,)
    assert np.array_equal(session.mask[kept], BALL[kept])
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert all(step.done <= step.total for step in steps)
    shown = {step.index: step.labels for step in steps}
    assert np.array_equal(shown[middle - 2], np.moveaxis(session.labels, axis, 0)[middle - 2])


def test_a_whole_propagation_is_one_step_of_undo(networks):
    session = a_session()
    before = session.labels.copy()
    carried(session)
    after = session.labels.copy()
    assert session.rounds.count == 1
    session.undo()
    assert np.array_equal(session.labels, before) and session.rounds is None
    session.redo()
    assert np.array_equal(session.labels, after) and session.rounds.count == 1


def test_a_propagation_that_is_closed_early_changes_nothing(networks):
    session = a_session()
    before = session.labels.copy()
    run = session.propagate()
    for _ in range(4):
        next(run)
    run.close()
    assert np.array_equal(session.labels, before) and session.rounds is None
    session.undo()
    assert not session.mask.any(), "the last step is still the mask that was drawn"


def test_a_session_that_changed_meanwhile_is_not_overwritten(networks):
    session = a_session()
    run = session.propagate()
    next(run)
    session.set_mask(np.zeros(SHAPE, bool))
    with pytest.raises(InteractiveSegError, match="propagate again"):
        list(run)
    assert not session.mask.any()


def test_every_drawn_slice_stays_as_it_was_drawn(networks):
    odd = BALL.copy()
    odd[5, 25:30, 10:15] = True  # a part that no network would find
    odd[9, 28:40] = False
    session = InteractiveSession(bright(BALL))
    drawn = np.zeros(SHAPE, bool)
    drawn[[5, 9]] = odd[[5, 9]]
    session.set_mask(drawn)
    carried(session)
    assert np.array_equal(session.mask[[5, 9]], odd[[5, 9]])
    assert overlap(session.mask[[6, 7, 8]], BALL[[6, 7, 8]]) > 0.8


def test_between_two_masks_their_shape_speaks_where_the_network_sees_nothing(networks):
    truth = np.repeat(BALL[7:8], 12, axis=0)
    image = bright(truth)
    image[4:9] = 50  # the object cannot be seen on these slices
    session = InteractiveSession(image)
    drawn = np.zeros(truth.shape, bool)
    drawn[[3, 9]] = truth[[3, 9]]
    session.set_mask(drawn)
    carried(session)
    assert all(overlap(session.mask[k], BALL[7]) > 0.75 for k in range(12))


def test_shapes_are_interpolated_by_nearness_and_only_between_slices_that_show_them():
    masks = {k: ellipsoid((1, 40, 40), (0, 20, 20), (1, r, r)) for k, r in ((2, 4), (6, 12))}
    between = Between({**masks, 8: np.zeros((1, 40, 40), bool)})
    assert [round(float(np.sqrt((between.distances(k) > 0).sum() / np.pi))) for k in (3, 4, 5)] == [6, 8, 10]
    assert between.distances(1) is None and not between.distances(7).any() and between.distances(9) is None


@pytest.mark.parametrize("region", [None, (10.0, 20.0, 42.0, 52.0), (-8.0, -8.0, 30.0, 30.0)])
def test_what_is_seen_comes_to_its_place_on_the_slice(networks, region):
    carrier = Propagator(bright(BALL), 0, (1.0, 1.0, 1.0), Plan("cpu"))
    carrier.look(region)
    side = carrier.canvas.size
    rows, columns = np.ogrid[:side, :side]
    middles = (side / 3, side / 2), (0, 0)
    seen = np.stack([1 / (1 + np.exp((np.hypot(rows - r, columns - c) - side / 8) * 2)) for r, c in middles])
    whole = np.stack([carrier.canvas.expand(x) for x in seen])
    found = carrier.expanded(torch.from_numpy(seen.astype(np.float32)), None) / 255
    assert np.abs(found - whole).max() < 0.06, "only what is faint is left out"
    assert np.array_equal(found > 0.5, whole > 0.5)
    assert not carrier.expanded(torch.zeros(2, side, side), None).any()


def test_a_run_ends_where_the_object_ends(networks):
    truth = ellipsoid((60, 40, 40), (10, 20, 20), (4.5, 9, 9))
    truth |= ellipsoid((60, 40, 40), (40, 20, 20), (4.5, 9, 9))  # another one, far away
    session = a_session(truth, slices=(10,))
    steps = carried(session)
    assert overlap(session.mask[:20], truth[:20]) > 0.9
    assert not session.mask[20:].any()
    assert max(step.index for step in steps) < 20, "the slices after it are not even looked at"


@pytest.mark.parametrize(("empty", "reached"), [(10, range(14)[:10]), (4, range(14)[5:])])
def test_a_slice_said_to_be_empty_ends_the_run_and_takes_nothing_from_the_others(networks, empty, reached):
    propagator = Propagator(bright(BALL), 0, (1, 1, 1), Plan(), patience=99)
    found = {}
    known = {7: BALL[None, 7], empty: np.zeros_like(BALL[None, 0])}
    assert set(propagator.carry(known, range(14), found)) == set(reached)
    beside = empty + (1 if empty < 7 else -1)
    assert overlap(found[beside][0] > 127, BALL[beside]) > 0.95


def test_an_object_that_splits_in_two_is_followed_into_both_parts(networks):
    truth = ellipsoid((16, 60, 72), (3, 30, 36), (4, 8, 20))
    for column in (20, 52):
        truth |= ellipsoid((16, 60, 72), (9, 30, column), (5, 7, 7))
    session = a_session(truth, slices=(3,))
    carried(session)
    assert overlap(session.mask, truth) > 0.92
    assert session.mask[11, 30, 20] and session.mask[11, 30, 52] and not session.mask[11, 30, 36]


def test_an_object_at_the_images_edge_is_whole(networks):
    truth = ellipsoid((10, 48, 48), (5, 2, 44), (4.5, 14, 14))
    session = a_session(truth, slices=(5,))
    carried(session)
    assert overlap(session.mask, truth) > 0.95 and session.mask[5, 0, 47]


def test_an_object_that_outgrows_what_was_looked_at_is_whole(networks):
    truth = np.zeros((12, 200, 200), bool)
    for k in range(12):
        truth[k] = ellipsoid((200, 200), (100, 100), (10 + 4 * k, 10 + 4 * k))
    session = a_session(truth, slices=(0,))
    carried(session)
    assert overlap(session.mask, truth) > 0.95


def test_repeated_slices_get_the_same_mask(networks):
    truth = np.repeat(BALL, 2, axis=0)
    session = InteractiveSession(np.repeat(bright(BALL), 2, axis=0))
    drawn = np.zeros(truth.shape, bool)
    drawn[14] = truth[14]
    session.set_mask(drawn)
    carried(session)
    assert overlap(session.mask, truth) > 0.95
    assert np.array_equal(session.mask[10], session.mask[11])


@pytest.mark.parametrize("count", [1, 2])
def test_the_shortest_volumes_are_right(networks, count):
    session = a_session(BALL[7:7 + count], slices=(0,))
    carried(session)
    assert overlap(session.mask, BALL[7:7 + count]) > 0.95
    assert session.rounds.source.tolist() == [[1] * count]


@pytest.mark.parametrize("extent", [(6, 9), 1])
def test_an_extent_bounds_what_is_filled(networks, extent):
    session = a_session()
    steps = carried(session, extent=extent)
    assert {step.index for step in steps} == {6, 7, 8}
    assert session.mask[6:9].any(axis=(1, 2)).all() and not session.mask[:6].any() and not session.mask[9:].any()


def test_two_targets_are_carried_each_from_its_own_slices_and_exclude_each_other(networks):
    truth = BALL.astype(np.uint8)
    truth[ellipsoid(SHAPE, (7, 28, 24), (4.5, 9, 9))] = 2
    session = InteractiveSession(bright(truth), targets=("ball", "bump"))
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[7], drawn[5][truth[5] == 2] = truth[7], 2
    session.set_labels(drawn)
    carried(session)
    for label, name in ((1, "ball"), (2, "bump")):
        assert overlap(session.mask_of(name), truth == label) > 0.9, name
    assert np.array_equal(session.labels[7], truth[7])
    assert np.array_equal(session.mask_of("bump")[5], truth[5] == 2)


def test_only_the_slice_that_was_asked_for_is_carried_and_other_drawn_slices_stay(networks):
    session = a_session(slices=(4, 8))
    wrong = session.mask.copy()
    wrong[4] = np.roll(BALL[4], 10, axis=1)
    session.set_mask(wrong)
    carried(session, from_slice=8)
    assert np.array_equal(session.mask[4], wrong[4])
    assert overlap(session.mask[5:11], BALL[5:11]) > 0.95


def test_a_slice_that_starts_a_run_stays_as_it_is_though_nobody_spoke_to_it(networks):
    session = InteractiveSession(bright(BALL))
    session.add(Click((4, 28, 40)))
    session.set_mask(session.mask | (np.roll(BALL, 3, axis=2) & (np.indices(SHAPE)[0] == 8)))
    before = session.mask[8].copy()
    carried(session, from_slice=8)
    assert np.array_equal(session.mask[8], before)


def test_a_prompt_s_mask_is_carried_after_any_family_of_slices(networks):
    session = InteractiveSession(bright(BALL), model="scribbleprompt")
    session.add(Click((7, 28, 40)))
    alone = session.mask[7].copy()
    carried(session)
    assert np.array_equal(session.mask[7], alone)
    assert overlap(session.mask, BALL) > 0.85


def test_a_second_round_encodes_no_slice_again(networks):
    session = a_session()
    carried(session)
    once = networks[0].encoded
    session.set_mask(session.mask & (np.indices(SHAPE)[0] != 9) | (BALL & (np.indices(SHAPE)[0] == 9)))
    carried(session)
    assert session.rounds.count == 2 and once <= 14 and networks[0].encoded == once


def test_the_encoded_slices_stay_within_the_limit(networks):
    propagator = Propagator(bright(BALL), 0, (1, 1, 1), Plan(kept=100_000))
    found = {}
    list(propagator.carry({7: BALL[None, 7]}, range(14), found))
    assert 0 < propagator.slices.nbytes <= 100_000
    assert len(propagator.slices.kept) < len(found)
    assert overlap(np.stack([found[k][0] > 127 for k in range(3, 12)]), BALL[3:12]) > 0.95


@pytest.mark.parametrize(("options", "sentence"), [
    ({"from_slice": 3}, "no mask on slice 3"),
    ({"from_slice": 99}, "slices 0 to 13"),
    ({"extent": (8, 14)}, "holds them all"),
    ({"extent": (5, 20)}, "holds them all"),
    ({"axis": "up"}, "axis 'up'"),
])
def test_what_cannot_be_carried_is_refused_in_one_sentence(networks, options, sentence):
    with pytest.raises(InteractiveSegError, match=sentence):
        carried(a_session(), **options)


def test_an_empty_session_and_a_picture_are_refused(networks):
    with pytest.raises(InteractiveSegError, match="segment the object on one slice first"):
        carried(InteractiveSession(bright(BALL)))
    with pytest.raises(InteractiveSegError, match="no other slices"):
        carried(InteractiveSession(bright(BALL)[7]))


def test_the_shipped_memory_follows_a_ball_and_stops_where_it_ends():
    session = a_session()
    carried(session)
    assert overlap(session.mask, BALL) > 0.85
    shown = np.flatnonzero(session.mask.any(axis=(1, 2)))
    assert set(shown) <= set(np.flatnonzero(BALL.any(axis=(1, 2))))


def test_what_looks_like_the_surroundings_is_not_the_object_any_more():
    disc = torch.from_numpy(BALL[7])
    image = torch.where(disc, 0.8, 0.3) + 0.01 * torch.randn(disc.shape, generator=torch.manual_seed(0))
    look = Appearance(image[None], disc[None])
    seen = look.ratios(image)
    assert look.likeness(seen, disc) == pytest.approx(1, abs=1e-4)
    beside = disc.roll(30, dims=1)
    assert look.likeness(seen, beside) < 0
    assert look.likeness(seen, torch.zeros_like(disc)) == 1
    flat = Appearance(torch.rand(1, *disc.shape, generator=torch.manual_seed(1)), disc[None])
    assert flat.likeness(flat.ratios(image), beside) == 1, "an object as bright as its surroundings cannot be told apart"


def test_a_carried_mask_follows_the_slice_before_and_the_brightness_and_not_the_network_alone():
    disc = torch.from_numpy(BALL[7])
    image = torch.where(disc, 0.8, 0.3)
    guide = SliceGuide({7: image}, {7: disc[None].float()})
    unsure = torch.full((1, *disc.shape), 0.5)
    before = Drawn(7, image, disc[None].float())
    moved_image, moved_disc = image.roll((3, -4), dims=(0, 1)), np.roll(BALL[7], (3, -4), (0, 1))
    found = guide.weigh(Drawn(8, moved_image, unsure), before)
    assert overlap((found > 0.5)[0].numpy(), moved_disc) > 0.95, "the structure moved, and its mask with it"
    dull = SliceGuide({7: torch.ones_like(image)}, {7: disc[None].float()})  # its brightness tells nothing: motion alone
    found = dull.weigh(Drawn(8, moved_image, unsure), before)
    assert overlap((found > 0.5)[0].numpy(), moved_disc) > overlap(BALL[7], moved_disc) + 0.05
    found = guide.weigh(Drawn(6, image, unsure * 0.4), before)
    assert overlap((found > 0.5)[0].numpy(), BALL[7]) > 0.9, "a network that half loses what has not moved is overruled"
    assert not (guide.weigh(Drawn(6, image, unsure * 0), before) > 0.5).any(), "one that is sure of it is not"
    empty = Drawn(7, image, unsure * 0)
    assert not (guide.weigh(Drawn(6, image, unsure), empty) > 0.5).any(), "one in doubt cannot begin where nothing was"
    assert guide.left(before).tolist() == [False]
    assert guide.left(Drawn(7, image, disc[None].roll(30, dims=2).float())).tolist() == [True]


def test_the_second_round_knows_how_slices_lie_over_each_other(networks, monkeypatch):
    counted, real = [], appearance.displacement
    monkeypatch.setattr(appearance, "displacement", lambda *pair: counted.append(1) or real(*pair))
    session = a_session()
    carried(session)
    first, mask = len(counted), session.mask.copy()
    carried(session)
    assert first > 6 and len(counted) == first, "nothing is laid over each other twice"
    assert np.array_equal(session.mask, mask)
