"""Stand-ins for LIM-Net's networks that see brightness alone, so that tests know what is right without trained weights."""
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from InteractiveSegLib import models, rounds
from InteractiveSegLib.models.limnet.xmem import Features, aggregate

TOLERANCE = 0.12  # of the image's range


class BrightMemory(nn.Module):
    """In XMem's place: an object is what is as bright as it was where its mask was given."""

    def __init__(self, size=64):
        super().__init__()
        self.config = SimpleNamespace(size=size, hidden=1)
        self.encoded = 0

    def normalise(self, image):
        return image.expand(-1, 3, -1, -1)

    def encode_key(self, frame):
        self.encoded += len(frame)
        small = F.avg_pool2d(frame, 16)
        one = torch.ones_like(small[:, :1])
        return Features(frame, small, one, torch.ones_like(small), one, one, one, one)

    def encode_value(self, features, hidden, masks):
        frame = features.frame[:, :1].float()
        masks = (masks > 0.5).float()
        shown = masks.sum(dim=(2, 3))
        level = (frame * masks).sum(dim=(2, 3)) / shown.clamp(min=1)
        level = torch.where(shown > 0, level, hidden.mean(dim=(2, 3, 4)))
        hidden = level[:, :, None, None, None].expand_as(hidden)
        return hidden, hidden

    def segment(self, features, readout, hidden, update):
        level = hidden.mean(dim=(2, 3, 4))[..., None, None]
        found = ((features.frame[:, :1].float() - level).abs() < TOLERANCE).float()
        return aggregate(found), hidden


class BrightQuality:
    """In the quality network's place: the better mask is the one that holds more of what is bright and less of the rest."""

    def __init__(self):
        self.asked = []

    def previous_better(self, image, previous, current):
        self.asked.append(len(image))
        wrong = [(mask != (image > 0.5)).flatten(1).sum(dim=1) for mask in (previous, current)]
        return (wrong[0] < wrong[1]).float()


def see_brightness(monkeypatch):
    """Put the stand-ins where LIM-Net's networks are loaded from; returns both."""
    memory, quality = BrightMemory(), BrightQuality()
    load = models.load

    def instead(name, weights, device):
        return {"limnet-memory": memory, "limnet-fusion": quality}.get(name) or load(name, weights, device)

    monkeypatch.setattr(models, "load", instead)
    monkeypatch.setattr(rounds, "is_shipped", lambda family: True)
    return memory, quality


def bright(truth, value=160.0, seed=1):
    """An image of noise in which the labels of `truth` are brighter: by `value` for 1, by half of it for 2."""
    noise = np.random.default_rng(seed).normal(50, 2, truth.shape)
    return noise + value * (truth == 1) + value / 2 * (truth == 2)
