"""Contrast of every pair of colours that meet, by the formula of WCAG 2."""

import re
from pathlib import Path

import pytest

from fseed.results import html

STYLE = (Path(html.__file__).with_name("style.css")).read_text()
_BLOCKS = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
THEMES: dict[str, str] = dict(zip(("light", "dark", "print"), _BLOCKS, strict=True))
TEXT = ("ink", "soft", "link")
TONES = ("up", "down", "even", "warn")


def colours_of(theme: str) -> dict[str, tuple[float, ...]]:
    found = dict(re.findall(r"--([\w-]+): #([0-9a-f]+);", THEMES[theme]))
    return {name: _channels(code) for name, code in found.items()}


def _channels(code: str) -> tuple[float, ...]:
    whole = code if len(code) == 6 else "".join(digit * 2 for digit in code)
    return tuple(int(whole[start : start + 2], 16) / 255 for start in (0, 2, 4))


def luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(left: tuple[float, ...], right: tuple[float, ...]) -> float:
    high, low = sorted((luminance(left), luminance(right)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_text_stands_out_on_every_ground(theme: str) -> None:
    colours = colours_of(theme)
    for ground in ("paper", "panel"):
        for name in (*TEXT, *TONES):
            assert contrast(colours[name], colours[ground]) >= 4.5, (theme, name, ground)
    for tone in TONES:
        assert contrast(colours[tone], colours[f"{tone}-wash"]) >= 4.5, (theme, tone)
    assert contrast(colours["ink"], colours["plain-wash"]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_marks_stand_out_on_the_page(theme: str) -> None:
    colours = colours_of(theme)
    for name in ("arm", "base", "zero", "ink", *TONES):
        assert contrast(colours[name], colours["paper"]) >= 3, (theme, name)


@pytest.mark.parametrize("theme", THEMES)
def test_numbers_are_legible_on_every_shade_of_the_map(theme: str) -> None:
    colours = colours_of(theme)
    shades = re.findall(r"\.(?:up|down)\d \{ --tone: var\(--(\w+)\); --part: (\d+)%; \}", STYLE)
    assert len(shades) == 10
    for tone, percent in shades:
        part = int(percent) / 100
        pairs = zip(colours[tone], colours["panel"], strict=True)
        mixed = tuple(part * mark + (1 - part) * ground for mark, ground in pairs)
        assert contrast(colours["ink"], mixed) >= 4.5, (theme, tone, percent)


def test_every_theme_sets_every_colour() -> None:
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE)) - {"tone", "part"}
    for theme in THEMES:
        assert used <= set(colours_of(theme)), theme


def test_the_formula_gives_the_known_extremes() -> None:
    assert contrast((1, 1, 1), (0, 0, 0)) == pytest.approx(21)
    assert contrast((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) == 1


def test_nothing_is_loaded_from_elsewhere() -> None:
    assert "url(" not in STYLE
    assert "@import" not in STYLE
    assert "</" not in STYLE
