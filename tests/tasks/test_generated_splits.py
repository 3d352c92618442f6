from collections import Counter

from fseed.tasks.generated_splits import split_of


def test_a_quarter_each_is_held_out():
    counts = Counter(split_of(f"row {number}") for number in range(4000))
    spread = (4000 * 0.25 * 0.75) ** 0.5
    assert abs(counts["test"] - 1000) < 5 * spread
    assert abs(counts["validation"] - 1000) < 5 * spread
    assert counts.keys() == {"train", "validation", "test"}


def test_the_split_depends_on_the_text_alone():
    assert split_of("L=5506|M=____|R=1762") == "validation"
    assert split_of("1234341221434321") == "train"
