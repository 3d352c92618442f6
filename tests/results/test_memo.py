import json
from pathlib import Path

import pytest

from fseed.results.memo import Memo


def test_what_was_used_is_kept_and_the_rest_dropped(tmp_path: Path) -> None:
    path = tmp_path / "new" / "memo.json"
    first = Memo(path)
    first.keep("a", [0.1, -2.5])
    first.keep("b", [1.0])
    first.save()
    second = Memo(path)
    assert second.recall("a") == [0.1, -2.5]
    assert second.recall("c") is None
    second.save()
    assert json.loads(path.read_text().split("\n", 1)[1]) == {"a": [0.1, -2.5]}


def test_a_changed_digit_is_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "memo.json"
    memo = Memo(path)
    memo.keep("a", [0.125])
    memo.save()
    path.write_text(path.read_text().replace("0.125", "0.175"))
    assert Memo(path).recall("a") is None
    assert "damaged" in capsys.readouterr().err


def test_a_folder_that_leads_elsewhere_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "kept").symlink_to(tmp_path / "victim")
    memo = Memo(tmp_path / "kept" / "memo.json")
    memo.keep("a", [1.0])
    memo.save()
    assert list((tmp_path / "victim").iterdir()) == []


def test_nothing_to_keep_writes_nothing(tmp_path: Path) -> None:
    Memo(tmp_path / "memo.json").save()
    Memo().save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"a": 1}', '{"a": [NaN]}', '{"a": ["x"]}', "[" * 100_000]
)
def test_a_damaged_file_is_named_and_made_anew(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "memo.json"
    path.write_text(text)
    memo = Memo(path)
    assert capsys.readouterr().err.startswith(f"fseed.collect: {path} is damaged")
    assert memo.recall("a") is None
    memo.keep("a", [1.0])
    memo.save()
    assert Memo(path).recall("a") == [1.0]


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    memo = Memo(tmp_path / "file" / "memo.json")
    memo.keep("a", [1.0])
    memo.save()
    assert memo.recall("a") == [1.0]
