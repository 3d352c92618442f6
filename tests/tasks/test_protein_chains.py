import hashlib

import pytest
from task_helpers import PlainBuild

from fseed.tasks.base import RowProblem
from fseed.tasks.protein_chains import (
    chain_id,
    chain_section,
    check_chain_options,
    check_length,
    check_range,
    draw_note_section,
    note_rule,
    query_section,
    read_chain,
)
from fseed.tasks.protein_ss import ProteinSsOptions

OPTIONS = ProteinSsOptions(min_residues=16, max_residues=20, num_queries=4, num_notes=2)


def test_chains_are_read_in_upper_case():
    assert read_chain("acDXu") == "ACDXU"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "empty sequence"),
        ("", "empty sequence"),
        ("ACD EF", "residue outside the alphabet"),
        ("ACD-EF", "residue outside the alphabet"),
        ("ACD1EF", "residue outside the alphabet"),
        ("ACDéEF", "residue outside the alphabet"),
    ],
)
def test_unusable_sequences_say_why(text, reason):
    with pytest.raises(RowProblem, match=f"^{reason}$"):
        read_chain(text)


def test_id_is_a_hash_of_the_residues():
    assert chain_id("ACD") == hashlib.sha256(b"ACD").hexdigest()[:16]
    assert chain_id("ACD") != chain_id("ACE")


def test_length_limits_are_inclusive():
    for length in (16, 20):
        check_length("A" * length, OPTIONS)
    with pytest.raises(RowProblem, match=r"^chain shorter than 16 residues$"):
        check_length("A" * 15, OPTIONS)
    with pytest.raises(RowProblem, match=r"^chain longer than 20 residues$"):
        check_length("A" * 21, OPTIONS)


@pytest.mark.parametrize("value", [0, 5])
def test_values_out_of_range_name_the_option(value):
    check_range("num", 1, low=1, high=4)
    check_range("num", 4, low=1, high=4)
    with pytest.raises(ValueError, match=rf"^num={value}: must be 1\.\.4$"):
        check_range("num", value, low=1, high=4)


def test_chain_options_in_range_pass():
    check_chain_options(OPTIONS)


def test_notes_are_chains_within_the_length_limits():
    rule, setting = note_rule("seq"), PlainBuild(options=OPTIONS).setting
    assert rule.read({"seq": "acdefghiklmnpqrs"}, setting) == "ACDEFGHIKLMNPQRS"
    for bad in ("ACD", "A" * 21, None):
        with pytest.raises(RowProblem):
            rule.read({"seq": bad}, setting)
    assert (rule.unit, rule.run) == ("characters", 8)


def test_a_split_with_too_few_notes_has_no_example():
    with pytest.raises(RowProblem, match=r"^too few notes in the split$"):
        draw_note_section(PlainBuild(options=OPTIONS, notes=["AC"]), "a", "ACD")


def test_only_notes_can_be_cut_from_the_last_on():
    build = PlainBuild(options=OPTIONS, notes=["AC", "DE", "FG"])
    section = draw_note_section(build, "a", "ACD")
    assert section.ranking == ((0, 0), (1, 0))
    assert [paragraph.sentences for paragraph in section.paragraphs] == [("AC",), ("DE",)]
    assert chain_section("ACD").ranking is None
    section = query_section("Positions", ["1", "12"])
    assert section.ranking is None
    assert section.paragraphs[0].sentences == ("1 12",)
