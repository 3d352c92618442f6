from collections.abc import Sequence
from pathlib import Path

import pytest

from fseed.records import find_runs
from fseed.results.collection import collect_runs
from fseed.results.comparison import Comparison
from fseed.results.controls import find_controls, find_equal_gains, link_controls, order_rows
from fseed.results.measurement import measure
from fseed.results.pairs import build_arms
from fseed.results.runs import load_run
from tests.results.builders import RunSpec, finish_run
from tests.results.staged import plan_arm, write_plan

ARM_GAINS = (20, 22, 24)


def spec_of(seed: int, gain: int, *, arm: str = "scalar_l10") -> RunSpec:
    correct = [20] * 19 + [20 + gain]
    return RunSpec(arm=arm, seed=seed, correct=correct, units=(40,) * 20, loss=1 + seed + gain / 99)


def write_rows(
    root: Path,
    controls: dict[str, Sequence[int]],
    *,
    arms: Sequence[str] = ("scalar_l10",),
    num_seeds: int = 3,
) -> list[Comparison]:
    """Write a baseline, arms that gain, and controls of each arm; return all rows."""
    for seed in range(num_seeds):
        finish_run(root, spec_of(seed, 0, arm="no_fs"))
        for index, arm in enumerate(arms):
            finish_run(root, spec_of(seed, ARM_GAINS[seed] + 3 * index, arm=arm))
            for kind, gains in controls.items():
                control = spec_of(seed, gains[seed], arm=arm).control(kind)
                if kind != "repeat_prompt" or index == 0:
                    finish_run(root, control.with_(loss=control.loss + len(control.arm) / 9))
    return collect_runs([root]).comparisons


def test_a_gain_that_a_control_shows_too_is_withheld(tmp_path: Path) -> None:
    arm, control = write_rows(tmp_path, {"shuffled_state": (21, 21, 25)})
    assert (arm.verdict, arm.reason_code) == ("inconclusive", "control_gains_too")
    assert "scalar_l10,control=shuffled_state +2.79 pp, arm minus control -0.04" in arm.reason
    assert "detectable with power 0.8" in arm.reason
    assert arm.detectable_difference is not None
    assert control.control_of == "scalar_l10"


@pytest.mark.parametrize(
    "gains",
    [
        pytest.param((1, 4, 2), id="clearly smaller"),
        pytest.param((-20, -25, -21), id="a loss"),
        pytest.param((0, 0, 0), id="nothing"),
    ],
)
def test_a_gain_that_no_control_shows_stands(tmp_path: Path, gains: Sequence[int]) -> None:
    arm, _ = write_rows(tmp_path, {"random_state": gains})
    assert (arm.verdict, arm.reason_code) == ("helps", "interval_above_zero")
    assert arm.num_controls == 1
    assert "controls that do not show this gain: 1" in arm.reason


def test_a_control_with_too_few_seeds_in_common_withholds_a_gain(tmp_path: Path) -> None:
    for seed in range(3):
        finish_run(tmp_path, spec_of(seed, 0, arm="no_fs"))
        finish_run(tmp_path, spec_of(seed, ARM_GAINS[seed]))
    finish_run(tmp_path, spec_of(0, 1).control("random_state"))
    arm, _ = collect_runs([tmp_path]).comparisons
    assert arm.reason_code == "control_gains_too"
    assert "fewer than 3 seeds in common" in arm.reason


@pytest.mark.parametrize("gain", [21, -1], ids=["gain", "loss by luck"])
def test_an_excess_without_spread_exceeds_nothing(tmp_path: Path, gain: int) -> None:
    gains = [one - ARM_GAINS[0] + gain for one in ARM_GAINS]
    arm, _ = write_rows(tmp_path, {"random_state": gains})
    assert (arm.verdict, arm.reason_code) == ("inconclusive", "control_gains_too")
    assert "pp at every seed alike" in arm.reason
    assert "about 0 more seeds" not in arm.reason
    assert "the seeds at hand suffice for the difference seen" in arm.reason


def test_a_control_of_other_seeds_clears_nothing_though_it_loses(tmp_path: Path) -> None:
    for seed in range(6):
        finish_run(tmp_path, spec_of(seed, 0, arm="no_fs"))
        if seed < 3:
            finish_run(tmp_path, spec_of(seed, ARM_GAINS[seed]))
        else:
            finish_run(tmp_path, spec_of(seed, seed - 9).control("random_state"))
    arm, _ = collect_runs([tmp_path]).comparisons
    assert (arm.verdict, arm.reason_code) == ("inconclusive", "control_gains_too")


def test_a_control_that_gains_is_no_evidence(tmp_path: Path) -> None:
    _, control = write_rows(tmp_path, {"same_layer": (30, 31, 32)})
    assert control.verdict == "helps"
    assert "a control, so this is no evidence for Future-Seed" in control.reason


