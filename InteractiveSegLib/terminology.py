"""Standard names, SNOMED CT codes and colours of what networks know by name. Numpy-free words; knows no network."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Structure:
    """How a segment of this structure is written. category, type: (SNOMED CT code, meaning). color: RGB in 0..1."""

    title: str
    category: tuple[str, str]
    type: tuple[str, str]
    color: tuple[float, float, float]


ANATOMY = ("123037004", "Anatomical Structure")
ABNORMAL = ("49755003", "Morphologically Altered Structure")

# VerSe's targets, in the order of its object queries. Codes and colours as in Slicer's General Anatomy terminology.
HEART = {
    "LV": Structure("left ventricle", ANATOMY, ("87878005", "Left ventricle of heart"), (0.596, 0.216, 0.051)),
    "myocardium": Structure("myocardium", ANATOMY, ("74281007", "Myocardium"), (0.753, 0.408, 0.345)),
    "RV": Structure("right ventricle", ANATOMY, ("53085002", "Right ventricle of heart"), (0.710, 0.522, 0.412)),
    "edema": Structure("myocardial edema", ABNORMAL, ("79654002", "Edema"), (0.549, 0.878, 0.894)),
    "scar": Structure("myocardial scar", ABNORMAL, ("12402003", "Scar"), (0.957, 0.839, 0.192)),
    "LA": Structure("left atrium", ANATOMY, ("82471001", "Left atrium"), (0.612, 0.447, 0.706)),
}
