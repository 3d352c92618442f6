"""Strip a text of case and punctuation, and score how well a prediction restores both.

A text is words with marks in the gaps before, between and behind them. A mark is a character of
a Unicode punctuation category, or a backtick, with two exceptions, which belong to their word:

* signs that stand for a word or are part of one: ``% & @ # * / \\ _``;
* inside a word (neither white space nor another mark on either side): apostrophes and hyphens, as
  in ``don't`` and ``well-known``; between two digits also full stop, comma and colon, as in
  ``3.5``, ``1,000`` and ``10:30``.

Every other mark ends the word it touches, so ``U.S.`` is the two words ``U`` and ``S``. The
stripped text is the lower-cased words with single spaces. Worked example::

    clean       "It's 3.5 km," said Ana.      gaps: " | | |," | |.
    stripped    it's 3.5 km said ana

The words of prediction and clean text, lower-cased, are aligned by a longest common subsequence.
A mark is restored when the same mark stands behind the aligned word (before the first word counts
as behind an aligned word). White space around marks and the order of marks in one gap do not
matter; an ellipsis of three full stops is three marks. The
casing of a word is restored when its aligned word is the same string; a word that is aligned with
none is wrong, and words without case (``1963``) do not count.

Scores are counts of one example, so that ratios can be pooled over examples, and its F1. An F1
without marks on either side is 1.0.

Edit distance (for the character error rate) is Levenshtein distance: insertions, deletions and
substitutions of Unicode code points cost 1, white space is collapsed in both texts. Its ratio to
the length of the clean text can exceed 1.
"""

import unicodedata
from collections import Counter
from dataclasses import asdict, dataclass
from functools import lru_cache

from rapidfuzz.distance import LCSseq, Levenshtein

WORD_SIGNS = frozenset("%&@#*/\\_")
EXTRA_MARKS = frozenset("`")
INNER_MARKS = frozenset("'’-‐‑")
INNER_NUMBER_MARKS = frozenset(".,:")


@dataclass(frozen=True)
class MarkedWords:
    """Words in their casing, and the marks of each gap; one gap more than words."""

    words: tuple[str, ...]
    gaps: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RestorationCounts:
    """What one prediction restores of one clean text.

    ``marks_spurious`` are marks of the prediction that the clean text has not there,
    ``marks_missing`` the opposite. ``casing_words`` are the words of the clean text that have case,
    ``clean_characters`` its length.
    """

    marks_restored: int
    marks_spurious: int
    marks_missing: int
    casing_restored: int
    casing_words: int
    edit_distance: int
    clean_characters: int


def mark_f1(*, restored: float, spurious: float, missing: float) -> float:
    """Return the F1 of counted marks, in [0, 1]; 1.0 without marks on either side."""
    total = 2 * restored + spurious + missing
    return 2 * restored / total if total else 1.0


def score_restoration(prediction: str, clean: str) -> dict[str, float]:
    """Return the counts of one example by name, and ``punctuation_f1``."""
    counts = count_restored(prediction, clean)
    f1 = mark_f1(
        restored=counts.marks_restored,
        spurious=counts.marks_spurious,
        missing=counts.marks_missing,
    )
    return {"punctuation_f1": f1, **asdict(counts)}


def strip_text(clean: str) -> str:
    """Return the lower-cased words without marks, separated by single spaces."""
    return " ".join(split_marks(clean).words).lower()


def split_marks(text: str) -> MarkedWords:
    """Return the words of ``text`` and the marks in the gaps around them."""
    words: list[str] = []
    gaps = [""]
    start = None
    for place, character in enumerate(text):
        if not character.isspace() and not _is_gap_mark(text, place):
            start = place if start is None else start
            continue
        if start is not None:
            words.append(text[start:place])
            gaps.append("")
            start = None
        gaps[-1] += character.strip()
    if start is not None:
        words.append(text[start:])
        gaps.append("")
    return MarkedWords(tuple(words), tuple(gaps))


def count_restored(prediction: str, clean: str) -> RestorationCounts:
    """Return what ``prediction`` restores of the marks, casing and characters of ``clean``."""
    predicted, gold = split_marks(prediction), split_marks(clean)
    partner = _align_words(predicted.words, gold.words)
    marks_predicted = _locate_marks(predicted.gaps, partner)
    marks_gold = _locate_marks(gold.gaps, {place: place for place in range(len(gold.words))})
    num_restored = (marks_predicted & marks_gold).total()
    cased = {place for place, word in enumerate(gold.words) if word.lower() != word.upper()}
    return RestorationCounts(
        marks_restored=num_restored,
        marks_spurious=marks_predicted.total() - num_restored,
        marks_missing=marks_gold.total() - num_restored,
        casing_restored=sum(
            predicted.words[place] == gold.words[other]
            for place, other in partner.items()
            if other in cased
        ),
        casing_words=len(cased),
        edit_distance=Levenshtein.distance(_collapse(prediction), _collapse(clean)),
        clean_characters=len(_collapse(clean)),
    )


def _collapse(text: str) -> str:
    """Return ``text`` with every run of white space as one space."""
    return " ".join(text.split())


@lru_cache(maxsize=4096)
def _is_mark(character: str) -> bool:
    """Return whether a character is punctuation and no sign that belongs to a word."""
    if character in WORD_SIGNS:
        return False
    return character in EXTRA_MARKS or unicodedata.category(character).startswith("P")


def _is_gap_mark(text: str, place: int) -> bool:
    """Return whether the character at ``place`` is a mark that stands outside a word."""
    character = text[place]
    if not _is_mark(character):
        return False
    if not 0 < place < len(text) - 1:
        return True
    sides = text[place - 1] + text[place + 1]
    if character in INNER_MARKS:
        return any(side.isspace() or _is_mark(side) for side in sides)
    return not (character in INNER_NUMBER_MARKS and sides.isdigit())


def _align_words(predicted: tuple[str, ...], gold: tuple[str, ...]) -> dict[int, int]:
    """Return predicted place -> gold place of a longest common subsequence, case ignored."""
    # numbers, because the library compares other values by their hash
    numbers: dict[str, int] = {}
    left = [numbers.setdefault(word.lower(), len(numbers)) for word in predicted]
    right = [numbers.setdefault(word.lower(), len(numbers)) for word in gold]
    return {
        block.a + offset: block.b + offset
        for block in LCSseq.opcodes(left, right).as_matching_blocks()
        for offset in range(block.size)
    }


def _locate_marks(
    gaps: tuple[str, ...], partner: dict[int, int]
) -> Counter[tuple[int | None, str]]:
    """Count the marks by the gold place of the word before them.

    Marks before the first word have place -1, marks behind a word without partner None.
    """
    places = [-1, *(partner.get(place) for place in range(len(gaps) - 1))]
    return Counter(
        (place, mark) for place, marks in zip(places, gaps, strict=True) for mark in marks
    )
