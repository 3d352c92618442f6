import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.parquet import read_table
from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

from fseed.config.schema import TokenizerKind
from fseed.errors import UserError
from fseed.models import tokenizer as module
from fseed.models.tokenizer import (
    ByteTokenizer,
    WorldTokenizer,
    build_tokenizer,
    find_world_vocabulary,
    load_world_tokenizer,
)

TEXTS = [
    "",
    "a",
    "Question: who wrote it?\nAnswer:",
    "  leading, trailing and    many   spaces   ",
    "\r\n\t\x00\x01\x7f control",
    "Gr\u00fc\u00dfe, na\u00efve caf\u00e9, \u0141\u00f3d\u017a",
    "\u4e2d\u6587\u5b57\u7b26 \u65e5\u672c\u8a9e\u306e\u6587\u7ae0 \ud55c\uad6d\uc5b4",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea \u0939\u093f\u0928",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f e\u0301\u0301",
    "def f(x):\n    return {'a': [1, 2.5e-3], \"b\": None}  # comment\n",
    "=" * 300 + " " * 300 + "-" * 81,
    "1234567890 3.14159 1,000,000",
]


@pytest.fixture(scope="module")
def world() -> WorldTokenizer:
    return load_world_tokenizer(find_world_vocabulary())


@pytest.fixture(scope="module")
def official() -> TRIE_TOKENIZER:
    return TRIE_TOKENIZER(str(find_world_vocabulary()))


def write_vocabulary(path: Path, extra: list[str]) -> Path:
    lines = [f"{value + 1} {bytes([value])!r} 1" for value in range(256)]
    path.write_text("\n".join(lines + extra) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("text", TEXTS)
def test_world_equals_the_official_tokenizer(
    world: WorldTokenizer, official: TRIE_TOKENIZER, text: str
) -> None:
    ids = world.encode(text)
    assert ids == official.encode(text)
    assert world.decode(ids) == text


pieces = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    st.text(st.characters(categories=["Cs"]), max_size=3).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    ),
    # the beginning of an entry, so that matches fail late
    st.tuples(st.integers(1, 65_529), st.integers(1, 128)),
)


@given(parts=st.lists(pieces, max_size=12))
def test_world_equals_the_official_tokenizer_on_any_mixture(
    world: WorldTokenizer, official: TRIE_TOKENIZER, parts: list[bytes | tuple[int, int]]
) -> None:
    data = b"".join(
        part if isinstance(part, bytes) else official.idx2token[part[0]][: part[1]]
        for part in parts
    )
    ids = world.encode_bytes(data)
    assert ids == official.encodeBytes(data)
    assert world.decode_bytes(ids) == data


def test_world_equals_the_official_tokenizer_on_every_two_bytes(
    world: WorldTokenizer, official: TRIE_TOKENIZER
) -> None:
    data = b"".join(bytes([first, second]) for first in range(256) for second in range(256))
    assert world.encode_bytes(data) == official.encodeBytes(data)
    for value in range(256):
        assert world.encode_bytes(bytes([value])) == official.encodeBytes(bytes([value]))


def test_world_equals_the_official_tokenizer_on_real_text(
    world: WorldTokenizer, official: TRIE_TOKENIZER, shared_data: Path
) -> None:
    rows = read_table(shared_data / "text" / "wikitext2_raw_test.parquet")["text"].to_pylist()
    text = "\n".join(rows)[:300_000]
    assert world.encode(text) == official.encode(text)


def test_every_world_token_is_one_id(world: WorldTokenizer, official: TRIE_TOKENIZER) -> None:
    tokens = official.idx2token
    assert len(tokens) == 65_529
    assert all(world.encode_bytes(token) == [i] for i, token in tokens.items())


@given(data=st.binary(max_size=300))
def test_byte_round_trip(data: bytes) -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.encode_bytes(data) == list(data)
    assert tokenizer.decode_bytes(list(data)) == data


def test_ids_outside_the_vocabulary_are_errors(world: WorldTokenizer) -> None:
    for tokenizer in (world, ByteTokenizer()):
        for bad in (-1, tokenizer.vocab_size):
            with pytest.raises(ValueError, match=r"\d"):
                tokenizer.decode_bytes([bad])


