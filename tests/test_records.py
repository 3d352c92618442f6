import errno
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import yaml

from fseed import records
from fseed.errors import UserError
from fseed.record_schema import OPTIONAL_COLUMNS, RecordError, read_mapping
from tests.results.builders import RunSpec, config_of, fail_run, finish_run, identity_of, start_run

SPEC = RunSpec()


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestMetrics:
    def test_rows_come_back_in_order_nan_included(self, tmp_path: Path) -> None:
        path = tmp_path / "run" / "metrics.jsonl"
        for step in (1, 2):
            records.append_metrics(path, {"kind": "train", "step": step, "loss": float("nan")})
        rows, torn = records.read_metrics(path)
        assert [row["step"] for row in rows] == [1, 2]
        assert np.isnan(rows[0]["loss"])
        assert torn == []

    def test_a_torn_line_costs_only_itself(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.jsonl"
        records.append_metrics(path, {"step": 1})
        with path.open("a") as file:
            file.write('{"step": 2, "lo')
        records.append_metrics(path, {"step": 3})
        rows, torn = records.read_metrics(path)
        assert [row["step"] for row in rows] == [1, 3]
        assert torn == [2]

    @pytest.mark.parametrize("line", ["7", "null", '{"kind": "train"}', '{"step": "1"}', "\x00"])
    def test_lines_that_are_no_rows_count_as_torn(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "metrics.jsonl"
        path.write_text(f'{{"step": 1}}\n{line}\n')
        assert records.read_metrics(path) == ([{"step": 1}], [2])

    def test_truncate_drops_later_rows_and_torn_lines(self, tmp_path: Path) -> None:
        path = tmp_path / "metrics.jsonl"
        for step in (0, 10, 20):
            records.append_metrics(path, {"step": step, "x": 0.1})
        with path.open("a") as file:
            file.write('{"step": 30')
        records.truncate_metrics(path, after_step=10)
        assert records.read_metrics(path) == ([{"step": 0, "x": 0.1}, {"step": 10, "x": 0.1}], [])

    def test_truncate_without_a_file_does_nothing(self, tmp_path: Path) -> None:
        records.truncate_metrics(tmp_path / "metrics.jsonl", after_step=3)
        assert names_in(tmp_path) == set()


class TestReadRun:
    def test_a_finished_run_comes_back_as_written(self, tmp_path: Path) -> None:
        run = records.read_run(finish_run(tmp_path, SPEC))
        assert (run.status, run.reason) == ("finished", None)
        assert run.config == config_of(SPEC)
        assert run.run_id == identity_of(SPEC)["run_id"]
        assert run.result is not None
        assert run.result["steps"] == 40
        assert run.predictions()["num_correct"].to_pylist() == [0, 0, 0, 0, 1, 0, 2, 1]

    def test_configs_of_two_runs_share_no_nodes(self, tmp_path: Path) -> None:
        first, second = (
            records.read_run(start_run(tmp_path, SPEC.with_(seed=seed))) for seed in (0, 1)
        )
        first.config["optim"]["lr"] = 7.0
        assert second.config == config_of(SPEC.with_(seed=1))

    def test_a_failed_run_tells_class_and_message(self, tmp_path: Path) -> None:
        run = records.read_run(fail_run(tmp_path, SPEC, kind="oom", message="out\nof memory"))
        assert (run.status, run.reason) == ("failed", "oom: out of memory")

    def test_a_result_outweighs_an_older_failure(self, tmp_path: Path) -> None:
        fail_run(tmp_path, SPEC)
        assert records.read_run(finish_run(tmp_path, SPEC)).status == "finished"

    def test_without_result_and_failure_a_run_is_unfinished(self, tmp_path: Path) -> None:
        run = records.read_run(start_run(tmp_path, SPEC))
        assert (run.status, run.reason) == ("unfinished", "no result.json yet")

    def test_an_empty_and_a_missing_folder_are_unfinished(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "s0-0123456789"):
            assert records.read_run(path).reason == "nothing written yet"

    @pytest.mark.parametrize(
        ("name", "text", "reason"),
        [
            ("result.json", '{"schema_version": 2', "result.json: not valid JSON"),
            ("result.json", '{"schema_version": 3}', "unknown schema version 3; this fseed reads"),
            ("result.json", '{"accuracy": 1}', "no schema_version, so not a record of fseed"),
            (
                "result.json",
                '{"schema_version": 2}',
                "result.json: lacks run_id, pair_key, arm_key, status",
            ),
            ("result.json", "[]", "result.json: holds no mapping"),
            ("result.json", "[" * 100_000, "result.json: not valid JSON"),
            ("provenance.json", "\xff", "provenance.json: not valid JSON"),
            ("config.yaml", "a: [1", "config.yaml: not valid YAML"),
            ("config.yaml", "- 1", "config.yaml: holds no mapping"),
            ("choices.json", '{"schema_version": 2, "arm": 3}', "arm is 3, not str"),
        ],
    )
    def test_what_is_wrong_with_a_file_is_the_reason(
        self, tmp_path: Path, name: str, text: str, reason: str
    ) -> None:
        path = finish_run(tmp_path, SPEC)
        (path / name).write_text(text, encoding="latin-1")
        run = records.read_run(path)
        assert run.status == "unreadable"
        assert run.reason is not None
        assert reason in run.reason
        assert "\n" not in run.reason

    @pytest.mark.parametrize("name", ["config.yaml", "choices.json", "provenance.json"])
    def test_a_result_needs_its_files_beside_it(self, tmp_path: Path, name: str) -> None:
        path = finish_run(tmp_path, SPEC)
        (path / name).unlink()
        run = records.read_run(path)
        assert (run.status, run.reason) == ("unreadable", f"{name} is missing beside result.json")

    @pytest.mark.parametrize("key", ["run_id", "pair_key", "arm_key"])
    def test_identities_must_agree(self, tmp_path: Path, key: str) -> None:
        path = finish_run(tmp_path, SPEC)
        result = json.loads((path / "result.json").read_text())
        records.write_json_atomic(path / "result.json", {**result, key: "other"})
        run = records.read_run(path)
        assert run.status == "unreadable"
        assert run.reason == f"{key} differs between result.json and provenance.json"

    def test_a_result_that_does_not_say_finished(self, tmp_path: Path) -> None:
        path = finish_run(tmp_path, SPEC)
        result = json.loads((path / "result.json").read_text())
        records.write_json_atomic(path / "result.json", {**result, "status": "failed"})
        assert records.read_run(path).status == "unreadable"


class TestPredictions:
    def test_missing_file(self, tmp_path: Path) -> None:
        path = finish_run(tmp_path, SPEC)
        (path / "predictions.parquet").unlink()
        with pytest.raises(RecordError, match=r"^predictions.parquet is missing$"):
            records.read_run(path).predictions()

    def test_truncated_file(self, tmp_path: Path) -> None:
        path = finish_run(tmp_path, SPEC)
        whole = (path / "predictions.parquet").read_bytes()
        (path / "predictions.parquet").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(RecordError, match=r"^predictions.parquet: "):
            records.read_run(path).predictions()

    def test_another_column_type_is_named(self, tmp_path: Path) -> None:
        path = finish_run(tmp_path, SPEC)
        table = records.read_run(path).predictions().drop_columns(["num_units"])
        records.write_parquet_atomic(path / "predictions.parquet", table)
        with pytest.raises(RecordError, match="column num_units is missing, not int32"):
            records.read_run(path).predictions()

    def test_writer_refuses_missing_columns_and_takes_no_generation(self, tmp_path: Path) -> None:
        columns = {name: [] for name in records.PREDICTION_TYPES if name not in OPTIONAL_COLUMNS}
        records.write_predictions(tmp_path / "p.parquet", {**columns, "f1": []})
        types = {f.name: str(f.type) for f in parquet.read_schema(tmp_path / "p.parquet")}
        assert types["f1"] == "double"
        del columns["step"]
        with pytest.raises(ValueError, match="lack the columns \\['step'\\]"):
            records.write_predictions(tmp_path / "p.parquet", columns)


class TestFindRuns:
    def test_runs_are_found_at_any_depth_and_once(self, tmp_path: Path) -> None:
        paths = [finish_run(tmp_path, SPEC.with_(seed=seed)) for seed in (0, 1)]
        found = records.find_runs([tmp_path, tmp_path / "default", paths[0]])
        assert [run.path for run in found] == sorted(path.resolve() for path in paths)

    def test_foreign_files_are_counted_and_do_not_hide_runs(self, tmp_path: Path) -> None:
        path = finish_run(tmp_path, SPEC)
        for number in range(3000):
            (tmp_path / f"note-{number}.txt").touch()
        (tmp_path / "result.json").write_text('{"accuracy": 0.3}')
        (tmp_path / ".hydra").mkdir()
        (tmp_path / ".hydra" / "result.json").touch()
        found = records.scan([tmp_path])
        assert set(found.run_dirs) == {tmp_path.resolve(), path.resolve()}
        assert records.read_run(tmp_path).status == "unreadable"
        (tmp_path / "result.json").unlink()
        assert records.scan([tmp_path]).num_foreign_files == 3000

    def test_linked_folders_are_followed_once(self, tmp_path: Path) -> None:
        path = finish_run(tmp_path / "scratch", SPEC)
        (tmp_path / "outputs").mkdir()
        (tmp_path / "outputs" / "link").symlink_to(tmp_path / "scratch")
        (tmp_path / "scratch" / "loop").symlink_to(tmp_path / "scratch")
        assert records.scan([tmp_path / "outputs"]).run_dirs == [path.resolve()]

    def test_an_empty_run_folder_is_a_run(self, tmp_path: Path) -> None:
        (tmp_path / "s-1-0123456789").mkdir()
        assert [run.status for run in records.find_runs([tmp_path])] == ["unfinished"]

    def test_a_run_that_was_not_started_is_told(self, tmp_path: Path) -> None:
        (run,) = records.find_runs([tmp_path / "s0-0123456789"])
        assert (run.status, run.reason) == ("unfinished", "nothing written yet")

    def test_other_paths_must_be_folders(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="does not exist"):
            records.find_runs([tmp_path / "nowhere"])
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="is not a folder"):
            records.find_runs([tmp_path / "file"])

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_a_closed_folder_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "closed").mkdir(mode=0o000)
        (run,) = records.find_runs([tmp_path])
        assert run.status == "unreadable"

    def test_a_folder_that_cannot_be_listed_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(os, "scandir", refuse)
        (run,) = records.find_runs([tmp_path])
        assert (run.path, run.status) == (tmp_path, "unreadable")


class TestOutputRoot:
    def test_the_variable_wins(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("FSEED_OUTPUTS", str(tmp_path))
        assert records.default_output_root() == tmp_path

    def test_then_the_checkout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FSEED_OUTPUTS", "")
        assert records.default_output_root() == Path(__file__).resolve().parents[1] / "outputs"

    def test_then_the_working_directory(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("FSEED_OUTPUTS", raising=False)
        monkeypatch.setattr(records, "__file__", str(tmp_path / "site" / "fseed" / "records.py"))
        monkeypatch.chdir(tmp_path)
        assert records.default_output_root() == tmp_path / "outputs"


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb:\n  c: [1, 2]\n  d: null\n",
        "# head\na: 1\n",
        "a:\n- 1\n- {b: 2}\nc: 'x: y'\n",
        "a: &anchor 1\nb: *anchor\n",
        "text: |\n  one\n\n  two\nb: no_fs\n",
        "{a: 1,\nb: 2}\n",
        "---\na: 1\n",
        "a: 1\na: 2\n",
    ],
)
def test_sections_parse_like_the_whole(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert read_mapping(path) == yaml.safe_load(text)
