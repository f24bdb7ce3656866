"""Which training sets to use: by what their licences allow, and without a kind of image. Reads words, never files.

Conservative: what is not clearly allowed is not. Words are a manifest's own: `licence` and `modality` of a set.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..types import InteractiveSegError

# Kinds of images that a network may be trained without, by their modalities.
DOMAINS = {
    "ultrasound": ("ultrasound*",),
    "microscopy": ("*microscopy*", "*histology*", "*fluorescence*", "h&e*", "*tem"),
    "cardiac mr": ("cine mr", "lge mr", "ssfp mr"),
}

ALLOWING = r"\bcc-?0\b|\bcc[ -]?by(?![a-z])|creative commons attribution|\bmit\b|\bapache\b|\bbsd\b"
DOUBTS = (
    (r"\bnon?[ -]?commercial|not for commercial|\bnc\b|prohibit", "non-commercial"),
    (r"\bnd\b|no[ -]?deriv", "no derivatives"),
    (r"\bsa\b|share[ -]?alike|sharing|\bl?gpl|odbl", "share-alike"),
    (r"\bnone\b|unknown|not stated|no licen[cs]e|unlicen[cs]ed", "not stated"),
    (r"agreement|request|restrict|commons clause|modified|permission", "conditions of its own"),
)
RESEARCH = r"research|academic|education|challenge"


def objection(licence: str) -> str:
    """Why a set under this licence, as its source states it, may not train weights for commercial use; "" where it may.

    What is said of the code that came with a set says nothing of the set.
    """
    parts = re.split(r"\s*[|;]\s*", licence.lower())
    text = "; ".join(part for part in parts if not part.startswith("repo"))
    for words, reason in DOUBTS:
        if re.search(words, text):
            return reason
    if re.search(RESEARCH, text) and "commercial" not in text:
        return "research only"
    return "" if re.search(ALLOWING, text) else "no licence known to allow it"


def chosen(
    packs: Sequence[dict], commercial: bool = False, without: Sequence[str] = ()
) -> tuple[list[dict], list[tuple[str, str]]]:
    """The sets to use, and (name, why) of each that is left out.

    packs: dicts with name, licence, modality. commercial: only sets that allow commercial use. without: domains (DOMAINS),
    or globs on a set's name or modality, in any case. Raises InteractiveSegError where one of them meets no set.
    """
    kept, left = list(packs), []
    for word in without:
        met = [pack for pack in packs if _meets(pack, word)]
        if not met:
            known = ", ".join([*DOMAINS, *sorted({pack["modality"] for pack in packs} - set(DOMAINS))])
            raise InteractiveSegError(f"--without {word!r} meets no set: give a glob on a set's name, or one of {known}.")
        left += [(pack["name"], f"{pack['modality']}, without {word}") for pack in met if pack in kept]
        kept = [pack for pack in kept if pack not in met]
    if commercial:
        left += [(pack["name"], f"{why}: {pack['licence']}") for pack in kept if (why := objection(pack["licence"]))]
        kept = [pack for pack in kept if not objection(pack["licence"])]
    if not kept:
        raise InteractiveSegError("No set is left to pack: ask for less to be left out.")
    return kept, left


def _meets(pack: dict, word: str) -> bool:
    globs = DOMAINS.get(word.lower(), (word.lower(),))
    return any(fnmatchcase(pack[key].lower(), glob) for glob in globs for key in ("name", "modality"))
