"""A control is one arm for all arms that it cannot tell apart, and the numbers say the same."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from fseed.identity import canonical_arm
from fseed.training.runner import train_run
from tests.configs import build_config
from tests.training.build import plan, tiny_config
from tests.training.test_runner import predictions, stable_rows

DETACH = {"fs_variant__detach": (True, False)}
SCALE = {"fs_variant__seed_scale": (1.0, 3.0)}
# trained gates of every kind: what reaches them reaches the numbers
OPTIONS = ("fs=inputgate_l10", "alpha.lr=0.05", "lstart=1")

TWO_STEPS = {"budget__steps": 2, "budget__generate": True, "output__save_weights": True}

# control, the option in which two arms differ, whether the control reads it
CASES = [
    ("random_state", DETACH, False),
    ("learned_state", DETACH, False),
    ("aa", SCALE, False),
    ("shuffled_state", DETACH, True),
    ("same_layer", DETACH, True),
    ("none", DETACH, True),
    ("random_state", SCALE, True),
    ("learned_state", SCALE, True),
]
IDS = [f"{kind}-{next(iter(option))}" for kind, option, _ in CASES]


def sides(kind: str, option: dict[str, tuple[Any, Any]]) -> list[dict[str, Any]]:
    return [
        {"control__kind": kind} | {key: values[side] for key, values in option.items()}
        for side in (0, 1)
    ]


def saved_files(run_dir: Path) -> list[str]:
    names = sorted(path.name for path in run_dir.glob("*.safetensors"))
    assert len(names) == 2
    return names


def tensors(run_dir: Path, name: str) -> dict[str, bytes]:
    return {key: value.numpy().tobytes() for key, value in load_file(run_dir / name).items()}


@pytest.mark.parametrize(("kind", "option", "is_read"), CASES, ids=IDS)
def test_arms_that_a_control_cannot_tell_apart_have_one_identity(
    kind: str, option: dict[str, tuple[Any, Any]], is_read: bool
) -> None:
    left, right = (build_config(*OPTIONS, **side) for side in sides(kind, option))
    assert (canonical_arm(left) != canonical_arm(right)) == is_read


@pytest.mark.parametrize(("kind", "option", "is_read"), CASES, ids=IDS)
def test_two_steps_of_such_arms_are_equal_bit_for_bit(
    tmp_path: Path, kind: str, option: dict[str, tuple[Any, Any]], is_read: bool
) -> None:
    for name, values in zip("ab", sides(kind, option), strict=True):
        config = tiny_config(*OPTIONS, **(values | TWO_STEPS))
        assert train_run(plan(config, tmp_path / name)).status == "finished"
    left, right = tmp_path / "a", tmp_path / "b"
    equal = [stable_rows(left) == stable_rows(right), predictions(left) == predictions(right)]
    # gates have a file of their own, its header tells the options
    equal += [tensors(left, name) == tensors(right, name) for name in saved_files(left)]
    assert all(equal) != is_read, equal
