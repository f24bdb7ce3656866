"""MultiverSeg (Wong et al., ICCV 2025): a slice, its prompts, the previous logits and a set of examples in, logits out.

Differences from the published network: width and number of levels are parameters, and a network may add its output to the
previous logits (`refines`). With four levels of 256 features the
names and shapes of all 72 tensors are the published ones; the paper's text describes five.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..device import half_precision, send
from ..weights import load_strictly, read_state
from .layers.cross_conv import DEFAULT_PLAN, CrossUNet, MemoryPlan, read_features

CHANNELS = ("image", "box", "positive", "negative", "previous logits")
NOTHING = 0.5  # image and mask of the one entry that stands for an empty context, everywhere


@dataclass(frozen=True)
class MultiverSegConfig:
    """The network's shape. Published: four levels of 256 features, trained on 128 x 128 slices with up to 64 examples.

    refines: the answer is the previous logits plus the network's output; trained on ScribblePrompt's answers to prompts.
    """

    features: tuple[int, ...] = (256, 256, 256, 256)
    size: int = 128  # side of the canvas it was trained on, pixels
    refines: bool = False


class MultiverSegNet(CrossUNet):
    """Target (B, 5, H, W), see CHANNELS, and support (B, S, 2, H, W), image in [0, 1] and mask -> logits (B, 1, H, W)."""

    def __init__(self, config: MultiverSegConfig) -> None:
        super().__init__(len(CHANNELS), 2, config.features, activation=True, norm=True)
        self.config = config
        if config.refines:
            self.register_buffer("refines", torch.ones(1))  # so that a weight file says it

    def forward(self, target: torch.Tensor, support: torch.Tensor, term: torch.Tensor | None = None,
                plan: MemoryPlan = DEFAULT_PLAN) -> torch.Tensor:
        """As CrossUNet.forward, but S may be 0: then one entry of grey takes the examples' place."""
        if support.shape[1] == 0:
            support, term = target.new_full((1, 1, 2, *target.shape[2:]), NOTHING), None
        logits = super().forward(target, support, term, plan)
        return logits.float() + target[:, -1:] if self.config.refines else logits


@dataclass(frozen=True, eq=False)
class EncodedContext:
    """Examples on the network's device. support: (1, S, 2, size, size). term: the first layer's share, or None."""

    support: torch.Tensor
    term: torch.Tensor | None

    @property
    def nbytes(self) -> int:
        return self.support.nbytes + (0 if self.term is None else self.term.nbytes)


class ContextNetwork:
    """A network behind arrays: slices, prompts and a context in, logits out. No gradients, one device.

    precision: what it multiplies in, see device.half_precision; None is float32. In bfloat16, on a processor that does so
    itself, it takes half the time, and the logits differ in the second decimal.
    """

    def __init__(self, network: MultiverSegNet, device: str, precision: torch.dtype | None = None) -> None:
        self.size, self.refines = network.config.size, network.config.refines
        self.device, self.precision = torch.device(device), precision
        layout = torch.preserve_format if precision is None else torch.channels_last
        self.network = network.to(self.device, memory_format=layout).eval()

    def arithmetic(self) -> torch.autocast:
        """The context in which the network runs."""
        return torch.autocast(self.device.type, self.precision or torch.bfloat16, enabled=self.precision is not None)

    @torch.inference_mode()
    def encode(self, images: np.ndarray, masks: np.ndarray, keep_term: bool = True) -> EncodedContext:
        """A context set, once for all slices that it will be used for.

        images: (S, size, size) in [0, 1]; masks: (S, size, size) bool or probabilities, which are cut at 0.5; S may be 0.
        keep_term: keep the first layer's share, S times the memory of one map per feature, instead of making it each time.
        """
        pairs = np.stack([images, np.asarray(masks) > 0.5], axis=1).astype(np.float32)  # (S, 2, size, size)
        support = send(pairs, self.device)[None]
        with self.arithmetic():
            return EncodedContext(support, self.network.first_term(support) if keep_term and len(pairs) else None)

    @torch.inference_mode()
    def predict(self, images: np.ndarray, prompts: np.ndarray, previous: np.ndarray, context: EncodedContext,
                plan: MemoryPlan = DEFAULT_PLAN) -> np.ndarray:
        """Logits (B, size, size) float32.

        images: (B, size, size) in [0, 1]; prompts: (B, 3, size, size), see `rasterise`; previous: (B, size, size) logits,
        zeros before the first prediction.
        """
        x = np.concatenate([images[:, None], prompts, previous[:, None]], axis=1).astype(np.float32)
        target = send(x, self.device)
        with self.arithmetic():
            logits = self.network(target, context.support, context.term, plan)
        return logits[:, 0].float().cpu().numpy()


def load(path: Path, device: str) -> ContextNetwork:
    """The network from shipped or published weights; levels and widths are read from the tensors."""
    state = read_state(path)
    network = MultiverSegNet(MultiverSegConfig(read_features(state, path), refines="refines" in state))
    load_strictly(network, state, path)
    trained_so = max(network.config.features) < max(MultiverSegConfig().features)  # on a CPU the published one keeps float32
    return ContextNetwork(network, device, half_precision(device) if trained_so or device != "cpu" else None)
