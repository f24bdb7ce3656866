"""VerSe and UTNet are the published networks, border clicks and click modules apart, and a slice is encoded once."""
import numpy as np
import pytest
import torch
from golden import DATA, published_state, rule_weight, smooth_image
from torch.nn import functional as F

from InteractiveSegLib import InteractiveSegError, InteractiveSession
from InteractiveSegLib.cli import main
from InteractiveSegLib.device import FLOAT32, half_precision
from InteractiveSegLib.models import verse
from InteractiveSegLib.models.verse.fuser import draw_prompts
from InteractiveSegLib.models.verse.network import (
    CLICK_MODULES,
    DEVIATION,
    MEAN,
    PREDICTOR,
    PUBLISHED,
    UNUSED,
    VerSeConfig,
    build,
)
from InteractiveSegLib.models.verse.queries import SemanticQuery, pad_clicks
from InteractiveSegLib.models.verse.utnet import UTNet, UTNetConfig

ADJUST = ((r"simple_decoders\.0\.final_conv\.bias$", 1.0, -1.0), (r"simple_decoders\.1\.final_conv\.bias$", 1.0, 0.8))
SMALL = VerSeConfig(base=8, width=32, feedforward=64, targets=3)
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


def click_module_state():
    """The click modules' weights, under the names by which they were recorded."""
    encoder, mlp = "point_encoder_fixed.", "semantic_mlp.mlp."
    labels = ("not_a_point_embed.weight", "point_embeddings.0.weight", "point_embeddings.1.weight")
    shapes = {"0.weight": (128, 256), "0.bias": (128,), "2.weight": (256, 128), "2.bias": (256,)}
    return {
        PREDICTOR + "sparse_query.frequencies": rule_weight(encoder + "pe_layer.positional_encoding_gaussian_matrix", (2, 128)),
        PREDICTOR + "sparse_query.labels": torch.cat([rule_weight(encoder + label, (1, 256)) for label in labels]),
        **{PREDICTOR + "semantic_query.mlp." + key: rule_weight(mlp + key, shape) for key, shape in shapes.items()},
    }


@pytest.fixture(scope="module")
def published():
    network = build(PUBLISHED).eval()
    drawn = {key: value for key, value in published_state("keys_verse.tsv", ADJUST).items() if not key.startswith(UNUSED)}
    network.load_state_dict({**network.state_dict(), **drawn, **click_module_state()})
    return network


@pytest.fixture(scope="module")
def encoded(published):
    with torch.inference_mode():
        return published.encode(smooth_image("verse.image", 256)[None, None])


@pytest.fixture
def small():
    torch.manual_seed(3)
    return build(SMALL).eval()


def two_clicks(batch=1):
    return pad_clicks([[(20, 30), (63, 63)]] * batch, positive=True), pad_clicks([[(5, 5)]] * batch, positive=False)


@torch.inference_mode()
def test_by_name_it_gives_the_published_networks_numbers(published, encoded):
    recorded = np.load(DATA / "verse_mode1_q1.npz")
    for i, logits in enumerate(published.decode(encoded, torch.zeros(1, 3, 256, 256), torch.tensor([0]))):
        np.testing.assert_allclose(logits, recorded[f"logits{i}"], **TOLERANCE)


@torch.inference_mode()
def test_the_last_target_by_name_gives_the_published_networks_numbers(published, encoded):
    recorded = np.load(DATA / "verse_mode1_q6_every2.npz")
    for i, logits in enumerate(published.decode(encoded, torch.zeros(1, 3, 256, 256), torch.tensor([5]))):
        np.testing.assert_allclose(logits[..., ::2, ::2], recorded[f"logits{i}"], **TOLERANCE)


@torch.inference_mode()
def test_each_stage_gives_the_published_networks_numbers(published, encoded):
    recorded = np.load(DATA / "verse_backbone_part.npz")
    image = smooth_image("verse.image", 256)[None, None]
    maps = published.backbone(((image - MEAN) / DEVIATION).expand(-1, 3, -1, -1))
    parts = (maps[0][:, :4, ::8, ::8], maps[1][:, :4, ::4, ::4], maps[2][:, :4, ::2, ::2], maps[3][:, ::24, ::2, ::2])
    for part, name in zip(parts, ("res2", "res3", "res4", "res5")):
        np.testing.assert_allclose(part, recorded[name], **TOLERANCE)
    recorded = np.load(DATA / "verse_pixel_decoder_part.npz")
    fused = published.sem_seg_head.pixel_decoder(encoded, torch.tensor(recorded["dense_map"])[None])
    for level, step in ((0, 1), (1, 2), (2, 4)):
        np.testing.assert_allclose(fused[level][:, :32:8, ::step, ::step], recorded[f"level{level}"], **TOLERANCE)


