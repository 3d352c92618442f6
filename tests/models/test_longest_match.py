import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fseed.errors import UserError
from fseed.models import longest_match
from fseed.models.longest_match import build_trie, compiled_matcher, match_longest

SINGLE_BYTES = [bytes([value]) for value in range(256)]
# few different bytes, so that long entries share prefixes and matches fail late
few = st.lists(st.sampled_from([0, 97, 98, 255]), max_size=12).map(bytes)


def number(extra: list[bytes]) -> dict[int, bytes]:
    """Return a vocabulary of all single bytes and ``extra``, with ids that are not their places."""
    entries = [*SINGLE_BYTES, *(token for token in dict.fromkeys(extra) if len(token) > 1)]
    return {65_535 - 7 * place: token for place, token in enumerate(entries)}


def match_naively(vocabulary: dict[int, bytes], data: bytes) -> list[int]:
    """Return the ids by trying every entry at every position."""
    ids, start = [], 0
    by_length = sorted(vocabulary.items(), key=lambda item: -len(item[1]))
    while start < len(data):
        token_id, token = next(i for i in by_length if data.startswith(i[1], start))
        ids.append(token_id)
        start += len(token)
    return ids


@given(extra=st.lists(few, max_size=8), data=few)
@settings(max_examples=50, deadline=None)  # the first call compiles
def test_any_vocabulary_equals_the_naive_match(extra: list[bytes], data: bytes) -> None:
    vocabulary = number(extra)
    trie = build_trie(vocabulary)
    arrays = (np.frombuffer(data, np.uint8), trie.label, trie.first_child, trie.token_id)
    expected = match_naively(vocabulary, data)
    assert match_longest(*arrays).tolist() == expected
    assert compiled_matcher()(*arrays).tolist() == expected


def test_trie_is_numbered_as_documented() -> None:
    trie = build_trie(number([b"ab", b"abcd", b"\xff\xff"]))
    assert trie.label[1:257].tolist() == list(range(256))
    (node,) = range(trie.first_child[1 + 97], trie.first_child[2 + 97])
    assert (trie.label[node], trie.token_id[node]) == (98, 65_535 - 7 * 256)
    (node,) = range(trie.first_child[node], trie.first_child[node + 1])
    assert (trie.label[node], trie.token_id[node]) == (99, 0)
    assert len(trie.label) == len(trie.token_id) == len(trie.first_child) - 1 == 1 + 256 + 4


def test_missing_numba_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(UserError, match=r"pip install 'fseed\[world\]'"):
        compiled_matcher.__wrapped__()


def test_without_a_folder_for_the_code_it_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(function: object = None, *, cache: bool = False) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return function

    monkeypatch.setitem(sys.modules, "numba", types.SimpleNamespace(njit=njit))
    assert compiled_matcher.__wrapped__() is longest_match.match_longest
