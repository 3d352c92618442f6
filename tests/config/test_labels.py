import re

import pytest

from fseed.config.labels import MAX_LENGTH, arm_label, safe_name


def label(mode: str = "prompt_fs", control: str = "none", choices=None, values=None) -> str:
    return arm_label(
        "scalar_l10",
        mode=mode,
        control=control,
        changed_choices=choices or {},
        changed_values=values or {},
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "scalar_l10"),
        (
            {"choices": {"alpha": "m3"}, "values": {"lstart": 9}},
            "scalar_l10,lstart=9,alpha=m3",
        ),
        (
            {"choices": {"schedule": "cosine", "fs_variant": "head"}},
            "scalar_l10,fs_variant=head,schedule=cosine",
        ),
        ({"values": {"alpha.init": -2.5}}, "scalar_l10,alpha.init=-2.5"),
        ({"values": {"fs_variant.detach": False}}, "scalar_l10,fs_variant.detach=false"),
        ({"control": "aa"}, "scalar_l10,control=aa"),
        ({"mode": "no_fs", "values": {"lstart": 9}}, "no_fs"),
        ({"mode": "no_fs", "control": "repeat_prompt"}, "no_fs,control=repeat_prompt"),
    ],
)
def test_label(arguments: dict, expected: str) -> None:
    assert label(**arguments) == expected


@pytest.mark.parametrize("name", ["../up", "a/b", "a b", "ä", "x" * 400, "new\nline", "s*?"])
def test_names_are_safe_as_folders(name: str) -> None:
    safe = safe_name(name)
    assert len(safe) <= MAX_LENGTH
    assert re.fullmatch(r"[A-Za-z0-9._=,+-]+", safe)


def test_long_names_that_differ_at_the_end_stay_different() -> None:
    assert safe_name("x" * 200 + "a") != safe_name("x" * 200 + "b")
