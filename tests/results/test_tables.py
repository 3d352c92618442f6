import io
from pathlib import Path

import pytest

from fseed.results.collection import collect_runs
from fseed.results.tables import print_collection, render_markdown
from fseed.results.terminal import build_console
from tests.results.builders import RunSpec, fail_run, finish_run, start_run, write_sweep
from tests.results.staged import write_staged_sweep

LONG_ARM = "inputgate_l10,lstart=11,alpha=m3,control=shuffled_state"


def printed(root: Path, *, show_runs: bool = False) -> list[str]:
    file = io.StringIO()
    print_collection(collect_runs([root]), build_console(file), show_runs=show_runs)
    return file.getvalue().splitlines()


def test_the_first_lines_tell_model_and_data(tmp_path: Path) -> None:
    write_sweep(tmp_path, arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    start_run(tmp_path, RunSpec(arm="raw_l10"))
    assert printed(tmp_path)[:3] == [
        "model nano: 12 layers, 1,234,567 parameters, randomly initialised",
        "data  hotpot, source mini: 512 train, 10 validation, hash dddddddd",
        "data  hotpot, source mini: 512 train, 4 validation, hash dddddddd",
    ]


def test_a_checkpoint_is_named_by_its_hash(tmp_path: Path) -> None:
    model = {"name": "g1d", "num_layers": 2, "parameters": 10, "initialization": "checkpoint"}
    finish_run(tmp_path, RunSpec(provenance={"model": model, "weights_hash": "ab" * 32}))
    assert printed(tmp_path)[0] == "model g1d: 2 layers, 10 parameters, from checkpoint abababab"


def test_what_is_not_recorded_is_told(tmp_path: Path) -> None:
    start_run(tmp_path, RunSpec(provenance={"model": None, "data": {"source": "mini"}}))
    assert printed(tmp_path)[:2] == [
        "model nano: not recorded",
        "data  hotpot, source mini: not recorded",
    ]


@pytest.mark.parametrize("columns", ["100", None])
def test_pipes_get_every_character_without_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    write_sweep(tmp_path, arms={LONG_ARM: 0.1}, num_seeds=3, num_examples=10)
    path = fail_run(tmp_path, RunSpec(arm="raw_l10"), message="no memory [1/2] " * 20)
    lines = printed(tmp_path, show_runs=True)
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert "\u2026" not in text
    assert str(path) in text
    assert "[1/2]" in text
    start = next(number for number, line in enumerate(lines) if line.startswith("arm "))
    rows = lines[
        start + 1 : next(n for n, line in enumerate(lines) if LONG_ARM in line and n > start)
    ]
    assert "".join(row[:30].split(" ")[0] for row in rows).startswith("inputgate_l10")
    limit = int(columns or 120)
    assert max(len(line) for line in lines[start : start + len(rows)]) <= limit


def test_the_paired_table_shows_percent_and_points(tmp_path: Path) -> None:
    units = [10] * 10
    for seed, gain in enumerate([1, 2, 3]):
        base = RunSpec(seed=seed, correct=[5] * 10, units=units, loss=1.0 + seed)
        finish_run(tmp_path, base)
        better = [5 + gain] * 10
        finish_run(tmp_path, base.with_(arm="scalar_l10", correct=better, loss=0.5 + seed))
    text = "\n".join(printed(tmp_path))
    assert "task hotpot, source mini, model nano, stage plain: token_accuracy on validation" in text
    row = next(line for line in text.splitlines() if line.startswith("scalar_l10 "))
    assert row.split() == [
        *("scalar_l10", "0-2", "50.00", "70.00", "+20.00", "[-4.84,", "+44.84]"),
        *("3/0/0", "10", "-0.5000", "inconclusive"),
    ]


def test_sources_and_budgets_never_share_a_table(tmp_path: Path) -> None:
    for changes in ({}, {"data.source": "local"}, {"budget.steps": 80}):
        loss = 1.0 + len(str(changes))
        finish_run(tmp_path, RunSpec(changes=changes, loss=loss))
        finish_run(tmp_path, RunSpec(arm="scalar_l10", changes=changes, loss=loss + 0.5))
    captions = [line for line in printed(tmp_path) if line.startswith("task ")]
    assert len(captions) == 3
    assert any("budget.steps=80" in caption for caption in captions)
    assert any("source local" in caption for caption in captions)


def test_only_baselines_are_shown_as_runs(tmp_path: Path) -> None:
    finish_run(tmp_path, RunSpec())
    lines = printed(tmp_path)
    assert "no arm to compare: all runs are no_fs baselines" in lines
    assert any(line.startswith("no_fs ") for line in lines)


def test_runs_tell_once_what_they_share(tmp_path: Path) -> None:
    for seed in (0, 1):
        finish_run(tmp_path, RunSpec(seed=seed))
    lines = printed(tmp_path)
    told = "  every run: task hotpot, status finished, metric token_accuracy"
    assert any(line.startswith(told) for line in lines)
    (first, second) = (line for line in lines if line.startswith("no_fs "))
    assert first.split()[:2] == ["no_fs", "0"]
    assert second.split()[:2] == ["no_fs", "1"]


def test_nothing_found_prints_no_table(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    assert printed(tmp_path) == ["runs  none; 1 files that belong to no run passed over"]


def test_markdown_cells_keep_bars_apart(tmp_path: Path) -> None:
    write_sweep(tmp_path, arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    fail_run(tmp_path, RunSpec(arm="raw_l10"), message="a | b")
    text = render_markdown(collect_runs([tmp_path]))
    paired, _ = text.split("**arms without a result**")
    table = [line for line in paired.splitlines() if line.startswith("| hotpot")]
    assert len(table) == 2
    assert "a \\| b" in table[0]
    assert {line.replace("\\|", "").count("|") for line in table} == {23}
    assert "- failed: oom: a | b: " in text


def test_a_staged_sweep_is_told_stage_by_stage_and_over_tasks(tmp_path: Path) -> None:
    write_staged_sweep(tmp_path)
    lines = printed(tmp_path)
    text = "\n".join(lines)
    assert "stages of task hotpot, source mini, model nano" in lines
    assert "stages of task squad, source mini, model nano" in lines
    place = lines.index("arms over tasks")
    assert lines[place + 2].split()[:6] == ["scalar_l10", "confirm", "mini", "nano", "2", "+3.00"]
    assert "interquartile mean over tasks" in text
    tables = [line for line in lines if not line.startswith(("data  ", "  /", "alarms"))]
    assert max(len(line) for line in tables if str(tmp_path) not in line) <= 120


def test_controls_stand_indented_below_their_arm(tmp_path: Path) -> None:
    write_staged_sweep(tmp_path, tasks=("hotpot",))
    lines = printed(tmp_path)
    start = next(number for number, line in enumerate(lines) if "stage confirm" in line)
    assert lines[start + 2].startswith("scalar_l10 ")
    assert lines[start + 3].startswith("  scalar_l10,control=aa ")
    assert lines[start + 4].startswith("  scalar_l10,control=random_state ")


def test_markdown_tells_tests_controls_stages_and_what_has_no_result(tmp_path: Path) -> None:
    write_staged_sweep(tmp_path)
    text = render_markdown(collect_runs([tmp_path], margin=0.02))
    heading = next(line for line in text.splitlines() if line.startswith("| task | source"))
    cells = [cell.strip() for cell in heading.split("|")]
    assert {"control of", "p", "p adjusted", "family", "detectable pp", "more seeds"} <= set(cells)
    row = next(line for line in text.splitlines() if "control=random_state |" in line)
    assert f"| {'scalar_l10'} |" in row
    assert "| holm over 3 |" in text
    assert "equivalent: inside +-2 pp" in text
    for title in ("**stages of task hotpot", "**arms over tasks**", "**arms without a result**"):
        assert title in text
    assert "| pruned | below_wanted_gain |" in text


def test_the_margin_is_told_where_it_counts(tmp_path: Path) -> None:
    for seed, right in enumerate([1, -1, 0, 1, -1]):
        base = RunSpec(seed=seed, correct=[50] * 4, units=[100] * 4, loss=1.0 + seed)
        finish_run(tmp_path, base)
        finish_run(
            tmp_path, base.with_(arm="scalar_l10", correct=[50, 50, 50, 50 + right], loss=9 + seed)
        )
    text = " ".join(" ".join(printed(tmp_path)).split())
    assert "equivalent: inside +-1 pp of no_fs" in text
