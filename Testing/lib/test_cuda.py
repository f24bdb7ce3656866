"""What must hold on a graphics card: the same masks, training that moves between devices, company, and its own death.

`pytest -m cuda`. With INTERACTIVESEG_TEST_DEVICE=cpu the same bodies run on a processor, whose half precision is bfloat16.
"""
import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import ellipsoid, overlap
from test_training_context import pictures
from test_verse_training import datasets

from InteractiveSegLib import Click, InteractiveSession, Scribble, models
from InteractiveSegLib.context import ContextSet
from InteractiveSegLib.device import EAGER, FLOAT32, free_memory, half_precision, records_kernels, release_memory
from InteractiveSegLib.evaluation.heart_speed import SPACING, made_heart
from InteractiveSegLib.models.layers import replayed
from InteractiveSegLib.models.limnet.ritm import RITM, RITMConfig
from InteractiveSegLib.training.bundle import write_bundle
from InteractiveSegLib.training.loop import Trainer
from InteractiveSegLib.training.recipes.limnet_click import LIMNetClickRecipe
from InteractiveSegLib.training.recipes.limnet_memory import LIMNetMemoryRecipe
from InteractiveSegLib.training.recipes.multiverseg import MultiverSegRecipe
from InteractiveSegLib.training.recipes.scribbleprompt import ScribblePromptRecipe
from InteractiveSegLib.training.recipes.tis import TISRecipe
from InteractiveSegLib.training.recipes.verse import VerSeRecipe

DEVICE = os.environ.get("INTERACTIVESEG_TEST_DEVICE", "cuda")
pytestmark = pytest.mark.cuda
a_real_card = pytest.mark.skipif(DEVICE != "cuda", reason="needs a graphics card that can fill up and break")
AT_LEAST = {"full": 0.999, "half": 0.995}


