"""The split of a generated row, decided by its content, so that no two splits can share it."""

from fseed.tasks.splits import hash_fraction

# a quarter each for test and validation, because the smallest task has few different rows
HELD_OUT_SHARE = 0.25


def split_of(text: str) -> str:
    """Return train, validation or test: the split that rows with the content ``text`` belong to."""
    fraction = hash_fraction(text)
    if fraction < HELD_OUT_SHARE:
        return "test"
    return "validation" if fraction < 2 * HELD_OUT_SHARE else "train"
