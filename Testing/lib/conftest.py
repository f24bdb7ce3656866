"""Images and sessions that the tests share. Everything is generated; the networks are the shipped ones."""
import os

import numpy as np
import pytest
from shapes import ellipsoid

from InteractiveSegLib import InteractiveSession

os.environ.setdefault("ITK_GLOBAL_DEFAULT_THREADER", "Platform")  # ITK's pool of threads crashes when Python ends


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    from InteractiveSegLib.device import set_threads

    set_threads(1)


@pytest.fixture
def a_disk():
    """(image, truth): a bright disk on a noisy dark ground, 96 x 120."""
    truth = ellipsoid((96, 120), (40, 70), (18, 18))
    image = np.random.default_rng(0).normal(100, 8, truth.shape) + 120 * truth
    return image.astype(np.float32), truth


@pytest.fixture
def a_volume():
    """(image int16, truth): a bright ellipsoid, 14 x 60 x 72, slices 3 mm apart, pixels 1 mm."""
    truth = ellipsoid((14, 60, 72), (7, 28, 40), (4.5, 14, 14))
    image = np.random.default_rng(1).normal(50, 10, truth.shape) + 160 * truth
    return image.astype(np.int16), truth


@pytest.fixture
def a_session(a_volume):
    return InteractiveSession(a_volume[0], spacing=(3.0, 1.0, 1.0))
