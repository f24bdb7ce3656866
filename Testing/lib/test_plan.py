"""Before a model loads: where it will run, with how much at a time, and one sentence that says so."""
import numpy as np
import pytest

from InteractiveSegLib import InteractiveSegError, InteractiveSession, plan
from InteractiveSegLib.footprint import needed
from InteractiveSegLib.models import find_family, list_families, load
from InteractiveSegLib.models.tis import read_spacing
from InteractiveSegLib.plan import PLANS, make_plan
from InteractiveSegLib.weights import shipped_file

VOLUME = (40, 256, 256)


@pytest.fixture
def a_machine(monkeypatch):
    """Installs a machine with these devices and free bytes."""
    def install(**free):
        monkeypatch.setattr(plan, "available_devices", lambda: tuple(free))
        monkeypatch.setattr(plan, "choose_device", lambda name: next(iter(free)) if name == "auto" else name)
        monkeypatch.setattr(plan, "free_memory", free.get)

    return install


def test_the_sentence_names_model_device_need_examples_and_what_is_free(a_machine):
    a_machine(cpu=3.14e9)
    family = find_family("multiverseg")
    need = needed("multiverseg", PLANS["cpu"], (256, 256), 12) / 1e9
    found = make_plan(family, (256, 256), examples=12).sentence
    assert found == f"MultiverSeg on cpu: about {need:.1f} GB with 12 examples; 3.1 GB free"
    assert "with 16 of 20 examples;" in make_plan(family, (256, 256), examples=20).sentence
    assert "examples" not in make_plan(find_family("scribbleprompt"), (256, 256)).sentence
    a_machine(cuda=8e9, cpu=8e9)
    found = make_plan(find_family("scribbleprompt"), (256, 256)).sentence
    assert found == "ScribblePrompt-UNet on cuda: about 0.1 GB, reckoned and not yet measured there; 8.0 GB free"


@pytest.mark.parametrize("family", list_families(), ids=lambda family: family.name)
def test_the_first_device_with_room_is_taken_with_the_largest_plan_that_fits(a_machine, family):
    ample, none = 1e12, 1e6
    a_machine(cuda=ample, cpu=ample)
    assert make_plan(family, VOLUME).device == "cuda" and not make_plan(family, VOLUME).again
    a_machine(cuda=none, cpu=ample)
    for name in ("auto", "cuda"):
        assert make_plan(family, VOLUME, name).device == "cpu"
    a_machine(cuda=none, cpu=none)
    with pytest.raises(InteractiveSegError, match=rf"{family.title} needs about .* GB and 0.1 GB are free on cpu: close"):
        make_plan(family, VOLUME)


def test_where_memory_is_short_fewer_examples_are_read_and_fewer_slices_kept(a_machine):
    few, many = (needed("multiverseg", PLANS["cuda"], (256, 256), count) for count in (4, 64))
    assert many > few
    a_machine(cuda=(few + many) / 2)
    short = make_plan(find_family("multiverseg"), (256, 256), examples=64)
    assert short.device == "cuda" and short.again and 1 <= short.examples < 64
    assert short.kept < PLANS["cuda"].kept and short.looks < PLANS["cuda"].looks


def test_tis_reads_its_crop_coarsely_where_memory_is_short_and_is_reckoned_at_its_networks_spacing(a_machine):
    def made(spacing=1.0, **free):
        a_machine(**free)
        return make_plan(find_family("tis"), (128,) * 3, targets=("anterior",), spacing=(spacing,) * 3)

    def need(plan):
        return float(plan.sentence.split("about ")[1].split(" GB")[0])

    ample = made(cpu=1e12)
    short = made(cpu=needed("tis", ample, (128,) * 3) / 0.95)
    assert ample.crop == 64**3 and short.crop == 32**3
    assert need(made(spacing=2.0, cpu=1e12)) > 3 * need(ample) and need(ample) > 2 * need(made(spacing=0.5, cpu=1e12))


@pytest.mark.parametrize("name", ["tis-hippocampus", "tis-cardiac", "tis-atrium"])
def test_the_spacing_of_a_shipped_network_is_read_before_it_is_loaded(name):
    assert read_spacing(shipped_file(name)) == load(name, None, "cpu").config.spacing


def test_the_need_grows_with_what_is_asked_for():
    cpu = PLANS["cpu"]
    assert needed("tis", cpu, (96, 96, 96)) > needed("tis", cpu, (48, 48, 48))
    assert needed("verse", cpu, (30, 256, 256)) > needed("verse", cpu, (3, 256, 256))
    assert needed("propagation", cpu, (300, 256, 256)) > needed("propagation", cpu, (30, 256, 256))


def test_a_session_tells_its_plan_before_any_network_is_loaded(a_machine):
    a_machine(cpu=3e9)
    session = InteractiveSession(np.zeros((30, 40)))
    assert session.plan.sentence.startswith("ScribblePrompt-UNet on cpu: about 0.1 GB; 3.0 GB free")
    assert not session._predictors
