"""Ours beside the authors' public code: the same random weights, inputs and process; seconds of each and their ratio.

The four repositories are no part of this one. They lie side by side in a folder of your choice, with UniverSeg, which MultiverSeg
is built on; einops must be installed, and what they import without using it here is stood in for:

    git clone https://github.com/halleewong/MultiverSeg authors/MultiverSeg
    git clone https://github.com/JJGO/UniverSeg authors/UniverSeg
    git clone https://github.com/SamsungLabs/ritm_interactive_segmentation authors/ritm_interactive_segmentation
    git clone https://github.com/hkchengrex/XMem authors/XMem
    git clone https://github.com/bangwayne/Verse authors/Verse
    python Testing/authors.py authors --device cuda
"""
from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from InteractiveSegLib import models
from InteractiveSegLib.cli.benchmark import device_name, versions
from InteractiveSegLib.device import FLOAT32, choose_device, half_precision, send, set_threads
from InteractiveSegLib.evaluation.published import RANDOM
from InteractiveSegLib.footprint import PROPAGATION
from InteractiveSegLib.models.layers.cross_conv import MemoryPlan
from InteractiveSegLib.models.layers.replayed import replayed
from InteractiveSegLib.models.limnet.propagation import EncodedSlices, propagate
from InteractiveSegLib.models.verse.fuser import draw_prompts
from InteractiveSegLib.models.verse.network import CLICK_MODULES, UNUSED
from InteractiveSegLib.models.verse.queries import pad_clicks
from InteractiveSegLib.plan import PLANS
from InteractiveSegLib.predictors.limnet import ClickPredictor

FOLDERS = ("MultiverSeg", "UniverSeg", "ritm_interactive_segmentation", "XMem", "Verse")
XMEM = {"mem_every": 5, "deep_update_every": -1, "enable_long_term": True, "enable_long_term_count_usage": True, "top_k": 30,
        "max_mid_term_frames": 10, "min_mid_term_frames": 5, "num_prototypes": 128, "max_long_term_elements": 10000,
        "hidden_dim": 64, "key_dim": 64, "value_dim": 512}
SIDE = 256  # of VerSe's slice

Answer = Callable[[], np.ndarray]
Pair = tuple[str, Answer, Answer, bool]  # what, ours, theirs, whether their answer is the same each time


def stand_in() -> None:
    """Modules that the authors' code imports and, for these calls, does not need."""
    class Registry(dict):
        def __init__(self, name: str = "") -> None:
            super().__init__()

        def register(self) -> Callable:
            return lambda made: made

    def same(made):
        return made

    setattr(np, "int", int)  # noqa: B010, RITM was written before numpy 1.24
    shape = types.SimpleNamespace
    parts = {
        "pydantic": {"validate_arguments": same},
        "detectron2.config": {"configurable": same, "CfgNode": dict},
        "detectron2.layers": {"Conv2d": nn.Conv2d, "ShapeSpec": shape, "get_norm": None},
        "detectron2.modeling": {"BACKBONE_REGISTRY": Registry(), "SEM_SEG_HEADS_REGISTRY": Registry(), "Backbone": nn.Module,
                                "ShapeSpec": shape},
        "detectron2.utils.registry": {"Registry": Registry},
        "fvcore.nn.weight_init": {"c2_xavier_fill": same},
    }
    for name, content in parts.items():
        words = name.split(".")
        for n in range(1, len(words) + 1):
            sys.modules.setdefault(".".join(words[:n]), types.ModuleType(".".join(words[:n])))
        sys.modules[name].__dict__.update(content)
        if len(words) > 2:
            setattr(sys.modules[".".join(words[:-1])], words[-1], sys.modules[name])


def filled(network: nn.Module, weights: Path, device: str, missing: tuple[str, ...] = (),
           more: tuple[str, ...] = ()) -> nn.Module:
    """The authors' network with our weights. missing: prefixes of what it has and nothing reads; more: of what we have alone."""
    from safetensors.torch import load_file

    found = network.load_state_dict(load_file(weights), strict=False)
    left = [name for name in found.missing_keys if not name.startswith(missing)]
    left += [name for name in found.unexpected_keys if not name.startswith(more)]
    if left:
        raise SystemExit(f"The authors' code and ours name {len(left)} tensors differently, such as {left[0]}.")
    return network.to(device).eval()


