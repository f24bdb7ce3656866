"""What a person notices when prompting: the mask, undo, edits by hand, and what happens with odd images."""
import numpy as np
import pytest
import torch
from shapes import ellipsoid, overlap

from InteractiveSegLib import Box, Click, InteractiveSegError, InteractiveSession, Lasso, Scribble
from InteractiveSegLib.device import available_devices
from InteractiveSegLib.predictors.slices import Request, SlicePredictor

OBLIQUE = np.array([[0.8, -0.5, 0.3, 12], [0.5, 0.9, -0.2, -34], [-0.2, 0.4, 2.5, 56], [0, 0, 0, 1.0]])


def test_one_click_in_a_bright_disk_segments_it(a_disk):
    image, truth = a_disk
    session = InteractiveSession(image)
    session.add(Click((40, 70)))
    assert overlap(session.mask, truth) > 0.8


def test_the_pixel_of_a_click_always_obeys_it(a_disk):
    session = InteractiveSession(a_disk[0])
    session.add(Click((40, 70)))
    session.add(Click((45, 75), positive=False))
    assert session.mask[40, 70]
    assert not session.mask[45, 75]
    session.add(Click((5, 5)))
    assert session.mask[5, 5]
    session.add(Click((5, 5), positive=False))
    assert not session.mask[5, 5], "the later of two contradicting clicks wins"


@pytest.mark.parametrize("prompt", [
    Click((7, 28, 40)),
    Box((5, 12, 24), (9, 44, 56)),
    Scribble(np.ones((1, 4, 4), bool), True, (7, 26, 38)),
    Lasso(((7, 10, 22), (7, 10, 58), (7, 46, 58), (7, 46, 22))),
], ids=lambda p: type(p).__name__)
def test_pasting_the_update_into_the_old_mask_gives_the_new_mask(a_session, prompt):
    before = a_session.mask.copy()
    update = a_session.add(prompt)
    assert not update.empty
    before[update.slices] = update.mask
    assert np.array_equal(before, a_session.mask)


def test_a_click_changes_only_its_own_slice(a_session):
    update = a_session.add(Click((7, 28, 40)))
    assert (update.start[0], update.stop[0]) == (7, 8)


def test_a_thick_box_speaks_to_every_slice_it_covers(a_session, a_volume):
    a_session.add(Box((5, 12, 24), (9, 44, 56)))
    for k in range(5, 9):
        assert overlap(a_session.mask[k], a_volume[1][k]) > 0.6
    assert not a_session.mask[:5].any()
    assert not a_session.mask[9:].any()


def test_undo_and_redo_are_exact(a_session):
    masks, probabilities = [a_session.mask.copy()], [a_session.probability]
    actions = [
        lambda: a_session.add(Click((7, 28, 40))),
        lambda: a_session.add(Click((7, 10, 10), positive=False)),
        lambda: a_session.set_mask(np.roll(a_session.mask, 3, axis=2)),
        lambda: a_session.add(Click((8, 28, 40))),
        lambda: a_session.reset(),
    ]
    for act in actions:
        act()
        masks.append(a_session.mask.copy())
        probabilities.append(a_session.probability)
    for n in reversed(range(len(actions))):
        a_session.undo()
        assert np.array_equal(a_session.mask, masks[n])
        assert np.array_equal(a_session.probability, probabilities[n])
    assert not a_session.can_undo
    assert a_session.prompts == ()
    for n in range(1, len(actions) + 1):
        a_session.redo()
        assert np.array_equal(a_session.mask, masks[n])
    assert not a_session.can_redo
    assert a_session.undo().empty is False


def test_a_click_after_undo_answers_as_if_the_undone_one_never_was(a_session, a_volume):
    a_session.add(Click((7, 28, 40)))
    a_session.add(Click((7, 20, 40), positive=False))
    a_session.undo()
    a_session.add(Click((7, 35, 45)))
    other = InteractiveSession(a_volume[0], spacing=(3.0, 1.0, 1.0))
    other.add(Click((7, 28, 40)))
    other.add(Click((7, 35, 45)))
    assert np.array_equal(a_session.probability, other.probability)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_same_slice_gives_the_same_answer_in_2d_and_in_a_volume(a_volume, axis):
    image, spacing, position = a_volume[0], (3.0, 1.0, 1.0), (7, 28, 40)
    volume = InteractiveSession(image, spacing=spacing, axis=axis)
    volume.add(Click(position))
    flat = InteractiveSession(image.take(position[axis], axis), spacing=[s for a, s in enumerate(spacing) if a != axis])
    flat.add(Click([p for a, p in enumerate(position) if a != axis]))
    assert np.array_equal(volume.probability.take(position[axis], axis), flat.probability)
    assert flat.mask.any()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("slices", [slice(None), slice(7, 8)], ids=["thick slices", "a single slice"])