@pytest.fixture(autouse=True)
def fresh_networks():
    """No network, and no recording of its kernels, is left from a test in another precision."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA here; INTERACTIVESEG_TEST_DEVICE=cpu runs the same bodies on the processor")
    models.load.cache_clear()
    yield
    models.load.cache_clear()
    release_memory(DEVICE)


def a_slice(seed=0):
    """(image, truth): a bright blob with noise and a brighter spot in it, 200 x 240."""
    truth = ellipsoid((200, 240), (90, 120), (40, 55))
    image = np.random.default_rng(seed).normal(100, 20, truth.shape) + 90 * truth + 60 * ellipsoid(truth.shape, (80, 110), (9, 9))
    return image.astype(np.float32), truth


def a_volume():
    """(image, truth): a bright ellipsoid whose ends come and go, 20 x 96 x 112."""
    truth = ellipsoid((20, 96, 112), (10, 48, 60), (7, 26, 30))
    return np.random.default_rng(1).normal(80, 12, truth.shape) + 100 * truth, truth


def by_scribbleprompt(device, tmp_path):
    session = InteractiveSession(a_slice()[0], device=device)
    session.add(Click((90, 120)))
    session.add(Scribble(np.indices((200, 240))[0] == 95))
    session.add(Click((20, 20), positive=False))
    return session.labels


def by_multiverseg(device, tmp_path):
    context = ContextSet()
    for seed in range(1, 8):
        context.add(*a_slice(seed))
    session = InteractiveSession(a_slice()[0], model="multiverseg", context=context, device=device)
    session.predict()
    before = session.labels.copy()
    session.add(Click((90, 120)))
    return np.stack([before, session.labels])


def by_limnet_clicks(device, tmp_path):
    """With random weights, whose mask is about half of the slice."""
    path = tmp_path / "ritm.pt"
    torch.manual_seed(3)
    torch.save(RITM(RITMConfig(12, 24, (1, 1, 1), 1, 32)).state_dict(), path)
    session = InteractiveSession(a_slice()[0], model="limnet", device=device, weights=path, mode="flip")
    for n in range(3):
        session.add(Click((60 + 20 * n, 120), positive=n != 1))
    return session.probability > np.median(session.probability)


def by_propagation(device, tmp_path):
    image, truth = a_volume()
    session = InteractiveSession(image, (3.0, 1.0, 1.0), device=device)
    session.set_mask(np.where(np.isin(np.arange(20), (8, 13))[:, None, None], truth, False))
    found = []
    for _ in range(2):
        list(session.propagate(from_slice=(8, 13)))
        found.append(session.labels.copy())
    return np.stack(found)


def by_verse(device, tmp_path):
    session = InteractiveSession(made_heart()[:4], SPACING, model="verse", targets=("LV", "myocardium", "RV"), device=device)
    session.predict()
    before = session.labels.copy()
    session.add(Click((2, 130, 120), label="LV"))
    session.add(Click((2, 131, 147), label="myocardium"))
    return np.stack([before, session.labels])


def by_tis(device, tmp_path):
    truth = ellipsoid((40, 48, 44), (20, 24, 22), (14, 12, 10))
    image = np.random.default_rng(2).normal(60, 6, truth.shape) + 50 * truth
    session = InteractiveSession(image, model="tis", targets=("anterior", "posterior"), device=device)
    session.predict()
    automatic = session.labels.copy()
    session.set_labels(np.where(truth, 1 + (np.arange(48) > 24)[None, :, None], 0))
    for place, label in (((20, 20, 22), "posterior"), ((20, 34, 22), "anterior"), ((5, 5, 5), "background")):
        session.add(Click(place, label=label))
    return np.stack([automatic, session.labels])


FAMILIES = [by_scribbleprompt, by_multiverseg, by_limnet_clicks, by_propagation, by_verse, by_tis]
WAYS = [("full", False), ("full", True), ("half", False), ("half", True)]


@pytest.mark.parametrize("answer", FAMILIES, ids=lambda function: function.__name__)
@pytest.mark.parametrize(("precision", "eager"), WAYS, ids=["full", "full, eager", "half", "half, eager"])
def test_the_mask_is_the_processors_own(answer, precision, eager, tmp_path, monkeypatch):
    monkeypatch.setenv(FLOAT32, "1")
    expected = answer("cpu", tmp_path)
    models.load.cache_clear()
    if precision == "half":
        monkeypatch.delenv(FLOAT32)
        if half_precision(DEVICE) is None:
            pytest.skip("this device has no half precision")
    if eager:
        monkeypatch.setenv(EAGER, "1")
    found = answer(DEVICE, tmp_path)
    assert expected.any() and found.shape == expected.shape
    for label in range(1, int(expected.max()) + 1):
        if (expected == label).any():
            assert overlap(found == label, expected == label) >= AT_LEAST[precision], label


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "train.bundle"
    write_bundle(iter([*datasets(), pictures("disks", 6, np.random.default_rng(0))]), path)
    return path


RECIPES = {
    "scribbleprompt": (ScribblePromptRecipe, {"features": (8, 16), "size": 32, "batch": 4}),
    "multiverseg": (MultiverSegRecipe, {"features": (8, 16), "size": 32, "entries": 12,
                                        "largest_context": 3, "quarter_size_until": 0.0}),
    "limnet-click": (LIMNetClickRecipe, {"width": 4, "context": 8, "modules": (1, 1, 1), "depth": 1, "stem": 8, "size": 64,
                                         "small": 64, "batch": 4}),
    "limnet-memory": (LIMNetMemoryRecipe, {"key": 8, "value": 16, "hidden": 8, "width": 4, "key_depths": (1, 1, 1), "batch": 4,
                                           "value_depths": (1, 1, 1), "size": 48, "small": 32, "length": 3, "short": 3}),
    "verse": (VerSeRecipe, {"base": 8, "width": 32, "feedforward": 32, "rounds": 1, "batch": 4, "size": 128}),
    "tis": (TISRecipe, {"pack": "3d_acdc_cine_train", "base": 4, "max_voxels": 8000, "max_stages": 3, "width": 16, "layers": 2,
                        "encoder_share": 0.4}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_training_runs_there_goes_on_on_the_processor_and_comes_back(name, bundle, tmp_path):
    make, options = RECIPES[name]
    steps, weights = 0, None
    for device in (DEVICE, "cpu", DEVICE):
        trainer = Trainer(make(bundle, **options), tmp_path, device)
        assert trainer.step == steps
        now = {key: value.cpu() for key, value in trainer.model.state_dict().items()}
        assert weights is None or all(torch.equal(weights[key], value) for key, value in now.items())
        trainer.train(steps=3, workers=0)
        assert trainer.step > steps and all(np.isfinite(value) for value in trainer.figures.values())
        assert next(trainer.model.parameters()).device.type == device.split(":")[0]
        steps, weights = trainer.step, {key: value.cpu() for key, value in trainer.model.state_dict().items()}


def test_two_sessions_at_the_same_time_answer_as_one_after_the_other(tmp_path, monkeypatch):
    """Their first recordings meet: each waits until the other's is due too."""
    both = by_limnet_clicks, by_verse
    folders = [tmp_path / answer.__name__ for answer in both]
    for folder in folders:
        folder.mkdir()
    alone = [answer(DEVICE, folder) for answer, folder in zip(both, folders)]
    models.load.cache_clear()
    meeting, met, together, record = threading.Barrier(2), set(), {}, replayed.record

    def record_together(function, inputs):
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            meeting.wait(60)
        return record(function, inputs)

    monkeypatch.setattr(replayed, "record", record_together)
    threads = [threading.Thread(target=lambda n=n: together.update({n: both[n](DEVICE, folders[n])})) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, expected in enumerate(alone):
        assert overlap(together[n] > 0, expected > 0) >= AT_LEAST["half"]
    assert len(met) == 2 * records_kernels(DEVICE)


@a_real_card
def test_what_networks_took_is_given_back_on_request():
    release_memory("cuda")
    before, allocated = free_memory("cuda"), torch.cuda.memory_allocated()
    session = InteractiveSession(a_slice()[0], device="cuda")
    session.add(Click((90, 120)))
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() > allocated + 2**20
    session.release()
    assert torch.cuda.memory_allocated() < allocated + 2**20 and free_memory("cuda") > before - 64 * 2**20
    session.add(Click((80, 110)))
    assert session.mask[80, 110]


def filled() -> list[torch.Tensor]:
    """All that is left of the card: large pieces, then smaller ones, until nothing fits, in what torch keeps neither."""
    pieces = []
    torch.cuda.empty_cache()
    for size in (2**30, 2**24, 2**21, 2**20 + 512, 2**20, 2**16, 2**12):
        with contextlib.suppress(torch.cuda.OutOfMemoryError):
            while True:
                pieces.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
    return pieces


@a_real_card
@pytest.mark.parametrize("model", ["scribbleprompt", "verse"])
def test_a_card_that_fills_up_in_mid_session_costs_no_prompt(model):
    image = made_heart()[2] if model == "verse" else a_slice()[0]
    clicks = [Click((130, 120)), Click((135, 125)), Click((30, 30), positive=False)]
    targets = ("LV",) if model == "verse" else None
    alone, session = (InteractiveSession(image, model=model, device=device, targets=targets) for device in ("cpu", "cuda"))
    for click in clicks:
        alone.add(click)
    session.add(clicks[0])
    others = filled()
    try:
        for click in clicks[1:]:
            session.add(click)
        assert len(session.prompts) == 3 and overlap(session.mask, alone.mask) >= AT_LEAST["half"]
        assert model == "verse" or ("cuda" in session.plan.sentence and "slower" in session.plan.sentence)
        later = InteractiveSession(image, model=model, device="auto", targets=targets)
        later.add(clicks[0])
        assert later.mask[clicks[0].position] and later.plan.device == "cpu", "a full card is passed over before it is asked"
    finally:
        others.clear()  # a failure's traceback would keep them for all tests to come


VANISH = """
import numpy as np, torch
from test_cuda import a_slice
from InteractiveSegLib import Click, InteractiveSession
session = InteractiveSession(a_slice()[0], device="cuda")
session.add(Click((90, 120)))
try:  # an index beyond the end breaks the card for this process, for good
    torch.zeros(4, device="cuda")[torch.tensor([9], device="cuda")]
    torch.cuda.synchronize()
except RuntimeError:
    pass
session.add(Click((60, 120)))
assert session.plan.device == "cpu" and session.mask[60, 120] and len(session.prompts) == 2
again = InteractiveSession(a_slice()[0])
again.add(Click((90, 120)))
assert again.plan.device == "cpu" and again.mask[90, 120]
print("went on")
"""


UNRECORDABLE = """
import torch
from InteractiveSegLib.device import free_memory, release_memory
from InteractiveSegLib.models.layers.replayed import replayed
network, x = torch.nn.Linear(64, 64).cuda(), torch.ones(8, 64, device="cuda")
def waits(x):
    return [network(x) * float(x.sum().cpu())]  # what a recording must not do
with torch.inference_mode():
    for _ in range(3):
        found = replayed(network, "waits", waits, x)[0]
        assert torch.allclose(found, network(x) * 512)
        assert torch.cuda.current_stream() == torch.cuda.default_stream()
before, large = free_memory("cuda"), torch.empty(2**30, dtype=torch.uint8, device="cuda")
del large
release_memory("cuda")
assert torch.cuda.memory_reserved() < 2**28 and free_memory("cuda") > before - 2**26
print("went on")
"""


def in_own_process(code) -> str:
    """What it printed; what it complained of where that is nothing."""
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here, here.parents[1], *sys.path)))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here,
                         env={**os.environ, "PYTHONPATH": paths}, check=False)
    return ran.stdout.strip() or ran.stderr[-2000:]


@a_real_card
def test_a_card_that_vanishes_in_mid_session_costs_no_prompt():
    assert in_own_process(VANISH).endswith("went on")


@a_real_card
def test_recorded_kernels_are_replayed_and_answer_as_launched_ones(monkeypatch):
    network = models.load("verse", None, "cuda")
    first = by_verse("cuda", None)
    assert np.array_equal(by_verse("cuda", None), first)
    assert any(recordings.kept for recordings in network.__dict__["_recordings"].values()) and not replayed._failed.is_set()


@a_real_card
def test_a_recording_that_fails_costs_nothing_but_time():
    """In a process of its own, as nothing is recorded in it any more."""
    assert in_own_process(UNRECORDABLE).endswith("went on")
