"""Before a model loads: where it will run, with how much at a time, and one sentence that says so."""
import numpy as np
import pytest

from InteractiveSegLib import InteractiveSegError, InteractiveSession, plan
from InteractiveSegLib.footprint import needed
from InteractiveSegLib.models import find_family, list_families
from InteractiveSegLib.plan import PLANS, make_plan

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
