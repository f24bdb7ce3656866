"""Training TIS on a folder of labelled volumes, as a hospital would: plan, train, stop, resume, use."""
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file, save_file
from shapes import ellipsoid
from test_tis_nnunet import a_checkpoint

from InteractiveSegLib import Click, InteractiveSegError, InteractiveSession
from InteractiveSegLib.cli import main
from InteractiveSegLib.models.tis.nnunet import read_nnunet
from InteractiveSegLib.robot_volume import BAD_STARTS, bad_start, disturbance, next_click
from InteractiveSegLib.training.loop import Trainer
from InteractiveSegLib.training.recipes import tis
from InteractiveSegLib.training.recipes.tis import TISRecipe
from InteractiveSegLib.training.volumes import clip_of, read_labelled_folder, single_of

NAMES = ("front", "back")


def a_case(rng):
    """(image, labels): two halves of an egg, one brighter than the other, somewhere in 16 x 24 x 20 voxels."""
    centre = (8, 12, 10) + rng.uniform(-2, 2, 3)
    egg = ellipsoid((16, 24, 20), centre, rng.uniform(5, 7, 3))
    labels = egg * np.where(np.arange(24) < centre[1], 1, 2)[None, :, None]
    return rng.normal(40 * labels, 12).astype(np.float32), labels.astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six cases in the Decathlon's layout."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    for n in range(6):
        for part, array in zip(("imagesTr", "labelsTr"), a_case(rng)):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((1.0, 1.0, 2.0))
            sitk.WriteImage(image, str(folder / part / (f"c{n}_0000.nii.gz" if part == "imagesTr" else f"c{n}.nii.gz")))
    about = {"labels": {"background": 0, "front": 1, "back": 2}, "channel_names": {"0": "MRI"}, "licence": "our own"}
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def a_recipe(folder, **options):
    small = {"base": 4, "max_voxels": 8000, "max_stages": 3, "width": 16, "layers": 2, "learning_rate": 5e-3,
             "warmup_steps": 5, "ema_decay": 0.8}
    return TISRecipe(folder, **{**small, **options})


def test_a_folder_is_read_with_its_names_and_spacing(folder):
    data = read_labelled_folder(folder)
    assert data.labels == {1: "front", 2: "back"}
    assert len(data.cases) == 6
    assert data.cases[0].spacing == pytest.approx((2.0, 1.0, 1.0))
    assert data.cases[0].image.shape == data.cases[0].labels.shape == (16, 24, 20)
    assert data.cases[0].image[data.cases[0].labels == 2].mean() > 60
    assert clip_of(data) == ()


def test_a_folder_that_cannot_be_used_is_told_what_is_wrong(folder, tmp_path):
    with pytest.raises(InteractiveSegError, match="images and labels"):
        read_labelled_folder(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(InteractiveSegError, match="at least one"):
        read_labelled_folder(tmp_path)
    (tmp_path / "labels" / "a.nii.gz").write_bytes((folder / "labelsTr" / "c0.nii.gz").read_bytes())
    with pytest.raises(InteractiveSegError, match=r"belongs to a\.nii\.gz"):
        read_labelled_folder(tmp_path)


@pytest.mark.parametrize("text", [
    '{"labels": {', "[]", '{"labels": ["background", "front"]}', '{"labels": {"background": 0, "whole": [1, 2], "back": 2}}',
    '{"labels": {"front": 1, "back": 2}, "channel_names": ["MR"]}', "[" * 100_000,
], ids=["cut", "list", "labels as a list", "regions", "channels as a list", "nested"])
def test_a_dataset_json_of_another_kind_is_refused_in_one_sentence(folder, tmp_path, text):
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    (own / "dataset.json").write_text(text)
    with pytest.raises(InteractiveSegError, match=r"dataset\.json cannot be used .*a number for each name"):
        read_labelled_folder(own)


@pytest.mark.parametrize("change", [lambda image: image.SetOrigin((500, 0, 0)), lambda image: image.SetSpacing((3, 3, 3))])
def test_labels_that_lie_elsewhere_than_their_image_are_refused(folder, tmp_path, change):
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    image = sitk.ReadImage(str(own / "labelsTr" / "c0.nii.gz"))
    change(image)
    sitk.WriteImage(image, str(own / "labelsTr" / "c0.nii.gz"))
    with pytest.raises(InteractiveSegError, match=r"c0\.nii\.gz lies .* mm away from the image"):
        read_labelled_folder(own)


def test_labels_whose_axes_run_the_other_way_are_turned_round(folder, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    path = own / "labelsTr" / "c0.nii.gz"
    sitk.WriteImage(sitk.Flip(sitk.ReadImage(str(path)), (True, False, False)), str(path))
    turned, straight = (read_labelled_folder(f).cases[0].labels for f in (own, folder))
    assert np.array_equal(turned, straight)


@pytest.mark.parametrize("factor", [256, 0.5])
def test_labels_that_training_would_lose_are_refused(folder, tmp_path, factor):
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    path = own / "labelsTr" / "c0.nii.gz"
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32) * factor, str(path))
    with pytest.raises(InteractiveSegError, match="whole numbers from 0 to 255"):
        read_labelled_folder(own)


