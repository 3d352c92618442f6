"""What a run answered, small enough to keep: a code per example, and how varied the answers are."""

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answers:
    """Answers of the examples in order; two runs answer alike where their codes agree.

    ``variety`` is the effective number of different answers, exp(entropy in nats): texts where the
    task decodes freely, else labels of units. 1.0 is a constant. ``gold_variety`` is that of the
    gold labels, None where they are not recorded.
    """

    codes: NDArray[np.uint32]  # [N] checksum of what was answered
    variety: float
    gold_variety: float | None


def summarise_answers(columns: Mapping[str, Sequence[Any]]) -> Answers | None:
    """Return the answers of the prediction columns, one entry an example; None without any."""
    texts, labels = columns.get("prediction", ()), columns.get("predicted", ())
    has_texts, has_labels = _is_told(texts), _is_told(labels)
    if not has_texts and not has_labels:
        return None
    size = max(len(texts), len(labels))
    empty: Sequence[Any] = [None] * size
    pairs = zip(texts or empty, labels or empty, strict=True)
    codes = [zlib.crc32(f"{text}\x1f{label}".encode(errors="replace")) for text, label in pairs]
    gold = columns.get("gold", ())
    return Answers(
        codes=np.array(codes, dtype=np.uint32),
        variety=variety(texts) if has_texts else variety(_units(labels)),
        gold_variety=variety(_units(gold)) if not has_texts and _is_told(gold) else None,
    )


def variety(values: Iterable[Any]) -> float:
    """Return the effective number of different values, exp of the entropy; 0.0 without values."""
    counts = Counter(values)
    total = counts.total()
    if total == 0:
        return 0.0
    shares = [count / total for count in counts.values()]
    return math.exp(-sum(share * math.log(share) for share in shares))


def _is_told(values: Sequence[Any]) -> bool:
    return any(value is not None for value in values)


def _units(labels: Iterable[str | None]) -> Iterable[str]:
    """Return the label of every unit: a text holds one character a unit."""
    return (label for text in labels for label in text or "")