@pytest.mark.parametrize("case, targets", [("mode2_q1", torch.tensor([0])), ("mode3", None)], ids=["name and clicks", "clicks"])
@torch.inference_mode()
def test_the_first_two_clicks_give_the_published_networks_numbers(published, encoded, case, targets):
    recorded, before = np.load(DATA / f"verse_{case}_steps01_every2.npz"), np.load(DATA / "verse_mode1_q1.npz")["logits5"]
    start = torch.zeros(1, 1, 256, 256)
    previous = start if targets is None else F.interpolate(torch.tensor(before), (256, 256), mode="bilinear").sigmoid()
    for step in ("step0", "step1"):
        clicks = tuple(torch.tensor(recorded[f"{step}_{sign}_row_col_label"])[None].float() for sign in ("pos", "neg"))
        answer = published.decode(encoded, draw_prompts(clicks, previous), targets, clicks)
        for i in (2, 5):
            np.testing.assert_allclose(answer[i][..., ::2, ::2], recorded[f"{step}_logits{i}"], **TOLERANCE)
        previous = F.interpolate(answer[-1], (256, 256), mode="bilinear").sigmoid()


@pytest.mark.parametrize("case, targets", [("mode2_q1", torch.tensor([0])), ("mode3", None)], ids=["name and clicks", "clicks"])
@torch.inference_mode()
def test_with_three_clicks_it_gives_the_published_networks_numbers(published, encoded, case, targets):
    recorded = np.load(DATA / f"verse_{case}_step2.npz")
    clicks = tuple(torch.tensor(recorded[sign])[None].float() for sign in ("positive", "negative"))
    previous = F.interpolate(torch.tensor(recorded["previous_logits"]), (256, 256), mode="bilinear").sigmoid()
    last = published.decode(encoded, draw_prompts(clicks, previous), targets, clicks)[-1]
    np.testing.assert_allclose(last, recorded["logits"], **TOLERANCE)


@torch.inference_mode()
def test_the_click_modules_give_the_recorded_numbers(published):
    recorded = np.load(DATA / "verse_click_modules.npz")
    predictor = published.sem_seg_head.predictor
    clicks = torch.tensor(np.concatenate([recorded["points_row_col"], recorded["labels"][..., None]], axis=-1)).float()
    np.testing.assert_allclose(predictor.sparse_query(clicks, side=256), recorded["sparse_embedding"], **TOLERANCE)
    np.testing.assert_allclose(predictor.semantic_query.mlp(torch.tensor(recorded["mlp_in"])), recorded["mlp_out"], **TOLERANCE)


@torch.inference_mode()
def test_clicks_at_the_border_give_the_recorded_features(published):
    recorded = np.load(DATA / "verse_edge_clicks_level0.npz")  # the coarsest level's features where the clicks may look
    features, (rows, columns) = torch.zeros(1, 256, 32, 32), torch.tensor(recorded["cells"]).T
    features[0, :, rows, columns] = torch.tensor(recorded["features"]).T
    points = torch.tensor(recorded["points_row_col"]).float()
    clicks = torch.cat([points, torch.ones(len(points), 1)], dim=1)[None]
    found = published.sem_seg_head.predictor.semantic_query(features, clicks, scale=8, radius=0)[0]
    np.testing.assert_allclose(found, recorded["semantic"][:, 0], **TOLERANCE)


@pytest.mark.parametrize(("side", "every"), [(128, 2), (256, 8)])
@torch.inference_mode()
def test_utnet_gives_the_published_networks_numbers(side, every):
    network = UTNet(UTNetConfig()).eval()
    network.load_state_dict({**network.state_dict(), **published_state("keys_utnet.tsv")})
    logits = network(smooth_image(f"utnet.{side}", side)[None, None])
    recorded = np.load(DATA / f"utnet_{side}_every{every}.npz")["logits"]
    np.testing.assert_allclose(logits[:, :, ::every, ::every], recorded, **TOLERANCE)


def test_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        own = {key: tuple(value.shape) for key, value in build().state_dict().items() if not key.startswith(CLICK_MODULES)}
    rows = [line.split("\t")[:2] for line in (DATA / "keys_verse.tsv").read_text().splitlines()[1:]]
    shapes = {key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape in rows}
    assert own == {key: shape for key, shape in shapes.items() if not key.startswith(UNUSED)}


