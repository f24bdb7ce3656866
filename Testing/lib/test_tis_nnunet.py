"""A hospital's nnU-Net as the automatic part: every tensor finds its place, and nothing is taken for what it is not."""
import numpy as np
import pytest
import torch
from torch import nn

from InteractiveSegLib import InteractiveSegError
from InteractiveSegLib.models.tis.encoder import flattened
from InteractiveSegLib.models.tis.nnunet import read_nnunet
from InteractiveSegLib.models.tis.plan import make_plan

FEATURES, CLASSES = (4, 6, 8), 3
KERNELS, STRIDES = ((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2))


class PlainUNet(nn.Module):
    """What both versions of nnU-Net compute, written without their names: (weights by role) -> logits."""

    def __init__(self, version):
        super().__init__()
        bias = version == 2
        self.version = version

        def pair(inputs, outputs, kernel, stride):
            pad = tuple(k // 2 for k in kernel)
            return nn.ModuleList([nn.Conv3d(inputs, outputs, kernel, stride, pad), nn.InstanceNorm3d(outputs, affine=True),
                                  nn.Conv3d(outputs, outputs, kernel, 1, pad), nn.InstanceNorm3d(outputs, affine=True)])

        self.down = nn.ModuleList(pair(i, o, k, s) for i, o, k, s in zip((1, *FEATURES), FEATURES, KERNELS, STRIDES))
        above = FEATURES[::-1][1:]
        self.wider = nn.ModuleList(nn.ConvTranspose3d(i, o, s, s, bias=bias)
                                   for i, o, s in zip(FEATURES[::-1], above, STRIDES[:0:-1]))
        self.up = nn.ModuleList(pair(2 * o, o, k, 1) for o, k in zip(above, KERNELS[:0:-1]))
        self.heads = nn.ModuleList(nn.Conv3d(o, CLASSES, 1, bias=bias) for o in above)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)

    def forward(self, x):
        def run(block, x):
            for conv, norm in ((block[0], block[1]), (block[2], block[3])):
                x = nn.functional.leaky_relu(norm(conv(x)), 0.01)
            return x

        skips = []
        for block in self.down:
            x = run(block, x)
            skips.append(x)
        for wider, block, skip in zip(self.wider, self.up, skips[-2::-1]):
            x = run(block, torch.cat([wider(x), skip], dim=1))
        return self.heads[-1](x)

    def published(self):
        """The tensors under the names of the version, duplicates included."""
        state, last = {}, len(FEATURES) - 1
        blocks = [(b, "context", s) for s, b in enumerate(self.down)] + [(b, "up", u) for u, b in enumerate(self.up)]
        for block, kind, n in blocks:
            for c in (0, 1):
                if self.version == 2:
                    prefix = f"encoder.stages.{n}.0.convs.{c}" if kind == "context" else f"decoder.stages.{n}.convs.{c}"
                elif kind == "context":
                    prefix = f"conv_blocks_context.{n}." + (f"{c}.blocks.0" if n == last else f"blocks.{c}")
                else:
                    prefix = f"conv_blocks_localization.{n}.{c}.blocks.0"
                for module, role in ((block[2 * c], "conv"), (block[2 * c + 1], "norm" if self.version == 2 else "instnorm")):
                    for name, value in module.named_parameters():
                        state[f"{prefix}.{role}.{name}"] = value
                        if self.version == 2:
                            state[f"{prefix}.all_modules.{int(role != 'conv')}.{name}"] = value
                            if kind == "context":
                                state[f"decoder.encoder.{prefix[8:]}.{role}.{name}"] = value
        for u, (wider, head) in enumerate(zip(self.wider, self.heads)):
            for module, names in ((wider, ("tu", "decoder.transpconvs")), (head, ("seg_outputs", "decoder.seg_layers"))):
                for name, value in module.named_parameters():
                    state[f"{names[self.version - 1]}.{u}.{name}"] = value
        return {key: value.detach() for key, value in state.items()}


PLANS = {
    "plans": {"configurations": {"3d_fullres": {"spacing": [2.5, 0.8, 0.8], "patch_size": [8, 16, 16],
                                                "normalization_schemes": ["CTNormalization"]}},
              "foreground_intensity_properties_per_channel": {
                  "0": {"percentile_00_5": -20.0, "percentile_99_5": 180.0, "mean": 90.0, "std": 30.0}}},
    "configuration": "3d_fullres", "dataset_json": {"labels": {"background": 0, "tumour": 2, "pancreas": 1}},
    "fold": 0, "device": torch.device("cpu"),
}


