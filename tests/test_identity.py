from dataclasses import asdict, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from fseed import identity
from fseed.config.rules import leaves
from fseed.config.schema import LauncherConfig, RunConfig, SweepConfig
from fseed.identity import (
    ARM_KEYS,
    CODE_PARTS,
    VOLATILE_KEYS,
    Hashes,
    canonical_arm,
    canonical_config,
    code_fingerprint,
    identify,
    identify_content,
    is_baseline,
    without_keys,
)
from tests.configs import build_config, compose

HASHES = Hashes(data="d", weights=None, vocabulary=None, code="c")

# keys that cannot change a number, or whose content is hashed instead
VOLATILE = {
    *("output.root", "output.save_weights", "output.keep_checkpoint", "logger.kind"),
    *(f"sweep.{field.name}" for field in fields(SweepConfig)),
    *(f"launcher.{field.name}" for field in fields(LauncherConfig)),
    *("data.root", "weights", "model.weights", "model.vocab_file"),
    *("model.needs_weights", "model.allow_above_uniform", "fs.allow_noop"),
    *("trainer.num_threads", "trainer.progress", "budget.checkpoint_every_steps"),
}
# read only under another gate or schedule than the default one
INACTIVE = {
    *("fs_variant.head_init", "fs_variant.head_lr", "fs_variant.input_lr"),
    *("schedule.low", "schedule.high", "control.state_lr"),
}


def other_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return next(member for member in type(value) if member is not value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return 7 if value is None else f"{value}x"


def change(config: RunConfig, key: str) -> RunConfig:
    value = other_value(dict(leaves(config))[key])
    return build_config_like(config, key, str(value) if key in TEXTS else value)


TEXTS = ("output.root", "data.root", "weights", "model.weights", "model.vocab_file")


def build_config_like(config: RunConfig, key: str, value: Any) -> RunConfig:
    *parents, leaf = key.split(".")
    if not parents:
        return replace(config, **{leaf: value})
    node = replace(getattr(config, parents[0]), **{leaf: value})
    return replace(config, **{parents[0]: node})


SECTIONS = {name: kind for name, kind in get_type_hints(RunConfig).items() if is_dataclass(kind)}
ALL_KEYS = [key for key, _ in leaves(build_config())]


@pytest.mark.parametrize("key", ALL_KEYS)
def test_every_key_is_volatile_or_part_of_the_identity(key: str) -> None:
    config = build_config()
    before, after = identify(config, HASHES), identify(change(config, key), HASHES)
    is_arm = key.split(".")[0] in ARM_KEYS
    assert (before.run_id != after.run_id) == (key not in VOLATILE | INACTIVE)
    assert (before.pair_key != after.pair_key) == (key not in VOLATILE and not is_arm)
    assert (before.arm_key != after.arm_key) == (is_arm and key not in VOLATILE | INACTIVE)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["fs_variant=head"], "fs_variant.head_init"),
        (["fs_variant=head"], "fs_variant.head_lr"),
        (["fs_variant=inputgate"], "fs_variant.input_lr"),
        (["schedule=cosine"], "schedule.low"),
        (["schedule=linear"], "schedule.high"),
        (["control=learned_state"], "control.state_lr"),
    ],
)
def test_options_count_where_they_are_read(overrides: list[str], key: str) -> None:
    config = compose(*overrides).config
    assert identify(config, HASHES).arm_key != identify(change(config, key), HASHES).arm_key


@pytest.mark.parametrize("field", ["data", "weights", "vocabulary", "code"])
def test_content_is_part_of_run_and_pair_but_not_of_the_arm(field: str) -> None:
    before = identify(build_config(), HASHES)
    after = identify(build_config(), replace(HASHES, **{field: "other"}))
    assert before.run_id != after.run_id
    assert before.pair_key != after.pair_key
    assert before.arm_key == after.arm_key


def test_an_arm_and_its_baseline_share_the_pair_only() -> None:
    arm = identify(compose("fs=head_l8", "seed=3").config, HASHES)
    baseline = identify(compose("fs=no_fs", "seed=3").config, HASHES)
    assert arm.pair_key == baseline.pair_key
    assert arm.run_id != baseline.run_id
    assert arm.arm_key != baseline.arm_key


@pytest.mark.parametrize(
    "overrides", [("lstart=9",), ("alpha=m4",), ("schedule=cosine", "fs_variant=head")]
)
def test_without_future_seed_its_options_do_not_count(overrides: tuple[str, ...]) -> None:
    plain = compose("fs=no_fs").config
    dressed = compose("fs=no_fs", *overrides).config
    assert identify(plain, HASHES) == identify(dressed, HASHES)
    assert canonical_arm(dressed) == {"mode": "no_fs"}
    assert is_baseline(dressed)


