from collections.abc import Sequence
from pathlib import Path

import pytest

from fseed.results.alarms_of_answers import find_answer_alarms
from fseed.results.collection import collect_runs
from tests.results.builders import RunSpec, finish_run

SIZE = 100
BASE = RunSpec(correct=(1,) * SIZE, units=(2,) * SIZE)


def answers(*, seed: int, changed: Sequence[int] = ()) -> list[str]:
    """Return a text per example, another for other seeds, and for the examples changed."""
    return [f"{seed} {place}{' x' if place in changed else ''}" for place in range(SIZE)]


def write_pairs(root: Path, *, changed: Sequence[int], arm: str = "scalar_l10") -> list[Path]:
    paths = []
    for seed in range(3):
        base = BASE.with_(seed=seed, loss=1.0 + seed, predictions=answers(seed=seed))
        finish_run(root, base)
        told = answers(seed=seed, changed=changed)
        spec = base.with_(arm=arm, loss=1.5 + seed + len(arm) / 99, predictions=told)
        paths.append(finish_run(root, spec))
    return paths


def alarms_of(root: Path) -> list[str]:
    return collect_runs([root]).alarms


def test_an_arm_that_changes_next_to_nothing_is_told_with_the_noise(tmp_path: Path) -> None:
    paths = write_pairs(tmp_path, changed=[3, 4])
    (alarm,) = alarms_of(tmp_path)
    assert alarm.startswith(
        "no_fs and scalar_l10 answer alike: 2.00 % of the examples change at most, noise is 10.00 %"
    )
    assert all(str(path) in alarm for path in paths)


def test_an_arm_that_changes_more_than_the_noise_is_no_alarm(tmp_path: Path) -> None:
    write_pairs(tmp_path, changed=range(12))
    assert alarms_of(tmp_path) == []


def test_two_arms_that_act_alike_are_told(tmp_path: Path) -> None:
    write_pairs(tmp_path, changed=range(40))
    write_pairs(tmp_path, changed=range(41), arm="head_l10")
    (alarm,) = alarms_of(tmp_path)
    assert alarm.startswith("head_l10 and scalar_l10 answer alike: 1.00 %")


def test_rows_that_are_all_alike_are_one_line(tmp_path: Path) -> None:
    for place, arm in enumerate(("head_l10", "raw_l10", "scalar_l10", "input_l10")):
        write_pairs(tmp_path, changed=range(40 + place), arm=arm)
    (alarm,) = alarms_of(tmp_path)
    assert alarm.startswith("head_l10, input_l10, raw_l10 and scalar_l10 answer alike: 3.00 % of")


def test_of_three_rows_only_the_alike_ones_are_told_together(tmp_path: Path) -> None:
    # the first and the last differ by 12 of 100 examples, more than the noise of 10 %
    for arm, size in {"a_l10": 40, "bb_l10": 46, "ccc_l10": 52}.items():
        write_pairs(tmp_path, changed=range(size), arm=arm)
    told = [alarm.split(" answer alike: ")[0] for alarm in alarms_of(tmp_path)]
    assert told == ["a_l10 and bb_l10", "bb_l10 and ccc_l10"]


def test_pairs_of_rows_may_be_found_in_any_order(tmp_path: Path) -> None:
    # no_fs is like the last row alone, which is like the middle one: 5 and 8 of 100 examples
    for arm, changed in {"bb_l10": range(13), "ccc_l10": range(5)}.items():
        write_pairs(tmp_path, changed=changed, arm=arm)
    told = [alarm.split(" answer alike: ")[0] for alarm in alarms_of(tmp_path)]
    assert told == ["no_fs and ccc_l10", "bb_l10 and ccc_l10"]


def test_what_an_aa_arm_changes_is_noise(tmp_path: Path) -> None:
    for seed in range(3):
        base = BASE.with_(seed=seed, loss=1.0 + seed, predictions=answers(seed=0))
        finish_run(tmp_path, base)
        noisy = base.with_(predictions=answers(seed=0, changed=range(30)), loss=1.1 + seed)
        finish_run(tmp_path, noisy.with_(arm="scalar_l10").control("aa"))
        changed = answers(seed=0, changed=range(50, 70))
        finish_run(tmp_path, base.with_(arm="scalar_l10", loss=1.2 + seed, predictions=changed))
    (alarm,) = [one for one in alarms_of(tmp_path) if "alike" in one]
    assert "20.00 % of the examples change at most, noise is 30.00 %" in alarm


def test_one_seed_alone_knows_no_noise(tmp_path: Path) -> None:
    base = BASE.with_(predictions=answers(seed=0))
    finish_run(tmp_path, base)
    finish_run(tmp_path, base.with_(arm="scalar_l10", loss=2.0))
    assert alarms_of(tmp_path) == []


def test_a_tie_bit_for_bit_is_left_to_the_verdict(tmp_path: Path) -> None:
    for seed in range(2):
        base = BASE.with_(seed=seed, loss=1.0 + seed, predictions=answers(seed=seed))
        finish_run(tmp_path, base)
        finish_run(tmp_path, base.with_(arm="scalar_l10"))
    assert alarms_of(tmp_path) == []


def test_collapsed_answers_are_told_and_constant_ones_only_once(tmp_path: Path) -> None:
    collapsed = finish_run(tmp_path, BASE.with_(predictions=["a"] * 98 + ["b", "c"]))
    constant = finish_run(tmp_path, BASE.with_(seed=1, loss=2.0, predictions=["a"] * SIZE))
    varied = BASE.with_(seed=2, loss=3.0, predictions=["a"] * 80 + ["b"] * 20)
    finish_run(tmp_path, varied)
    assert alarms_of(tmp_path) == [
        f"no_fs answers one thing to every example: 'a' (seed 1): {constant.parent}",
        f"answers have collapsed to 1.12 effective ones: {collapsed}",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"copied": 0.97}, "leak: copying from the prompt scores 97.0 % on hotpot: "),
        ({"constant": 0.99}, "one constant answer scores 99.0 % on hotpot: "),
        ({"start": 0.4}, "leak: scores 40.0 % before training from a random start, the constant"),
    ],
)
def test_leaks_that_the_records_show(tmp_path: Path, changes: dict[str, float], told: str) -> None:
    path = finish_run(tmp_path, BASE.with_(**changes))
    (alarm,) = alarms_of(tmp_path)
    assert alarm.startswith(told)
    assert str(path) in alarm


def test_a_checkpoint_may_know_the_answers_before_training(tmp_path: Path) -> None:
    model = {"name": "g1d", "num_layers": 2, "parameters": 10, "initialization": "checkpoint"}
    finish_run(tmp_path, BASE.with_(start=0.4, provenance={"model": model}))
    finish_run(tmp_path, BASE.with_(seed=1, loss=2.0, start=0.15, copied=0.5, constant=0.1))
    assert alarms_of(tmp_path) == []


def test_an_arm_that_alone_solves_everything_is_suspicious(tmp_path: Path) -> None:
    finish_run(tmp_path, BASE)
    path = finish_run(tmp_path, BASE.with_(arm="scalar_l10", correct=(2,) * SIZE, loss=0.1))
    told = f"leak? scalar_l10 solves everything, its baseline 50.0 %: {path}"
    assert told in alarms_of(tmp_path)


def test_nothing_read_raises_nothing() -> None:
    assert find_answer_alarms([], []) == []
