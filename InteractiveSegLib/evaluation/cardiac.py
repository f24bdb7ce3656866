"""Hearts: VerSe's Table 2 on our own volumes, what absent structures cost, and the ejection fraction. Rows, no tables."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..cine import millilitres
from ..prompts import Scribble
from ..robot import Robot, centreline_scribble
from ..session import InteractiveSession
from ..types import InteractiveSegError
from .metrics import dice, filled_curve

NAMES = {"RV": "RV", "myocardium": "myocardium", "LV cavity": "LV", "left atrium": "LA"}  # a pack's word -> the target's
UNMARKED = 4  # in an expert's scribbles
MIN_PIXELS = 10  # a structure smaller than this on its slice is not clicked
SMALL = 0.5  # a slice is small that shows less than this share of what the volume's largest slice shows of the structure
CAP = 20

# Dice in percent, NoC in clicks, as printed in the paper's Table 2: (Dice(1), Dice(20), NoC85, NoC90, NoC95).
PUBLISHED = {
    "acdc": {"nnU-Net": (89.796,), "UTNet": (89.604,), "VerSe auto": (89.788,),
             "RITM": (83.999, 92.911, 2.175, 4.784, 11.055),
             "VerSe auto+click": (92.091, 96.865, 0.431, 1.248, 5.636), "VerSe click": (89.757, 96.698, 1.485, 2.352, 6.480)},
    "la2018": {"nnU-Net": (84.827,), "UTNet": (85.275,), "VerSe auto": (83.159,),
               "RITM": (82.957, 92.704, 3.550, 6.163, 13.866),
               "VerSe auto+click": (86.919, 97.172, 1.414, 2.270, 5.077), "VerSe click": (85.841, 97.452, 2.103, 2.940, 5.717)},
}


@dataclass(frozen=True, eq=False)
class Heart:
    """One volume (k, j, i). truth: bool per target; spacing: mm; scribbles: an expert's label values, or None."""

    key: str
    subject: str
    image: np.ndarray
    truth: dict[str, np.ndarray]
    spacing: tuple[float, float, float]
    scribbles: np.ndarray | None
    values: dict[str, int]  # target -> its value in the scribbles


def read_hearts(path: Path, count: int | None = None) -> list[Heart]:
    """The volumes of a pack that names RV, myocardium, LV cavity or left atrium; `count` of them, whole subjects first."""
    try:
        pack = np.load(path, allow_pickle=False)
        names = json.loads(str(pack["labels"]))
        entries = json.loads(str(pack["index"]))[:count]
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise InteractiveSegError(f"{path} is not a pack of volumes ({error}): give one such as 3d_acdc_cine_dev.npz.") from error
    values = {NAMES[word]: int(value) for value, word in names.items() if word in NAMES}
    if not values:
        raise InteractiveSegError(f"{path} has none of {', '.join(NAMES)} among its labels: give a pack of hearts.")
    hearts = []
    with pack:
        for entry in entries:
            key = entry["key"]
            labels = pack[f"lab_{key}"]
            scribbles = pack[f"scr_{key}"] if f"scr_{key}" in pack.files else None
            truth = {target: labels == value for target, value in values.items()}
            spacing = tuple(float(s) for s in entry["spacing_zyx_mm"])
            hearts.append(Heart(key, entry["subject"], pack[f"img_{key}"], truth, spacing, scribbles, values))
    return hearts


def automatic_rows(hearts: Sequence[Heart], method: str, segment: Callable[[Heart], dict[str, np.ndarray]]) -> Iterator[dict]:
    """One row per heart and target. segment: a heart's volume -> bool masks per target.

    dice: mean over the slices that show the structure, as in the paper; dice_small: over the small ones of these, NaN where
    there are none; dice_3d: of the volume; dice_all: mean over all slices, an absent structure left empty counting as 1;
    extra_ml: what was drawn on slices where it is absent.
    """
    for heart in hearts:
        masks = segment(heart)
        for target, truth in heart.truth.items():
            mask, shown = masks[target], truth.any(axis=(1, 2))
            slices, small = np.array([dice(m, t) for m, t in zip(mask, truth)]), small_slices(truth)
            yield {"method": method, "target": target, "key": heart.key, "subject": heart.subject, "slices": int(shown.sum()),
                   "absent": int((~shown).sum()), "dice": float(slices[shown].mean()),
                   "dice_small": float(slices[small].mean()) if small.any() else float("nan"), "dice_3d": dice(mask, truth),
                   "dice_all": float(slices.mean()), "extra_ml": millilitres(mask[~shown], heart.spacing),
                   "ml": millilitres(mask, heart.spacing), "true_ml": millilitres(truth, heart.spacing)}


