import json
from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.results.staged_files import read_plan
from fseed.sweep.staged.plan_file import VOLATILE, describe_changes, settle_plan
from tests.sweep.staged.sweeps import Bench


def plan_of(tmp_path: Path, *words: str, arms: tuple[str, ...] = ("scalar_l10", "raw_l10")) -> dict:
    bench = Bench(tmp_path, *words)
    bench.arms = arms
    return bench.build().plan


def test_the_plan_is_a_function_of_the_command(tmp_path: Path) -> None:
    first, second = plan_of(tmp_path), plan_of(tmp_path)
    assert first.keys() == second.keys()
    assert all(first[key] == second[key] for key in first if key not in VOLATILE)
    assert settle_plan(tmp_path, first)
    text = (tmp_path / "plan.json").read_text()
    assert not settle_plan(tmp_path, second)
    assert (tmp_path / "plan.json").read_text() == text


def test_readers_understand_the_plan(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "seed=4")
    settle_plan(tmp_path, plan)
    read = read_plan(tmp_path)
    assert read is not None
    assert (read.sweep, read.rule, read.tasks) == ("default", "race", ("hotpot",))
    assert [(stage.name, stage.seeds[0], stage.rungs) for stage in read.stages] == [
        ("quick", 4, (3, 5)),
        ("medium", 9, (3, 5)),
        ("confirm", 14, (5,)),
    ]
    assert read.rules["wanted_gain"] == 0.01
    assert len(read.code_hash) == 64


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sweep.rule=halving"], "rule race -> halving"),
        (["sweep.wanted_gain=0.02"], "rules.wanted_gain 0.01 -> 0.02"),
        (["sweep.quick_seeds=3"], "stages.quick.seeds [0, 1, 2, 3, 4] -> [0, 1, 2]"),
        (["seed=1"], "stages.quick.seeds [0, 1, 2, 3, 4] -> [1, 2, 3, 4, 5]"),
        (["budget.steps=7"], "settings.hotpot.budget.steps"),
        (["data.seed=1"], "settings.hotpot.data.seed 0 -> 1"),
    ],
)
def test_a_changed_plan_is_refused_with_what_differs(
    tmp_path: Path, words: list[str], told: str
) -> None:
    settle_plan(tmp_path, plan_of(tmp_path))
    with pytest.raises(UserError) as error:
        settle_plan(tmp_path, plan_of(tmp_path, *words))
    assert told in str(error.value)
    assert "another sweep.name" in str(error.value)
    assert len(str(error.value).splitlines()) <= 3


def test_other_arms_and_other_code_are_refused(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    settle_plan(tmp_path, plan)
    with pytest.raises(UserError, match=r'arms \["scalar_l10", "raw_l10"\] -> \["raw_l10"\]'):
        settle_plan(tmp_path, plan_of(tmp_path, arms=("raw_l10",)))
    changed = plan | {"code_hash": "0" * 64}
    assert describe_changes(plan, changed) == [f"code_hash {plan['code_hash'][:8]} -> 00000000"]
    with pytest.raises(UserError, match="code_hash"):
        settle_plan(tmp_path, changed)


@pytest.mark.parametrize("text", ["{", "[1]", '"plan"', ""])
def test_a_damaged_plan_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UserError, match=r"plan\.json(.|\n)*another sweep\.name"):
        settle_plan(tmp_path, {"sweep": "default"})
    assert (tmp_path / "plan.json").read_text() == text


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    settle_plan(tmp_path / "new", {"sweep": "new"})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["plan.json"]
    assert json.loads((tmp_path / "new" / "plan.json").read_text()) == {"sweep": "new"}