def test_a_published_checkpoint_loads_and_says_which_modules_it_lacks(tmp_path, small, caplog):
    state = {key: value for key, value in small.state_dict().items() if not key.startswith(CLICK_MODULES)}
    surplus = {"backbone.outc.bias": torch.zeros(6), PREDICTOR + "point_encoder.down1.0.bias": torch.zeros(32)}
    prefixed = {f"module.{key}": value for key, value in {**state, **surplus}.items()}
    torch.save({"model": prefixed, "epoch": 74}, tmp_path / "a.pth")
    loaded = verse.load(tmp_path / "a.pth", "cpu")
    assert len(loaded.untrained) == 6 and all(key.startswith(CLICK_MODULES) for key in loaded.untrained)
    assert "sparse_query.labels" in caplog.text and "semantic_query.mlp.0.weight" in caplog.text
    for key, value in state.items():
        assert torch.equal(loaded.state_dict()[key], value)
    again = verse.load(tmp_path / "a.pth", "cpu").state_dict()
    assert all(torch.equal(value, again[key]) for key, value in loaded.state_dict().items()), "the same click modules each time"


def test_a_published_checkpoint_says_which_targets_its_queries_are_or_the_order_is_assumed(tmp_path, small, caplog, capsys):
    state = {key: value for key, value in small.state_dict().items() if not key.startswith(CLICK_MODULES)}
    torch.save({"model": state}, tmp_path / "a.pth")
    assumed = verse.load(tmp_path / "a.pth", "cpu")
    assert assumed.queries == ("LV", "myocardium", "RV") and assumed.unseen == ("edema", "scar", "LA")
    assert "the order LV, myocardium, RV is assumed" in caplog.text
    caplog.clear()
    named = tmp_path / "named.safetensors"
    assert main(["models", "queries", str(tmp_path / "a.pth"), "RV,myocardium,left ventricle", "-o", str(named)]) == 0
    assert verse.load(named, "cpu").queries == ("RV", "myocardium", "LV") and "assumed" not in caplog.text
    image = np.random.default_rng(0).random((64, 64))

    def answer(path, target):
        session = InteractiveSession(image, model="verse", weights=path, targets=(target,), mode="auto", device="cpu")
        session.predict()
        return session.probability

    assert np.array_equal(answer(named, "LV"), answer(tmp_path / "a.pth", "RV"))
    assert not np.array_equal(answer(named, "LV"), answer(tmp_path / "a.pth", "LV"))
    for order in ("RV,LV", "RV,LV,LV", "RV,LV,liver"):
        assert main(["models", "queries", str(tmp_path / "a.pth"), order, "-o", str(named)]) == 1
        assert "expected a name for each of the 3 of a.pth" in capsys.readouterr().err


def test_a_checkpoint_trained_here_lacks_nothing(tmp_path, small, monkeypatch):
    monkeypatch.setenv(FLOAT32, "1")
    torch.save(small.state_dict(), tmp_path / "own.pth")
    loaded = verse.load(tmp_path / "own.pth", "cpu")
    assert loaded.untrained == ()
    assert all(torch.equal(value, small.state_dict()[key]) for key, value in loaded.state_dict().items())