def multiverseg(weights: Path, device: str, full: bool) -> Iterator[Pair]:
    """A prediction with examples that were read before, 128 x 128."""
    from multiverseg.models.network import MultiverSegNet

    theirs = filled(MultiverSegNet([256] * 4, in_channels=(5, 2), block_kws={"conv_kws": {"norm": "layer"}}), weights, device)
    ours, rng = models.load("multiverseg", weights, device), np.random.default_rng(0)
    image, prompts, previous = (rng.random((1, *shape), np.float32) for shape in ((128, 128), (3, 128, 128), (128, 128)))
    for count in (16, 64) if full else (1, 4):
        images, masks = rng.random((count, 128, 128), np.float32), rng.random((count, 128, 128)) > 0.5
        context, plan = ours.encode(images, masks), MemoryPlan(PLANS[device.split(":")[0]].chunk)
        target = np.concatenate([image[:, None], prompts, previous[:, None]], axis=1)
        given = [torch.from_numpy(x.astype(np.float32)).to(device) for x in (target, images[None, :, None], masks[None, :, None])]
        yield (f"MultiverSeg, {count} examples", lambda c=context, p=plan: ours.predict(image, prompts, previous, c, p),
               lambda g=given: theirs(*g)[:, 0].cpu().numpy(), True)


def ritm(weights: Path, device: str, full: bool) -> Iterator[Pair]:
    """A click on 400 x 400, HRNet32."""
    from isegm.model.is_hrnet_model import HRNetModel

    theirs = filled(HRNetModel(width=32, ocr_width=128, with_aux_output=True, use_leaky_relu=True, use_rgb_conv=False,
                               use_disks=True, norm_radius=5, with_prev_mask=True), weights, device)
    ours = ClickPredictor(models.load(models.FAMILIES["limnet"].networks[0], weights, device), (1.0, 1.0))
    image, previous = np.random.default_rng(0).random((2, 1, 400, 400), np.float32)
    points = np.full((1, 16, 3), -1, np.float32)
    points[0, 0] = 200, 190, 0

    def asked() -> np.ndarray:
        maps = torch.from_numpy(np.stack([*np.repeat(image, 3, axis=0), *previous]))[None].to(device)
        return theirs(maps, torch.from_numpy(points).to(device))["instances"][:, 0].cpu().numpy()

    yield "RITM, a click on 400 x 400", lambda: ours.ask(image, points, previous), asked, True


