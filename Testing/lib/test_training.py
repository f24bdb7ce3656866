"""Training as an engineer runs it: pack, train, stop, resume, export. Tiny networks on generated data."""
import csv
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from shapes import ellipsoid

from InteractiveSegLib import Click, InteractiveSegError, InteractiveSession, device
from InteractiveSegLib.cli import main
from InteractiveSegLib.training import export as export_module
from InteractiveSegLib.training.augment import carried, damaged
from InteractiveSegLib.training.bundle import read_bundle
from InteractiveSegLib.training.loop import Trainer
from InteractiveSegLib.training.recipes.scribbleprompt import ScribblePromptRecipe
from InteractiveSegLib.training.samples import draw_sample
from InteractiveSegLib.training.simulate import correction, opening
from InteractiveSegLib.training.tasks import Tasks
from InteractiveSegLib.weights import sha256


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two packs as the data folder holds them: eight pictures of disks, one volume with an ellipsoid and scribbles."""
    folder = tmp_path_factory.mktemp("packs")
    rng = np.random.default_rng(0)
    masks = np.stack([ellipsoid((64, 64), rng.uniform(20, 44, 2), rng.uniform(6, 14, 2)) for _ in range(8)]).astype(np.uint8)
    images = np.clip(80 + 90 * masks + rng.normal(0, 6, masks.shape), 0, 255).astype(np.uint8)
    np.savez(folder / "2d_disks.npz", images=images, masks=masks, roi_yxhw=np.tile([4, 0, 60, 64], (8, 1)),
             subject=[f"s{n % 4}" for n in range(8)], labels=json.dumps({"1": "disk"}))
    labels = 3 * ellipsoid((9, 40, 30), (4, 20, 15), (3, 9, 8)).astype(np.uint8)
    index = [{"key": "a", "subject": "a", "spacing_zyx_mm": [5.0, 1.0, 1.0]}]
    np.savez(folder / "3d_egg.npz", index=json.dumps(index), img_a=labels * 60, lab_a=labels, scr_a=labels // 3 + 3,
             labels=json.dumps({"3": "egg"}))
    (folder / "manifest.json").write_text(json.dumps([{"name": "2d_disks", "licence": "CC0", "modality": "photo"}]))
    return folder


@pytest.fixture(scope="module")
def bundle(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "train.bundle"
    assert main(["data", "pack", str(folder), "-o", str(path)]) == 0
    return path


def a_recipe(bundle):
    return ScribblePromptRecipe(bundle, features=(8, 16), size=32, batch=4, warmup_steps=10, learning_rate=3e-3, ema_decay=0.9)


def test_the_bundle_gives_back_what_was_packed(folder, bundle):
    disks, egg = read_bundle(bundle)
    pack = np.load(folder / "2d_disks.npz")
    assert (disks.name, disks.licence, disks.labels) == ("2d_disks", "CC0", {1: "disk"})
    assert len(disks.cases) == 8
    assert disks.cases[5].subject == "s1"
    assert np.array_equal(disks.cases[5].labels, pack["masks"][5, 4:])
    error = disks.cases[5].image.astype(float) - pack["images"][5, 4:]
    assert np.abs(error).mean() < 4
    volume = np.load(folder / "3d_egg.npz")
    assert np.array_equal(egg.cases[0].labels, volume["lab_a"])
    assert np.array_equal(egg.cases[0].scribbles, volume["scr_a"])
    assert egg.cases[0].spacing == (5.0, 1.0, 1.0)


def test_a_file_that_is_no_bundle_is_refused(tmp_path):
    (tmp_path / "x").write_text("no")
    with pytest.raises(InteractiveSegError, match="data pack"):
        read_bundle(tmp_path / "x")
    with pytest.raises(InteractiveSegError, match="pack"):
        main_error = tmp_path / "empty"
        main_error.mkdir()
        from InteractiveSegLib.training.bundle import list_packs

        list_packs(main_error)


def test_samples_show_the_target_that_they_are_labelled_with(bundle):
    tasks = Tasks([d for d in read_bundle(bundle) if d.name == "2d_disks"])
    rng = np.random.default_rng(1)
    for _ in range(20):
        image, target, _ = tasks.draw(rng)
        assert image[target].mean() > image[~target].mean() + 50
        sample, truth = draw_sample(tasks, rng, 32)
        assert sample.shape == truth.shape == (32, 32)
        assert 0 <= sample.min() <= sample.max() <= 1
        assert truth.any()
        assert not truth.all()


def test_a_mask_carried_from_another_slice_is_moved_larger_or_smaller_and_never_gone():
    truth = ellipsoid((64, 48), (30, 26), (12, 9))
    rng = np.random.default_rng(0)
    masks = [carried(truth, rng) for _ in range(60)]
    assert all(mask.shape == truth.shape and mask.dtype == bool and mask.any() for mask in masks)
    sizes = [mask.sum() / truth.sum() for mask in masks]
    assert min(sizes) < 0.7 and max(sizes) > 1.5
    middles = np.array([np.argwhere(mask).mean(axis=0) for mask in masks])
    assert (np.abs(middles - (30, 26)).max(axis=0) > 2).all()
    quality = [2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for mask in masks]
    assert 0.4 < np.median(quality) < 0.85, "wrong enough to correct, near enough to start from"


def test_simulated_prompts_tell_the_truth():
    truth = ellipsoid((64, 64), (30, 30), (14, 10))
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mask = damaged(truth, rng)
        for prompt in opening(truth, rng) + correction(truth, mask, rng):
            if isinstance(prompt, Click):
                assert truth[prompt.position] == prompt.positive


def test_training_learns_resumes_and_ends_as_weights_that_a_session_uses(bundle, tmp_path, monkeypatch):
    run = tmp_path / "run"
    first = Trainer(a_recipe(bundle), run)
    first.train(steps=60, workers=0)
    again = Trainer(a_recipe(bundle), run)
    assert again.step == first.step >= 60
    assert all(torch.equal(a, b) for a, b in zip(first.model.state_dict().values(), again.model.state_dict().values()))
    momenta = [[state["exp_avg"] for state in trainer.optimizer.state.values()] for trainer in (first, again)]
    assert len(momenta[0]) == len(momenta[1]) > 0
    assert all(torch.equal(a, b) for a, b in zip(*momenta))
    again.train(steps=60, workers=0)
    fresh = Trainer(a_recipe(bundle), tmp_path / "fresh").model.state_dict()
    assert not any(torch.equal(fresh[k], v) for k, v in again.ema.module.state_dict().items()), "the average is trained too"
    with (run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert (run / "curve.png").stat().st_size > 1000

    monkeypatch.setenv("INTERACTIVESEG_MODELS", str(tmp_path))
    monkeypatch.setattr(export_module, "find_recipe", {"scribbleprompt": a_recipe}.get)
    assert main(["models", "export", str(run), "--bundle", str(bundle), "--id", "tiny", "--notes", "Made by a test."]) == 0
    path = tmp_path / "tiny.safetensors"
    assert "Made by a test." in path.with_suffix(".md").read_text()
    assert "| 2d_disks | photo | 8 | 4 | CC0 |" in path.with_suffix(".md").read_text()
    assert licence_in(tmp_path, "tiny").startswith("research use only"), "the egg's licence is not stated"
    onward = Trainer(a_recipe(bundle), tmp_path / "onward", start=path)
    averaged = again.ema.module.state_dict()
    assert all(torch.allclose(averaged[k], v, atol=1e-3) for k, v in onward.model.state_dict().items())
    session = InteractiveSession(np.zeros((40, 40)), weights=path)
    session.add(Click((20, 20)))
    assert session.mask[20, 20]


def test_what_is_shipped_can_be_the_mean_of_a_run_and_of_what_it_began_from(bundle, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "new" / "models"  # not there yet
    monkeypatch.setenv("INTERACTIVESEG_MODELS", str(folder))
    monkeypatch.setattr(export_module, "find_recipe", {"scribbleprompt": a_recipe}.get)

    def shipped(identifier, *options):
        assert main(["models", "export", str(tmp_path / "run"), "--bundle", str(bundle), "--id", identifier, *options]) == 0
        return load_file(folder / f"{identifier}.safetensors")

    Trainer(a_recipe(bundle), tmp_path / "run").train(steps=4, workers=0)
    first = shipped("first")
    Trainer(a_recipe(bundle), tmp_path / "run").train(steps=40, workers=0)
    second, between = shipped("second"), shipped("between", "--mean-with", str(folder / "first.safetensors"))
    assert any(not torch.equal(first[k], second[k]) for k in first)
    assert all(torch.allclose(between[k].float(), (first[k].float() + second[k].float()) / 2, atol=1e-3) for k in first)
    digest = sha256(folder / "first.safetensors")
    assert f"The mean of what this run came to and `{digest[:8]}`." in (folder / "between.md").read_text()
    save_file({"another": torch.zeros(2)}, tmp_path / "another.safetensors")
    assert main(["models", "export", str(tmp_path / "run"), "--bundle", str(bundle), "--id", "wrong", "--mean-with",
                 str(tmp_path / "another.safetensors")]) == 1
    assert "holds another network than the run" in capsys.readouterr().err


def licence_in(folder, identifier):
    (entry,) = [entry for entry in json.loads((folder / "manifest.json").read_text()) if entry["id"] == identifier]
    assert f"Licence of the weights: {entry['licence']}." in (folder / entry["card"]).read_text()
    return entry["licence"]


def test_weights_are_for_commercial_use_when_everything_they_were_made_from_is(folder, bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INTERACTIVESEG_MODELS", str(tmp_path))
    monkeypatch.setattr(export_module, "find_recipe", {"scribbleprompt": a_recipe}.get)
    free = tmp_path / "free.bundle"
    assert main(["data", "pack", str(folder), "--licence", "commercial", "-o", str(free)]) == 0
    assert "left out: 3d_egg (not stated: not stated)" in capsys.readouterr().out
    assert [d.name for d in read_bundle(free)] == ["2d_disks"]

    def export(name, given, *cycles, start=None):
        for read in cycles:
            Trainer(a_recipe(read), tmp_path / name, start=start).train(steps=4, workers=0)
        return main(["models", "export", str(tmp_path / name), "--bundle", str(given), "--id", name])

    assert export("ours", free, free, free) == 0
    assert licence_in(tmp_path, "ours").startswith("commercial use allowed")
    assert export("mixed", free, bundle, free) == 0
    assert export("onward", free, free, start=tmp_path / "mixed.safetensors") == 0
    for name in ("mixed", "onward"):
        assert licence_in(tmp_path, name).startswith("research use only"), "what went in before counts too"
    assert export("further", free, free, start=tmp_path / "ours.safetensors") == 0
    assert licence_in(tmp_path, "further").startswith("commercial use allowed")
    capsys.readouterr()
    assert export("wrong", free, bundle) == 1
    assert "give the bundle that it read" in capsys.readouterr().err
    assert not (tmp_path / "wrong.safetensors").exists()


def test_an_interrupted_cycle_goes_on_where_it_stopped(bundle, tmp_path):
    trainer = Trainer(a_recipe(bundle), tmp_path)
    trainer.progress = 0.5
    trainer.save()
    resumed = Trainer(a_recipe(bundle), tmp_path)
    assert resumed.progress == 0.5
    assert resumed.learning_rate() < 0.6 * resumed.recipe.learning_rate
    resumed.progress = 1.0
    resumed.save()
    assert Trainer(a_recipe(bundle), tmp_path).progress == 0, "a finished cycle is followed by a new one"


def test_batch_norms_end_with_what_the_averaged_network_sees(tmp_path):
    class Bright:
        bundle, name, learning_rate, weight_decay, warmup_steps, ema_decay = tmp_path, "bright", 1e-3, 0.0, 1, 0.9

        def build(self):
            return torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Conv2d(1, 1, 1))

        def batches(self, seed, workers):
            while True:
                yield [5 + 2 * torch.randn(8, 1, 16, 16)]

        def losses(self, model, batch, progress):
            yield model(batch[0]).square().mean(), {}

    trainer = Trainer(Bright(), tmp_path / "run")
    trainer.train(steps=2)
    norm = trainer.ema.module[0]
    assert norm.running_mean.item() == pytest.approx(5, abs=0.1) and norm.running_var.item() == pytest.approx(4, abs=0.3)


def test_a_run_of_another_network_is_refused(bundle, tmp_path):
    Trainer(a_recipe(bundle), tmp_path).save()
    other = ScribblePromptRecipe(bundle, features=(4, 4), size=32)
    with pytest.raises(InteractiveSegError, match="another recipe"):
        Trainer(other, tmp_path)


def test_an_unknown_family_is_named_in_the_error(bundle, capsys):
    assert main(["train", "nonsense", "--bundle", str(bundle), "--minutes", "1"]) == 1
    assert "scribbleprompt" in capsys.readouterr().err


def test_families_train_together_each_in_its_own_run_and_a_failure_is_told(bundle, tmp_path, capsys):
    words = ["--bundle", str(bundle), "--steps", "1", "--device", "cpu", "--threads", "1", "--workers", "0", "--together"]
    # The tiny bundle has no hearts: VerSe has nothing to learn from.
    assert main(["train", "scribbleprompt,verse", "--runs", str(tmp_path), *words]) == 1
    said = capsys.readouterr().out
    assert (tmp_path / "scribbleprompt" / "checkpoint.pt").exists()
    assert not (tmp_path / "verse" / "checkpoint.pt").exists()
    assert "scribbleprompt: " in said
    assert "4 steps, " in said  # one for each interaction of a batch
    assert "verse: interactive-seg: " in said


def test_a_network_that_learns_from_another_ones_answers_remembers_whose(bundle, tmp_path):
    from InteractiveSegLib.training.recipes.multiverseg import MultiverSegRecipe
    from InteractiveSegLib.weights import sha256, shipped_file

    trainer = Trainer(MultiverSegRecipe(bundle, features=(4, 4), size=16), tmp_path)
    assert trainer.sources == [sha256(bundle), *(sha256(shipped_file(name)) for name in ("scribbleprompt", "universeg"))]


@pytest.mark.parametrize("has_units", [True, False])
def test_a_processor_trains_in_bfloat16_only_where_it_multiplies_it_itself(bundle, monkeypatch, has_units):
    monkeypatch.delenv(device.FLOAT32, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_units, raising=False)
    recipe = a_recipe(bundle)
    network, batch = recipe.build(), next(recipe.batches(0, 0))
    seen = []
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda layer, given, found: seen.append(found.dtype))
    next(recipe.losses(network, batch, 1.0))
    assert set(seen) == {torch.bfloat16 if has_units else torch.float32}
