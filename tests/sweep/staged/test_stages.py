import pytest

from fseed.config.schema import RunConfig, StageRule, SweepConfig
from fseed.errors import UserError
from fseed.sweep.staged.stages import build_rules, build_stages


def test_seeds_are_consecutive_and_disjoint() -> None:
    stages = build_stages(SweepConfig(quick_seeds=8, medium_seeds=4, confirm_seeds=6), first_seed=3)
    assert [stage.name for stage in stages] == ["quick", "medium", "confirm"]
    assert [stage.seeds for stage in stages] == [
        tuple(range(3, 11)),
        tuple(range(11, 15)),
        tuple(range(15, 21)),
    ]
    assert [stage.rungs for stage in stages] == [(3, 5, 8), (4,), (6,)]
    assert [stage.is_last for stage in stages] == [False, False, True]


def test_a_threshold_decides_once() -> None:
    sweep = SweepConfig(rule=StageRule.threshold, quick_seeds=1, medium_seeds=6)
    assert [stage.rungs for stage in build_stages(sweep, first_seed=0)] == [(1,), (6,), (12,)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quick_seeds": 2}, r"sweep\.quick_seeds=2: must be 3 or more with sweep\.rule=race"),
        ({"medium_seeds": 0}, r"sweep\.medium_seeds=0: must be 3"),
        ({"confirm_seeds": 4}, r"sweep\.confirm_seeds=4: must be 5"),
        ({"rule": StageRule.threshold, "quick_seeds": 0}, r"must be 1 or more with .*threshold"),
        ({"rule": StageRule.threshold, "confirm_seeds": 1}, r"confirm_seeds=1: must be 5"),
    ],
)
def test_too_few_seeds_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_stages(SweepConfig(**changes), first_seed=0)


def test_seeds_beyond_32_bits_are_refused() -> None:
    with pytest.raises(UserError, match=r"seed=4294967290: .* above 4294967295"):
        build_stages(SweepConfig(), first_seed=2**32 - 6)
    assert build_stages(SweepConfig(), first_seed=2**32 - 18)[-1].seeds[-1] == 2**32 - 1


def test_rules_take_their_numbers_from_the_configuration() -> None:
    rules = build_rules(SweepConfig(rule=StageRule.halving, wanted_gain=0.03, keep_fraction=0.25))
    assert (rules.rule, rules.wanted_gain, rules.keep_fraction) == ("halving", 0.03, 0.25)
    with pytest.raises(UserError, match=r"sweep: wanted_gain 0"):
        build_rules(SweepConfig(wanted_gain=0.0))


def test_the_composed_defaults_are_those_of_the_schema() -> None:
    from tests.configs import compose

    composed = compose().config
    assert isinstance(composed, RunConfig)
    assert composed.sweep == SweepConfig()
