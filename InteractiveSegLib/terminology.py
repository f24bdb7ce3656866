"""Names, SNOMED CT codes and colours of what networks know by name. Words only; knows no network and no file."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
REGIONS = "Anatomic codes - DICOM master list"


@dataclass(frozen=True)
class Structure:
    """How a segment of this structure is written. category, type: (SNOMED CT code, meaning). color: RGB in 0..1."""

    title: str
    category: tuple[str, str]
    type: tuple[str, str]
    color: tuple[float, float, float]

    @property
    def entry(self) -> str:
        """As Slicer writes it into a segment's tag `TerminologyEntry`."""
        codes = "~".join(f"SCT^{code}^{meaning}" for code, meaning in (self.category, self.type))
        return f"{CONTEXT}~{codes}~^^~{REGIONS}~^^~^^"


ANATOMY = ("123037004", "Anatomical Structure")
ABNORMAL = ("49755003", "Morphologically Altered Structure")

# VerSe's targets, in the order of its object queries. Colours tell neighbours apart.
HEART = {
    "LV": Structure("left ventricle", ANATOMY, ("87878005", "Left ventricle of heart"), (0.85, 0.24, 0.24)),
    "myocardium": Structure("myocardium", ANATOMY, ("74281007", "Myocardium"), (0.42, 0.72, 0.35)),
    "RV": Structure("right ventricle", ANATOMY, ("53085002", "Right ventricle of heart"), (0.27, 0.51, 0.90)),
    "edema": Structure("myocardial edema", ABNORMAL, ("79654002", "Edema"), (0.35, 0.80, 0.85)),
    "scar": Structure("myocardial scar", ABNORMAL, ("12402003", "Scar"), (0.96, 0.84, 0.19)),
    "LA": Structure("left atrium", ANATOMY, ("82471001", "Left atrium"), (0.61, 0.35, 0.75)),
}
UNSEEN = ("edema",)  # no data that the shipped VerSe was trained on shows these
TITLES = {structure.title: name for name, structure in HEART.items()}


def find_name(said: str, names: Iterable[str]) -> str | None:
    """Which of the names somebody means who says it, or its title as "left atrium" for "LA", in any case; None where no one."""
    wanted = said.strip().casefold()
    own = next((name for title, name in TITLES.items() if title.casefold() == wanted), wanted)
    names = tuple(names)
    return next((name for meant in (wanted, own.casefold()) for name in names if name.casefold() == meant), None)


def find_code(entry: str, names: Iterable[str]) -> str | None:
    """Which of the names a Slicer terminology entry, or tags with one in them, codes; None where it is none of them."""
    return next((name for name in names if name in HEART and f"SCT^{HEART[name].type[0]}^" in entry), None)
