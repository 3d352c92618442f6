import math

import numpy as np
import pytest

from fseed.results.answers import summarise_answers, variety


def test_variety_is_the_effective_number_of_answers() -> None:
    assert variety(["a", "b", "c", "d"]) == pytest.approx(4.0)
    assert variety(["a"] * 5) == 1.0
    assert variety([]) == 0.0
    shares = [0.9, 0.1]
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert variety(["a"] * 9 + ["b"]) == pytest.approx(expected)


def test_texts_are_told_apart_by_their_codes() -> None:
    first = summarise_answers({"prediction": ["x", "y", "z"], "predicted": [None] * 3})
    second = summarise_answers({"prediction": ["x", "Y", "z"], "predicted": [None] * 3})
    assert first is not None
    assert second is not None
    assert np.flatnonzero(first.codes != second.codes).tolist() == [1]
    assert first.variety == pytest.approx(3.0)
    assert first.gold_variety is None


def test_labels_count_by_unit_and_have_a_gold_variety() -> None:
    found = summarise_answers({"predicted": ["0000", "0000"], "gold": ["0101", "1010"]})
    assert found is not None
    assert (found.variety, found.codes.size) == (1.0, 2)
    assert found.gold_variety == pytest.approx(2.0)


def test_without_recorded_answers_there_is_nothing_to_tell() -> None:
    assert summarise_answers({"prediction": [None, None]}) is None
    assert summarise_answers({"score": [1.0]}) is None
