"""Training with examples: what a task's images have in common, and that networks learn to use them. Generated data only."""
import numpy as np
import pytest
import torch
from shapes import ellipsoid

from InteractiveSegLib.models.multiverseg import load
from InteractiveSegLib.training import context_samples
from InteractiveSegLib.training import export as export_module
from InteractiveSegLib.training.bundle import Case, DataSet, write_bundle
from InteractiveSegLib.training.context_samples import ContextStream, ContextTasks, pick
from InteractiveSegLib.training.export import export
from InteractiveSegLib.training.loop import Trainer
from InteractiveSegLib.training.recipes import multiverseg as recipe_module
from InteractiveSegLib.training.recipes.multiverseg import MultiverSegRecipe
from InteractiveSegLib.training.recipes.universeg import UniverSegRecipe
from InteractiveSegLib.training.tasks import slice_refs

BRIGHT, DARK = 1, 2


def pictures(name, subjects, rng):
    """Two pictures per subject: a bright and a dark disk on grey, a brightness of its own for each subject."""
    dataset = DataSet(name, {BRIGHT: "bright", DARK: "dark"}, "CC0", "photo")
    for n in range(2 * subjects):
        labels = np.zeros((48, 48), np.uint8)
        labels[ellipsoid((48, 48), rng.uniform(12, 36, 2), rng.uniform(5, 9, 2))] = BRIGHT
        labels[ellipsoid((48, 48), rng.uniform(12, 36, 2), rng.uniform(5, 9, 2)) & (labels == 0)] = DARK
        image = np.array([120, 220, 20])[labels] + rng.normal(0, 4, labels.shape)
        dataset.cases.append(Case(np.clip(image, 0, 255).astype(np.uint8), labels, f"s{n // 2}", (1.0, 1.0)))
    return dataset


@pytest.fixture(scope="module")
def datasets():
    return [pictures("disks", 6, np.random.default_rng(0)), pictures("lonely", 1, np.random.default_rng(1))]


