from typing import Any

import pytest

from fseed.config.rules import RANGES, check_model, check_values, leaves, notes
from fseed.config.schema import ControlKind, Gate, Norm
from fseed.errors import UserError
from tests.configs import build_config

GRAPH = {"trainer__step": "graph", "trainer__accelerator": "gpu"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget__steps": 0}, "budget.steps=0: must be above 0"),
        ({"budget__steps": -5}, "budget.steps=-5: must be above 0"),
        ({"budget__steps": None, "budget__tokens": 0}, "budget.tokens=0: must be above 0"),
        ({"budget__steps": 7, "budget__tokens": 9}, "tokens counts, steps=7 and tokens=9"),
        ({"budget__steps": None}, "exactly one of steps and tokens counts, neither is set"),
        ({"budget__batch_size": 0}, "budget.batch_size=0: must be above 0"),
        ({"budget__eval_batch_size": -1}, "budget.eval_batch_size=-1: must be above 0"),
        ({"budget__eval_every_steps": 0}, "budget.eval_every_steps=0: must be above 0"),
        ({"data__num_train": 0}, "data.num_train=0: must be above 0"),
        ({"seed": -1}, "seed=-1: must be 0 .. 4294967295"),
        ({"seed": 2**32}, "seed=4294967296: must be 0"),
        ({"optim__lr": 0.0}, "optim.lr=0.0: must be above 0"),
        ({"optim__beta2": 1.0}, "optim.beta2=1.0: must be at least 0 and below 1"),
        ({"alpha__init": float("nan")}, "alpha.init=nan: must be a finite number"),
        ({"alpha__lr": float("inf")}, "alpha.lr=inf: must be a finite number"),
        ({"alpha__lr": -1e-4}, "alpha.lr=-0.0001: must be 0 or more"),
        ({"fs_variant__clip": -1.0}, "fs_variant.clip=-1.0: must be 0 or more"),
        ({"sweep__name": "../elsewhere"}, "sweep.name=../elsewhere: is a folder name"),
        ({"sweep__name": ""}, "sweep.name=: is a folder name"),
        ({"sweep__stage": "a/b"}, "sweep.stage=a/b: is a folder name"),
        ({"task__max_answer_tokens": 1024}, "leaves no room for a prompt"),
        ({"data__source": "local"}, "data=local needs data.root=FOLDER"),
        ({"data__num_train": 10**9}, "data=mini gives at most 100000"),
        ({"model__needs_weights": True}, "model=nano needs weights=PATH"),
        ({"weights": "/a", "model__weights": "/b"}, "weights=/a and model.weights=/b disagree"),
        ({"model__vocab_file": "/v"}, "no use with the byte tokenizer"),
        ({"control__kind": "repeat_prompt"}, "fs.mode must be no_fs"),
        (
            {"control__kind": "shuffled_state", "budget__batch_size": 1},
            "budget.batch_size=1 must be at least 2",
        ),
        ({"control__kind": "shuffled_state", "fs__mode": "no_fs"}, "alters a Future-Seed arm"),
        ({"control__kind": "aa", "fs__mode": "no_fs"}, "choose a preset, for example"),
        ({"control__kind": "random_state", "fs__mode": "no_fs"}, "alters a Future-Seed arm"),
        ({"control__kind": "learned_state", "fs__mode": "no_fs"}, "alters a Future-Seed arm"),
        ({"control__kind": "same_layer", "fs__mode": "no_fs"}, "alters a Future-Seed arm"),
        (
            {"control__kind": "same_layer", "fs_variant__seed_scale": 0.0},
            "control=same_layer with fs_variant.seed_scale=0 is a no-op arm; use control=aa",
        ),
        (
            {"control__kind": "learned_state", "control__state_lr": 0.0},
            "control.state_lr=0.0: must be above 0",
        ),
        (
            {"control__kind": "shuffled_state", "budget__test": True, "data__num_test": 1},
            "data.num_test=1 must be at least 2",
        ),
        ({"budget__test": True, "data__num_test": 0}, "scores the test split, and data.num_test=0"),
        ({"trainer__micro_batch_size": 0}, "trainer.micro_batch_size=0: must be above 0"),
        ({"trainer__devices": 0}, "trainer.devices=0: must be above 0"),
        ({"trainer__strategy": "fsdp2"}, "strategy=fsdp2 shares a run between devices"),
        (
            {"trainer__devices": 5, "budget__batch_size": 4},
            "trainer.devices=5 leaves a device without an example of budget.batch_size=4",
        ),
        (
            {"trainer__devices": 2, "control__kind": "shuffled_state"},
            "states never leave a device: trainer.devices=2 must be 1",
        ),
        (
            {"trainer__micro_batch_size": 17, "budget__batch_size": 16},
            "trainer.micro_batch_size=17 is more than budget.batch_size=16",
        ),
        (
            {
                "control__kind": "shuffled_state",
                "trainer__micro_batch_size": 2,
                "budget__batch_size": 15,
            },
            "trainer.micro_batch_size=2 leaves a sample of budget.batch_size=15 alone",
        ),
        (
            {
                "control__kind": "shuffled_state",
                "budget__eval_batch_size": 2,
                "data__num_validation": 5,
            },
            "budget.eval_batch_size=2 leaves one of data.num_validation=5 alone",
        ),
        ({"trainer__wkv_backend": "triton"}, "triton needs a GPU; choose trainer=bf16"),
        ({"trainer__step": "graph"}, "trainer.step=graph needs a GPU; choose trainer=bf16"),
        (
            GRAPH | {"trainer__wkv_backend": "chunked"},
            "trainer.step=graph needs kernels, trainer.wkv_backend=chunked",
        ),
        (GRAPH | {"trainer__devices": 2}, "is for one device, trainer.devices=2"),
        (GRAPH | {"control__kind": "random_state"}, "control=random_state draws its noise on"),
        (
            {"trainer__wkv_backend": "cuda", "trainer__accelerator": "gpu"},
            "cuda computes in bf16, trainer.precision=float32",
        ),
        (
            {
                "trainer__wkv_backend": "cuda",
                "trainer__accelerator": "gpu",
                "trainer__precision": "bf16",
                "model__head_size": 32,
            },
            "cuda has head size 64, model.head_size=32; use triton",
        ),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_values(build_config(**values))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"seed": 0, "data__seed": 0},
        {"seed": 2**32 - 1},
        {"budget__steps": None, "budget__tokens": 1},
        {"fs_variant__clip": 0.0, "alpha__lr": 0.0},
        {"alpha__init": -2.5},
        {"control__kind": "repeat_prompt", "fs__mode": "no_fs"},
        {"control__kind": "shuffled_state"},
        {"control__kind": "random_state"},
        {"control__kind": "learned_state", "fs_variant__gate": "raw", "alpha__init": 0.0},
        {"control__kind": "same_layer", "lstart": 11},
        {"control__kind": "aa", "fs_variant__seed_scale": 0.0},
        {
            "control__kind": "shuffled_state",
            "trainer__micro_batch_size": 16,
            "budget__batch_size": 16,
        },
        {
            "control__kind": "shuffled_state",
            "trainer__micro_batch_size": 4,
            "budget__batch_size": 13,
        },
        {"control__kind": "same_layer", "trainer__micro_batch_size": 1},
        {"budget__test": True, "data__num_test": 1},
        {"data__num_test": 0},
    ],
)
def test_values_that_can_work_pass(values: dict[str, Any]) -> None:
    config = build_config(**values)
    check_values(config)
    check_model(config)
    assert config.fs.allow_noop is False