def test_a_volume_is_worked_on_as_it_was_scanned_wherever_its_slices_lie(a_volume, axis, slices):
    first, thick = (0, 1.6) if slices.start is None else (slices.start, 1.0)
    image, position, spacing = a_volume[0][slices], [7 - first, 28, 40], [thick, 1, 1]
    other = InteractiveSession(np.moveaxis(image, 0, axis), spacing=spacing[1:1 + axis] + spacing[:1] + spacing[1 + axis:])
    session = InteractiveSession(image, spacing=spacing, axis="K")
    session.add(Click(position))
    other.add(Click(position[1:1 + axis] + position[:1] + position[1 + axis:]))
    assert session.mask.any() and np.array_equal(np.moveaxis(other.mask, axis, 0), session.mask)


def test_nearly_cubic_voxels_are_worked_on_along_the_first_axis(a_volume):
    assert InteractiveSession(a_volume[0], spacing=(1.0, 1.2, 1.4)).axis == 0


def test_a_click_in_ras_lands_on_the_voxel_that_lies_there(a_volume):
    k, j, i = 7, 28, 40
    ras = tuple((OBLIQUE @ [i, j, k, 1])[:3])
    by_ras, by_voxel = (InteractiveSession(a_volume[0], affine=OBLIQUE) for _ in range(2))
    by_ras.add(Click(position_ras=ras))
    by_voxel.add(Click((k, j, i)))
    assert by_ras.prompts[0].position == (k, j, i)
    assert np.array_equal(by_ras.mask, by_voxel.mask)


