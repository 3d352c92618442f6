import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fseed.diff import build_parser, main, parse_expected
from fseed.errors import UserError
from tests.results.builders import RunSpec, finish_run, identity_of
from tests.results.differences.runs_on_disk import only_run, write_small_sweep

Capture = pytest.CaptureFixture[str]


def write_pair(root: Path, **changes: Any) -> list[str]:
    """Write a baseline and an arm of other settings; return their folders."""
    settings = {key.replace("__", "."): value for key, value in changes.items()}
    specs = RunSpec(), RunSpec(arm="scalar_l10", changes=settings)
    return [str(finish_run(root, spec)) for spec in specs]


def test_exit_codes_of_two_runs(tmp_path: Path, capsys: Capture) -> None:
    arm = write_pair(tmp_path, budget__steps=80)[1]
    assert main([arm, arm]) == 0
    assert "no difference" in capsys.readouterr().out
    baseline, arm = write_pair(tmp_path / "other")
    assert main([baseline, arm]) == 1
    assert main([baseline, arm, "--expect", "fs"]) == 0
    captured = capsys.readouterr()
    assert "as expected: nothing but fs differs" in captured.out
    assert captured.err == ""


def test_what_was_not_expected_is_named_on_stderr(tmp_path: Path, capsys: Capture) -> None:
    names = write_pair(tmp_path, budget__steps=80, seed=4)
    assert main([*names, "--expect", "fs"]) == 1
    assert capsys.readouterr().err == (
        "fseed.diff: not expected: seed 0 vs 4, budget.steps 40 vs 80\n"
    )
    assert main([*names, "--expect", "fs,seed"]) == 1
    assert main([*names, "--expect", "fs, seed, budget.steps"]) == 0


def test_other_code_is_not_expected(tmp_path: Path, capsys: Capture) -> None:
    baseline = finish_run(tmp_path, RunSpec())
    arm = finish_run(tmp_path, RunSpec(arm="raw_l8", provenance={"code_hash": "e" * 64}))
    assert main([str(baseline), str(arm), "--expect", "fs"]) == 1
    assert "provenance.code_hash cccccccc vs eeeeeeee" in capsys.readouterr().err


def test_runs_are_found_by_id_below_the_default_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("FSEED_OUTPUTS", str(tmp_path))
    write_pair(tmp_path)
    ids = [identity_of(RunSpec(arm=arm))["run_id"][:5] for arm in ("no_fs", "scalar_l10")]
    assert main([*ids, "--expect", "fs"]) == 0
    assert "no_fs" in capsys.readouterr().out


