"""Speed of the World tokenizer against the rwkv package's, in one process, as one table.

Run with ``make bench-tokenizer``. The ids are compared first, on the texts and on random bytes.
Exit code 1 if any differ, or if ours is less than 5 times as fast as the rwkv package's.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
from pyarrow.parquet import read_table
from rich.console import Console
from rich.table import Table
from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

from fseed.models.tokenizer import find_world_vocabulary, load_world_tokenizer
from fseed.tasks.hotpot_mini import generate_mini

MIN_RATIO = 5
TEXT_BYTES = 5_000_000
PREFIX_BYTES = 5

Encode = Callable[[bytes], list[int]]


class PrefixTokenizer:
    """The tokenizer of fseed 0.1: pure Python, candidate lengths looked up by leading bytes."""

    def __init__(self, vocabulary: dict[int, bytes]) -> None:
        """Index the vocabulary by token and by the first bytes of long tokens."""
        self.id_of = {token: token_id for token_id, token in vocabulary.items()}
        lengths: dict[bytes, set[int]] = {}
        for token in self.id_of:
            if len(token) >= PREFIX_BYTES:
                lengths.setdefault(token[:PREFIX_BYTES], set()).add(len(token))
        for prefix, found in lengths.items():
            found.update(n for n in range(1, PREFIX_BYTES) if prefix[:n] in self.id_of)
        self.lengths = {prefix: sorted(found, reverse=True) for prefix, found in lengths.items()}

    def encode(self, data: bytes) -> list[int]:
        """Return the ids of ``data``, the longest match first from left to right."""
        ids: list[int] = []
        short = range(PREFIX_BYTES - 1, 0, -1)
        start = 0
        while start < len(data):
            for length in self.lengths.get(data[start : start + PREFIX_BYTES], short):
                token_id = self.id_of.get(data[start : start + length])
                if token_id is not None:
                    ids.append(token_id)
                    start += length
                    break
        return ids


def read_texts() -> dict[str, list[bytes]]:
    """Return prompts and long texts of $FSEED_DATA or ../shared/data, else of the mini task."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FSEED_DATA", default))
    if not folder.is_dir():
        rows = islice(generate_mini("train", seed=0), 1500)
        return {"hotpot mini": _shorten([json.dumps(row["context"]) for row in rows])}
    contexts = read_table(folder / "hotpotqa" / "train.parquet")["context"].to_pylist()
    wiki = read_table(folder / "text" / "wikitext2_raw_test.parquet")["text"].to_pylist()
    return {
        "hotpot contexts": _shorten(
            ["\n".join(s for part in context["sentences"] for s in part) for context in contexts]
        ),
        "wikitext, one text": _shorten(["\n".join(wiki)]),
    }


def _shorten(texts: Sequence[str]) -> list[bytes]:
    """Return the first ``TEXT_BYTES`` of the texts as bytes, whole texts only."""
    chosen: list[bytes] = []
    size = 0
    for text in texts:
        chosen.append(text.encode("utf-8"))
        size += len(chosen[-1])
        if size >= TEXT_BYTES:
            break
    return chosen


def random_bytes(vocabulary: dict[int, bytes]) -> list[bytes]:
    """Return bytes that are no text: 1 MB at random, and beginnings of entries in a row."""
    rng = np.random.default_rng([0, 1])
    entries = list(vocabulary.values())
    chosen = rng.integers(len(entries), size=100_000)
    cuts = rng.integers(1, 8, size=len(chosen))
    beginnings = b"".join(entries[i][:n] for i, n in zip(chosen, cuts, strict=True))
    return [rng.bytes(1_000_000), beginnings, *(bytes([value]) for value in range(256))]


def megabytes_per_second(encode: Encode, texts: Sequence[bytes], *, repeats: int) -> float:
    """Return the median speed over ``repeats`` passes."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        for text in texts:
            encode(text)
        seconds.append(time.perf_counter() - started)
    return sum(map(len, texts)) / 1e6 / statistics.median(seconds)


def bench(encoders: dict[str, Encode], texts: dict[str, list[bytes]], *, repeats: int) -> bool:
    """Print the table; return whether ours is fast enough on every kind of text."""
    table = Table("text", "MB", *(f"{name}, MB/s" for name in encoders), "ours / rwkv")
    ratios = []
    for name, parts in texts.items():
        speeds = [
            megabytes_per_second(encode, parts, repeats=repeats) for encode in encoders.values()
        ]
        ratios.append(speeds[0] / speeds[1])
        size = sum(map(len, parts)) / 1e6
        table.add_row(name, f"{size:.1f}", *(f"{s:.1f}" for s in speeds), f"{ratios[-1]:.1f}")
    Console().print(table)
    return min(ratios) >= MIN_RATIO


def main() -> int:
    """Compare the ids, measure, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    path = find_world_vocabulary()
    official = TRIE_TOKENIZER(str(path))
    world = load_world_tokenizer(path)
    encoders: dict[str, Encode] = {
        "ours": world.encode_bytes,
        "rwkv": official.encodeBytes,
        "pure Python": PrefixTokenizer(official.idx2token).encode,
    }
    texts = read_texts()
    for part in [*random_bytes(official.idx2token), *chain.from_iterable(texts.values())]:
        if not encoders["ours"](part) == encoders["rwkv"](part) == encoders["pure Python"](part):
            print(f"the ids differ on a text that begins with {part[:60]!r}", file=sys.stderr)
            return 1
    print("equal ids on all texts and on random bytes")
    is_fast = bench(encoders, texts, repeats=parser.parse_args().repeats)
    if not is_fast:
        print(f"less than {MIN_RATIO} times as fast as the rwkv package", file=sys.stderr)
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())
