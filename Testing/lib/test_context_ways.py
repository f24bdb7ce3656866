"""Examples are used in the way that proved itself on the last of them: before a prompt, around the first one, or not at all."""
from dataclasses import replace

import numpy as np
import pytest
from shapes import ellipsoid

from InteractiveSegLib import Box, Click, InteractiveSession, Scribble
from InteractiveSegLib.context import ContextSet, Provenance
from InteractiveSegLib.models import load
from InteractiveSegLib.predictors import evidence, examples
from InteractiveSegLib.predictors.context import ContextPredictor
from InteractiveSegLib.predictors.slices import Request, SlicePredictor, keep_prompts

SHAPE = (128, 128)


class Atlas:
    """Answers with the mean of the examples' masks, wherever they lie on the canvas: right where cases are alike."""

    size, refines = 64, True

    def encode(self, images, masks):
        return np.mean(masks, axis=0)

    def predict(self, images, prompts, previous, encoded, plan):
        return (encoded[None] - 0.5).astype(np.float32) * 20


def case(middle, bright=True, radius=14):
    """(image, mask): a noisy disk, brighter than its surroundings or hardly so, and its mask."""
    truth = ellipsoid(SHAPE, middle, (radius, radius))
    noise = np.random.default_rng(int(sum(middle))).normal(100, 20, SHAPE)
    return (noise + (120 if bright else 6) * truth).astype(np.float32), truth


def context_of(cases):
    context = ContextSet()
    for image, mask in cases:
        context.add(image, mask)
    return context


def predictor_of(context, network=None, **options):
    first = SlicePredictor(load("scribbleprompt", None, "cpu"), (1.0, 1.0))
    return ContextPredictor(network or Atlas(), first, context, 16, **options)


STILL = [case((40, 64), bright=False) for _ in range(4)]
MOVING = [case(middle, bright=False) for middle in ((30, 30), (90, 40), (64, 96), (30, 90))]


def dice(mask, truth):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def test_where_cases_are_alike_the_examples_answer_before_any_prompt():
    predictor = predictor_of(context_of(STILL))
    answer = predictor.predict([Request(STILL[0][0], (), None)])[0]
    assert dice(answer > 0, STILL[0][1]) > 0.9
    assert predictor.notice == ""


def test_where_the_object_moves_the_first_prompt_says_where_and_the_examples_say_what():
    predictor = predictor_of(context_of(MOVING))
    image, truth = case((80, 84), bright=False)
    silent = predictor.predict([Request(image, (), None)])[0]
    assert not (silent > 0).any() and "around the first prompt" in predictor.notice
    prompts = (Click((80, 84)),)
    helped = predictor.predict([Request(image, prompts, silent)])[0]
    alone = predictor.first.predict([Request(image, prompts, None)])[0]
    assert dice(helped > 0, truth) > dice(alone > 0, truth) + 0.05


def test_what_the_examples_said_around_the_first_prompt_counts_less_with_every_prompt_until_a_mask_is_drawn():
    predictor, (image, _) = predictor_of(context_of(MOVING)), case((80, 84), bright=False)
    prompts = (Click((80, 84)), Click((84, 84)), Click((60, 60), positive=False))
    said = predictor._around(Request(image, prompts[:1], None), predictor.examples.ids(), predictor.first)
    before = None
    for count in (1, 2, 3):
        request = Request(image, prompts[:count], before)
        plain = predictor.first.predict([replace(request, previous=said if before is None else before)])[0]
        expected = plain + (said - plain) / (1 + count)
        keep_prompts(expected, request)
        before = predictor.predict([request])[0]
        assert np.allclose(before, expected, atol=1e-4)
    drawn = Request(image, prompts, np.where(before > 0, np.float32(4), np.float32(-4)))
    for request in (drawn, replace(drawn, previous=before)):
        assert np.array_equal(predictor.predict([request])[0], predictor.first.predict([request])[0])


def test_a_box_says_how_large_the_object_is():
    predictor = predictor_of(context_of(MOVING))
    image, truth = case((64, 64), bright=False, radius=28)
    ids = predictor.examples.ids()
    found = predictor._around(Request(image, (Box((36, 36), (93, 93)),), None), ids, predictor.first)
    assert dice(found > 0, truth) > 0.9
    assert dice(predictor._around(Request(image, (Click((64, 64)),), None), ids, predictor.first) > 0, truth) < 0.6


UNEQUAL = [case(middle, radius=radius) for middle, radius in (((30, 30), 6), ((90, 44), 30), ((64, 96), 7), ((44, 90), 28))]


def test_examples_that_mislead_are_left_out_and_a_prompt_is_answered_as_without_them():
    predictor = predictor_of(context_of(UNEQUAL))
    image, _ = case((80, 84))
    silent = predictor.predict([Request(image, (), None)])[0]
    assert not (silent > 0).any() and "not proved" in predictor.notice
    for before in (silent, None):
        prompts = (Click((80, 84)),)
        alone = predictor.first.predict([Request(image, prompts, None)])[0]
        assert np.array_equal(predictor.predict([Request(image, prompts, before)])[0], alone)


def test_a_mask_that_is_there_is_where_a_prompt_starts_in_every_way():
    image, truth = case((80, 84))
    request = Request(image, (Click((80, 84)),), np.where(truth, np.float32(4), np.float32(-4)))
    for cases in (UNEQUAL, MOVING):
        predictor = predictor_of(context_of(cases))
        assert np.array_equal(predictor.predict([request])[0], predictor.first.predict([request])[0])


