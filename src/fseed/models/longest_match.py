"""Greedy longest match over bytes, compiled by numba: the inner loop of the World tokenizer.

The vocabulary is a trie in three arrays, numbered breadth first with the children of a node next to
each other in the order of their bytes:

    label[n]        uint8  the byte that leads to node n (node 0 is the root)
    first_child[n]  int32  the children of n are first_child[n] .. first_child[n + 1] - 1
    token_id[n]     int32  the id of the entry that ends at n, 0 where none does

Every single byte is an entry, so the child of the root for byte b is node 1 + b, and a position
without a match does not exist.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from fseed.errors import UserError

Matcher = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Trie:
    """The vocabulary as arrays, see the head of this module."""

    label: np.ndarray
    first_child: np.ndarray
    token_id: np.ndarray


def build_trie(vocabulary: Mapping[int, bytes]) -> Trie:
    """Return the trie of ``vocabulary``: ids from 1 on, all 256 single bytes among the entries."""
    ids = np.fromiter(vocabulary, dtype=np.int32, count=len(vocabulary))
    lengths = np.array([len(token) for token in vocabulary.values()])
    starts = np.cumsum(lengths) - lengths
    data = np.frombuffer(b"".join(vocabulary.values()), dtype=np.uint8)
    edges, ends = [np.zeros(1, dtype=np.int64)], [np.zeros(1, dtype=np.int32)]
    # one level per round: `open_entries` are the entries longer than `depth` bytes, `node` the node
    # that the first `depth` bytes of each entry lead to
    node = np.zeros(len(ids), dtype=np.int64)
    open_entries, num_nodes, depth = np.arange(len(ids)), 1, 0
    while len(open_entries):
        keys = node[open_entries] * 256 + data[starts[open_entries] + depth]
        level, place = np.unique(keys, return_inverse=True)
        node[open_entries] = num_nodes + place
        depth += 1
        is_done = lengths[open_entries] == depth
        ends.append(np.zeros(len(level), dtype=np.int32))
        ends[-1][place[is_done]] = ids[open_entries[is_done]]
        edges.append(level)
        open_entries, num_nodes = open_entries[~is_done], num_nodes + len(level)
    return _pack(np.concatenate(edges), np.concatenate(ends))


def _pack(edges: np.ndarray, token_id: np.ndarray) -> Trie:
    """Return the trie of ``edges``: per node its parent times 256 plus its byte, ascending."""
    parents = edges[1:] // 256
    first_child = 1 + np.searchsorted(parents, np.arange(len(edges) + 1))
    return Trie((edges % 256).astype(np.uint8), first_child.astype(np.int32), token_id)


def match_longest(
    data: np.ndarray, label: np.ndarray, first_child: np.ndarray, token_id: np.ndarray
) -> np.ndarray:
    """Return the ids of ``data`` (uint8), the longest match first from left to right.

    Plain Python that numba can compile: ``compiled_matcher`` returns the fast form.
    """
    ids = np.empty(len(data), dtype=np.int32)
    count, start = 0, 0
    while start < len(data):
        node, place = 1 + np.int64(data[start]), start + 1
        ids[count], end = token_id[node], place
        while place < len(data):
            # the child of `node` with this byte, by bisection
            low, high = first_child[node], first_child[node + 1]
            while low < high:
                middle = (low + high) // 2
                if label[middle] < data[place]:
                    low = middle + 1
                else:
                    high = middle
            if low == first_child[node + 1] or label[low] != data[place]:
                break
            node, place = np.int64(low), place + 1
            if token_id[node] != 0:
                ids[count], end = token_id[node], place
        count, start = count + 1, end
    return ids[:count]


@cache
def compiled_matcher() -> Matcher:
    """Return ``match_longest`` as machine code; the first call on a machine takes about a second.

    The code is kept beside this file or in the user's cache folder; where neither can be written,
    every process compiles it anew.

    Raises:
        UserError: if numba is not installed.
    """
    try:
        from numba import njit
    except ImportError as error:
        raise UserError(
            f"the World tokenizer needs numba ({error})\npip install 'fseed[world]'"
        ) from error
    try:
        return njit(cache=True)(match_longest)
    except RuntimeError:
        # numba found no folder to keep the code in
        return njit(match_longest)
