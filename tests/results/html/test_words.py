import pytest

from fseed.results.html import words
from fseed.results.verdicts import VERDICTS
from tests.results.html.tree import parse


def test_every_verdict_has_a_word_a_tone_and_a_shape() -> None:
    symbols = {node.attributes["id"] for node in parse(words.sign_symbols()).find("symbol")}
    for name in VERDICTS:
        badge = parse(words.badge(name)).one("span", "badge")
        assert badge.text == words.verdict_word(name)
        assert words.verdict_tone(name) in badge.classes
        assert badge.one("use").attributes["href"].removeprefix("#") in symbols
    assert len({words.verdict_word(name) for name in VERDICTS}) == len(VERDICTS)


def test_a_verdict_of_another_name_keeps_it() -> None:
    badge = parse(words.badge("brand_new")).one("span", "badge")
    assert badge.text == "brand new"
    assert badge.find("svg") == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[-1.00, +2.00] pp", "[−1.00, +2.00] pp"),
        ("seeds 0-2, inside +-1 pp", "seeds 0-2, inside ±1 pp"),
        ("scalar_l6-2 run-3a", "scalar_l6-2 run-3a"),
    ],
)
def test_minus_signs_in_sentences(text: str, shown: str) -> None:
    assert words.sentence(text) == shown


def test_numbers_in_words() -> None:
    assert words.pp(-1e-9) == words.pp(0.0) == "0.00"
    assert words.pp(-0.0125) == "−1.25"
    assert words.pp(None) == words.percent(None) == words.plain(None) == "not recorded"
    assert words.signed(-0.5) == "−0.5000"
    assert words.percent(0.5) == "50.00"
    assert words.plain(12345) == "12,345"
    assert [words.count(n, "arm") for n in (0, 1, 2)] == ["0 arms", "1 arm", "2 arms"]
    told = [words.p_value(p) for p in (None, 0.0001, 0.0123, 0.5)]
    assert told == ["not recorded", "< 0.001", "0.012", "0.50"]