def test_anatomical_axes_follow_the_affine(a_volume):
    sagittal_acquisition = np.array([[0, 0, 3, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])  # k runs to the right
    session = InteractiveSession(a_volume[0], affine=sagittal_acquisition)
    for name, axis in {"sagittal": 0, "axial": 1, "coronal": 2}.items():
        session.set_slice(name, 3)
        assert (session.axis, session.index) == (axis, 3)


def test_an_edit_by_hand_is_where_the_next_prompt_starts(a_session, a_volume):
    a_session.add(Click((7, 28, 40)))
    edited = a_session.mask.copy()
    edited[2, :5, :5] = True
    a_session.set_mask(edited)
    a_session.add(Click((7, 30, 42)))
    assert a_session.mask[2, :5, :5].all(), "what was drawn on another slice is kept"


def two_pieces(shape=(96, 120)):
    """A disk with a lobe, and a smaller disk beside it, that somebody or some network drew."""
    large, small = ellipsoid(shape, (48, 40), (20, 20)), ellipsoid(shape, (48, 95), (12, 12))
    return large, small


@pytest.mark.parametrize("model", ["scribbleprompt", "limnet", "multiverseg", "verse"])
def test_a_negative_click_in_the_middle_of_a_piece_takes_it_all_away(model):
    large, small = two_pieces()
    targets = ("LV",) if model == "verse" else ("object",)
    session = InteractiveSession(np.random.default_rng(0).normal(50, 5, large.shape), model=model, targets=targets)
    session.set_mask(large | small)
    session.add(Click((48, 96), positive=False))
    assert not session.mask[small].any()
    session.undo()
    assert np.array_equal(session.mask, large | small)


@pytest.mark.parametrize("clicks, why", [
    ([Click((48, 104), positive=False)], "beside the middle: a part of it is wrong"),
    ([Click((44, 92)), Click((48, 96), positive=False)], "a positive prompt speaks for the piece"),
])
def test_a_negative_click_corrects_a_piece_that_is_not_denied(clicks, why):
    large, small = two_pieces()
    image = np.random.default_rng(0).normal(50, 5, large.shape) + 100 * (large | small)
    session = InteractiveSession(image)
    session.set_mask(large | small)
    for click in clicks:
        session.add(click)
    assert session.mask[small].mean() > 0.5, why
    assert not session.mask[clicks[-1].position]


def test_a_negative_click_on_a_thin_structure_leaves_the_rest_of_it():
    image = np.zeros((96, 120))
    image[46:50, 10:110] = 100
    session = InteractiveSession(image)
    session.set_mask(image > 0)
    session.add(Click((48, 20), positive=False))
    assert session.mask[46:50, 40:].mean() > 0.5


def test_where_the_image_says_nothing_a_click_keeps_the_mask_it_starts_from(a_disk):
    drawn = a_disk[1]
    with_mask, without = (InteractiveSession(np.zeros(drawn.shape)) for _ in range(2))
    with_mask.set_mask(drawn)
    for session in (with_mask, without):
        session.add(Click((40, 70)))
    assert overlap(with_mask.mask, drawn) > 0.9
    assert overlap(without.mask, drawn) < 0.8


@pytest.mark.parametrize("change", [
    lambda image: (image * 200).astype(np.uint16),
    lambda image: image.astype(np.float64) * 1e12 - 5e13,
    lambda image: np.where(np.indices(image.shape)[0] < 2, np.nan, image),
    lambda image: np.where(np.indices(image.shape).sum(axis=0) == 0, np.inf, image),
    lambda image: (image - 1000).astype(np.int16),
    lambda image: np.clip(image, 0, 255).astype(np.uint8),
], ids=["16 bit", "huge numbers", "NaN rows", "an infinity", "negative", "8 bit"])
def test_number_types_and_ranges_do_not_matter(a_disk, change):
    image, truth = a_disk
    session = InteractiveSession(change(image))
    session.add(Click((40, 70)))
    assert overlap(session.mask, truth) > 0.8


def test_constant_images_and_thin_volumes_are_answered():
    for shape, position in (((32, 32), (5, 5)), ((1, 32, 40), (0, 5, 5)), ((20, 1, 1), (3, 0, 0)), ((1, 1), (0, 0))):
        session = InteractiveSession(np.full(shape, 7))
        session.add(Click(position))
        assert session.mask[position]
        assert np.isfinite(session.probability).all()


@pytest.mark.parametrize("image", [np.zeros((2, 3, 4, 5)), np.zeros(4), np.zeros((0, 4)), np.full((4, 4), np.nan),
                                   np.zeros((4, 4), complex), np.array([["a", "b"]])],
                         ids=["4D", "1D", "empty", "only NaN", "complex", "text"])
def test_an_image_that_is_none_is_refused_in_one_sentence(image):
    with pytest.raises(InteractiveSegError) as error:
        InteractiveSession(image)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("prompt", [
    Click((14, 0, 0)), Click((-1, 3, 3)), Click((3, 3)), Click((float("nan"), 1, 1)), Click(position_ras=(1e6, 0, 0)),
    Box((20, 0, 0), (30, 5, 5)), Scribble(np.zeros((14, 60, 72), bool)), Scribble(np.ones((3, 3, 3), bool)),
    Scribble(np.ones((3, 3, 3), bool), True, (13, 0, 0)), Lasso(((1, 5, 5), (2, 5, 9), (3, 9, 9))),
    Box((float("nan"), 1, 1), (3, 4, 5)), Box((0, 0, 0), (3, float("inf"), 5)), Scribble(np.ones((3, 3, 3), bool), True, (1, 2)),
    Scribble(np.ones((3, 3, 3), bool), True, (1.5, 2, 2)), Click(position_ras=(1, 2)), Click((10**400, 1, 1)),
], ids=["beyond", "before", "2 numbers", "NaN", "far", "box", "empty scribble", "small scribble", "overhang", "lasso", "NaN box",
        "endless box", "short origin", "broken origin", "2 numbers in RAS", "huge"])
def test_a_prompt_that_cannot_be_is_refused_and_nothing_is_lost(a_session, prompt):
    a_session.add(Click((7, 28, 40)))
    before = a_session.mask.copy()
    with pytest.raises(InteractiveSegError) as error:
        a_session.add(prompt)
    assert "\n" not in str(error.value)
    assert np.array_equal(a_session.mask, before)
    assert len(a_session.prompts) == 1


@pytest.mark.parametrize("wrong", [
    {"spacing": (1, 1)}, {"spacing": (0, 1, 1)}, {"affine": np.zeros((4, 4))}, {"affine": OBLIQUE, "spacing": (9, 9, 9)},
    {"axis": "diagonal"}, {"model": "nothing"}, {"window": (5, 5)}, {"spacing": 2.0}, {"spacing": ("a", 1, 1)},
], ids=lambda wrong: "-".join(wrong))
def test_wrong_settings_are_refused(a_volume, wrong):
    with pytest.raises(InteractiveSegError):
        InteractiveSession(a_volume[0], **wrong)


@pytest.mark.parametrize(("options", "sentence"), [
    ({"window": 5}, "Got the window 5, expected two numbers"), ({"window": ("a", 1)}, "expected two numbers"),
    ({"window": (1,)}, "expected two numbers"), ({"window": (1, None)}, "expected two numbers"), ({"window": (3, 3)}, "is empty"),
    ({"model": ["verse"]}, "There is no model"), ({"device": "cpu:x"}, "'cpu:x' is not there"),
])
def test_an_option_of_another_kind_is_one_sentence(a_volume, options, sentence):
    with pytest.raises(InteractiveSegError, match=sentence):
        InteractiveSession(a_volume[0], **options).add(Click((7, 28, 40)))


def test_a_box_needs_two_corners():
    with pytest.raises(InteractiveSegError, match="Got a box from 1 to 2, expected two positions"):
        Box(1, 2)


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_a_device_may_be_left_open_or_come_from_torch(a_volume, device):
    session = InteractiveSession(a_volume[0], device=device)
    session.add(Click((7, 28, 40)))
    assert session.mask.any() and session.plan.device in ("cpu", *available_devices())


def test_a_click_needs_one_place_and_a_box_some_inside():
    twice = {"position": (1, 1), "position_ras": (1, 1, 1)}
    for make in (Click, lambda: Click(**twice), lambda: Box((3, 3), (3, 9)), lambda: Lasso(((0, 0),))):
        with pytest.raises(InteractiveSegError):
            make()


def test_predicting_without_any_prompt_says_that_one_is_needed(a_session):
    with pytest.raises(InteractiveSegError, match="prompt"):
        a_session.predict()


@pytest.mark.parametrize(("slices", "words"), [([14], "0 to 13"), ([-1], "0 to 13"), (7, "a list of"), ("ab", "a list of")])
def test_slices_that_are_not_there_cannot_be_predicted(a_volume, slices, words):
    session = InteractiveSession(a_volume[0], model="verse", targets=["LV"])
    with pytest.raises(InteractiveSegError, match=words):
        session.predict(slices)


@pytest.mark.parametrize("value", [float("nan"), 0.5])
def test_labels_that_would_be_lost_by_rounding_are_refused(a_session, value):
    with pytest.raises(InteractiveSegError, match="whole numbers"):
        a_session.set_labels(np.full(a_session.shape, value))
    with pytest.raises(InteractiveSegError, match="NaN"):
        a_session.set_mask(np.full(a_session.shape, np.nan))
    a_session.set_labels(np.ones(a_session.shape))  # whole numbers of any type are labels
    assert a_session.mask.all()


def test_the_weights_that_carry_masks_may_be_named_by_a_string(a_session):
    a_session.add(Click((7, 28, 40)))
    with pytest.raises(InteractiveSegError, match=r"none\.pt cannot be read as weights"):
        list(a_session.propagate(weights="none.pt"))


def test_labels_and_prompts_kept_elsewhere_are_where_the_next_prompt_starts(a_volume, a_session):
    prompts = Click((7, 28, 40)), Click((7, 28, 60), positive=False), Click((5, 28, 40))
    for prompt in prompts:
        a_session.add(prompt)
    again = InteractiveSession(a_volume[0], spacing=(3, 1, 1))
    again.restore(a_session.labels, [(prompt, 0) for prompt in a_session.prompts])
    assert np.array_equal(again.mask, a_session.mask)
    assert again.prompts == prompts
    again.set_slice(0, 7)
    again.predict()  # hears what was said in this slice before
    assert again.mask[7, 28, 40]
    assert not again.mask[7, 28, 60]
    again.undo(), again.undo()
    assert again.prompts == ()


def test_the_window_decides_what_is_seen(a_disk):
    image, truth = a_disk
    with_metal = image.copy()
    with_metal[60:96, :60] = 30000
    session = InteractiveSession(with_metal, window=(60, 260))
    session.add(Click((40, 70)))
    assert overlap(session.mask, truth) > 0.8


def test_a_session_does_not_keep_the_callers_arrays_alive_or_change_them(a_volume):
    image = a_volume[0].copy()
    session = InteractiveSession(image, spacing=(3, 1, 1))
    scribble = np.zeros(image.shape, bool)
    scribble[7, 26:30, 40] = True
    session.add(Scribble(scribble))
    assert session.prompts[0].mask.size == 4
    assert np.array_equal(image, a_volume[0])
    with pytest.raises(ValueError, match="read-only"):
        session.mask[0] = True



class Brightness:
    """A network that one can follow by eye: bright is object."""

    size = 128

    def predict(self, images, prompts, previous):
        return images - 0.5


@pytest.mark.parametrize(("radii", "least"), [((15, 11), 0.98), ((250, 200), 0.98)], ids=["small", "large"])
def test_objects_are_outlined_sharply_whatever_their_size(radii, least):
    truth = ellipsoid((700, 600), (352, 303), radii)
    [logits] = SlicePredictor(Brightness(), (1.0, 1.0)).predict([Request(truth.astype(float), (Click((352, 303)),), None)])
    assert overlap(logits > 0, truth) > least
