"""Find questions that differ from a known one only in words that carry little.

Similarity is the weighted Jaccard index of the two sets of words: the weight of the shared words
over the weight of all words, where rare words weigh more (log of one plus rows per row that has the
word). Two questions of one template about different names are therefore not near-duplicates.

Search is exact. With the words of every question sorted by rarity, two sets can only reach the
threshold when a word is shared among the leading ones of each, so only those are indexed
(prefix filtering, Chaudhuri et al. 2006, Bayardo et al. 2007).
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

THRESHOLD = 0.8

_NOT_WORD = re.compile(r"[\W_]+")


def normalize_question(text: str) -> str:
    """Return the lower-case words of a question, separated by single spaces."""
    return _NOT_WORD.sub(" ", text.lower()).strip()


class NearDuplicates:
    """An index of questions that grows by ``add`` and answers ``has_match``.

    ``corpus`` sets the weights of the words; every question asked about should be part of it.
    """

    def __init__(self, corpus: Iterable[str], *, threshold: float = THRESHOLD) -> None:
        """Count the words of ``corpus``; ``threshold`` is in (0, 1]."""
        sets = [set(normalize_question(text).split()) for text in corpus]
        counts = Counter(word for words in sets for word in words)
        self._weights = {word: math.log1p(len(sets) / n) for word, n in counts.items()}
        self._rarest = math.log1p(max(1, len(sets)))
        self._threshold = threshold
        self._members: list[frozenset[str]] = []
        self._index: defaultdict[str, list[int]] = defaultdict(list)

    def add(self, questions: Iterable[str]) -> None:
        """Put questions into the index."""
        for question in questions:
            words = frozenset(normalize_question(question).split())
            for word in self._leading_words(words):
                self._index[word].append(len(self._members))
            self._members.append(words)

    def has_match(self, question: str) -> bool:
        """Return whether an indexed question is at least ``threshold`` similar."""
        words = frozenset(normalize_question(question).split())
        candidates = {
            member for word in self._leading_words(words) for member in self._index.get(word, ())
        }
        return any(
            self._similarity(words, self._members[member]) >= self._threshold
            for member in candidates
        )

    def _similarity(self, one: frozenset[str], other: frozenset[str]) -> float:
        """Return the weighted Jaccard index; 0.0 for two empty sets."""
        union = self._weight(one | other)
        return self._weight(one & other) / union if union else 0.0

    def _leading_words(self, words: frozenset[str]) -> list[str]:
        """Return the rarest words, so many that the rest weighs less than the threshold."""
        ordered = sorted(words, key=lambda word: (-self._weight_of(word), word))
        # a little slack, so that rounding never hides an exact hit on the threshold
        rest, bound = self._weight(words), self._threshold * self._weight(words) * (1 - 1e-9)
        leading = []
        for word in ordered:
            if rest < bound:
                break
            leading.append(word)
            rest -= self._weight_of(word)
        return leading

    def _weight(self, words: frozenset[str]) -> float:
        """Return the total weight of ``words``."""
        return math.fsum(self._weight_of(word) for word in words)

    def _weight_of(self, word: str) -> float:
        """Return the weight of a word; one that the corpus lacks weighs like its rarest."""
        return self._weights.get(word, self._rarest)
