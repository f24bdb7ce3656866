"""Training VerSe: what a view of a heart shows, what is clicked in it, what one step changes, what an ablation leaves out."""
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from shapes import ellipsoid

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.device import FLOAT32
from InteractiveSegLib.evaluation.metrics import dice
from InteractiveSegLib.models import verse
from InteractiveSegLib.models.verse.decoder import Parts
from InteractiveSegLib.models.verse.network import VerSeConfig, build
from InteractiveSegLib.models.verse.queries import pad_clicks
from InteractiveSegLib.training.bundle import Case, DataSet, write_bundle
from InteractiveSegLib.training.cardiac import CLICKS_ONLY, TARGETS, Hearts
from InteractiveSegLib.training.export import save_average, sets_read
from InteractiveSegLib.training.loop import Trainer, read_log
from InteractiveSegLib.training.recipes.verse import UNetPeerRecipe, VerSeRecipe, WithoutSemanticQueries, next_clicks

SHAPE = (6, 80, 72)
LV, MYOCARDIUM, RV, SCAR = (TARGETS.index(name) for name in ("LV", "myocardium", "RV", "scar"))


def a_heart():
    """A case as ACDC has it, 1 RV, 2 myocardium, 3 LV; the last slice is empty, the expert drew on the others."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[ellipsoid(SHAPE, (2, 40, 36), (3.5, 20, 20))] = 2
    labels[ellipsoid(SHAPE, (2, 40, 36), (3.5, 12, 12))] = 3
    labels[ellipsoid(SHAPE, (2, 40, 62), (3.5, 14, 6)) & (labels == 0)] = 1
    labels[5] = 0
    image = np.random.default_rng(0).normal(60, 8, SHAPE) + 60 * (labels == 3) + 40 * (labels == 1)
    scribbles = np.full(SHAPE, 4, np.uint8)
    scribbles[:5, 38:42, 30:42] = 3
    scribbles[:5, 38:42, 61:63] = 1
    scribbles[:5, 5:7, 5:60] = 0
    return Case(image.clip(0, 255).astype(np.uint8), labels, "one", (10.0, 1.5, 1.5), scribbles)


def lge():
    """A slice as EMIDEC has it: 1 LV, 2 myocardium, 3 infarct."""
    case = a_heart()
    labels = np.array([0, 0, 2, 1], np.uint8)[case.labels[2]]
    labels[20:32, 30:44][labels[20:32, 30:44] == 2] = 3
    return Case(case.image[2], labels, "two", (1.0, 1.0))


def datasets():
    return [DataSet("3d_acdc_cine_train", {1: "RV", 2: "myocardium", 3: "LV cavity"}, "", "MR", [a_heart()]),
            DataSet("2d_emidec_lge_scar_train", {1: "LV", 2: "myocardium", 3: "scar"}, "", "MR", [lge()]),
            DataSet("2d_hvsmr_heart", {1: "myocardium", 2: "blood pool"}, "", "MR", [lge()])]


@pytest.fixture(scope="module")
def views():
    rng, hearts = np.random.default_rng(1), Hearts(datasets())
    return [hearts.draw(rng, 64, by_name=n % 2 == 0) for n in range(160)]


def test_views_by_name_show_every_known_target_and_slices_without_it(views):
    named = [view for view in views if view.target != CLICKS_ONLY]
    assert {view.target for view in named} == {LV, MYOCARDIUM, RV, SCAR}, "edema and the atrium have no data here"
    empty = [view for view in named if not view.truth.any()]
    assert 0 < len(empty) < len(named) / 3
    assert all(view.truth.any() for view in views if view.target == CLICKS_ONLY), "what is absent cannot be clicked"


def test_a_view_is_the_slice_with_its_labels_and_an_experts_strokes(views):
    for view in views:
        assert view.image.shape == view.truth.shape == (64, 64) and view.image.min() >= 0 and view.image.max() <= 1
        if view.target in (LV, RV, SCAR):
            assert np.array_equal(view.truth, view.labels == view.target + 1) and view.known[view.target]
        if view.target == MYOCARDIUM:
            assert np.array_equal(view.truth, np.isin(view.labels, (MYOCARDIUM + 1, SCAR + 1))), "a scar is myocardium"
        assert not (view.truth & (view.strokes == 2)).any() and not (~view.truth & (view.strokes == 1)).any()
    assert any((view.strokes == 1).any() for view in views) and not any(view.known[TARGETS.index("edema")] for view in views)


def test_vessels_of_a_ct_are_no_part_of_the_heart():
    labels = np.zeros((200, 200), np.uint8)
    for label, row, column in ((1, 60, 60), (2, 60, 100), (3, 90, 60), (4, 90, 100), (5, 30, 80), (6, 160, 100)):
        labels[row:row + 24, column:column + 24] = label
    labels[100:103, 10:13] = 3  # a vein in the lung
    above = np.where(labels == 6, labels, 0)
    cases = [Case(labels * 30, labels, subject, (1.0, 1.0)) for subject, labels in (("one", labels), ("one", above))]
    hearts = Hearts([DataSet("2d_sa_chd_heart_ct", dict(enumerate("abcdef", 1)), "", "", cases)])
    heart = np.where(labels == 6, 0, labels)
    heart[100:103, 10:13] = 0
    assert [np.array_equal(case.labels[0], heart) for case in hearts.cases[0]] == [True], "the slice above shows no heart"
    rng = np.random.default_rng(0)
    named = [hearts.draw(rng, 64, by_name=True) for _ in range(40)]
    assert {view.target for view in named} == {LV, RV, TARGETS.index("LA")}, "its myocardium is of both ventricles"
    clicked = [hearts.draw(rng, 64, by_name=False) for _ in range(40)]
    assert {view.target for view in clicked} == {CLICKS_ONLY}
    assert any(not (view.truth & (view.labels > 0)).any() for view in clicked), "what has no name is found by clicks"


def test_a_bundle_without_hearts_is_refused():
    with pytest.raises(InteractiveSegError, match="holds no hearts"):
        Hearts([DataSet("2d_drive_vessel", {1: "vessel"}, "", "", [lge()])])


def test_clicks_go_where_the_mask_is_wrong():
    truth, mask = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    truth[10:30, 10:30] = mask[10:30, 10:20] = mask[50:60, 50:60] = True
    nothing = np.zeros((64, 64), np.uint8)
    for seed in range(20):
        row, column, positive = next_clicks(truth, None, nothing, seed)[0]
        assert positive and truth[row, column], "the first click lies on the structure"
        for row, column, positive in next_clicks(truth, mask, nothing, seed):
            assert truth[row, column] == positive and mask[row, column] != positive
    assert next_clicks(truth, truth, nothing, 0) == []


def test_some_second_passes_begin_after_many_clicks_with_a_mask_that_is_nearly_right():
    truths = np.zeros((60, 64, 64), bool)
    truths[:, 20:44, 16:50] = True
    truths[::4] = False
    clicks, previous = [[] for _ in truths], torch.zeros(60, 1, 64, 64)
    VerSeRecipe("", late_share=0.5).begin_late(truths, clicks, previous, np.random.default_rng(0))
    late = [n for n in range(60) if clicks[n]]
    assert 15 < len(late) < 30 and not any(n % 4 == 0 for n in late), "nothing can be clicked where nothing is"
    assert max(len(clicks[n]) for n in late) > 6
    for n in range(60):
        assert all(truths[n, row, column] == positive for row, column, positive in clicks[n])
        assert (dice(truths[n], previous[n, 0].numpy() > 0.5) > 0.8) if clicks[n] else not previous[n].any()
    assert min(dice(truths[n], previous[n, 0].numpy() > 0.5) for n in late) < 0.96


@pytest.mark.parametrize("recipe, options", [
    (VerSeRecipe, {"base": 8, "width": 32, "feedforward": 32, "rounds": 1}),
    (UNetPeerRecipe, {"channels": (4, 8, 8, 8)}),
], ids=["verse", "U-Net"])
@pytest.mark.parametrize("progress", [0.0, 0.24, 0.3, 0.99], ids=["encoder, half size", "encoder", "half size", "full size"])
def test_steps_of_training_lower_the_loss_on_the_same_batch(tmp_path, recipe, options, progress):
    write_bundle(iter(datasets()), tmp_path / "hearts.bundle")
    torch.manual_seed(0)
    recipe = recipe(tmp_path / "hearts.bundle", batch=4, size=128, **options)
    model, batches = recipe.build().train(), recipe.batches(seed=3, workers=0)
    batch = next(batch for batch in batches if (batch[2] >= 0).all() and batch[1].flatten(1).any(dim=1).all())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(4):
        for loss, figures in recipe.losses(model, batch, progress):
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(next(value for name, value in figures.items() if name.startswith("loss")))
    assert losses[-1] < losses[0] and np.isfinite(losses).all()


def test_the_teacher_trains_the_encoder_first_and_is_neither_saved_nor_asked_for(tmp_path):
    write_bundle(iter(datasets()), tmp_path / "hearts.bundle")
    recipe = VerSeRecipe(tmp_path / "hearts.bundle", base=8, width=32, feedforward=32, rounds=1, batch=2)
    trainer = Trainer(recipe, tmp_path / "run")
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.progress = 0.1
    trainer.train_batch(next(recipe.batches(0, 0)))
    moved = {name.split(".")[0] for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert {"backbone", "teacher"} <= moved
    trainer.save()
    about, tensors = save_average(tmp_path / "run", tmp_path / "weights.safetensors")
    assert about["family"] == "verse" and not any("teacher" in name for name in tensors)
    assert verse.load(tmp_path / "weights.safetensors", "cpu").untrained == ()
    again = Trainer(recipe, tmp_path / "again", start=tmp_path / "weights.safetensors")
    queries = "sem_seg_head.predictor.query_feat.weight"
    assert torch.equal(again.model.get_parameter(queries), trainer.ema.module.get_parameter(queries).half().float())


def test_a_card_names_the_hearts_of_the_bundle_alone(tmp_path):
    write_bundle(iter([*datasets(), DataSet("2d_drive_vessel", {1: "vessel"}, "", "fundus", [lge()])]), tmp_path / "all.bundle")
    assert [d.name for d in sets_read("verse", tmp_path / "all.bundle")] == [d.name for d in datasets()]
    assert len(sets_read("scribbleprompt", tmp_path / "all.bundle")) == 4


def test_a_log_has_the_figures_of_every_stage_in_columns_of_their_own(tmp_path):
    write_bundle(iter(datasets()), tmp_path / "hearts.bundle")
    recipe = VerSeRecipe(tmp_path / "hearts.bundle", base=8, width=32, feedforward=32, rounds=1, batch=2)
    trainer = Trainer(recipe, tmp_path / "run")
    trainer.figures = {"loss, encoder": 4.0}
    trainer.write_log(0.1)
    trainer.figures["loss"] = 3.0
    trainer.write_log(0.1)
    first, second = read_log(tmp_path / "run" / "log.csv")
    assert (first["loss, encoder"], first["loss"]) == ("4.0", "") and (second["loss, encoder"], second["loss"]) == ("4.0", "3.0")
    (tmp_path / "old.csv").write_text("step,loss\n50,1.5,0.7\n")
    assert read_log(tmp_path / "old.csv") == [{"step": "50", "loss": "1.5"}], "a log that named too few figures can be read"


def test_weights_with_batch_norms_start_a_network_with_norms_by_image(tmp_path):
    write_bundle(iter(datasets()), tmp_path / "hearts.bundle")
    shape = {"base": 8, "width": 32, "feedforward": 32, "rounds": 1}
    old = build(VerSeConfig(**shape, targets=len(TARGETS))).state_dict()
    save_file(old, tmp_path / "old.safetensors")
    trainer = Trainer(VerSeRecipe(tmp_path / "hearts.bundle", **shape), tmp_path / "run", start=tmp_path / "old.safetensors")
    assert any("running" in name for name in old) and not any("running" in name for name in trainer.model.state_dict())
    for name, value in trainer.model.named_parameters():
        assert name.startswith("teacher.") or torch.equal(value, old[name]), name


def test_an_ablation_begins_from_the_whole_networks_weights_without_its_part(tmp_path):
    write_bundle(iter(datasets()), tmp_path / "hearts.bundle")
    shape = {"base": 8, "width": 32, "feedforward": 32, "rounds": 1, "batch": 2}
    whole, start = VerSeRecipe(tmp_path / "hearts.bundle", **shape).build(), tmp_path / "whole.safetensors"
    save_file({k: v for k, v in whole.state_dict().items() if not k.startswith("teacher.")}, start)
    part = Trainer(WithoutSemanticQueries(tmp_path / "hearts.bundle", **shape), tmp_path / "run", start=start)
    queries = "sem_seg_head.predictor.query_feat.weight"
    assert torch.equal(part.model.get_parameter(queries), whole.get_parameter(queries))
    assert not any("semantic_query" in name for name in part.model.state_dict())
    with pytest.raises(InteractiveSegError, match="does not fit"):  # but not of another shape
        Trainer(WithoutSemanticQueries(tmp_path / "hearts.bundle"), tmp_path / "other", start=start)


@pytest.mark.parametrize("parts, gone", [
    (Parts(semantic=False), "semantic_query"),
    (Parts(background=False), "neg_transformer"),
    (Parts(residual=False), "sample_layer"),
], ids=["no semantic queries", "one masked branch", "no residual"])
def test_an_ablated_network_lacks_its_part_trains_the_rest_and_loads_as_what_it_is(tmp_path, parts, gone, monkeypatch):
    monkeypatch.setenv(FLOAT32, "1")
    torch.manual_seed(0)
    network = build(VerSeConfig(base=8, width=32, feedforward=32, parts=parts)).eval()
    assert not any(gone in key for key in network.state_dict())
    clicks = pad_clicks([[(20, 30)]], True), pad_clicks([[(40, 9)]], False)
    image, prompts = torch.rand(1, 1, 64, 64), torch.rand(1, 3, 64, 64)
    sum(x.square().mean() for x in network(image, prompts, torch.tensor([0]), clicks)).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == [], "every weight that is left is used"
    torch.save(network.state_dict(), tmp_path / "own.pth")
    loaded = verse.load(tmp_path / "own.pth", "cpu")
    assert loaded.config.parts == parts and loaded.untrained == ()
    torch.testing.assert_close(loaded(image, prompts, None, clicks)[-1], network(image, prompts, None, clicks)[-1])
