import json
from pathlib import Path
from typing import Any

import pytest

from fseed.records import METRICS_FILE, read_run
from fseed.results.html.history import History, is_number, moved, read_history
from fseed.results.runs import load_run
from tests.results.builders import fail_run
from tests.results.html.builders import EVALUATED, TOKENS_PER_STEP, finish, gates_of, spec_of


def history_of(path: Path) -> History:
    return read_history(load_run(read_run(path)))


def history_of_rows(path: Path, rows: list[dict[str, Any]], *, text: str = "") -> History:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (path / METRICS_FILE).write_text(lines + text)
    return history_of(path)


def train(step: int, tokens: Any = 10, **more: Any) -> dict[str, Any]:
    return {"kind": "train", "step": step, "tokens": tokens, **more}


def scored(step: int, **scores: Any) -> dict[str, Any]:
    return {"kind": "evaluation", "step": step, "split": "validation", "metrics": scores}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return finish(tmp_path, spec_of("scalar_l6_trainable", 3, changes={"lstart": 6, "alpha.lr": 1}))


def test_scores_stand_at_the_tokens_read_before_them(run_dir: Path) -> None:
    history = history_of(run_dir)
    assert [one.step for one in history.evaluations] == list(EVALUATED)
    tokens = [one.tokens for one in history.evaluations]
    assert tokens == [step * (TOKENS_PER_STEP + 3) for step in EVALUATED]
    record = load_run(read_run(run_dir))
    assert history.evaluations[-1].values["loss"] == pytest.approx(record.last["loss"])


def test_gates_start_before_the_first_step(run_dir: Path) -> None:
    spec = spec_of("scalar_l6_trainable", 3, changes={"lstart": 6, "alpha.lr": 1})
    gates = history_of(run_dir).gates
    assert [one.step for one in gates] == list(range(41))
    assert gates[0].gates == pytest.approx(gates_of(spec, step=0))
    assert gates[-1].gates == pytest.approx(gates_of(spec, step=40))
    assert moved(gates)
    assert not moved(gates[:1])


def test_a_repeated_step_counts_once_and_a_lost_one_ends_the_tokens(run_dir: Path) -> None:
    rows = [train(1, 10), train(2, 7), train(2, 20), scored(2, loss=1.0)]
    assert history_of_rows(run_dir, rows).evaluations[0].tokens == 30
    rows = [train(1, 10), train(3, 20), scored(1, loss=2.0), scored(3, loss=1.0)]
    assert [one.tokens for one in history_of_rows(run_dir, rows).evaluations] == [10, None]
    rows = [train(1, None), scored(1, loss=2.0)]
    assert history_of_rows(run_dir, rows).evaluations[0].tokens is None


def test_torn_lines_and_values_that_are_no_number_are_left_out(run_dir: Path) -> None:
    rows = [scored(0, loss=float("nan"), a="x", b=True, c=1, d=None, e=10**400)]
    history = history_of_rows(run_dir, rows, text='{"kind": "train", "st')
    assert history.evaluations[0].values == {"c": 1.0}
    assert history.gates == []


def test_only_the_validation_split_is_drawn(run_dir: Path) -> None:
    test = {**scored(0, loss=1.0), "split": "test"}
    assert history_of_rows(run_dir, [test]).evaluations == []


def test_gates_of_another_number_of_layers_are_left_out(run_dir: Path) -> None:
    rows = [train(1, gates=[0.1, 0.2]), train(2, gates=[0.1]), train(3, gates="x")]
    assert [one.gates for one in history_of_rows(run_dir, rows).gates] == [(0.1, 0.2)]


def test_a_run_without_metrics_has_no_history(tmp_path: Path) -> None:
    path = fail_run(tmp_path, spec_of("scalar_l6", 0))
    (path / METRICS_FILE).unlink()
    assert history_of(path) == History([], [])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, True), (-0.5, True), (True, False), ("1", False), (10**400, False), (1e999, False)],
)
def test_numbers(value: object, expected: bool) -> None:
    assert is_number(value) is expected