@pytest.fixture(scope="module")
def bundle(datasets, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "train.bundle"
    write_bundle(iter(datasets), path)
    return path


def a_recipe(bundle, make=MultiverSegRecipe, **changes):
    """A recipe that learns the disks in seconds."""
    settings = {"features": (8, 16), "size": 32, "entries": 12, "largest_context": 3, "warmup_steps": 5,
                "learning_rate": 5e-3, "ema_decay": 0.9, "quarter_size_until": 0.0, **changes}
    return make(bundle, **settings)


def the_images(source, count):
    return [source(n)[0] for n in range(count)]


def test_a_task_shows_of_every_volume_the_middle_slice_the_largest_one_or_any():
    areas = np.arange(1, 9) * 20
    labels = np.zeros((8, 20, 20), np.uint8)
    for k, area in enumerate(areas):
        labels[k].flat[:area] = BRIGHT
    case = Case(labels * 100, labels, "s", (5.0, 1.0, 1.0))
    refs, rng = slice_refs(case, BRIGHT), np.random.default_rng(0)
    drawn = [{int((pick(refs, way, rng).read()[1] == BRIGHT).sum()) for _ in range(30)} for way in (0.0, 0.3, 0.9)]
    assert drawn[0] == {100} and drawn[1] == {160} and len(drawn[2]) > 4


def test_no_example_is_of_the_targets_subject(datasets):
    tasks = ContextTasks(datasets, 32)
    owner = {context_samples.normalise(case.image).tobytes(): case.subject for case in datasets[0].cases}
    for seed in range(20):
        images = the_images(tasks.real(np.random.default_rng(seed)), 12)
        subjects = [owner[image.tobytes()] for image in images]
        assert subjects[0] not in subjects[1:]
        assert len(set(subjects)) == 6


def test_a_set_of_one_subject_gives_no_real_task(datasets):
    tasks = ContextTasks(datasets, 32)
    assert len(tasks.tasks) == 1
    with_superpixels = {id(ref.case) for found in tasks.slices.tasks for refs in found.values() for ref in refs}
    assert {id(case) for case in datasets[1].cases} <= with_superpixels


def test_all_masks_of_a_task_show_the_same_structure(datasets, monkeypatch):
    monkeypatch.setattr(context_samples, "SYNTHETIC_SHARE", 0.0)
    monkeypatch.setattr(context_samples, "UNION_SHARE", 0.0)
    monkeypatch.setattr(context_samples, "EDGE_SHARE", 0.0)
    tasks, kinds = ContextTasks(datasets, 48), []
    for seed in range(25):
        images, truths = tasks.draw(np.random.default_rng(seed), 5)
        contrasts = [image[truth].mean() - np.median(image[image > 0]) for image, truth in zip(images, truths)]
        kinds.append(np.sign(contrasts))
    agreement = np.abs(np.mean(kinds, axis=1))
    assert np.mean(agreement == 1) > 0.7, "bright and dark disks never meet in one task"
    assert {1.0, -1.0} <= {float(kind[0]) for kind in kinds}


def test_a_synthetic_task_shows_one_image_many_times(datasets):
    tasks = ContextTasks(datasets, 32)
    for seed in range(6):
        source = tasks.synthetic(np.random.default_rng(seed))
        assert all(np.array_equal(a, b) for a, b in zip(source(0)[:2], source(3)[:2]))
        assert source(0)[1].any()


def test_a_task_mirrors_all_its_images_alike_and_bends_each_its_own_way():
    image = np.zeros((40, 40), np.float32)
    image[4:12, 6:30], image[4:30, 6:12] = 1.0, 1.0  # an L, which no turn makes its mirror image
    mirrored = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        view = context_samples.TaskView.draw(rng, wild=False)
        shown = [view.show((image, image > 0, (1.0, 1.0)), rng, 40)[1] for _ in range(4)]
        corners = [np.sign(np.array([20, 20]) - np.argwhere(truth).mean(axis=0)) for truth in shown if truth.any()]
        if view.reach is None:
            assert all(np.array_equal(corner, corners[0]) for corner in corners)
            mirrored += not np.array_equal(corners[0], [1, 1])
        assert not np.array_equal(shown[0], shown[1])
    assert mirrored


def test_saturated_images_stay_between_0_and_1():
    image = np.ones((50, 50), np.float32)
    image[10:20] = 0.3
    for seed in range(60):
        rng = np.random.default_rng(seed)
        seen, _ = context_samples.TaskView.draw(rng, wild=True).show((image, image < 0.5, (1.0, 1.0)), rng, 32)
        assert 0 <= seen.min() <= seen.max() <= 1, "rounding under 0 would become nan in the next change of gamma"


def test_a_batch_has_as_many_images_as_asked_and_every_size_of_context_is_as_likely(datasets):
    tasks = ContextTasks(datasets, 32)
    stream = iter(ContextStream(tasks, 0, entries=12, largest=9, damaged_share=0.5))
    sizes, damaged = [], 0
    for _ in range(40):
        images, truths, masks = next(stream)
        assert images.shape == truths.shape == masks.shape
        assert images.shape[0] == 12 // images.shape[1]
        sizes.append(images.shape[1] - 1)
        damaged += int((truths != masks).flatten(2).any(dim=2).sum())
    assert min(sizes) == 1
    assert max(sizes) == 9
    assert 4 < np.mean(sizes) < 6
    assert damaged > 20


@pytest.mark.parametrize(("make", "rate"), [(MultiverSegRecipe, 5e-3), (UniverSegRecipe, 2e-3)])
def test_training_lowers_the_loss_and_resumes(bundle, tmp_path, make, rate):
    recipe = a_recipe(bundle, make, learning_rate=rate)
    stream = recipe.batches(7, 0)
    unseen = [next(stream) for _ in range(4)]

    def mean_loss(network):
        return float(np.mean([figures["loss"] for batch in unseen for _, figures in recipe.losses(network, batch, 1.0)]))

    first = Trainer(recipe, tmp_path)
    before = mean_loss(first.model)
    first.train(steps=60, workers=0)
    assert mean_loss(first.ema.module) < 0.85 * before
    again = Trainer(recipe, tmp_path)
    assert again.step == first.step >= 60
    assert all(torch.equal(a, b) for a, b in zip(first.model.state_dict().values(), again.model.state_dict().values()))


def test_small_canvases_come_first(bundle):
    recipe = a_recipe(bundle, quarter_size_until=0.3)
    batch = next(recipe.batches(0, 0))
    sides = [recipe.prepare(batch, progress)[0].shape[-1] for progress in (0.0, 0.5, 0.95)]
    assert sides == [8, 16, 32]


@pytest.mark.parametrize("make", [MultiverSegRecipe, UniverSegRecipe])
def test_a_batch_whose_targets_are_too_small_for_a_small_canvas_is_passed_over(bundle, make):
    recipe = a_recipe(bundle, make)
    truths = torch.zeros(1, 3, 32, 32, dtype=torch.bool)
    truths[:, :, 5, 5] = True
    assert list(recipe.losses(recipe.build(), [torch.rand(1, 3, 32, 32), truths, truths], 0.5)) == []


def test_the_first_answer_is_asked_without_a_prompt_or_with_one(bundle):
    def first_prompts(silent_share):
        recipe, seen = a_recipe(bundle, silent_share=silent_share), []
        network = recipe.build()
        network.register_forward_pre_hook(lambda module, args: seen.append(args[0][:, 1:4].flatten(1).sum(dim=1)))
        list(recipe.losses(network, next(recipe.batches(0, 0)), 1.0))
        return seen

    silent, spoken = first_prompts(1.0), first_prompts(0.0)
    assert not silent[0].any()
    assert silent[1].any()
    assert spoken[0].all()


def test_where_universeg_is_shipped_answers_to_no_prompt_learn_from_its_answers_too(bundle, monkeypatch):
    def asked(there, silent_share):
        taught = []

        def from_examples(image, support):
            taught.append(len(image))
            return torch.zeros_like(image)

        monkeypatch.setattr(recipe_module, "is_shipped", lambda family: there)
        monkeypatch.setattr(recipe_module, "from_examples", from_examples)
        recipe = a_recipe(bundle, silent_share=silent_share)
        batch = next(recipe.batches(0, 0))
        torch.manual_seed(0)
        losses = [figures["loss"] for _, figures in recipe.losses(recipe.build(), batch, 1.0)]
        return len(taught), len(losses), losses[0]

    with_it, without = asked(True, 1.0), asked(False, 1.0)
    assert with_it[0] == with_it[1] - 2, "all answers but the two corrections"
    assert without[0] == 0 and with_it[2] > 1.5 * without[2]
    assert asked(True, 0.0)[0] == with_it[0] - 1, "the first one is prompted, too"


def test_the_previous_prediction_of_a_prompted_sample_is_scribbleprompts(bundle):
    recipe, seen = a_recipe(bundle, silent_share=0.0), []
    network = recipe.build()
    network.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    list(recipe.losses(network, next(recipe.batches(0, 0)), 1.0))
    clicked = seen[0][:, 2] > 0
    assert clicked.any()
    assert (seen[0][:, 4][clicked] > 0).float().mean() > 0.8


def test_the_answer_is_the_previous_one_and_what_the_network_adds(bundle):
    network = a_recipe(bundle).build()
    for parameter in network.out_conv.parameters():
        torch.nn.init.zeros_(parameter)
    target = torch.randn(2, 5, 16, 16)
    assert torch.equal(network(target, torch.rand(2, 3, 2, 16, 16)), target[:, 4:])


def test_an_exported_run_is_loaded_as_a_network_of_its_widths(bundle, tmp_path, monkeypatch):
    trainer = Trainer(a_recipe(bundle), tmp_path / "run")
    trainer.train(steps=3, workers=0)
    monkeypatch.setenv("INTERACTIVESEG_MODELS", str(tmp_path))
    monkeypatch.setattr(export_module, "find_recipe", {"multiverseg": a_recipe}.get)
    network = load(export(tmp_path / "run", bundle, "tiny", None), "cpu").network
    assert network.config.features == (8, 16)
    assert network.config.refines
    assert "largest context: 3" in (tmp_path / "tiny.md").read_text()
