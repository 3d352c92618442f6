"""Numbers and verdicts in the words of the report: real minus signs, units, nothing invented."""

import re

from fseed.results import formats
from fseed.results.comparison import Comparison
from fseed.results.html.markup import Html, element
from fseed.results.measurement import OVER_ITEMS

NOT_RECORDED = "not recorded"

# of every verdict: what its badge says and which colour of style.css it wears
VERDICT_WORDS = {
    "helps": ("helps", "up"),
    "hurts": ("hurts", "down"),
    "equivalent": ("equivalent", "even"),
    "no_op": ("no-op", "even"),
    "inconclusive": ("inconclusive", "plain"),
    "pruned": ("pruned", "plain"),
    "failed": ("failed", "warn"),
    "invalid": ("invalid", "warn"),
    "unfinished": ("unfinished", "warn"),
    "no_matched_baseline": ("no matched baseline", "warn"),
}
# shapes of 12 x 12 that tell verdicts apart without colour
_SIGNS = {
    "helps": "M6 1.5 11 10.5H1z",
    "hurts": "M6 10.5 1 1.5h10z",
    "equivalent": "M1 3h10v2H1zM1 7h10v2H1z",
    "no_op": "M1 5h10v2H1z",
    "inconclusive": "M6 1a5 5 0 1 0 0 10A5 5 0 0 0 6 1z"
    "m0 1.8a3.2 3.2 0 1 1 0 6.4 3.2 3.2 0 0 1 0-6.4z",
    "pruned": "M1 5h7V2l3 4-3 4V7H1z",
    "failed": "M2.4 1 6 4.6 9.6 1 11 2.4 7.4 6 11 9.6 9.6 11 6 7.4 2.4 11 1 9.6 4.6 6 1 2.4z",
    "invalid": "M5 1h2v6.5H5zM5 9h2v2H5z",
    "unfinished": "M1 5h2.4v2H1zM4.8 5h2.4v2H4.8zM8.6 5H11v2H8.6z",
    "no_matched_baseline": "M1 1h3v2H3v1H1zM8 1h3v3H9V3H8zM1 8h2v1h1v2H1zM9 8h2v3H8V9h1z",
}


def sentence(text: str) -> str:
    """Write the hyphens that are minus signs, and ``+-``, as they are set in print."""
    return re.sub(r"(?<![\w.-])-(?=\d)", "\u2212", text.replace("+-", "\u00b1"))


def minus(text: str) -> str:
    """Write the hyphen before a digit as a minus sign."""
    if text == formats.MISSING:
        return NOT_RECORDED
    # what rounds to zero has no sign
    return re.sub(r"^[+-](?=0\.0*$)", "", text).replace("-", "\u2212")


def pp(fraction: float | None) -> str:
    """Return a difference of fractions in percentage points, signed, without the unit."""
    return minus(formats.points(fraction))


def percent(fraction: float | None) -> str:
    """Return a fraction in percent, without the unit."""
    return minus(formats.percent(fraction))


def plain(value: float | int | None, *, digits: int | None = None) -> str:
    """Return a number with thousands separators, or that it is not recorded."""
    return minus(formats.plain(value, digits=digits))


def signed(value: float | None) -> str:
    """Return a difference of losses in nats, signed."""
    return minus(formats.signed(value))


def interval(row: Comparison) -> str | None:
    """Return the interval of a row in pp; None where there is none."""
    if row.interval_low is None or row.interval_high is None:
        return None
    mark = " *" if row.interval_kind == OVER_ITEMS else ""
    return f"[{pp(row.interval_low)}, {pp(row.interval_high)}]{mark}"


def effect(row: Comparison) -> str:
    """Return ``+1.20 pp [−0.30, +2.70]``, as much of it as was measured."""
    if row.difference is None:
        return "not measured"
    between = interval(row)
    return f"{pp(row.difference)} pp" + (f" {between}" if between is not None else "")


def p_value(value: float | None) -> str:
    """Return a p value with two digits that count."""
    if value is None:
        return NOT_RECORDED
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def count(number: int, noun: str, *, plural: str | None = None) -> str:
    """Return ``1 arm`` or ``3 arms``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def verdict_word(name: str) -> str:
    """Return the verdict as its badge says it; an unknown one by its own name."""
    return VERDICT_WORDS.get(name, (name.replace("_", " "), "plain"))[0]


def verdict_tone(name: str) -> str:
    """Return the colour class of a verdict: up, down, even, plain or warn."""
    return VERDICT_WORDS.get(name, (name, "plain"))[1]


def badge(name: str) -> Html:
    """Return the badge of a verdict: a shape and a word, the colour only beside them."""
    return element(
        "span", _use_sign(name), verdict_word(name), class_=f"badge {verdict_tone(name)}"
    )


def _use_sign(name: str) -> Html | None:
    if name not in _SIGNS:
        return None
    shape = element("use", href=f"#sign-{name}")
    return element("svg", shape, class_="sign", viewBox="0 0 12 12", aria_hidden="true")


def sign_symbols() -> Html:
    """Return the shapes of all verdicts, drawn once for the page."""
    symbols = [
        element("symbol", element("path", d=path), id=f"sign-{name}", viewBox="0 0 12 12")
        for name, path in _SIGNS.items()
    ]
    return element("svg", *symbols, width=0, height=0, class_="symbols", aria_hidden="true")
