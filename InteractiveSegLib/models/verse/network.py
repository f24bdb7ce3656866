"""VerSe (cardiac MRI): the network of three modes, its configurations and its checkpoints."""
from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ...device import half_precision
from ...terminology import HEART, UNSEEN, find_name
from ...types import InteractiveSegError
from ...weights import load_strictly, read_metadata, read_state
from ..layers.lowered import lower_weights
from .decoder import SCALES, WHOLE, Parts, QueryDecoder
from .fuser import PixelFuser
from .utnet import VERSE_ENCODER, UTNetEncoder

MEAN, DEVIATION = 0.367, 3.13  # of the published normalisation
HEAD_WIDTH = 32  # channels per attention head
PREDICTOR = "sem_seg_head.predictor."
FUSER = "sem_seg_head.pixel_decoder."
CLICK_MODULES = (PREDICTOR + "sparse_query.", PREDICTOR + "semantic_query.")  # no published checkpoint has them
# Tensors of a published checkpoint that no forward pass reads: they are dropped when it is loaded.
UNUSED = ("backbone.down4.", "backbone.up", "backbone.outc.", FUSER + "input_proj.3.", FUSER + "input_proj.4.",
          FUSER + "input_proj.5.", FUSER + "mask_downsamplelayer.down4.", PREDICTOR + "decoder_norm.", PREDICTOR + "mask_embed.",
          PREDICTOR + "aggregate_class_layer.", PREDICTOR + "point_encoder.")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VerSeConfig:
    """The network's shape. Widths and depths are the published ones; `rounding` is the paper's, see SemanticQuery."""

    base: int = 48  # width of the encoder's first stage
    width: int = 256  # of the fused maps and of the queries, a multiple of 32
    feedforward: int = 2048
    rounds: int = 2  # over the three levels
    targets: int = 6
    group: int = 4  # object queries per target
    rounding: str = "floor"
    dropout: float = 0.1  # in the encoder's attention, while it is trained
    size: int = 256  # side of the canvas it was trained on, pixels
    parts: Parts = WHOLE
    by_batch: bool = True  # the encoder's norms, see UTNetConfig


PUBLISHED = VerSeConfig(rounding="round")
QUERIES = "queries"  # in a file's metadata: the targets in the order of its object queries, with commas between
COMPACT = VerSeConfig(base=16, width=64, feedforward=256, dropout=0.0, size=128, by_batch=False)


class SegmentationHead(nn.Module):
    """Fuser and decoder, under the published names."""

    def __init__(self, config: VerSeConfig) -> None:
        super().__init__()
        self.pixel_decoder = PixelFuser((8 * config.base, 4 * config.base, 2 * config.base), config.width)
        self.predictor = QueryDecoder(config.width, config.width // HEAD_WIDTH, config.feedforward, config.rounds,
                                      config.targets * config.group, config.group, config.rounding, config.parts)


