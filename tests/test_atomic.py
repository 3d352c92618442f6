import errno
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from fseed import atomic, records


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestAtomicWrites:
    def test_creates_folders_and_replaces_the_whole_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b.txt"
        records.write_text_atomic(path, "a long first text")
        records.write_text_atomic(path, "second")
        assert path.read_text() == "second"
        assert names_in(path.parent) == {"b.txt"}

    @pytest.mark.parametrize("broken", ["fsync", "replace"])
    def test_full_disk_keeps_the_old_file_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
    ) -> None:
        path = tmp_path / "result.json"
        records.write_json_atomic(path, {"value": 1})

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(atomic.os, broken, fail)
        with pytest.raises(OSError, match="No space left"):
            records.write_json_atomic(path, {"value": 2})
        assert json.loads(path.read_text()) == {"value": 1}
        assert names_in(tmp_path) == {"result.json"}

    def test_full_disk_in_the_middle_of_the_text(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "config.yaml"
        records.write_text_atomic(path, "old")

        def write_half(self: Path, text: str, **_: object) -> int:
            self.write_bytes(text.encode()[: len(text) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_text", write_half)
        with pytest.raises(OSError, match="No space left"):
            records.write_text_atomic(path, "new text")
        assert path.read_bytes() == b"old"
        assert names_in(tmp_path) == {"config.yaml"}

    def test_an_interrupt_cleans_up_too(self, tmp_path: Path) -> None:
        def write_half() -> None:
            with atomic.replacing(tmp_path / "x") as temporary:
                temporary.write_text("half")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_half()
        assert names_in(tmp_path) == set()

    def test_json_takes_numpy_scalars_and_paths_only(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        records.write_json_atomic(path, {"n": np.int64(3), "x": np.float32(0.5), "p": Path("q")})
        assert json.loads(path.read_text()) == {"n": 3, "x": 0.5, "p": "q"}
        with pytest.raises(TypeError, match="cannot hold set"):
            records.write_json_atomic(path, {"s": {1}})

    def test_parquet_from_columns_and_from_a_table(self, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        records.write_parquet_atomic(path, {"a": [1, 2]})
        assert parquet.read_table(path).to_pydict() == {"a": [1, 2]}
        records.write_parquet_atomic(path, pyarrow.table({"b": ["x"]}))
        assert parquet.read_table(path).to_pydict() == {"b": ["x"]}

    def test_leftovers_of_a_killed_writer_are_removed_on_request(self, tmp_path: Path) -> None:
        (tmp_path / ".result.json.0a1b2c3d.tmp").write_text("half")
        (tmp_path / "result.json").write_text("{}")
        records.clean_temporaries(tmp_path)
        assert names_in(tmp_path) == {"result.json"}
