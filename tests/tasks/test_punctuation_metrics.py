import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fseed.tasks.punctuation_metrics import (
    count_restored,
    mark_f1,
    score_restoration,
    split_marks,
    strip_text,
)

CLEAN = '"It\'s 3.5 km," said Ana.'

# letters in both cases, marks inside and outside words, digits, white space, other scripts
TEXTS = st.text(st.sampled_from("aBzé'’-.,:;?!\"“”()%_`3 5\n\tßİ。杜ы\u0301"), max_size=40)


def five_counts(prediction: str, clean: str) -> tuple[int, ...]:
    """Return marks restored, spurious, missing; words in their casing, words with case."""
    counts = count_restored(prediction, clean)
    return (
        counts.marks_restored,
        counts.marks_spurious,
        counts.marks_missing,
        counts.casing_restored,
        counts.casing_words,
    )


def edit_distance(left: str, right: str) -> int:
    """Levenshtein distance by the textbook recurrence."""
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, start=1):
        previous, row[0] = row[0], i
        for j, other in enumerate(right, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (one != other))
    return row[-1]


def common_length(left: list[str], right: list[str]) -> int:
    """Length of a longest common subsequence by the textbook recurrence."""
    row = [0] * (len(right) + 1)
    for one in left:
        before = row
        row = [0]
        for j, other in enumerate(right, start=1):
            row.append(before[j - 1] + 1 if one == other else max(before[j], row[j - 1]))
    return row[-1]


@pytest.mark.parametrize(
    ("clean", "stripped"),
    [
        (CLEAN, "it's 3.5 km said ana"),
        ("Don’t touch the well-known Boys' club!", "don’t touch the well-known boys club"),
        ("At 10:30, 1,000 of 5% left: why?", "at 10:30 1,000 of 5% left why"),
        ("The U.S. (a/b) -- AT&T_x", "the u s a/b at&t_x"),
        ("1914–1918; v.2, no.3", "1914 1918 v 2 no 3"),
        ("  Zwei\n\tWörter…  ", "zwei wörter"),
        ("¿Qué? 杜甫。 Ёж", "qué 杜甫 ёж"),
        ("``quoted''", "quoted"),
        ("word--word ... -end- .5", "word word end 5"),
        ("?!.", ""),
        ("", ""),
    ],
)
def test_stripping(clean, stripped):
    assert strip_text(clean) == stripped


def test_marks_stand_in_gaps_between_words():
    marked = split_marks(CLEAN)
    assert marked.words == ("It's", "3.5", "km", "said", "Ana")
    assert marked.gaps == ('"', "", "", ',"', "", ".")


@given(TEXTS)
@settings(max_examples=200)
@example("a-" * 5)
@example("1.2.3")
def test_stripping_twice_is_stripping_once(text):
    stripped = strip_text(text)
    assert strip_text(stripped) == stripped
    assert stripped == " ".join(stripped.split())
    assert set(split_marks(stripped).gaps) <= {""}


@given(TEXTS)
@settings(max_examples=200)
def test_gold_is_perfect_and_the_stripped_text_restores_no_mark(text):
    gold, copied = count_restored(text, text), count_restored(strip_text(text), text)
    assert (gold.marks_spurious, gold.marks_missing, gold.edit_distance) == (0, 0, 0)
    assert gold.casing_restored == gold.casing_words == copied.casing_words
    assert score_restoration(text, text)["punctuation_f1"] == 1.0
    assert (copied.marks_restored, copied.marks_spurious) == (0, 0)
    assert copied.marks_missing == gold.marks_restored


def test_golden_score():
    assert score_restoration("It's 3,5 km, said Ana", CLEAN) == {
        # quotes and full stop missing, comma behind a word that is wrong, comma behind km right
        "punctuation_f1": 2 * 1 / (2 * 1 + 0 + 3),
        "marks_restored": 1,
        "marks_spurious": 0,
        "marks_missing": 3,
        # It's, km, said, Ana; 3.5 has no case
        "casing_restored": 4,
        "casing_words": 4,
        "edit_distance": 4,
        "clean_characters": 24,
    }


def test_copying_scores_nothing_but_the_lower_case_words():
    copied = score_restoration(strip_text(CLEAN), CLEAN)
    assert copied["punctuation_f1"] == 0.0
    assert (copied["casing_restored"], copied["casing_words"]) == (2, 4)
    # two quotes, comma, full stop missing; I and A of other case
    assert copied["edit_distance"] == 6


@pytest.mark.parametrize(
    ("prediction", "counts"),
    [
        # the comma moved by one word
        ("Yes I, know.", (1, 1, 1, 3, 3)),
        # another mark at the right place
        ("Yes; I know.", (1, 1, 1, 3, 3)),
        # a mark too many
        ("Yes, I know..", (2, 1, 0, 3, 3)),
        # marks behind an inserted word are spurious, the alignment goes on behind it
        ("Yes, well, I know.", (2, 1, 0, 3, 3)),
        # a lost word takes its mark with it
        ("I know.", (1, 0, 1, 2, 3)),
        # a wrong word likewise, on both sides
        ("No, I know.", (1, 1, 1, 2, 3)),
        # casing
        ("yes, I KNOW.", (2, 0, 0, 1, 3)),
        # white space around marks is free
        ("Yes ,I know .", (2, 0, 0, 3, 3)),
        ("", (0, 0, 2, 0, 3)),
        ("...", (0, 3, 2, 0, 3)),
    ],
)
def test_counts_against_yes_i_know(prediction, counts):
    assert five_counts(prediction, "Yes, I know.") == counts


def test_order_of_marks_in_one_gap_is_free_and_repeats_count():
    assert score_restoration('He said "no".', 'He said "no."')["punctuation_f1"] == 1.0
    assert five_counts("Well.", "Well...") == (1, 0, 2, 1, 1)


def test_repeated_words_are_aligned_in_order():
    assert five_counts("the, The cat", "The the, cat") == (0, 1, 1, 1, 3)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
@settings(max_examples=100)
def test_alignment_is_a_longest_common_subsequence(left, right):
    # lower-case words on both sides: every aligned word counts as restored
    counts = count_restored(" ".join(left), " ".join(right))
    assert counts.casing_restored == common_length(left, right)


@given(TEXTS, TEXTS)
@settings(max_examples=100)
def test_edit_distance_is_that_of_the_recurrence(prediction, clean):
    counts = count_restored(prediction, clean)
    prediction, clean = " ".join(prediction.split()), " ".join(clean.split())
    assert counts.edit_distance == edit_distance(prediction, clean)
    assert counts.clean_characters == len(clean)


@pytest.mark.parametrize(
    ("prediction", "clean", "distance", "length"),
    [
        (" a  b\n", "a b", 0, 3),
        ("", "ab", 2, 2),
        ("xyxyxy", "ab", 6, 2),
        # one code point is one character, however many bytes it has
        ("杜", "杜甫", 1, 2),
    ],
)
def test_distance_ignores_white_space_around_and_can_exceed_the_length(
    prediction, clean, distance, length
):
    counts = count_restored(prediction, clean)
    assert (counts.edit_distance, counts.clean_characters) == (distance, length)


def test_words_without_case_do_not_count():
    assert five_counts("1963 杜甫 X1", "1963 杜甫 x1") == (0, 0, 0, 0, 1)


def test_f1_without_any_mark_is_one():
    assert mark_f1(restored=0, spurious=0, missing=0) == 1.0
    assert score_restoration("no marks", "no marks")["punctuation_f1"] == 1.0
    assert score_restoration("no, marks", "no marks")["punctuation_f1"] == 0.0