@pytest.mark.parametrize("lstart", [12, 13, 1000])
def test_lstart_beyond_the_last_layer_says_the_range(lstart: int) -> None:
    with pytest.raises(UserError, match=r"seeds no layer of 12 .*: allowed 1 \.\. 11"):
        check_model(build_config(lstart=lstart))


@pytest.mark.parametrize("lstart", [0, -1])
def test_lstart_below_one_says_the_range(lstart: int) -> None:
    with pytest.raises(UserError, match=r"the first seeded layer is 1 \.\. 11"):
        check_model(build_config(lstart=lstart))


@pytest.mark.parametrize(
    "values",
    [
        {"lstart": 1},
        {"lstart": 11},
        {"lstart": 12, "fs__allow_noop": True},
        {"lstart": 99, "fs__mode": "no_fs"},
        {"lstart": 23, "model__num_layers": 24},
    ],
)
def test_lstart_in_range(values: dict[str, Any]) -> None:
    config = build_config(**values)
    check_model(config)
    assert config.lstart == values["lstart"]


@pytest.mark.parametrize("kind", ["shuffled_state", "random_state", "learned_state", "same_layer"])
def test_a_control_of_an_arm_that_seeds_no_layer_is_refused(kind: str) -> None:
    config = build_config(lstart=12, fs__allow_noop=True, control__kind=kind)
    with pytest.raises(UserError, match=r"lstart=12 seeds none of 12; use control=aa"):
        check_model(config)
    check_model(build_config(lstart=12, fs__allow_noop=True, control__kind="aa"))


