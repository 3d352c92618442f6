from hypothesis import given
from hypothesis import strategies as st

from fseed.tasks.near_duplicates import NearDuplicates, normalize_question

BASE = "Which magazine was started first, Arthur's Magazine or First for Women?"
TEMPLATE = [f"Where does the one {name} trusts live?" for name in ("Bako", "Rilu", "Dema", "Sopi")]


def test_normalization_drops_case_punctuation_and_spacing():
    assert normalize_question("  What's  the U.S. «name»?") == "what s the u s name"


def test_same_words_in_another_order_and_form_match():
    near = NearDuplicates([BASE, *TEMPLATE])
    near.add([BASE])
    assert near.has_match("which magazine first was started: First for Women or Arthur's Magazine")


def test_questions_of_one_template_about_other_names_do_not_match():
    near = NearDuplicates([BASE, *TEMPLATE * 20])
    near.add(TEMPLATE[1:])
    assert not near.has_match(TEMPLATE[0])
    near.add(TEMPLATE[:1])
    assert near.has_match(TEMPLATE[0])


def test_empty_index_and_empty_question_match_nothing():
    near = NearDuplicates([])
    assert not near.has_match(BASE)
    near.add(["?!"])
    assert not near.has_match("...")


texts = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6).map(" ".join)


@given(st.lists(texts, min_size=1, max_size=8), texts, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_search_finds_what_comparing_all_pairs_finds(members, question, threshold):
    near = NearDuplicates([*members, question], threshold=threshold)
    near.add(members)
    words = set(question.split())

    def weight(chosen):
        return sum(near._weight_of(word) for word in sorted(chosen))

    similarities = [
        weight(words & set(member.split())) / weight(words | set(member.split()))
        for member in members
    ]
    # exactly on the threshold the order of summation decides
    if all(abs(value - threshold) > 1e-9 for value in similarities) or threshold == 1.0:
        assert near.has_match(question) == any(value >= threshold for value in similarities)