def test_many_runs_have_a_column_each(tmp_path: Path, capsys: Capture) -> None:
    runs = [str(finish_run(tmp_path, RunSpec(seed=seed))) for seed in range(4)]
    assert main([*runs, "--expect", "seed"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[5].split() == ["group", "key", "A", "B", "C", "D"]
    assert out.splitlines()[6].split() == ["seed", "seed", "0", "1", "2", "3"]


def test_a_sweep_is_matched_or_not(tmp_path: Path, capsys: Capture) -> None:
    sweep = write_small_sweep(tmp_path, name="default")
    assert main(["--sweep", str(sweep), "--expect", "fs"]) == 0
    assert "hotpot, plain: 6 runs" in capsys.readouterr().out
    finish_run(tmp_path, RunSpec(arm="raw_l8", seed=0, changes={"optim.lr": 1.0}))
    assert main(["--sweep", str(sweep), "--expect", "fs,seed"]) == 1
    assert "optim.lr" in capsys.readouterr().err


def test_records_of_a_sweep_that_cannot_be_read_count(tmp_path: Path, capsys: Capture) -> None:
    sweep = write_small_sweep(tmp_path)
    (only_run(sweep, "raw_l8", 0) / "provenance.json").write_text("{")
    assert main(["--sweep", str(sweep), "--expect", "fs,seed"]) == 1
    out = capsys.readouterr().out
    assert "not compared (1)\n  hotpot/plain/raw_l8/s0-" in out
    assert "provenance.json: not valid JSON" in out


def test_two_sweeps(tmp_path: Path, capsys: Capture) -> None:
    old = write_small_sweep(tmp_path)
    new = write_small_sweep(tmp_path, name="new", budget__steps=80)
    words = ["--sweep", str(old), str(new)]
    assert main(["--sweep", str(old), str(old)]) == 0
    assert main(words) == 1
    assert capsys.readouterr().err == ""
    assert main([*words, "--expect", "budget"]) == 0
    assert main([*words, "--expect", "fs"]) == 1
    assert capsys.readouterr().err == "fseed.diff: not expected: budget.steps\n"
    main([*words, "--format", "json"])
    data = json.loads(capsys.readouterr().out)
    assert [change["key"] for change in data["changes"]] == ["budget.steps"]
    main([*words, "--format", "markdown"])
    assert "| `budget` | `budget.steps` | `40` | `80` | `all arms` |" in capsys.readouterr().out


def test_two_sweeps_with_a_record_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    old, new = (write_small_sweep(tmp_path, name=name) for name in ("old", "new"))
    assert main(["--sweep", str(old), str(new)]) == 0
    (only_run(new, "no_fs", 0) / "config.yaml").write_text("[")
    assert main(["--sweep", str(old), str(new), "--expect", "seed"]) == 1
    assert "not compared (1)\n  new: hotpot/plain/no_fs/s0-" in capsys.readouterr().out


def test_markdown_is_stable_and_names_no_folder(tmp_path: Path, capsys: Capture) -> None:
    texts = []
    for name in ("one", "two"):
        provenance = {"started_at": name, "git_commit": name * 10}
        changes = {"output.root": f"/{name}", "data.root": f"/{name}/rows"}
        spec = RunSpec(provenance=provenance, changes=changes)
        baseline = finish_run(tmp_path / name, spec)
        changed = {**changes, "optim.lr": 0.5, "budget.steps": 8}
        arm = finish_run(tmp_path / name, RunSpec(arm="raw_l8", changes=changed))
        main([str(baseline), str(arm), "--format", "markdown"])
        texts.append(capsys.readouterr().out)
    lines = [line for line in texts[0].splitlines() if not line.startswith("- ")]
    assert lines == [line for line in texts[1].splitlines() if not line.startswith("- ")]
    keys = [line.split("|")[2].strip(" `") for line in lines if line.startswith("| `")]
    assert keys == ["fs.mode", "fs_variant.label", "budget.steps", "optim.lr"]
    assert str(tmp_path) not in texts[0]


def test_all_shows_volatile_keys_without_folders(tmp_path: Path, capsys: Capture) -> None:
    runs = [
        str(finish_run(tmp_path / name, RunSpec(changes={"output.root": f"/machine/{name}"})))
        for name in ("one", "two")
    ]
    assert main(runs) == 0
    assert "output.root" not in capsys.readouterr().out
    assert main([*runs, "--all", "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert "| `volatile` | `output.root` | `.../machine/one` | `.../machine/two` |" in out
    assert str(tmp_path) not in out


def test_json(tmp_path: Path, capsys: Capture) -> None:
    names = write_pair(tmp_path, lstart=8)
    assert main([*names, "--format", "json", "--expect", "seed"]) == 1
    data = json.loads(capsys.readouterr().out)
    (comparison,) = data["comparisons"]
    assert data["schema_version"] == 1
    assert comparison["unexpected"] == ["fs.mode", "fs_variant.label", "lstart"]
    rows = {row["key"]: row["values"] for row in comparison["rows"]}
    assert rows["lstart"] == {"A": [10], "B": [8]}


def test_html_is_one_page(tmp_path: Path, capsys: Capture) -> None:
    assert main([*write_pair(tmp_path), "--format", "html"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("<!doctype html>")
    assert "<td>fs.mode</td><td>no_fs</td><td>prompt_fs</td>" in out
    assert "http" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give two runs or more, or --sweep DIR (see --help)"),
        (["a"], "give two runs or more"),
        (["nothing", "a"], "nothing: no such file or folder; give a run directory"),
        (["a", "b", "--format", "markdwon"], "--format 'markdwon': not one of terminal, markdown"),
        (["a", "b", "--expect", "fss"], "--expect 'fss': not one of fs, seed, budget"),
        (["a", "b", "--expect", "budget.step"], "--expect 'budget.step': not one of fs, seed"),
        (["a", "--sweep", "b"], "give runs or --sweep, not both"),
        (["--sweep", "a", "b", "c"], "--sweep takes one or two folders, 3 were given"),
        (["--sweep", "nowhere"], "nowhere is not a folder; give the folder of a sweep"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FSEED_OUTPUTS", str(tmp_path))
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"fseed.diff: {message}")
    assert captured.err.count("\n") == 1


def test_expected_names() -> None:
    assert parse_expected(None) is None
    names = ["fs", "seed", "task.options.num_notes", "provenance.code_hash", "optim.lr"]
    assert parse_expected(" , ".join(names)) == names
    with pytest.raises(UserError, match=r"did you mean budget\.steps"):
        parse_expected("budget.step")


def test_help_teaches_with_examples() -> None:
    text = build_parser().format_help()
    assert text.count("python -m fseed.diff") > 8
    assert "exit codes: 0" in text
    for word in ("--expect fs", "--sweep", "volatile", "sweep.diff_against"):
        assert word in text


def test_every_example_of_the_help_parses() -> None:
    parser = build_parser()
    lines = [line for line in parser.format_help().splitlines() if "-m fseed.diff " in line]
    examples = [line.split("-m fseed.diff ")[1].split("   ")[0] for line in lines[1:]]
    assert len(examples) > 8
    for example in examples:
        options = parser.parse_args(example.split())
        assert options.runs or options.sweep
        parse_expected(options.expect)


def run_code(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, time; from fseed.diff import main; main(sys.argv[1:]); "
        "print(time.process_time()); "
        "print([m for m in ('torch', 'lightning', 'hydra', 'pandas', 'scipy', 'matplotlib', "
        "'pyarrow') if m in sys.modules])"
    )
    done = run_code(code, *write_pair(tmp_path))
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"
    # of the processor: other work on this machine does not count
    assert float(done.stdout.splitlines()[-2]) < 1.5


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    pair = " ".join(write_pair(tmp_path))
    command = f"{sys.executable} -m fseed.diff {pair} --all --format json | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""