def xmem(weights: Path, device: str, full: bool) -> Iterator[Pair]:
    """The first round through slices; ours with its half precision, theirs with torch's on CUDA, as their evaluation does."""
    from inference.inference_core import InferenceCore
    from model import resnet
    from model.network import XMem

    resnet.model_zoo = types.SimpleNamespace(load_url=lambda url: None)  # ImageNet's weights, which ours replace
    resnet.load_weights_add_extra_dim = lambda *arguments: None
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = filled(XMem(dict(XMEM)), weights, device)
    ours = models.load("limnet-memory", weights, device).to(memory_format=torch.channels_last)
    precision, lowered = half_precision(device), device.startswith("cuda") and FLOAT32 not in os.environ
    for side in (256, 480) if full else (256,):
        images = np.random.default_rng(0).random((60 if full else 6, side, side), np.float32)
        mask = np.zeros((1, side, side), np.float32)
        mask[:, side // 4:side // 2, side // 4:side // 2] = 1

        def carried(images=images, mask=mask) -> np.ndarray:
            slices = EncodedSlices(ours, lambda n: send(images[n], device)[None], PLANS[device.split(":")[0]].kept, precision,
                                   8 if device.startswith("cuda") else 1)
            given = {0: torch.from_numpy(mask).to(device)}
            run = propagate(ours, slices, given, range(len(images)), patience=len(images), precision=precision)
            return np.stack([found[0].float().cpu().numpy() for _, found in run])

        def followed(images=images, mask=mask) -> np.ndarray:
            core, found = InferenceCore(theirs, dict(XMEM)), []
            core.set_all_labels([1])
            with torch.autocast("cuda", enabled=lowered):
                for n, image in enumerate(images):
                    frame = ours.normalise(torch.from_numpy(image)[None, None].to(device))[0]
                    given = (torch.from_numpy(mask).to(device), [1]) if n == 0 else (None, None)
                    found.append(core.step(frame, *given, end=n == len(images) - 1)[1].float().cpu().numpy())
            return np.stack(found)

        yield f"XMem, {len(images)} slices of {side} x {side}", carried, followed, True


def verse(weights: Path, device: str, full: bool) -> Iterator[Pair]:
    """By name, a first click and a later one, 256 x 256. Theirs draws its click modules anew at each call, so that their
    answers to clicks cannot be compared."""
    theirs = verse_network(weights, device)
    ours = models.load("verse", weights, device)
    shown = np.random.default_rng(0).random((1, 1, SIDE, SIDE), np.float32)
    points = torch.full((24, 2), -10.0, device=device), torch.full((24,), -1.0, device=device)
    clicked = points[0].clone(), points[1].clone()
    clicked[0][0], clicked[1][0] = torch.tensor([120.0, 131.0]), 1
    clicks = tuple(x.to(device) for x in (pad_clicks([[(120, 131)]], True), pad_clicks([[]], False)))
    lowered = device.startswith("cuda") and FLOAT32 not in os.environ
    name = torch.tensor([0], device=device)

    def features() -> list[torch.Tensor]:
        return list(replayed(ours, "encode", ours.encode, send(shown, device)))

    def answer(encoded: list[torch.Tensor], by_name: bool) -> np.ndarray:
        nothing = torch.zeros(1, 1, SIDE, SIDE, device=device)
        prompts = draw_prompts(pads() if by_name else clicks, nothing)

        def decode(*inputs: torch.Tensor) -> list[torch.Tensor]:
            rest = {"targets": inputs[-1]} if by_name else {"clicks": inputs[4:]}
            return ours.decode(list(inputs[:3]), inputs[3], **rest)[-1:]

        return replayed(ours, ("pair", by_name), decode, *encoded, prompts, *([name] if by_name else clicks))[0].cpu().numpy()

    def pads() -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(pad_clicks([[]], sign).to(device) for sign in (True, False))

    def asked(mode: str) -> np.ndarray:
        backbone, fuser, predictor = theirs
        with torch.autocast("cuda", enabled=lowered):
            frames = ((torch.from_numpy(shown).to(device) - 0.367) / 3.13).expand(-1, 3, -1, -1)
            dense = draw_prompts(pads() if mode == "0" else clicks, torch.zeros(1, 1, SIDE, SIDE, device=device))
            maps = fuser.forward_features(backbone(frames), dense)[2]
            found = predictor(maps, dense, [[clicked]], [[clicked]], [[points]], click_mode=mode, query_index=[1])
        return found["pred_masks"].float().cpu().numpy()

    with torch.inference_mode():
        kept = features()
    yield "VerSe, by name", lambda: answer(features(), True), lambda: asked("0"), True
    yield "VerSe, a first click (one look)", lambda: answer(features(), False), lambda: asked("2"), False
    yield "VerSe, a later click", lambda: answer(kept, False), lambda: asked("2"), False


def verse_network(weights: Path, device: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The authors' backbone, fuser and predictor."""
    package = "Verse_1_0_Cardiac.modeling."
    backbone, fuser, decoder = (
        getattr(importlib.import_module(package + module), name) for module, name in (
            ("backbone.utnet", "UTNet"), ("pixel_decoder.pixelfuser", "PixelFuser"),
            ("transformer_decoder.Verse_transformer_decoder", "MultiScaleMaskedTransformerDecoder")))
    unet = types.SimpleNamespace(IN_CHANNELS=3, BASE_CHANNELS=48, REDUCE_SIZE=8, BLOCK_LIST="1234", NUM_BLOCKS=[1] * 4,
                                 PROJECTION="interp", NUM_HEADS=[4] * 4, ATTN_DROP=0.1, PROJ_DROP=0.1, BOTTLENECK=False,
                                 MAXPOOL=False, REL_POS=True, AUX_LOSS=False)
    head = types.SimpleNamespace(NUM_CLASSES=6)
    whole = nn.Module()
    whole.backbone = backbone(types.SimpleNamespace(MODEL=types.SimpleNamespace(BACKBONE=unet, SEM_SEG_HEAD=head)), None)
    whole.sem_seg_head = nn.Module()
    levels = ["res3", "res4", "res5"]
    shapes = {name: shape for name, shape in whole.backbone.output_shape().items() if name in levels}
    whole.sem_seg_head.pixel_decoder = fuser(shapes, conv_dim=256, transformer_in_features=levels)
    whole.sem_seg_head.predictor = decoder(
        256, True, num_classes=6, hidden_dim=256, num_queries=4, num_click_queries=16, nheads=8, dim_feedforward=2048,
        dec_layers=6, pre_norm=False, mask_dim=256, enforce_input_project=False, training_mode=True, image_size=(SIDE, SIDE))
    filled(whole, weights, device, UNUSED, CLICK_MODULES)
    return whole.backbone, whole.sem_seg_head.pixel_decoder, whole.sem_seg_head.predictor


ROWS = {"multiverseg": multiverseg, "limnet": ritm, PROPAGATION: xmem, "verse": verse}


@torch.inference_mode()
def compare(ours: Answer, theirs: Answer, repeats: int, clock: Callable[[], float]) -> tuple[float, float, float]:
    """(our seconds, theirs, largest difference of the answers), medians; the two take turns after one call each."""
    apart = float(np.abs(ours() - theirs()).max())
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(repeats):
        for times, ask in zip(taken, (ours, theirs)):
            begin = clock()
            ask()
            times.append(clock() - begin)
    return float(np.median(taken[0])), float(np.median(taken[1])), apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds " + ", ".join(FOLDERS))
    parser.add_argument("--rows", default=",".join(ROWS), help="which of them (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--repeats", type=int, default=5, help="of each side, in turns (default: 5)")
    parser.add_argument("--float32", action="store_true", help="no half precision and no TensorFloat-32 on either side")
    args = parser.parse_args()
    absent = [name for name in FOLDERS if not (args.folder / name).is_dir()]
    if absent:
        parser.error(f"{args.folder} holds no {', '.join(absent)}: clone the repositories into it, see --help.")
    stand_in()
    sys.path[:0] = [str(args.folder / name) for name in FOLDERS]
    device, threads = choose_device(args.device), set_threads(args.threads)
    full = device.startswith("cuda")
    clock = time.perf_counter if full else time.process_time
    print(f"{device_name(device)}, {threads} thread(s), {versions()}" + ", float32" * args.float32)
    print(f"\n| what | ours s | authors' s | authors' / ours | largest difference |\n|{'---|' * 5}")
    for float32 in (False, True) if full and not args.float32 else (args.float32,):
        if float32:
            os.environ[FLOAT32] = "1"
        models.load.cache_clear()  # its weights are in the precision before
        choose_device(device)
        with tempfile.TemporaryDirectory() as folder:
            for family in args.rows.split(","):
                weights = RANDOM[family](Path(folder)).rename(Path(folder) / f"{family}.safetensors")
                for what, ours, theirs, same in ROWS[family](weights, device, full):
                    mine, other, apart = compare(ours, theirs, args.repeats, clock)
                    figures = f"{mine:.4f} | {other:.4f} | {other / mine:.2f}"
                    named = what + ", float32" * (float32 and full)
                    print(f"| {named} | {figures} | {f'{apart:.1e}' if same else ''} |", flush=True)
    if full:
        print("\nRows without float32 are each side as it is used: ours in half precision where it serves, and theirs in their "
              "autocast where they evaluate so; where one of them is in float32 alone, the float32 rows are the fair ones.")
    print(f"\nMedians of {'wall' if full else 'processor'} seconds; the answer is fetched from the device each time.")


if __name__ == "__main__":
    main()
