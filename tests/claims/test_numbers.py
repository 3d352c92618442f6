import pytest

from fseed.claims.numbers import find_unmarked


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gains 4.2 pp", "4.2 pp"),
        ("at 39% now", "39%"),
        ("in 40 percent of cases", "40 percent"),
        ("1.6 times faster", "1.6 times faster"),
        ("14,048 tok/s", "14,048 tok/s"),
        ("takes 26 s here", "26 s"),
        ("20 to 26 seconds", "20 to 26 seconds"),
        ("loss 0.4 nats", "0.4 nats"),
        ("interval [-0.20, +0.55]", "[-0.20, +0.55]"),
        ("a drop of -3.1 percentage points", "-3.1 percentage points"),
        ("gains 4.2\u202fpp", "4.2\u202fpp"),
        ("a 4.2-fold gain", "4.2-fold"),
        ("4.2\u00d7 of it", "4.2\u00d7"),
        ("99,000 tokens per second", "99,000 tokens per second"),
        ("with p = 0.003", "p = 0.003"),
        ("a loss of 2.01", "loss of 2.01"),
        ("<table><tr><td width=50>+9.90</td></tr></table>", "+9.90"),
        ("<td>\n+9.90\n</td>", "+9.90"),
    ],
)
def test_a_number_with_a_measured_unit_is_a_result(text: str, found: str) -> None:
    assert [number.text for number in find_unmarked(f"# a\n\n{text}.\n")] == [found]


@pytest.mark.parametrize(
    "text",
    [
        "`4.2 pp`",
        "```\ngains 4.2 pp\n```",
        "version 3.11, torch 2.6, on 2026-11-23",
        "149,376 bytes, 78 GiB, 2048 tokens, 12 layers, 2 cores, 100 examples",
        "a 95 % interval, a 95 % t interval, 99 % confidence",
        "[a link](paper/5%20s.md) and https://example.org/5%",
        "<!-- 5 % of this is a comment -->",
        "gains <!-- fseed: a/b.c -->4.2<!-- /fseed --> pp",
        "| arm | 95 % interval |\n|---|---|\n| none | - |",
        "| option | size |\n|---|---|\n| small | 12 |",
        "<td width=50>none</td><img width=20>",
        "| arm | sharp |\n|---|---|\n| a | 7 |",
        "step 3/4, ratio 1:2, [1, 2], round20",
    ],
)
def test_other_numbers_are_not(text: str) -> None:
    assert find_unmarked(f"{text}\n") == []


def test_every_number_of_a_result_table_is_a_result() -> None:
    text = "| arm | diff pp | n |\n|---|---:|---|\n| a | +0.1 | 100 |\n\nand 7 words\n"
    assert [(number.line, number.text) for number in find_unmarked(text)] == [
        (3, "+0.1"),
        (3, "100"),
    ]


@pytest.mark.parametrize("heading", ["F1", "exact match", "score", "acc", "speed", "step ms"])
def test_headings_that_name_something_measured(heading: str) -> None:
    text = f"| arm | {heading} |\n|-|-|\n| a | 61.9 |\n"
    assert [number.text for number in find_unmarked(text)] == ["61.9"]


def test_hostile_texts_are_scanned_quickly() -> None:
    for text in ("|" + "-" * 70 + "> | time", "```\n" * 20_000, "<td" * 20_000, "<td>" * 20_000):
        find_unmarked(text)


def test_an_excuse_is_told_with_the_number() -> None:
    (number,) = find_unmarked("chosen: 5 % <!-- fseed: not a result -->\n")
    assert (number.text, number.excuse) == ("5 %", "not a result")
