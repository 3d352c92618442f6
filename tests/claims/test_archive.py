import shutil
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from fseed.claims.archive import archive_sweeps, find_experiment
from fseed.claims.manifest import read_manifest
from fseed.claims.scrub import PUBLIC_SOURCES, scrub, scrub_text
from fseed.claims.seal import SEAL_FILE, hash_files, read_seal
from fseed.errors import UserError
from fseed.record_schema import RecordError
from fseed.records import (
    CHOICES_FILE,
    CONFIG_FILE,
    FAILURE_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    PROVENANCE_FILE,
    RESULT_FILE,
)
from tests.claims.harm import RECORDS, folder_of
from tests.claims.publishing import plan, start_run, write_manifest, write_run, write_sweep


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    write_manifest(tmp_path / "checkout")
    return tmp_path / "checkout"


def archive(checkout: Path, sweep: Path) -> Path:
    manifest = read_manifest(checkout)
    return archive_sweeps(checkout, manifest, name="study", sweeps=[sweep])[0]


def test_what_is_kept_and_what_is_not(checkout: Path, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "results" / "first")
    run = next(sweep.glob("*/*/scalar_l10/s0-*"))
    for name in (".lock", "checkpoint.ckpt", "model.safetensors"):
        (run / name).write_text("x")
    (sweep / "tables").mkdir()
    (sweep / "tables" / "paired.csv").write_text("x")
    (sweep / "plan.json").write_text('{"command": ["--root", "/home/somebody/x"]}')
    folder = archive(checkout, sweep)
    kept = folder_of(checkout, "scalar_l10", 0)
    whole = {CONFIG_FILE, CHOICES_FILE, PROVENANCE_FILE, METRICS_FILE, PREDICTIONS_FILE}
    assert {path.name for path in kept.iterdir()} == whole | {RESULT_FILE}
    assert FAILURE_FILE in {path.name for path in folder_of(checkout, "head_l8", 1).iterdir()}
    assert {path.name for path in (folder / "first").iterdir()} == {"hotpot", "plan.json"}
    assert not list(folder.parent.glob(".*"))


def test_no_folder_of_a_machine_is_kept(checkout: Path, tmp_path: Path) -> None:
    folder = archive(checkout, write_sweep(tmp_path / "results" / "first"))
    texts = [p.read_text() for p in folder.rglob("*") if p.suffix in (".json", ".yaml", ".jsonl")]
    assert not [text for text in texts if "somebody" in text or str(tmp_path) in text]
    assert sum("FOLDER/results" in text for text in texts) >= 9


def test_the_same_records_give_the_same_archive(checkout: Path, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "results" / "first")
    first = archive(checkout, sweep)
    before = hash_files(first), (first / SEAL_FILE).read_bytes()
    again = archive(checkout, sweep)
    assert (hash_files(again), (again / SEAL_FILE).read_bytes()) == before


def test_generated_text_is_hashed_where_rows_are_not_ours(checkout: Path, tmp_path: Path) -> None:
    assert "local" not in PUBLIC_SOURCES
    sweep = tmp_path / "results" / "first"
    for arm in ("no_fs", "scalar_l10"):
        write_run(sweep, plan(arm, 0, source="local"))
    archive(checkout, sweep)
    path = folder_of(checkout, "scalar_l10", 0) / PREDICTIONS_FILE
    texts = parquet.read_table(path).column("prediction").to_pylist()
    source = next(sweep.glob("*/*/scalar_l10/s0-*")) / PREDICTIONS_FILE
    words = parquet.read_table(source).column("prediction").to_pylist()
    assert texts[:12] == [None] * 12
    assert all(text.startswith("sha256:") for text in texts[12:])
    # equal answers stay equal, others stay apart
    assert len(set(texts)) == len(set(words))


def test_refusals_name_the_run_and_keep_the_old_archive(checkout: Path, tmp_path: Path) -> None:
    good = write_sweep(tmp_path / "results" / "first")
    folder = archive(checkout, good)
    before = hash_files(folder)
    unfinished = shutil.copytree(good, tmp_path / "unfinished" / "first")
    (next(unfinished.glob("*/*/no_fs/s0-*")) / RESULT_FILE).unlink()
    strange = shutil.copytree(good, tmp_path / "strange" / "first")
    start_run(strange, plan("raw_l10", 0))
    for sweep, message in [
        (unfinished, "is unfinished"),
        (strange, "is unfinished"),
        (good.parent, "does not lie <task>/<stage>/<arm>/<run>"),
    ]:
        with pytest.raises(UserError) as problem:
            archive(checkout, sweep)
        assert message in str(problem.value)
    assert hash_files(folder) == before
    assert not list(folder.parent.glob(".*"))


def test_a_run_that_is_not_registered_is_refused(checkout: Path, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "results" / "first")
    write_run(sweep, plan("no_fs", 7))
    with pytest.raises(UserError) as problem:
        archive(checkout, sweep)
    assert "arm no_fs, seed 7) is not registered under study" in str(problem.value)


def test_a_record_that_contradicts_itself_is_refused(checkout: Path, tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "results" / "first")
    path = next(sweep.glob("*/*/no_fs/s0-*")) / CONFIG_FILE
    path.write_text(path.read_text().replace("steps: 4", "steps: 5"))
    with pytest.raises(UserError) as problem:
        archive(checkout, sweep)
    assert "contradictions in the records" in str(problem.value)
    assert "config.yaml" in str(problem.value)


def test_empty_folders_and_equal_names_are_refused(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as problem:
        archive(checkout, tmp_path / "empty")
    assert "holds no runs" in str(problem.value)
    manifest = read_manifest(checkout)
    with pytest.raises(UserError) as problem:
        archive_sweeps(checkout, manifest, name="study", sweeps=[tmp_path, tmp_path])
    assert "sweeps of one name" in str(problem.value)


def test_an_experiment_must_be_registered(checkout: Path) -> None:
    with pytest.raises(UserError) as problem:
        find_experiment(read_manifest(checkout), "stuff")
    assert "'stuff' is not in paper/manifest.yaml" in str(problem.value)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("output.root=/home/me/out", "output.root=FOLDER/out"),
        ("no file '/data/x/y.pth'; retry", "no file 'FOLDER/y.pth'; retry"),
        ("900 tokens/s on 2/3 of https://a.org/b/c", "900 tokens/s on 2/3 of https://a.org/b/c"),
        ("~/runs/today", "FOLDER/today"),
        ("plain words and/or none", "plain words and/or none"),
    ],
)
def test_folders_are_scrubbed_and_nothing_else(text: str, clean: str) -> None:
    assert scrub_text(text) == clean
    assert scrub({"a": [text, 1, None], "b": {"c": text}}) == {
        "a": [clean, 1, None],
        "b": {"c": clean},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ('{"schema_version": 9}', "schema_version is 9, not 1"),
        ("[]", "schema_version is None"),
        ('{"schema_version": 1, "runs": {}}', "has other keys"),
    ],
)
def test_a_damaged_seal_is_told(root: Path, text: str, message: str) -> None:
    (root / RECORDS / SEAL_FILE).write_text(text)
    with pytest.raises(RecordError) as problem:
        read_seal(root / RECORDS)
    assert message in str(problem.value)