def test_always_starts_from_the_examples_whether_that_helps_or_not():
    predictor = predictor_of(context_of(UNEQUAL), always=True)
    image, _ = case((80, 84))
    silent = predictor.predict([Request(image, (), None)])[0]
    prompted = predictor.predict([Request(image, (Click((80, 84)),), None)])[0]
    assert predictor.notice == "" and len(np.unique(silent)) > 2, "it is the examples' own"
    assert np.array_equal(prompted, predictor.first.predict([Request(image, (Click((80, 84)),), silent)])[0])


def test_one_example_is_believed_because_nothing_speaks_against_it():
    predictor = predictor_of(context_of(MOVING[:1]))
    assert (predictor.predict([Request(MOVING[1][0], (), None)])[0] > 0).any()


def test_the_slices_of_one_volume_alone_prove_nothing():
    context = ContextSet()
    for image, mask in STILL:
        context.add(image, mask, provenance=Provenance(context.digest("a volume")))
    predictor = predictor_of(context)
    assert not (predictor.predict([Request(STILL[0][0], (), None)])[0] > 0).any()
    assert "not proved" in predictor.notice


def test_in_a_volume_an_answer_before_a_prompt_must_be_worth_a_click_more():
    losses = []
    for affine in (None, np.eye(4)):
        context = ContextSet()
        for image, mask in STILL:
            context.add(image, mask, affine=affine)
        predictor = predictor_of(context)
        ids = predictor.examples.ids()
        losses.append([evidence.lost(predictor, context.read(ids[3]), ids[:3], way) for way in evidence.WAYS])
    picture, volume = np.array(losses)
    assert np.allclose(volume - picture, (evidence.GOAL, 0, 0))


@pytest.mark.parametrize(("said", "first"), [({"Click": 2, "Scribble": 1}, Click), ({"Scribble": 3}, Scribble),
                                             ({"Box": 1, "Click": 2}, Box), ({}, Click)])
def test_an_example_is_tried_with_the_prompts_that_the_person_used(said, first):
    context = ContextSet()
    for image, mask in UNEQUAL[:2]:
        context.add(image, mask, provenance=Provenance(prompts=said))
    predictor, seen = predictor_of(context), []
    answer = predictor.answer
    predictor.answer = lambda request, *rest: seen.append(request.prompts) or answer(request, *rest)
    predictor.predict([Request(UNEQUAL[2][0], (), None)])
    assert {type(prompts[0]) for prompts in seen if prompts} == {first}


def test_an_example_is_tried_once_and_never_with_itself(monkeypatch):
    tried = []
    monkeypatch.setattr(evidence, "lost", lambda predictor, entry, before, way: tried.append((entry.info.id, before)) or 0.0)
    context, network = context_of(STILL), Atlas()
    for _ in range(2):
        predictor_of(context, network).predict([Request(STILL[0][0], (), None)])
    assert len(tried) == 3 * len(evidence.WAYS)
    assert all(entry_id not in before for entry_id, before in tried)
    context.add(*STILL[0])
    predictor_of(context, network).predict([Request(STILL[0][0], (), None)])
    assert len(tried) == 4 * len(evidence.WAYS)


def test_the_session_says_how_it_used_the_examples_and_can_be_told_to_use_them_always(monkeypatch):
    monkeypatch.setattr(evidence, "lost", lambda predictor, entry, before, way: float(way != evidence.ALONE))
    context, image = context_of(UNEQUAL), UNEQUAL[0][0]
    proven, always = (InteractiveSession(image, model="multiverseg", context=context, mode=mode) for mode in (None, "always"))
    assert proven.notice == "", "nothing was predicted yet"
    for session in (proven, always):
        session.predict()
    assert "not proved" in proven.notice and not proven.mask.any()
    assert always.notice == ""
    plain = InteractiveSession(image)
    for session in (proven, plain):
        session.add(Click((30, 30)))
    assert np.array_equal(proven.probability, plain.probability)


def test_slices_of_one_case_do_not_vouch_for_each_other(monkeypatch):
    tried = []
    monkeypatch.setattr(evidence, "lost", lambda predictor, entry, before, way: tried.append((entry.info.id, before)) or 0.0)
    context, cases = ContextSet(), {}
    for name in ("first", "second"):
        for image, mask in STILL:
            info = context.add(image, mask, provenance=Provenance(context.digest(name)))
            cases.setdefault(name, []).append(info.id)
    predictor_of(context).predict([Request(STILL[0][0], (), None)])
    assert {entry_id for entry_id, _ in tried} == {cases["second"][n] for n in (0, 2, 3)}
    assert {before for _, before in tried} == {tuple(cases["first"])}


@pytest.mark.parametrize("side", [40, 900])
def test_large_slices_are_thinned_out_for_the_trial(side):
    image, truth = np.zeros((side, side), np.float32), np.zeros((side, side), bool)
    image[: side // 2] = truth[: side // 2] = 1
    context = context_of([(image, truth), (image, truth)])
    predictor, seen = predictor_of(context), []
    answer = predictor.answer
    predictor.answer = lambda request, *rest: seen.append(request.image.shape) or answer(request, *rest)
    predictor.predict([Request(image[:32, :32], (), None)])
    assert seen[0] == (min(side, 300),) * 2


def test_encoded_sets_of_examples_are_kept_as_far_as_their_bytes_allow(monkeypatch):
    def kept(limit):
        monkeypatch.setattr(examples, "KEPT", limit)
        predictor = predictor_of(context_of(MOVING))
        ids = predictor.examples.ids()
        for count in (1, 2, 3):
            assert predictor.examples.whole(ids[:count], MOVING[0][0]).encoded is not None
        return [used for used, _ in predictor.examples._encoded]

    ids, one = predictor_of(context_of(MOVING)).examples.ids(), Atlas().encode(None, np.zeros((1, 64, 64))).nbytes
    assert len(ids) == 4 and [len(used) for used in kept(2 * one)] == [2, 3]
    assert [len(used) for used in kept(0)] == [3], "what is used now stays"