class VerSe(nn.Module):
    """Segments by name, by name and clicks, or by clicks alone.

    `encode` is for once per slice, `decode` for each answer. untrained: names of tensors that the loaded file did not hold.
    queries: its targets in the order of their object queries. unseen: targets that its weights were never trained on.
    precision: what predictions multiply in, None is float32.
    """

    def __init__(self, config: VerSeConfig) -> None:
        super().__init__()
        self.config = config
        self.untrained: tuple[str, ...] = ()
        self.queries: tuple[str, ...] = tuple(HEART)[:config.targets]
        self.unseen: tuple[str, ...] = ()
        self.precision: torch.dtype | None = None
        self.backbone = UTNetEncoder(replace(VERSE_ENCODER, base=config.base, dropout=config.dropout, by_batch=config.by_batch))
        self.sem_seg_head = SegmentationHead(config)

    def arithmetic(self) -> AbstractContextManager:
        kind = next(self.parameters()).device.type
        return nullcontext() if self.precision is None else torch.autocast(kind, self.precision)

    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Maps (B, width, ...) of side H/8, H/4, H/2 from slices (B, 1, H, H) in [0, 1]. No prompt changes them."""
        normal = ((images - MEAN) / DEVIATION).expand(-1, 3, -1, -1)
        with self.arithmetic():
            _, halves, quarters, eighths = self.backbone(normal)
            return self.sem_seg_head.pixel_decoder.project([eighths, quarters, halves])

    def decode(self, features: list[torch.Tensor], prompts: torch.Tensor, targets: torch.Tensor | None = None,
               clicks: tuple[torch.Tensor, torch.Tensor] | None = None) -> list[torch.Tensor]:
        """Logits of every layer, six of (B, 1, h, h) with h = H/8, H/4, H/2 twice over; the last are the answer.

        features: from `encode`, batch B or 1 (one slice, several targets); prompts: (B, 3, H, H), see `draw_prompts`;
        targets: (B,) numbers from 0; clicks: positive and negative, each (B, N, 3), see `pad_clicks`.
        Targets alone are the paper's Mode-1, both its Mode-2, clicks alone its Mode-3.
        """
        if targets is None and clicks is None:
            raise InteractiveSegError("VerSe was given neither a target nor a click: give at least one of them.")
        with self.arithmetic():
            fused = self.sem_seg_head.pixel_decoder(features, prompts)
            return self.sem_seg_head.predictor(fused, targets, clicks)

    def forward(self, images: torch.Tensor, prompts: torch.Tensor, targets: torch.Tensor | None = None,
                clicks: tuple[torch.Tensor, torch.Tensor] | None = None) -> list[torch.Tensor]:
        """`encode`, then `decode`."""
        return self.decode(self.encode(images), prompts, targets, clicks)


def build(config: VerSeConfig = VerSeConfig()) -> VerSe:
    """A network with fresh weights."""
    return VerSe(config)


def read_config(state: dict[str, torch.Tensor], path: Path) -> VerSeConfig:
    """Widths and depths from the tensors of a checkpoint."""
    try:
        queries, width = state[PREDICTOR + "query_feat.weight"].shape
        feedforward = state[PREDICTOR + "transformer_ffn_layers.0.linear1.weight"].shape[0]
        base = state["backbone.inc.0.conv1.weight"].shape[0]
    except KeyError as error:
        raise InteractiveSegError(f"{path.name} holds no VerSe, no tensor is named {error.args[0]}.") from error
    keys = [key[len(PREDICTOR):] for key in state if key.startswith(PREDICTOR)]

    def holds(part: str) -> bool:
        return any(key.startswith(part) for key in keys)

    layers = {key.split(".")[1] for key in keys if key.startswith("transformer_ffn_layers.")}
    trained_here = holds("sparse_query.")
    parts = Parts(holds("semantic_query.") or not trained_here, holds("neg_transformer"), holds("sample_layer_list."))
    size = COMPACT.size if width == COMPACT.width else PUBLISHED.size
    return VerSeConfig(base, width, feedforward, rounds=len(layers) // len(SCALES), targets=queries // VerSeConfig.group,
                       size=size, parts=parts, by_batch="backbone.inc.0.bn1.running_mean" in state)


def check_queries(order: Sequence[str], count: int, path: Path) -> tuple[str, ...]:
    """The targets of a file's object queries, in their order, or one sentence. count: how many it has."""
    queries = tuple(find_name(name, HEART) for name in order)
    if None in queries or len(set(queries)) != count or len(queries) != count:
        raise InteractiveSegError(f"Got the object queries {', '.join(order)}, expected a name for each of the {count} of "
                                  f"{path.name}, in their order, out of {', '.join(HEART)}.")
    return queries


def name_queries(path: Path, order: Sequence[str], out: Path) -> None:
    """Write a VerSe's weights as .safetensors that say which targets its object queries are."""
    state = read_state(path)
    queries = check_queries(order, read_config(state, path).targets, path)
    if out.suffix != ".safetensors" or out.resolve() == path.resolve():
        raise InteractiveSegError(f"{out} cannot be written: give another file, whose name ends with .safetensors.")
    save_file({key: value.contiguous() for key, value in state.items()}, out, {QUERIES: ",".join(queries)})


def load(path: Path, device: str) -> VerSe:
    """A network from shipped or published weights. A published file lacks the click modules: they stay as they were drawn,
    always alike, and are named in `untrained`; which targets its object queries are is assumed where it does not say so."""
    state = {key: value for key, value in read_state(path).items() if not key.startswith(UNUSED)}
    config = read_config(state, path)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = build(config)
    drawn = {key: value for key, value in network.state_dict().items() if key.startswith(CLICK_MODULES) and key not in state}
    load_strictly(network, {**state, **drawn}, path)
    network.untrained = tuple(drawn)
    said = read_metadata(path).get(QUERIES)
    if said is not None:
        network.queries = check_queries(said.split(","), config.targets, path)
    elif drawn:
        log.warning("%s does not say which targets its object queries are, the order %s is assumed: write a file that says it "
                    "with `interactive-seg models queries`.", path.name, ", ".join(network.queries))
    trained = network.queries if drawn else set(network.queries) - set(UNSEEN)  # a published file has seen all that it has
    network.unseen = tuple(name for name in HEART if name not in trained)
    if drawn:
        log.warning("%s was published without %s: clicks are understood at random until the network is trained further.",
                    path.name, ", ".join(drawn))
    network.to(device, memory_format=torch.channels_last).eval()
    if not drawn and device == "cpu" and config.width < PUBLISHED.width:  # trained here in bfloat16, which some CPUs multiply
        network.precision = half_precision(device)
    return lower_weights(network, network.precision)
