import numpy as np

from fseed.tasks.mini_words import (
    COLOURS,
    THINGS,
    draw_words,
    keyed_generator,
    shuffled_place,
)


def test_generator_depends_on_every_key():
    keys = [(1, 0, "train", 5), (2, 0, "train", 5), (1, 3, "train", 5), (1, 0, "test", 5)]
    keys += [(1, 0, "train", 6), (1, 0, "train", 5, 4)]
    draws = [int(keyed_generator(*key).integers(2**60)) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws[0] == int(keyed_generator(*keys[0]).integers(2**60))


def test_every_block_is_a_permutation():
    places = [shuffled_place(1, 0, "train", index=index, size=6) for index in range(60)]
    blocks = [tuple(places[start : start + 6]) for start in range(0, 60, 6)]
    assert all(sorted(block) == list(range(6)) for block in blocks)
    assert len(set(blocks)) > 5


def test_drawn_words_differ():
    words = draw_words(np.random.default_rng(0), THINGS, len(THINGS))
    assert sorted(words) == sorted(THINGS)
    assert len(set(COLOURS) | set(THINGS)) == len(COLOURS) + len(THINGS)
