"""Byte and RWKV World tokenizers: text to ids and back, exact on any bytes. No torch.

Both are greedy: at every position the longest vocabulary entry wins. Id 0 ends a text in both.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from fseed.config.schema import TokenizerKind
from fseed.errors import UserError
from fseed.models.longest_match import build_trie, compiled_matcher

WORLD_VOCAB_FILE = "rwkv_vocab_v20230424.txt"
WORLD_VOCAB_SIZE = 65_536  # ids 1..65529 have an entry; the rest pads the embedding
END_OF_TEXT = 0

# the literal of most vocabulary lines: what stands between the quotes is the token itself
_PLAIN_LITERAL = re.compile(r"'([^'\\\r\0]+)'")


class Tokenizer(Protocol):
    """What tasks and generation need of a tokenizer."""

    vocab_size: int
    end_of_text: int
    fingerprint: str  # sha256 hex of the vocabulary

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` in UTF-8 (lone surrogates as three bytes each)."""
        ...

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the ids of ``data``."""
        ...

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of ``ids``.

        Raises:
            ValueError: if an id lies outside the vocabulary.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``; bytes that are no UTF-8 become U+FFFD."""
        ...


class _TextMixin:
    """Text in and out by way of bytes."""

    def encode_bytes(self, data: bytes) -> list[int]:
        raise NotImplementedError

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text`` in UTF-8 (lone surrogates as three bytes each)."""
        return self.encode_bytes(text.encode("utf-8", errors="surrogatepass"))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ``ids``; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")


class ByteTokenizer(_TextMixin):
    """One id per byte value. Id 0 is both the zero byte and the end of a text."""

    vocab_size = 256
    end_of_text = END_OF_TEXT
    fingerprint = hashlib.sha256(bytes(range(256))).hexdigest()

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the byte values of ``data``."""
        return list(data)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes whose values are ``ids``; ValueError outside 0..255."""
        return bytes(ids)


class WorldTokenizer(_TextMixin):
    """The RWKV World vocabulary of 65,529 byte strings, greedy longest match."""

    vocab_size = WORLD_VOCAB_SIZE
    end_of_text = END_OF_TEXT

    def __init__(self, vocabulary: dict[int, bytes], *, fingerprint: str) -> None:
        """Index ``vocabulary``, which must hold every single byte; use ``load_world_tokenizer``."""
        self.fingerprint = fingerprint
        self._bytes_of_id = vocabulary
        self._trie = build_trie(vocabulary)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the ids of ``data``, the longest match first from left to right."""
        trie, match = self._trie, compiled_matcher()
        values = np.frombuffer(data, dtype=np.uint8)
        return match(values, trie.label, trie.first_child, trie.token_id).tolist()

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of ``ids``; the end of text and unused ids stand for no bytes."""
        return b"".join(self._token(token_id) for token_id in ids)

    def _token(self, token_id: int) -> bytes:
        if not 0 <= token_id < self.vocab_size:
            raise ValueError(f"token id {token_id} is outside 0..{self.vocab_size - 1}")
        return self._bytes_of_id.get(token_id, b"")


def build_tokenizer(kind: TokenizerKind, *, vocab_file: str | None = None) -> Tokenizer:
    """Return the tokenizer ``kind``; ``vocab_file`` replaces the World vocabulary of ``rwkv``.

    Raises:
        UserError: if the vocabulary is missing or malformed, or given for the byte tokenizer.
    """
    if kind is TokenizerKind.world:
        path = find_world_vocabulary(vocab_file).resolve()
        told = path.stat()
        return _load_unchanged(path, told.st_ino, told.st_size, told.st_mtime_ns)
    if vocab_file is not None:
        raise UserError(
            f"model.vocab_file={vocab_file} has no use with model.tokenizer=byte\n"
            "leave it unset, or choose model.tokenizer=world"
        )
    return ByteTokenizer()


@lru_cache(maxsize=1)
def _load_unchanged(path: Path, inode: int, size: int, changed_ns: int) -> WorldTokenizer:
    """Return the tokenizer of a file, the same one to every run until the file changes."""
    return load_world_tokenizer(path)


def find_world_vocabulary(vocab_file: str | None = None) -> Path:
    """Return the path of the World vocabulary: the given file, or the copy in ``rwkv``.

    The package is located, never imported: its import needs torch and changes global settings.

    Raises:
        UserError: if there is no such file.
    """
    if vocab_file is not None:
        path = Path(vocab_file).expanduser()
        if not path.is_file():
            raise UserError(f"model.vocab_file={vocab_file}: no such file")
        return path
    spec = find_spec("rwkv")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / WORLD_VOCAB_FILE
        if path.is_file():
            return path
    raise UserError(
        f"the World tokenizer needs {WORLD_VOCAB_FILE}, and the rwkv package that ships it is not"
        " installed\npip install 'fseed[world]', or give the file: model.vocab_file=PATH"
    )


def load_world_tokenizer(path: Path) -> WorldTokenizer:
    """Read a World vocabulary: one line ``id literal length`` per token.

    Raises:
        UserError: if the file cannot be read or a line breaks the format (with its number).
    """
    try:
        data = path.read_bytes()
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a World vocabulary: {error}") from error
    vocabulary: dict[int, bytes] = {}
    for number, line in enumerate(lines, start=1):
        token_id, token = _parse_line(line, path=path, number=number)
        if token_id in vocabulary:
            raise UserError(f"{path}, line {number}: id {token_id} stands twice")
        vocabulary[token_id] = token
    _check_vocabulary(vocabulary, path=path)
    return WorldTokenizer(vocabulary, fingerprint=hashlib.sha256(data).hexdigest())


def _parse_line(line: str, *, path: Path, number: int) -> tuple[int, bytes]:
    try:
        token_id, rest = line.split(" ", 1)
        literal, length = rest.rsplit(" ", 1)
        plain = _PLAIN_LITERAL.fullmatch(literal)
        # literal_eval reads any Python literal and runs nothing; the plain ones make it 5 times
        # faster to load the vocabulary
        value = plain[1] if plain else ast.literal_eval(literal)
        token = value.encode("utf-8") if isinstance(value, str) else value
        if not isinstance(token, bytes) or len(token) != int(length) or not token:
            raise ValueError("the token is not text or bytes of the given length")
        if not 0 < int(token_id) < WORLD_VOCAB_SIZE:
            raise ValueError(f"the id is outside 1..{WORLD_VOCAB_SIZE - 1}")
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise UserError(
            f"{path}, line {number}: {error}; expected `id literal length`, like 98 'a' 1"
        ) from error
    return int(token_id), token


def _check_vocabulary(vocabulary: dict[int, bytes], *, path: Path) -> None:
    tokens: Sequence[bytes] = list(vocabulary.values())
    if len(set(tokens)) != len(tokens):
        raise UserError(f"{path}: a token stands twice, so encoding it is ambiguous")
    missing = {bytes([value]) for value in range(256)} - set(tokens)
    if missing:
        shown = ", ".join(sorted(f"0x{token.hex()}" for token in missing))
        raise UserError(f"{path}: no token for the single byte {shown}; some text has no encoding")
