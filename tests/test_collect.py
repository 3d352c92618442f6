import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fseed.collect import collect_and_print, default_tables_dir, main
from tests.results.builders import RunSpec, fail_run, finish_run, random_spec, write_sweep
from tests.results.legacy.builders import write_study
from tests.results.staged import write_staged_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    root = tmp_path / "outputs"
    write_sweep(root, arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    return root


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_prints_and_writes_the_tables(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("model nano: 12 layers, 1,234,567 parameters, randomly initialised\n")
    assert "scalar_l10 " in out
    assert "\nruns\n" not in out
    assert f"written to {sweep / 'tables'}: tables.md" in out
    data = ["paired.csv", "paired.parquet", "report.html", "runs.csv", "runs.parquet"]
    assert names_in(sweep / "tables") == [*data, "tables.md", "tables.tex"]


def test_its_own_tables_are_not_foreign_files(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(sweep)])
    first = capsys.readouterr().out
    assert main([str(sweep)]) == 0
    assert capsys.readouterr().out == first


def test_the_default_is_the_output_root(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FSEED_OUTPUTS", str(sweep))
    assert main(["--format", "markdown"]) == 0
    assert names_in(sweep / "tables") == ["tables.md"]
    assert "6 finished" in capsys.readouterr().out


def test_options(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(sweep), "--runs", "--out", str(tmp_path / "t"), "--format", "csv,markdown"]
    assert main(arguments) == 0
    assert "\nruns\n" in capsys.readouterr().out
    assert names_in(tmp_path / "t") == ["paired.csv", "runs.csv", "tables.md"]
    assert main([str(sweep), "--format", "none"]) == 0
    assert not (sweep / "tables").exists()


def test_failed_runs_are_listed_and_leave_the_exit_code(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fail_run(sweep, RunSpec(arm="raw_l10"))
    assert main([str(sweep)]) == 0
    assert f"failed: oom: no memory: {path}" in capsys.readouterr().out


def test_unreadable_records_exit_with_1(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = finish_run(sweep, RunSpec(arm="raw_l10"))
    (path / "result.json").write_text("{")
    assert main([str(sweep)]) == 1
    out = capsys.readouterr().out
    assert "unreadable: result.json: not valid JSON" in out
    assert str(path) in out
    assert "written to" in out


def test_names_and_messages_that_are_not_utf8(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_run(sweep, RunSpec(arm="raw_l10"), message="half \ud800")
    odd = Path(os.fsdecode(os.fsencode(sweep) + b"/\xff"))
    odd.mkdir()
    (odd / "result.json").write_text("{")
    assert main([str(sweep)]) == 1
    assert "half \\ud800" in capsys.readouterr().out
    assert "half \\ud800" in (sweep / "tables" / "tables.md").read_text()


def test_no_runs_exit_with_1_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr() == ("runs  none\n", f"fseed.collect: no runs below {tmp_path}\n")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "fseed.collect: no such folder: nowhere; give folders that hold runs\n"),
        (["s0-0123456789"], "fseed.collect: no such folder: s0-0123456789; give folders that"),
        ([".", "--format", "cvs"], "fseed.collect: --format 'cvs': not one of markdown, csv"),
        (
            [".", "--margin", "0"],
            "fseed.collect: --margin '0': percentage points above 0 and below",
        ),
        ([".", "--margin", "1 pp"], "fseed.collect: --margin '1 pp': percentage points above 0"),
        (["--legacy", "nowhere"], "fseed.collect: --legacy nowhere does not exist"),
        ([".", "--reference", "x.csv"], "fseed.collect: --reference belongs to --legacy DIR"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1


def test_the_margin_is_given_in_points(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep), "--margin", "2.5", "--format", "csv,markdown"]) == 0
    with (sweep / "tables" / "paired.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["equivalence_margin"]) == 0.025
    assert "inside +-2.5 pp" in (sweep / "tables" / "tables.md").read_text()


def test_a_staged_sweep_is_collected_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_staged_sweep(tmp_path, tasks=("hotpot",))
    assert main([str(tmp_path), "--format", "none"]) == 0
    out = capsys.readouterr().out
    assert "stages of task hotpot" in out
    assert "runs  41 finished\n" in out
    # any folder of the sweep leads to its decisions
    assert main([str(folder / "hotpot" / "quick"), "--format", "none"]) == 0
    assert "head_l10, seeds 0-2: at quick after 3 seeds" in capsys.readouterr().out


def test_decisions_that_cannot_be_read_exit_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_staged_sweep(tmp_path, tasks=("hotpot",))
    path = folder / "decisions.jsonl"
    path.write_text("nothing\n" + path.read_text())
    assert main([str(tmp_path), "--format", "none"]) == 1
    out = capsys.readouterr().out
    assert f"{path}:1: Expecting value" in out
    assert "scalar_l10 " in out


@pytest.fixture
def legacy(tmp_path: Path) -> Path:
    folder = tmp_path / "legacy"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing that is known\n")
    write_study(folder, "arc_q_last", (0.25, 0.26), (0.24, 0.24), mean=0.005, std=0.0071)
    return folder


def test_earlier_results_alone_need_no_runs(
    legacy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FSEED_OUTPUTS", str(tmp_path / "none"))
    assert main(["--legacy", str(legacy)]) == 0
    out = capsys.readouterr().out
    assert f"earlier results in {legacy}" in out
    assert "notes.txt" in out
    assert "written to" not in out
    assert main(["--legacy", str(legacy), "--out", str(tmp_path / "t")]) == 0
    assert "legacy.md" in names_in(tmp_path / "t")
    with_data = {"legacy_runs.csv", "legacy_runs.parquet"}
    assert with_data <= set(names_in(tmp_path / "t"))


def test_earlier_results_stand_beside_ours(
    legacy: Path, sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(sweep), "--legacy", str(legacy), "--format", "csv,markdown,html"]) == 0
    out = capsys.readouterr().out
    assert out.index("scalar_l10 ") < out.index("earlier results in")
    files = ["legacy.md", "legacy_outcomes.csv", "legacy_runs.csv"]
    ours = ["paired.csv", "report.html", "runs.csv", "tables.md"]
    assert names_in(sweep / "tables") == [*files, *ours]
    report = (sweep / "tables" / "report.html").read_text()
    assert "as published, at equal budgets, and ours" in report
    with (sweep / "tables" / "legacy_runs.csv").open() as file:
        assert len(list(csv.DictReader(file))) > 0


def test_an_audit_that_cannot_be_written_is_one_line(
    legacy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["--legacy", str(legacy), "--out", str(tmp_path / "file")]) == 2
    assert "cannot write the audit to" in capsys.readouterr().err


def test_no_output_root_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FSEED_OUTPUTS", str(tmp_path / "none"))
    assert main([]) == 2
    assert "no results yet" in capsys.readouterr().err


def test_an_out_folder_that_cannot_be_written_still_prints(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([str(sweep), "--out", str(tmp_path / "file")]) == 2
    captured = capsys.readouterr()
    assert "scalar_l10 " in captured.out
    assert captured.err.startswith(f"fseed.collect: cannot write tables to {tmp_path / 'file'}")
    assert captured.err.count("\n") == 1


def test_a_sweep_hands_over_its_run_folders(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dirs = sorted((sweep / "default" / "hotpot" / "plain").glob("*/s*"))
    missing = run_dirs[-1].with_name("s9-0123456789")
    assert collect_and_print([*run_dirs, missing], out=sweep / "t", formats=["csv"]) == 0
    out = capsys.readouterr().out
    assert "6 finished, 1 unfinished" in out
    assert "seed 9: unfinished, nothing written yet" in out


def test_tables_stand_outside_of_runs(tmp_path: Path) -> None:
    runs = [tmp_path / "a" / arm / "s0-0123456789" for arm in ("no_fs", "scalar_l10")]
    assert default_tables_dir(runs) == tmp_path / "a" / "tables"
    assert default_tables_dir(runs[:1]) == tmp_path / "a" / "no_fs" / "tables"
    assert default_tables_dir([tmp_path]) == tmp_path / "tables"


def run_module(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    how = ["-c", code] if code is not None else ["-m", "fseed.collect"]
    command = [sys.executable, *how, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_and_collect_import_nothing_heavy(sweep: Path) -> None:
    code = (
        "import sys; from fseed.collect import main; main(sys.argv[1:]); "
        "print([m for m in ('torch', 'lightning', 'hydra', 'pandas', 'scipy.stats') "
        "if m in sys.modules])"
    )
    done = run_module(str(sweep), code=code)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_closed_pipe_is_no_traceback(sweep: Path) -> None:
    command = f"{sys.executable} -m fseed.collect {sweep} | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert (sweep / "tables" / "tables.md").exists()


@pytest.mark.slow
def test_a_hundred_runs_take_a_second_and_a_half(tmp_path: Path) -> None:
    arms = {f"arm_{index}": 0.0 for index in range(9)}
    assert len(write_sweep(tmp_path, arms=arms, num_seeds=10)) == 100
    finish_run(tmp_path, random_spec(arm="no_fs", seed=99))
    used = []
    for _ in range(3):
        # processor time, so that busy neighbours do not count
        start = os.times()
        assert run_module(str(tmp_path)).returncode == 0
        end = os.times()
        user = end.children_user - start.children_user
        used.append(user + end.children_system - start.children_system)
    assert min(used) < 1.5
