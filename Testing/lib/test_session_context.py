"""A session with a context: before any example, with examples, and what accepting a case adds. The network is a tiny one."""
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from InteractiveSegLib import Click, InteractiveSegError, InteractiveSession
from InteractiveSegLib.context import ContextSet, ContextStore
from InteractiveSegLib.models import load
from InteractiveSegLib.models.multiverseg import ContextNetwork, MultiverSegConfig, MultiverSegNet
from InteractiveSegLib.plan import PLANS, Plan
from InteractiveSegLib.predictors.slices import Request, SlicePredictor


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(MultiverSegNet(MultiverSegConfig((4, 4))).state_dict(), path)
    return path


@pytest.fixture
def a_case(a_disk, weights):
    return lambda context, image=a_disk[0], **options: InteractiveSession(
        image, model="multiverseg", weights=weights, context=context, **options
    )


@pytest.mark.parametrize("context", [None, ContextSet()])
def test_without_examples_the_first_prompt_is_answered_by_scribbleprompt(a_case, a_disk, context):
    session, plain = a_case(context), InteractiveSession(a_disk[0])
    for each in (session, plain):
        each.add(Click((40, 70)))
    assert np.array_equal(session.probability, plain.probability)


def test_without_examples_and_prompts_it_says_what_is_missing(a_case):
    with pytest.raises(InteractiveSegError, match="context is empty"):
        a_case(ContextSet()).predict()


def test_with_an_example_it_answers_before_any_prompt_and_the_examples_mask_matters(a_case, a_disk):
    image, truth = a_disk
    answers = []
    for mask in (truth, ~truth):
        context = ContextSet()
        context.add(image, mask)
        session = a_case(context)
        session.predict()
        answers.append(session.probability)
    assert not np.allclose(answers[0], answers[1])


def test_accepting_adds_the_slice_its_mask_as_edited_and_where_it_is_from(a_case, a_disk):
    context = ContextSet()
    session = a_case(context, spacing=(2.0, 0.5))
    session.add(Click((40, 70)))
    session.set_mask(a_disk[1])
    assert session.accept(case="Doe^John") == tuple(info.id for info in context.infos())
    entry = context.enabled()[0]
    assert np.array_equal(entry.image, a_disk[0])
    assert np.array_equal(entry.mask, a_disk[1])
    assert entry.info.spacing == (2.0, 0.5)
    assert entry.info.provenance.prompts == {"Click": 1}
    assert entry.info.provenance.case == context.digest("Doe^John")


def test_accepting_again_replaces_what_was_accepted_before(a_case, a_disk):
    context = ContextSet()
    session = a_case(context)
    session.add(Click((40, 70)))
    session.accept()
    session.add(Click((44, 74)))
    session.accept()
    assert len(context) == 1
    assert context.infos()[0].provenance.prompts == {"Click": 2}


def test_of_a_volume_the_prompted_slices_are_accepted_with_their_geometry(a_case, a_volume):
    context, affine = ContextSet(), np.diag([1.0, 2.0, 3.0, 1.0])
    session = a_case(context, image=a_volume[0], affine=affine)
    session.add(Click((7, 28, 40)))
    session.set_slice("J", 28)
    session.add(Click((5, 28, 40)))
    session.accept()
    first, second = context.enabled()
    assert np.array_equal(first.image, a_volume[0][7])
    assert (first.info.spacing, second.info.spacing) == ((2.0, 1.0), (3.0, 1.0))
    assert [(e.info.provenance.axis, e.info.provenance.index) for e in (first, second)] == [(0, 7), (1, 28)]
    assert np.array_equal(np.reshape(first.info.affine, (4, 4)), affine)


def test_there_must_be_something_to_accept_and_somewhere_to_put_it(a_case):
    with pytest.raises(InteractiveSegError, match="No slice"):
        a_case(ContextSet()).accept()
    with pytest.raises(InteractiveSegError, match="no context"):
        a_case(None).accept()


def test_a_disabled_example_is_not_used(a_case, a_disk):
    context = ContextSet()
    context.add(*a_disk)
    wrong = context.add(a_disk[0], ~a_disk[1])
    session, alone = a_case(context), a_case(context)
    session.predict()
    context.set_enabled(wrong.id, False)
    alone.predict()
    with_both = session.probability
    session.predict()
    assert np.array_equal(session.probability, alone.probability)
    assert not np.array_equal(with_both, alone.probability)