def test_missing_sizes_are_named() -> None:
    with pytest.raises(UserError, match=r"does not say model.width, model.gate_rank; give them"):
        check_model(build_config(model__width=None, model__gate_rank=None))


@pytest.mark.parametrize(("kind", "size"), [("byte", 255), ("world", 256)])
def test_a_vocabulary_smaller_than_the_tokenizer_is_refused(kind: str, size: int) -> None:
    config = build_config(model__tokenizer=kind, model__vocab_size=size)
    with pytest.raises(UserError, match=f"model.vocab_size={size}"):
        check_model(config)


# strength x head size: .119 x 16 = 1.91, .047 x 16 = .759, .018 x 16 = .288
@pytest.mark.parametrize(
    ("values", "is_noted"),
    [
        ({"alpha__init": -2.0}, False),
        ({"alpha__init": -3.0}, True),
        ({"alpha__init": -3.0, "fs_variant__clip": 0.75}, False),
        ({"alpha__init": -3.0, "fs_variant__clip": 0.76}, True),
        ({"alpha__init": -3.0, "fs_variant__clip": 0.0}, False),
        ({"alpha__init": -3.0, "fs_variant__norm": "none"}, False),
        ({"alpha__init": -3.0, "alpha__lr": 1e-3}, False),
        ({"alpha__init": -3.0, "fs_variant__seed_scale": 2.0}, False),
        ({"alpha__init": -3.0, "fs__mode": "no_fs"}, False),
        ({"alpha__init": -3.0, "model__head_size": 64, "model__width": 64}, False),
        ({"alpha__init": -4.0, "schedule__kind": "linear", "schedule__high": 4.0}, False),
        ({"fs_variant__gate": "head"}, False),
        ({"fs_variant__gate": "head", "fs_variant__head_lr": 0.0}, True),
        ({"fs_variant__gate": "inputgate", "alpha__init": -3.0}, False),
    ],
)
def test_a_clip_that_never_binds_is_noted(values: dict[str, Any], is_noted: bool) -> None:
    config = build_config(**({"model__head_size": 16, "fs_variant__clip": 1.0} | values))
    found = [note for note in notes(config) if "never bind" in note]
    assert bool(found) == is_noted


def test_a_raw_gate_that_stays_closed_is_noted() -> None:
    closed = build_config(fs_variant__gate="raw", alpha__init=0.0)
    negative = build_config(fs_variant__gate="raw", alpha__lr=1e-3)
    trained = build_config(fs_variant__gate="raw", alpha__init=0.0, alpha__lr=1e-3)
    assert "no-op" in notes(closed)[-1]
    assert "starts at -2" in notes(negative)[-1]
    assert notes(trained) == []


def test_every_range_belongs_to_a_key() -> None:
    keys = dict(leaves(build_config()))
    assert RANGES.keys() <= keys.keys()
    assert keys["fs_variant.gate"] is Gate.scalar
    assert keys["fs_variant.norm"] is Norm.rms
    assert keys["control.kind"] is ControlKind.none


@pytest.mark.parametrize("key", ["budget__batch_size", "budget__eval_batch_size"])
def test_a_shuffled_state_needs_a_batch_mate_wherever_it_is_read(key: str) -> None:
    values = {"control__kind": "shuffled_state", key: 1}
    with pytest.raises(UserError, match=rf"{key.replace('__', '.')}=1 must be at least 2"):
        check_values(build_config(**values))


def test_a_batch_larger_than_the_training_rows_is_refused() -> None:
    with pytest.raises(UserError, match=r"batch_size=600 is more than data\.num_train=500"):
        check_values(build_config(budget__batch_size=600, data__num_train=500))


def test_a_high_learning_rate_on_given_weights_is_noted() -> None:
    given = {"model__weights": "/path/x.pth", "optim__lr": 1e-3}
    assert any("optim=finetune" in note for note in notes(build_config(**given)))
    assert notes(build_config(**given | {"optim__lr": 3e-5})) == []