def test_reading_the_prompt_twice_is_a_control_of_every_arm(tmp_path: Path) -> None:
    rows = write_rows(tmp_path, {"repeat_prompt": (21, 21, 25)}, arms=("scalar_l10", "head_l10"))
    assert [row.arm for row in rows] == ["head_l10", "scalar_l10", "no_fs,control=repeat_prompt"]
    assert [row.reason_code for row in rows[:2]] == ["control_gains_too"] * 2
    assert rows[2].control_of is None


def test_an_aa_arm_withholds_nothing(tmp_path: Path) -> None:
    for seed in range(3):
        base = spec_of(seed, 0, arm="no_fs")
        finish_run(tmp_path, base)
        finish_run(tmp_path, spec_of(seed, ARM_GAINS[seed]))
        finish_run(tmp_path, base.with_(arm="scalar_l10").control("aa"))
    arm, control = collect_runs([tmp_path]).comparisons
    assert (arm.verdict, control.verdict) == ("helps", "no_op")
    assert arm.num_controls == 0
    assert "no control has run beside it" in arm.reason
    assert control.control_of == "scalar_l10"


def test_each_control_stands_directly_below_its_own_arm(tmp_path: Path) -> None:
    rows = write_rows(
        tmp_path,
        {"random_state": (1, 4, 2), "shuffled_state": (2, 1, 3)},
        arms=("scalar_l10", "head_l10"),
    )
    assert [(row.arm, row.control_of) for row in rows] == [
        ("head_l10", None),
        ("head_l10,control=random_state", "head_l10"),
        ("head_l10,control=shuffled_state", "head_l10"),
        ("scalar_l10", None),
        ("scalar_l10,control=random_state", "scalar_l10"),
        ("scalar_l10,control=shuffled_state", "scalar_l10"),
    ]


def test_a_control_of_other_settings_is_none_of_this_arm(tmp_path: Path) -> None:
    write_rows(tmp_path, {})
    for seed in range(3):
        spec = spec_of(seed, 21).with_(changes={"lstart": 6}).control("random_state")
        finish_run(tmp_path, spec)
    arm, control = collect_runs([tmp_path]).comparisons
    assert (arm.verdict, control.control_of) == ("helps", None)


@pytest.mark.parametrize(("kind", "owners"), [("random_state", 2), ("same_layer", 1)])
def test_a_control_stands_beside_every_arm_that_it_cannot_tell_apart(
    tmp_path: Path, kind: str, owners: int
) -> None:
    for seed in range(3):
        finish_run(tmp_path, spec_of(seed, 0, arm="no_fs"))
        for detach, gain in ((True, 20), (False, 23)):
            changes = {"fs_variant.detach": detach, "fs_variant.label": "x"}
            spec = spec_of(seed, gain + seed, arm=f"x_{detach}").with_(changes=changes)
            finish_run(tmp_path, spec)
        changes["control.kind"] = kind
        control = spec_of(seed, 21, arm=f"x,control={kind}").with_(changes=changes)
        finish_run(tmp_path, control)
    arms = build_arms([load_run(record) for record in find_runs([tmp_path])])
    assert sum(len(found) for found in find_controls(arms)) == owners


def test_the_plan_names_the_arm_of_a_shared_control(tmp_path: Path) -> None:
    arms = ("scalar_l10", "head_l10")
    rows = write_rows(tmp_path, {"repeat_prompt": (1, 4, 2)}, arms=arms)
    key = str(rows[-1].arm_key)
    entry = plan_arm("x", key, control="repeat_prompt", control_of="head_l10")
    write_plan(tmp_path / "default", [entry])
    rows = collect_runs([tmp_path]).comparisons
    assert [row.arm for row in rows][:2] == ["head_l10", "no_fs,control=repeat_prompt"]
    assert rows[1].control_of == "head_l10"


def test_the_parts_agree_on_positions(tmp_path: Path) -> None:
    write_rows(tmp_path, {"random_state": (21, 21, 25)})
    arms = build_arms([load_run(record) for record in find_runs([tmp_path])])
    arm, control = (
        next(index for index, one in enumerate(arms) if one.is_control is wanted)
        for wanted in (False, True)
    )
    controls = find_controls(arms)
    assert (controls[arm], controls[control]) == ([control], [])
    links = link_controls(arms, controls)
    assert (links[arm], links[control]) == (None, "scalar_l10")
    assert order_rows(arms, links) == [arm, control]
    numbers = [measure(one.pairs) for one in arms]
    ours = numbers[arm]
    assert ours is not None
    (gain,) = find_equal_gains(ours, [(arms[control], numbers[control])])
    assert (gain.kind, gain.difference) == ("random_state", pytest.approx(67 / 3 / 800))
    assert gain.excess is not None
    assert gain.excess.mean == pytest.approx((66 - 67) / 3 / 800)
    assert find_equal_gains(ours, [(arms[control], None)]) == []
