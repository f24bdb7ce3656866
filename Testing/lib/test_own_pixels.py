"""The last word on a pixel is the prompt's that names it, in every family that answers slice by slice, whatever the image."""
import numpy as np
import pytest

from InteractiveSegLib import Click, InteractiveSession, Scribble
from InteractiveSegLib.context import ContextSet
from InteractiveSegLib.models import list_families

KINDS = [(family.name, mode) for family in list_families() if not family.volumetric for mode in (family.modes or (None,))
         if mode != "auto"]  # hears no prompt


def an_image(rng, shape):
    """Noise, blobs or nothing at all: an image that tells the network what to think, or does not."""
    noise, blobs = rng.normal(size=shape), np.kron(rng.normal(size=(6, 7)), np.ones((36, 30)))
    return (noise, blobs, np.zeros(shape))[rng.integers(3)]


def a_session(family, mode, rng):
    image = an_image(rng, (216, 210))
    context = None
    if family == "multiverseg":
        context = ContextSet()
        for _ in range(2):
            context.add(an_image(rng, image.shape), np.kron(rng.random((6, 7)) < 0.4, np.ones((36, 30))) > 0)
    targets = ("LV",) if family == "verse" else None
    return InteractiveSession(image, model=family, mode=mode, context=context, targets=targets, device="cpu")


@pytest.mark.parametrize("family, mode", KINDS)
def test_every_clicked_pixel_is_what_the_last_click_on_it_said(family, mode):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        session, said = a_session(family, mode, rng), {}
        for n in range(6):
            positive = bool(n == 0 or rng.random() < 0.5)
            where = np.argwhere(session.mask != positive)  # a person clicks what is wrong,
            position = tuple(map(int, rng.choice(where))) if len(where) else (0, 0)
            if said and rng.random() < 0.5:  # or so near to an earlier click that a network does not tell them apart
                row, column = list(said)[rng.integers(len(said))]
                position, positive = (row, min(column + int(rng.integers(2)), 209)), not said[row, column]
            session.add(Click(position, positive))
            said[position] = positive
            for pixel, inside in said.items():
                assert session.mask[pixel] == inside, (seed, n, pixel)
                assert (session.probability[pixel] > 0.5) == inside


@pytest.mark.parametrize("family, mode", [(name, mode) for name, mode in KINDS if name != "limnet"])
def test_every_pixel_of_a_stroke_is_what_was_said_last(family, mode):
    rng = np.random.default_rng(4)
    session = a_session(family, mode, rng)
    said = np.zeros(session.shape, int)  # 1 inside, -1 outside
    for n in range(5):
        stroke = np.zeros(session.shape, bool)
        row, column = rng.integers(180, size=2)
        stroke[row, column:column + 25] = True
        session.add(Scribble(stroke, n % 2 == 0))
        said[stroke] = 1 if n % 2 == 0 else -1
        assert session.mask[said == 1].all() and not session.mask[said == -1].any()