@pytest.mark.parametrize("kind", ["shuffled_state", "same_layer"])
def test_a_control_differs_from_its_arm_in_the_control_alone(kind: str) -> None:
    arm, control = (compose("fs=head_l8", f"control={name}").config for name in ("none", kind))
    assert canonical_arm(control) == canonical_arm(arm) | {"control": kind}
    assert identify(control, HASHES).pair_key == identify(arm, HASHES).pair_key


def test_a_learned_state_adds_its_rate_to_the_arm() -> None:
    arm, control = (compose("fs=raw_l8", f"control={n}").config for n in ("none", "learned_state"))
    read = canonical_arm(arm)
    del read["fs_variant"]["detach"]
    added = {"control": "learned_state", "control_state_lr": 1e-2}
    assert canonical_arm(control) == read | added


def test_a_control_is_no_baseline() -> None:
    repeated = compose("fs=scalar_l10", "control=repeat_prompt").config
    assert not is_baseline(repeated)
    assert canonical_arm(repeated) == {"mode": "no_fs", "control": "repeat_prompt"}
    assert not is_baseline(compose("control=aa").config)


def test_names_do_not_stand_for_values() -> None:
    by_name = compose("fs=scalar_l10_norm_detach").config
    by_value = compose("fs=scalar_l8", "lstart=10", "alpha.init=-3").config
    assert identify(by_name, HASHES) == identify(by_value, HASHES)


def test_seed_zero_is_a_seed() -> None:
    ids = {identify(build_config(seed=seed), HASHES).run_id for seed in (0, 1, 2)}
    assert len(ids) == 3
    assert canonical_config(build_config(seed=0))["seed"] == 0


def test_ids_are_ten_hexadecimal_digits_and_stable() -> None:
    found = identify(build_config(), HASHES)
    assert found == identify(build_config(), HASHES)
    for value in (found.run_id, found.pair_key, found.arm_key):
        assert len(value) == 10
        assert int(value, 16) >= 0


def test_code_hash_follows_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "fseed"
    for part in ("ops", "models", "tasks", "training", "config/schema", "results"):
        (package / part).mkdir(parents=True)
    (package / "config" / "schema" / "model.py").write_text("a = 1\n")
    (package / "ops" / "op.py").write_text("b = 1\n")
    monkeypatch.setattr(identity, "__file__", str(package / "identity.py"))
    monkeypatch.setattr(identity, "find_spec", lambda name: None)
    first = code_fingerprint()
    (package / "results" / "tables.py").write_text("c = 1\n")
    (package / "config" / "schema" / "sweep.py").write_text("d = 1\n")
    (package / "ops" / "op.pyc").write_text("compiled")
    # where numba keeps its machine code
    (package / "models" / "__pycache__").mkdir()
    (package / "models" / "__pycache__" / "longest_match.py311.nbi").write_text("compiled")
    assert code_fingerprint() == first
    (package / "ops" / "op.py").write_text("b = 2\n")
    second = code_fingerprint()
    (package / "ops" / "op.py").rename(package / "ops" / "renamed.py")
    third = code_fingerprint()
    (package / "config" / "schema" / "model.py").write_text("a = 2\n")
    assert len({first, second, third, code_fingerprint()}) == 4


def test_every_hashed_part_of_the_code_is_there() -> None:
    package = Path(identity.__file__).parent
    assert [part for part in CODE_PARTS if not (package / part).exists()] == []


def test_schema_outside_the_code_hash_holds_volatile_sections_alone() -> None:
    hashed = {Path(part).stem for part in CODE_PARTS if part.startswith("config/schema/")}
    modules = {name: kind.__module__.rpartition(".")[2] for name, kind in SECTIONS.items()}
    assert {name for name, module in modules.items() if module not in hashed} == {
        name for name in SECTIONS if name in VOLATILE_KEYS
    }


def test_code_hash_of_this_installation() -> None:
    assert len(code_fingerprint()) == 64


def test_identity_of_plain_content_is_that_of_the_configuration() -> None:
    config = build_config("fs=scalar_l10")
    again = identify_content(
        canonical_config(config), arm=canonical_arm(config), hashes=asdict(HASHES)
    )
    assert again == identify(config, HASHES)


def test_without_keys_copies_and_names_an_absent_key() -> None:
    content = {"a": {"b": 1, "c": 2}, "d": 3}
    assert without_keys(content, ["a.b", "d"]) == {"a": {"c": 2}}
    assert content == {"a": {"b": 1, "c": 2}, "d": 3}
    with pytest.raises(KeyError):
        without_keys(content, ["a.e"])