def test_with_norms_of_its_own_a_slice_is_the_same_alone_and_among_others(tmp_path, monkeypatch):
    monkeypatch.setenv(FLOAT32, "1")
    torch.manual_seed(0)
    network = build(VerSeConfig(base=8, width=32, feedforward=32, dropout=0.0, by_batch=False)).train()
    for parameter in network.backbone.parameters():  # no norm that does nothing
        torch.nn.init.normal_(parameter, 0.2, 0.2)
    images = torch.rand(2, 1, 64, 64) * torch.tensor([0.2, 1.0])[:, None, None, None]
    trained = network.encode(images)
    torch.save(network.state_dict(), tmp_path / "own.pth")
    loaded = verse.load(tmp_path / "own.pth", "cpu")
    assert not loaded.config.by_batch
    for among, alone, predicted in zip(trained, network.encode(images[:1]), loaded.encode(images)):
        torch.testing.assert_close(among[:1], alone, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(among, predicted, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(half_precision("cpu") is None, reason="this processor does not multiply bfloat16")
def test_in_half_precision_own_weights_answer_alike(tmp_path, small):
    torch.save(small.state_dict(), tmp_path / "own.pth")
    images, prompts, targets = torch.rand(2, 1, 64, 64), torch.rand(2, 3, 64, 64), torch.tensor([0, 2])
    expected = small(images, prompts, targets)[-1]
    answer = verse.load(tmp_path / "own.pth", "cpu")(images, prompts, targets)[-1]
    assert answer.dtype == torch.bfloat16
    torch.testing.assert_close(answer.float(), expected, rtol=0.1, atol=0.1 * expected.std().item())


@pytest.mark.parametrize("change, reason", [
    (lambda state: state.pop("backbone.inc.1.bn1.weight"), "missing backbone.inc.1.bn1.weight"),
    (lambda state: state.update(odd=torch.zeros(1)), "not expected odd"),
    (lambda state: state.pop(PREDICTOR + "query_feat.weight"), "holds no VerSe"),
], ids=["missing", "surplus", "another network"])
def test_other_weights_are_refused_with_the_reason(tmp_path, small, change, reason):
    state = small.state_dict()
    change(state)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(InteractiveSegError, match=reason):
        verse.load(tmp_path / "odd.pth", "cpu")


@torch.inference_mode()
def test_one_encoding_serves_several_targets_and_every_later_click(small):
    image = smooth_image("heart", 64)[None, None]
    features, zeros = small.encode(image), torch.zeros(3, 3, 64, 64)
    together = small.decode(features, zeros, torch.tensor([0, 1, 2]))[-1]
    assert not torch.allclose(together[0], together[1])
    for target in range(3):
        alone = small(image, zeros[:1], torch.tensor([target]))[-1]
        torch.testing.assert_close(together[target:target + 1], alone, atol=1e-5, rtol=1e-5)
    clicks = two_clicks()
    prompts = draw_prompts(clicks, torch.zeros(1, 1, 64, 64))
    torch.testing.assert_close(small.decode(features, prompts, None, clicks)[-1], small(image, prompts, None, clicks)[-1])


@pytest.mark.parametrize("rounding, corner, beside", [("floor", (31, 31), (31, 0)), ("round", None, (31, 0))])
def test_border_clicks_keep_their_features_unless_rounded_as_published(rounding, corner, beside):
    features = torch.rand(1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    clicks = torch.tensor([[[255.0, 255.0, 1.0], [251.0, 3.0, 1.0], [-10.0, -10.0, -1.0]]])
    query = SemanticQuery(32, rounding)
    query.mlp = torch.nn.Identity()
    found = query(features, clicks, scale=8, radius=0)[0]
    for feature, cell in zip(found, (corner, beside, None)):  # the last click is a dummy
        assert torch.equal(feature, torch.zeros(32) if cell is None else features[0, :, cell[0], cell[1]])


def test_a_window_at_the_border_is_the_mean_of_what_lies_inside():
    query = SemanticQuery(32, "floor")
    query.mlp = torch.nn.Identity()
    features = torch.rand(1, 32, 16, 16)
    corner = query(features, torch.tensor([[[63.0, 0.0, 1.0]]]), scale=4, radius=1)[0, 0]
    torch.testing.assert_close(corner, features[0, :, 14:, :2].mean(dim=(1, 2)))


def test_an_unknown_rounding_is_refused():
    with pytest.raises(InteractiveSegError, match="floor, round"):
        SemanticQuery(32, "up")


@torch.inference_mode()
def test_clicks_are_padded_to_24_and_more_than_24_work(small):
    few, many = pad_clicks([[(1, 2)], []], positive=True), pad_clicks([[(i, i) for i in range(30)], [(1, 2)]], positive=False)
    assert few.shape == (2, 24, 3) and many.shape == (2, 30, 3)
    assert few[0, :2].tolist() == [[1, 2, 1], [-10, -10, -1]] and many[1, :2].tolist() == [[1, 2, 0], [-10, -10, -1]]
    prompts = draw_prompts((few, many), torch.zeros(2, 1, 64, 64))
    assert prompts[0, 0].sum() == 5 and prompts[1, 0].sum() == 0 and prompts[1, 1].sum() == 5
    images = torch.rand(2, 1, 64, 64)
    alone = small(images[1:], prompts[1:], None, (few[1:], many[1:]))[-1]
    torch.testing.assert_close(small(images, prompts, None, (few, many))[-1][1:], alone, atol=1e-5, rtol=1e-5)


def test_training_reaches_every_weight():
    network = build(SMALL).train()
    clicks = two_clicks(batch=2)
    prompts = draw_prompts(clicks, torch.rand(2, 1, 64, 64))
    outputs = network(torch.rand(2, 1, 64, 64), prompts, torch.tensor([0, 2]), clicks)
    assert [logits.shape[-1] for logits in outputs] == [8, 16, 32] * 2
    sum(logits.square().mean() for logits in outputs).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_neither_a_target_nor_a_click_is_refused(small):
    with pytest.raises(InteractiveSegError, match="neither a target nor a click"):
        small(torch.rand(1, 1, 64, 64), torch.zeros(1, 3, 64, 64))
