import pytest

from fseed.claims.references import (
    mask_code,
    mask_marks,
    read_excuses,
    read_marks,
    replace_texts,
)

ONE = "gains <!-- fseed: demo/a.difference -->+0.18<!-- /fseed --> pp"


def test_a_reference_with_its_key_text_and_line() -> None:
    (reference,) = read_marks(f"# title\n\n{ONE}\n").references
    assert (reference.key, reference.text, reference.line) == ("demo/a.difference", "+0.18", 3)
    assert reference.table is None
    assert not reference.begins_line


def test_a_table_spans_lines_and_names_its_experiment() -> None:
    text = "<!-- fseed: table demo -->\n| a |\n<!-- /fseed -->\n"
    (reference,) = read_marks(text).references
    assert (reference.table, reference.text) == ("demo", "\n| a |\n")
    assert reference.begins_line


def test_only_the_text_between_the_markers_is_replaced() -> None:
    text = f"{ONE}; {ONE}"
    first, second = read_marks(text).references
    changed = replace_texts(text, [(first, "one"), (second, "two three")])
    assert changed == ONE.replace("+0.18", "one") + "; " + ONE.replace("+0.18", "two three")


@pytest.mark.parametrize("quoted", [f"`{ONE}`", f"```\n{ONE}\n```", f"``a ` {ONE}``"])
def test_markers_in_code_are_text(quoted: str) -> None:
    assert read_marks(quoted).references == []
    assert read_marks(f"{quoted}\n{ONE}").references[0].key == "demo/a.difference"


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a\n<!-- fseed: x.y -->1", 2, "x.y has no end"),
        ("1<!-- /fseed -->", 1, "an end without a beginning"),
        ("<!-- fseed: x.y -->1\n<!-- fseed: z.y -->2<!-- /fseed -->", 1, "x.y has no end"),
    ],
)
def test_a_marker_alone_is_a_problem(text: str, line: int, problem: str) -> None:
    assert read_marks(text).problems == [(line, problem)]


def test_hostile_texts_are_read_quickly() -> None:
    for text in ("<!-- fseed: " * 20_000, "<!--" * 20_000, f"<!-- fseed: x{' ' * 30_000}"):
        assert read_marks(text).references == []
        mask_marks(text)


def test_a_mark_in_capitals_is_one() -> None:
    (reference,) = read_marks("x <!-- FSEED: a.b -->1<!-- /FSEED -->").references
    assert (reference.key, reference.text) == ("a.b", "1")


def test_masks_keep_every_other_character_in_its_place() -> None:
    text = f"a `code` b\n```\nfenced\n```\nc {ONE} <!-- note --> d"
    masked = mask_marks(mask_code(text))
    assert len(masked) == len(text)
    assert masked.count("\n") == text.count("\n")
    assert masked.split() == ["a", "b", "c", "gains", "pp", "d"]


def test_an_excuse_speaks_for_its_line_or_for_the_block_below() -> None:
    text = (
        "5 % <!-- fseed: not a result -->\n6 %\n\n"
        "<!-- fseed: source x.md -->\n7 %\n8 %\n\n9 % <!-- fseed: not recorded -->"
    )
    found = {line: key for line, key in read_excuses(text).items() if line != 4}
    assert found == {
        **{1: "not a result", 5: "source x.md", 6: "source x.md"},
        8: "not recorded",
    }
    assert read_marks(text).problems == []