def a_checkpoint(version, folder):
    torch.manual_seed(version)
    network = PlainUNet(version).eval()
    path = folder / ("checkpoint_final.pth" if version == 2 else "model_final_checkpoint.model")
    saved = {"state_dict": network.published(), "epoch": 3} if version == 1 else {
        "network_weights": network.published(), "init_args": PLANS, "inference_allowed_mirroring_axes": (0, 1, 2),
        "_best_ema": np.float64(0.8), "trainer_name": "nnUNetTrainer"}
    torch.save(saved, path)
    return network, path


@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_of_either_version_gives_the_same_logits(version, tmp_path):
    network, path = a_checkpoint(version, tmp_path)
    found = read_nnunet(path)
    x = torch.randn(1, 1, 4, 16, 12)
    with torch.no_grad():
        assert torch.allclose(found.encoder().eval()(x)[0], network(x), atol=1e-4)
        coarse = found.encoder().supervised(x)[1]
    assert coarse.shape[1] == CLASSES
    assert (found.features, found.kernels, found.strides) == (FEATURES, KERNELS, STRIDES)


@pytest.mark.parametrize("layer", [
    nn.Conv3d(3, 5, (1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.Conv3d(3, 5, (3, 1, 3), (1, 1, 2), (1, 0, 1)), nn.Conv3d(3, 5, 1),
    nn.ConvTranspose3d(3, 5, (1, 2, 2), (1, 2, 2)), nn.ConvTranspose3d(3, 5, (2, 2, 1), (2, 2, 1)),
])
def test_a_kernel_that_is_flat_gives_the_same_in_2d(layer):
    flat = flattened(nn.Sequential(layer))[0]
    x = torch.randn(2, 3, 6, 8, 10)
    assert type(flat) is not type(layer)
    assert torch.allclose(flat(x), layer(x), atol=1e-5)


def test_version_2_also_says_what_its_data_look_like(tmp_path):
    plans = read_nnunet(a_checkpoint(2, tmp_path)[1]).plans
    assert plans.spacing == (2.5, 0.8, 0.8)
    assert plans.targets == ("pancreas", "tumour")
    assert plans.clip == (-20.0, 180.0, 90.0, 30.0)
    assert plans.mirror == (0, 1, 2)
    assert read_nnunet(a_checkpoint(1, tmp_path)[1]).plans is None


@pytest.mark.parametrize(("change", "named"), [
    (lambda s: s.update({"encoder.stages.1.0.convs.2.conv.weight": torch.zeros(1)}), "convs.2"),
    (lambda s: s.update({"encoder.stem.convs.0.conv.weight": torch.zeros(1)}), "stem"),
    (lambda s: [s.pop(k) for k in list(s) if k.startswith("decoder.stages.1.convs.1.norm.weight")], "missing"),
    (lambda s: s.update({k: v[:, :, 0] for k, v in s.items() if k.endswith("stages.0.0.convs.0.conv.weight")}), "dimensions"),
    (lambda s: s.clear(), "missing"),
])
def test_what_does_not_fit_is_refused_in_one_sentence(change, named, tmp_path):
    _, path = a_checkpoint(2, tmp_path)
    saved = torch.load(path, weights_only=False)
    change(saved["network_weights"])
    torch.save(saved, path)
    with pytest.raises(InteractiveSegError, match=named):
        read_nnunet(path).encoder()


def test_a_file_that_wants_to_run_code_is_refused(tmp_path):
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": {}, "init_args": pytest.raises}, path)
    with pytest.raises(InteractiveSegError, match="more than tensors"):
        read_nnunet(path)


@pytest.mark.parametrize(("spacing", "shape", "patch", "strides"), [
    # nnU-Net's published plans of Task04 (hippocampus) and of ACDC's kind of spacing
    ((1.0, 1.0, 1.0), (36, 50, 35), (40, 56, 40), [(2, 2, 2)] * 3),
    ((10.0, 1.5625, 1.5625), (9, 237, 208), (10, 256, 224), [(1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2)]),
])
def test_the_plan_is_nnunets(spacing, shape, patch, strides):
    plan = make_plan([spacing] * 3, [shape] * 3)
    assert plan.patch == patch
    assert list(plan.strides[1:]) == strides
    assert plan.features == tuple(min(32 * 2**n, 320) for n in range(len(plan.strides)))


def test_a_large_volume_is_planned_as_a_patch_of_it():
    plan = make_plan([(1.0, 1.0, 1.0)] * 2, [(300, 500, 400), (310, 512, 420)], base=16, max_voxels=170_000, max_stages=4)
    assert np.prod(plan.patch) <= 170_000
    assert all(p % d == 0 for p, d in zip(plan.patch, np.prod(plan.strides, axis=0)))
    assert max(plan.patch) < 2 * min(plan.patch)