def test_training_teaches_both_parts_and_goes_on_where_it_stopped(folder, tmp_path):
    recipe = a_recipe(folder)
    trainer = Trainer(recipe, tmp_path)
    encoder = {k: v.clone() for k, v in trainer.model.encoder.state_dict().items()}
    trainer.progress = 0.0
    trainer.train(steps=120, workers=0)
    assert not any(torch.equal(encoder[k], v) for k, v in trainer.model.encoder.state_dict().items() if k.endswith("conv.weight"))
    resumed = Trainer(recipe, tmp_path)
    assert resumed.step == trainer.step
    figures = trainer.figures
    assert figures["automatic Dice"] > 0.2, "a running mean since the first step"
    assert figures["Dice after 2"] > figures["start Dice"]


def test_a_folder_becomes_weights_that_a_session_uses(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tis, "TISRecipe", lambda data, encoder=None: a_recipe(data, encoder=encoder))
    command = ["train", "tis", "--data", str(folder), "--steps", "4", "--workers", "0", "--runs", str(tmp_path)]
    assert main(command) == 0
    assert main(command) == 0, "the same command goes on"
    said = capsys.readouterr().out
    assert "6 volumes, labels front, back; 2x1x1 mm" in said
    assert ": 8 steps" in said
    image, labels = a_case(np.random.default_rng(5))
    session = InteractiveSession(image, (2.0, 1.0, 1.0), model="tis", targets=("front", "back"), device="cpu",
                                 weights=next(tmp_path.glob("tis-*")) / "weights.safetensors")
    session.set_labels(labels)
    session.add(Click((2, 2, 2), label="back"))
    assert session.labels[2, 2, 2] == 2


def test_what_is_one_piece_in_every_case_is_known_to_be(folder):
    assert a_recipe(folder).config().single == (True, True)
    data = read_labelled_folder(folder)
    case = data.cases[3]
    case.labels[:2, :8, :8] = 2  # another lesion
    assert single_of(data) == (True, False)
    case.labels[:] = 0
    assert single_of(data) == (True, True), "where nothing is, nothing is in pieces"


def test_training_goes_on_from_weights_that_said_less_of_themselves(folder, tmp_path):
    recipe = a_recipe(folder)
    state = recipe.build().state_dict()
    about = json.loads(bytes(state["about"].tolist()))
    del about["single"]
    older = {**state, "about": torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8)}
    save_file({k: v.contiguous() for k, v in older.items()}, tmp_path / "older.safetensors")
    trainer = Trainer(recipe, tmp_path / "run", start=tmp_path / "older.safetensors")
    assert trainer.model.config.single == (True, True)
    begun = trainer.model.state_dict()
    assert torch.equal(begun["about"], state["about"])
    assert all(torch.equal(begun[k], older[k]) for k in older if k != "about")


def test_a_hospitals_nnunet_stays_as_it_is_and_its_correction_is_trained(folder, tmp_path):
    _, checkpoint = a_checkpoint(1, tmp_path)
    trainer = Trainer(a_recipe(folder, encoder=checkpoint), tmp_path / "run")
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.train(steps=3, workers=0)
    after = trainer.model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("encoder."))
    assert not torch.equal(before["refinement.categories"], after["refinement.categories"])
    found = read_nnunet(checkpoint).state
    assert torch.equal(after["encoder.input_block.conv1.conv.weight"], found["input_block.conv1.conv.weight"])


def test_a_correction_can_be_trained_on_the_encoder_of_tis_weights(folder, tmp_path):
    path = tmp_path / "whole.safetensors"
    save_file(a_recipe(folder).build().state_dict(), path)
    recipe = a_recipe(folder, encoder=path, click_encoding=False)
    trainer = Trainer(recipe, tmp_path / "run")
    before = load_file(path)
    trainer.train(steps=3, workers=0)
    after = trainer.model.state_dict()
    assert trainer.model.config.click_encoding is False
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("encoder."))
    assert not torch.equal(before["refinement.categories"], after["refinement.categories"])


def test_a_family_and_a_folder_that_do_not_go_together_are_refused(folder, capsys):
    assert main(["train", "scribbleprompt", "--data", str(folder), "--minutes", "1"]) == 1
    assert main(["train", "tis", "--bundle", "train.bundle", "--minutes", "1"]) == 1
    assert capsys.readouterr().err.count("tis --data FOLDER") == 2


def test_clicks_are_true_and_inside_the_error():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        _, truth = a_case(rng)
        labels = bad_start(BAD_STARTS[seed % 4], truth, rng, 2)
        assert 0 < np.count_nonzero(labels != truth) < truth.size / 4
        for of in (1, 2):
            click = next_click(truth, labels, of, rng, disturbance(truth))
            if click is not None:
                assert truth[click[0]] == click[1] != labels[click[0]]
                assert of in (click[1], labels[click[0]])
        assert next_click(truth, truth, 1, rng, 1.0) is None