def test_world_ids_without_entry_are_no_bytes(world: WorldTokenizer) -> None:
    assert world.decode_bytes([0, *world.encode("ab"), 65_530, 65_535, 0]) == b"ab"


def test_broken_utf8_decodes_to_replacement_characters(world: WorldTokenizer) -> None:
    for tokenizer in (world, ByteTokenizer()):
        assert tokenizer.decode(tokenizer.encode_bytes(b"ok\xff\xfe!")) == "ok\ufffd\ufffd!"
        # a lone surrogate, as broken JSON holds it, is three bytes and no crash
        assert tokenizer.decode_bytes(tokenizer.encode("\ud800")) == b"\xed\xa0\x80"


def test_both_kinds_have_the_shared_facts() -> None:
    byte = build_tokenizer(TokenizerKind.byte)
    world = build_tokenizer(TokenizerKind.world)
    assert (byte.vocab_size, world.vocab_size) == (256, 65_536)
    assert byte.end_of_text == world.end_of_text == 0
    assert len({byte.fingerprint, world.fingerprint}) == 2
    assert all(len(t.fingerprint) == 64 for t in (byte, world))


def test_given_vocabulary_file_is_used(tmp_path: Path) -> None:
    lines = ["300 'abc' 3", "301 'abcdefg' 7", r"302 'x\ty' 3", "303 'a\u00e9' 3"]
    path = write_vocabulary(tmp_path / "v.txt", [*lines, '304 "qq" 2', r"305 b'\xff\xff' 2"])
    tokenizer = build_tokenizer(TokenizerKind.world, vocab_file=str(path))
    assert tokenizer.encode("abcabcdef") == [300, 300, 101, 102, 103]
    assert tokenizer.encode("abcdefgx") == [301, 121]
    assert tokenizer.encode("x\tya\u00e9qq") == [302, 303, 304]
    assert tokenizer.encode_bytes(b"\xff\xff\xff") == [305, 256]
    assert tokenizer.encode("abcdefgx") == TRIE_TOKENIZER(str(path)).encode("abcdefgx")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("300 __import__('os').mkdir('HERE') 1", "line 257"),
        ("300 'ab' 3", "given length"),
        ("300 3.5 3", "given length"),
        ("300 'ab'", "line 257"),
        ("no number 'ab' 2", "line 257"),
        ("0 'ab' 2", "outside 1..65535"),
        ("65536 'ab' 2", "outside 1..65535"),
        ("1 'ab' 2", "id 1 stands twice"),
        ("300 'a' 1", "token stands twice"),
        ("300 '' 0", "given length"),
    ],
)
def test_malformed_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_vocabulary(tmp_path / "v.txt", [line])
    with pytest.raises(UserError, match=reason):
        load_world_tokenizer(path)
    assert not (tmp_path / "HERE").exists()


def test_vocabulary_without_a_byte(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("\n".join(f"{v + 1} {bytes([v])!r} 1" for v in range(255)))
    with pytest.raises(UserError, match="0xff"):
        load_world_tokenizer(path)


def test_missing_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such file"):
        build_tokenizer(TokenizerKind.world, vocab_file=str(tmp_path / "absent.txt"))
    with pytest.raises(UserError, match="not a World vocabulary"):
        load_world_tokenizer(tmp_path)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fseed\[world\]'"):
        build_tokenizer(TokenizerKind.world)


def test_byte_tokenizer_needs_no_numba() -> None:
    script = (
        "import sys; sys.modules['numba'] = None\n"
        "from fseed.config.schema import TokenizerKind\n"
        "from fseed.models.tokenizer import build_tokenizer\n"
        "assert build_tokenizer(TokenizerKind.byte).encode('ab') == [97, 98]\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_byte_tokenizer_takes_no_vocabulary() -> None:
    with pytest.raises(UserError, match="vocab_file"):
        build_tokenizer(TokenizerKind.byte, vocab_file="x.txt")
