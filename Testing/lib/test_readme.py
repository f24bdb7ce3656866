"""What the README says works: its commands parse, as the campaigns' do, its Python runs, its links lead somewhere."""
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from InteractiveSegLib.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf8")
CAMPAIGN = (ROOT / "models" / "CAMPAIGN.md").read_text(encoding="utf8")
COMMANDS = re.findall(r"^interactive-seg (.+)$", README + CAMPAIGN, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command):
    build_parser().parse_args(shlex.split(command, comments=True))


def test_the_python_example_runs():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    image = np.random.default_rng(0).normal(size=(10, 140, 120))
    names = {"image": image, "affine": np.eye(4), "volume": np.zeros(image.shape, bool)}
    exec(code.replace("position_ras=(R, A, S)", "position_ras=(88, 120, 7)"), names)
    assert names["session"].can_redo is False
    assert names["volume"][7, 120, 88]


def test_the_example_with_a_context_runs():
    [code] = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "context.add" in code]
    image = np.random.default_rng(0).normal(size=(10, 140, 120))
    image[:, 80:130, 60:110] += 5
    names = {"image": image, "first_image": image[3], "first_mask": image[3] > 2}
    exec(code, names)
    assert names["session"].mask[7, 120, 88]
    assert len(names["context"].infos()) == 3, "the first one and the two slices that were accepted"


def test_pictures_and_folders_it_names_are_there():
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
    for target in ("demo", "test"):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