def test_with_more_examples_than_the_budget_those_like_the_slice_are_used(a_case, a_disk, monkeypatch):
    monkeypatch.setitem(PLANS, "cpu", Plan(examples=1))
    image, truth = a_disk
    crowd, alone = ContextSet(), ContextSet()
    for _ in range(3):
        crowd.add(np.flipud(np.tile(np.arange(96.0), (96, 1))).astype(np.float32), np.eye(96))
    for context in (crowd, alone):
        context.add(image, truth)
    answers = []
    for context in (crowd, alone):
        session = a_case(context)
        session.predict()
        answers.append(session.probability)
    assert np.array_equal(*answers)


def test_the_same_slice_with_the_same_context_gives_the_same_answer_in_2d_and_in_a_volume(a_case, a_volume):
    context = ContextSet()
    context.add(a_volume[0][6], a_volume[1][6])
    volume, flat = a_case(context, image=a_volume[0], spacing=(3.0, 1.0, 1.0)), a_case(context, image=a_volume[0][7])
    volume.add(Click((7, 28, 40)))
    flat.add(Click((28, 40)))
    assert np.array_equal(volume.probability[7], flat.probability)


def test_a_store_serves_as_a_context(a_case, a_disk, tmp_path):
    store = ContextStore(tmp_path / "context.sqlite")
    session = a_case(store.open(study="heart", task="disk"))
    session.add(Click((40, 70)))
    session.accept(case="one")
    later, alone = a_case(ContextStore(tmp_path / "context.sqlite").open(study="heart", task="disk")), a_case(ContextSet())
    alone.context.add(a_disk[0], session.mask)
    for each in (later, alone):
        each.predict()
    assert np.array_equal(later.probability, alone.probability)


def test_one_context_serves_one_structure(a_case):
    with pytest.raises(InteractiveSegError, match="one"):
        a_case(ContextSet(), targets=("left", "right"))


def test_prompts_go_on_from_what_the_examples_told_with_or_without_a_look_at_it(a_disk, tmp_path):
    torch.manual_seed(3)
    path = tmp_path / "refines.safetensors"
    save_file(MultiverSegNet(MultiverSegConfig((4, 4), refines=True)).state_dict(), path)
    context = ContextSet()
    context.add(*a_disk)
    sessions = [InteractiveSession(a_disk[0], model="multiverseg", weights=path, context=context) for _ in range(2)]
    sessions[0].predict()
    for session in sessions:
        session.add(Click((40, 70)))
    alone = InteractiveSession(a_disk[0])
    alone.add(Click((40, 70)))
    assert np.array_equal(sessions[0].probability, sessions[1].probability)
    assert not np.allclose(sessions[0].probability, alone.probability, atol=1e-3), "the examples count"


@pytest.mark.parametrize("asked_first", [True, False])
def test_a_network_that_refines_hands_its_answer_to_scribbleprompt_when_prompts_come(a_disk, tmp_path, asked_first):
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_file(MultiverSegNet(MultiverSegConfig((4, 4), refines=True)).state_dict(), path)
    context = ContextSet()
    context.add(*a_disk)
    sessions = [InteractiveSession(a_disk[0], model="multiverseg", weights=path, context=context) for _ in range(2)]
    sessions[0].predict()
    alone = sessions[0].probability.copy()
    plain = InteractiveSession(a_disk[0])
    plain.add(Click((40, 70)))
    session = sessions[0 if asked_first else 1]
    session.add(Click((40, 70)))
    first = SlicePredictor(load("scribbleprompt", None, "cpu"), (1.0, 1.0))
    start = np.log(alone / (1 - alone))
    expected = first.predict([Request(a_disk[0], (Click((40, 70)),), start)])[0]
    assert np.allclose(session.probability, 1 / (1 + np.exp(-expected)), atol=1e-3)
    assert not np.allclose(session.probability, plain.probability, atol=1e-3)


def test_what_the_examples_say_of_the_slice_shown_is_known_when_its_first_prompt_comes(a_disk, monkeypatch):
    image, truth = a_disk
    context = ContextSet()
    for shift in (0, 7):
        context.add(np.roll(image, shift, axis=1), np.roll(truth, shift, axis=1))
    asked, predict = [], ContextNetwork.predict

    def counted(self, *arguments):
        asked.append(1)
        return predict(self, *arguments)

    monkeypatch.setattr(ContextNetwork, "predict", counted)
    warm, cold = (InteractiveSession(image, model="multiverseg", context=context, mode="always") for _ in range(2))
    warm.warm_up()
    counts = []
    for session in (warm, cold):
        before = len(asked)
        session.add(Click((40, 70)))
        counts.append(len(asked) - before)
    assert counts == [0, 1] and warm.mask.any() and np.array_equal(warm.probability, cold.probability)
    context.add(np.roll(image, 3, axis=1), np.roll(truth, 3, axis=1))
    warm.reset()
    warm.add(Click((40, 70)))
    assert len(asked) == 3, "another context is another answer"
