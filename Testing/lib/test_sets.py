"""Which training sets a licence allows, and what a domain means: words as manifests have them."""
import pytest

from InteractiveSegLib.training.sets import chosen, objection
from InteractiveSegLib.types import InteractiveSegError

CODE = " | repo code: Apache-2.0"
LICENCES = {
    "CC0": "",
    'README: "License: CC-0"' + CODE: "",
    'README "License": "CC BY4.0"' + CODE: "",
    'README "License": "Creative Commons Attribution 4.0 International License"' + CODE: "",
    'README "License": "Apache 2.0"' + CODE: "",
    "Apache-2.0 / MIT": "",
    "BSD-3-Clause": "",
    "CC BY 4.0 (Free to use for research and commercial applications with proper attribution)" + CODE: "",
    "download, and use for commercial, scientific and educational purposes; Creative Commons Attribution 3.0": "",
    "CC BY-NC-SA 4.0": "non-commercial",
    "Creative Commons Attribution Non Commercial 4.0 International" + CODE: "non-commercial",
    "CC BY-NC (Creative Commons Attribution-NonCommercial)" + CODE: "non-commercial",
    "modified Apache license for non-commercial academic use only" + CODE: "non-commercial",
    "MIT; commercial use is prohibited": "non-commercial",
    "README: CC0 (a subset; the whole CC BY-NC-ND)": "non-commercial",
    "CC BY-ND 4.0": "no derivatives",
    "CC BY-SA 4.0": "share-alike",
    "permissive copyright-license (CC-BY-SA 4.0)" + CODE: "share-alike",
    "Community Data License Agreement - Sharing, Version 1.0": "share-alike",
    "not stated": "not stated",
    "none stated" + CODE: "not stated",
    'README "License": "Unknown"' + CODE: "not stated",
    "no LICENSE in repo; CC BY 4.0": "not stated",
    "CC0 per site; README names none": "not stated",
    "CC BY 4.0; on request": "conditions of its own",
    "README: MIT; the challenge's own research": "research only",
    "repo MIT; data = ISBI 2012 EM challenge (research use, cite)": "research only",
    "README: CC0 (Kaggle); research": "research only",
    "repo MIT": "no licence known to allow it",
    "Data files (c) Original Authors" + CODE: "no licence known to allow it",
    "Other (specified in description)" + CODE: "no licence known to allow it",
    "": "no licence known to allow it",
}
PACKS = [
    {"name": "2d_heart_us", "licence": "CC BY 4.0", "modality": "ultrasound"},
    {"name": "2d_cells", "licence": "CC0", "modality": "DIC microscopy"},
    {"name": "2d_glands", "licence": "none stated", "modality": "H&E"},
    {"name": "2d_membranes", "licence": "MIT", "modality": "ssTEM"},
    {"name": "3d_cine", "licence": "CC BY-NC-SA 4.0", "modality": "cine MR"},
    {"name": "3d_scar", "licence": "CC BY 4.0", "modality": "LGE MR"},
    {"name": "3d_brain", "licence": "CC BY-SA 4.0", "modality": "T1 MR"},
]


def names(packs):
    return [pack["name"] for pack in packs]


@pytest.mark.parametrize("licence, reason", LICENCES.items())
def test_only_a_licence_that_clearly_allows_it_is_commercial(licence, reason):
    assert objection(licence) == reason


def test_the_commercial_sets_are_left_and_each_of_the_others_has_its_reason():
    kept, left = chosen(PACKS, commercial=True)
    assert names(kept) == ["2d_heart_us", "2d_cells", "2d_membranes", "3d_scar"]
    assert ("3d_cine", "non-commercial: CC BY-NC-SA 4.0") in left
    assert {name for name, _ in left} == set(names(PACKS)) - set(names(kept))


@pytest.mark.parametrize("word, gone", [
    ("ultrasound", {"2d_heart_us"}),
    ("microscopy", {"2d_cells", "2d_glands", "2d_membranes"}),
    ("cardiac MR", {"3d_cine", "3d_scar"}),
    ("* MR", {"3d_cine", "3d_scar", "3d_brain"}),
    ("t1 mr", {"3d_brain"}),
    ("2d_*", {"2d_heart_us", "2d_cells", "2d_glands", "2d_membranes"}),
])
def test_a_domain_a_modality_or_sets_are_left_out_by_name(word, gone):
    kept, left = chosen(PACKS, without=[word])
    assert set(names(PACKS)) - set(names(kept)) == gone == {name for name, _ in left}


def test_what_two_words_leave_out_is_named_once():
    kept, left = chosen(PACKS, without=["3d_*", "cardiac MR", "ultrasound"])
    assert names(kept) == ["2d_cells", "2d_glands", "2d_membranes"]
    assert [name for name, _ in left] == ["3d_cine", "3d_scar", "3d_brain", "2d_heart_us"]


def test_a_word_that_leaves_nothing_out_or_nothing_in_is_one_sentence():
    with pytest.raises(InteractiveSegError, match=r"'sonography' meets no set.*ultrasound"):
        chosen(PACKS, without=["sonography"])
    with pytest.raises(InteractiveSegError, match="No set is left"):
        chosen(PACKS, without=["*"])
