from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fseed.tasks.sentences import find_sentences, split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ('He said "No." Then he left.', ['He said "No."', "Then he left."]),
        ("It cost 3.5 km. 7 more came.", ["It cost 3.5 km.", "7 more came."]),
        ("J. R. Smith came. (He left.) Why", ["J. R. Smith came.", "(He left.)", "Why"]),
        ("no end and e.g. this", ["no end and e.g. this"]),
        ("Été. Élan.", ["Été.", "Élan."]),
        (" A\n b.\n\nC  d. ", ["A b.", "C d."]),
        ("Wait... What?! Yes.", ["Wait...", "What?!", "Yes."]),
        ("", []),
        (" \n", []),
    ],
)
def test_sentences(text, sentences):
    assert split_sentences(text) == sentences


@given(st.text(st.sampled_from('aB1.?! \n"”()'), max_size=40))
@settings(max_examples=200, deadline=None)
def test_spans_are_in_order_and_hold_everything_but_white_space(text):
    spans = find_sentences(text)
    assert all(start < end for start, end in spans)
    assert all(one[1] <= two[0] for one, two in pairwise(spans))
    assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())
    assert all(text[a:b] == text[a:b].strip() for a, b in spans)