def small_slices(truth: np.ndarray) -> np.ndarray:
    """Bool (slices,): those near the ends of a structure, bool (k, j, i), that show little of it."""
    area = truth.sum(axis=(1, 2))
    return (area > 0) & (area < SMALL * area.max())


def chosen_slices(truth: np.ndarray, count: int) -> np.ndarray:
    """Indices of up to `count` slices that show the structure, the middle one of each of as many equal parts of it."""
    shown = np.flatnonzero(truth.sum(axis=(1, 2)) >= MIN_PIXELS)
    count = min(count, len(shown))
    return shown[((np.arange(count) + 0.5) * len(shown) / max(count, 1)).astype(int)]


def click_rows(hearts: Sequence[Heart], method: str, options: dict, slices: int, named: bool, cap: int = CAP) -> Iterator[dict]:
    """One row per slice and target: Dice after 0 (of the automatic result), 1, 2, ... `cap` clicks of the robot.

    options: of the InteractiveSession; named: it begins from the automatic result and is told the target.
    """
    robot = Robot()
    for heart in hearts:
        for target, truth in heart.truth.items():
            targets = (target,) if options["model"] == "verse" else None
            session = InteractiveSession(heart.image, spacing=heart.spacing, axis="K", targets=targets, **options)
            if named:
                session.predict()
            small = small_slices(truth)
            for k in chosen_slices(truth, slices):
                rng, curve = np.random.default_rng(int(k)), [dice(session.mask[k], truth[k])]
                for _ in range(cap):
                    prompt = robot.prompt(truth[k], session.mask[k], rng)
                    if prompt is None:
                        break
                    session.add(type(prompt)((int(k), *prompt.position), prompt.positive))
                    curve.append(dice(session.mask[k], truth[k]))
                later = filled_curve(curve[1:] or curve, cap)
                yield {"method": method, "target": target, "key": heart.key, "subject": heart.subject, "slice": int(k),
                       "small": int(small[k]), **{f"dice_{n}": float(v) for n, v in enumerate([curve[0], *later])}}


def scribble_rows(hearts: Sequence[Heart], options: dict, slices: int) -> Iterator[dict]:
    """One row per slice and target: Dice after the expert's scribble of the structure, and after the robot's, each the first."""
    for heart in hearts:
        if heart.scribbles is None:
            continue
        for target, truth in heart.truth.items():
            session = InteractiveSession(heart.image, spacing=heart.spacing, axis="K", targets=(target,), **options)
            for k in chosen_slices(truth, slices):
                drawn = {"expert": heart.scribbles[k] == heart.values[target], "robot": centreline_scribble(truth[k])}
                if not drawn["expert"].any():
                    continue
                row = {"target": target, "key": heart.key, "subject": heart.subject, "slice": int(k)}
                for hand, stroke in drawn.items():
                    session.add(Scribble(stroke[None], True, (int(k), 0, 0)))
                    row[hand] = dice(session.mask[k], truth[k])
                    session.undo()
                yield row


def ejection_fractions(rows: Sequence[dict]) -> list[dict]:
    """Per subject with two phases: ejection fraction in percent from the masks and from the reference."""
    found = []
    cavities = [row for row in rows if row["target"] == "LV"]
    for subject in dict.fromkeys(row["subject"] for row in cavities):
        phases = sorted((row for row in cavities if row["subject"] == subject), key=lambda row: -row["true_ml"])
        if len(phases) < 2:
            continue
        diastole, systole = phases[0], phases[-1]
        true, ours = ((diastole[of] - systole[of]) / max(diastole[of], 1e-6) * 100 for of in ("true_ml", "ml"))
        found.append({"subject": subject, "true": true, "ours": ours})
    return found
