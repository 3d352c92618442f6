"""The folder of options: everything composes, presets say what they should, precedence holds."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fseed.compose.help import help_text
from fseed.config.options import conf_dir, default_options, read_groups, render_readme
from fseed.config.rules import leaves
from fseed.errors import UserError
from tests.configs import compose, composer

GROUPS = read_groups()
OPTIONS = [(group, name) for group, options in GROUPS.items() for name in options]
YAML_FILES = sorted(conf_dir().rglob("*.yaml"))

BASE = {
    "fs.mode": "prompt_fs",
    "fs_variant.gate": "scalar",
    "fs_variant.norm": "rms",
    "fs_variant.detach": True,
    "fs_variant.clip": 1.0,
    "fs_variant.seed_scale": 1.0,
    "alpha.init": -2.0,
    "alpha.lr": 0.0,
    "schedule.kind": "none",
    "control.kind": "none",
}

# by hand from section 3 of the mechanism: what differs from the base, for layer N
VARIANTS = {
    "scalar_l{}": {},
    "scalar_l{}_norm_detach": {"alpha.init": -3.0},
    "scalar_l{}_norm_node": {"fs_variant.detach": False},
    "scalar_l{}_nonorm_detach": {"fs_variant.norm": "none"},
    "scalar_l{}_trainable": {"alpha.lr": 5e-4},
    "scalar_l{}_sched_cos": {
        "schedule.kind": "cosine",
        "schedule.low": 0.4,
        "schedule.high": 1.0,
    },
    "scalar_l{}_sched_linear": {
        "schedule.kind": "linear",
        "schedule.low": 0.25,
        "schedule.high": 1.0,
    },
    "head_l{}": {
        "fs_variant.gate": "head",
        "alpha.init": -3.0,
        "fs_variant.head_init": -3.0,
        "fs_variant.head_lr": 5e-4,
    },
    "inputgate_l{}": {"fs_variant.gate": "inputgate", "fs_variant.input_lr": 5e-4},
    "raw_l{}": {"fs_variant.gate": "raw", "alpha.init": 0.0, "alpha.lr": 5e-4},
}
PRESETS = {
    name.format(layer): BASE | {"lstart": layer} | changes
    for name, changes in VARIANTS.items()
    for layer in (6, 8, 10)
} | {
    "static": BASE
    | {
        "lstart": 1,
        "fs_variant.norm": "none",
        "fs_variant.clip": 0.0,
        "fs_variant.detach": False,
    }
}


def read_yaml(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(content, dict)
    return content


def option(group: str, name: str, leaf: str) -> dict[str, object]:
    """Read one value off an option file, for numbers that are tuned now and then."""
    return {f"{group}.{leaf}": read_yaml(GROUPS[group][name].path)[leaf]}


def values_of(*overrides: str) -> dict[str, object]:
    values = leaves(compose(*overrides).config)
    return {key: getattr(value, "value", value) for key, value in values}


@pytest.mark.parametrize("number", range(max(len(o) for g, o in GROUPS.items() if g != "fs")))
def test_every_option_composes(number: int) -> None:
    """Compose the options of all groups side by side; presets are composed one by one below."""
    words = {
        group: list(options)[number % len(options)]
        for group, options in GROUPS.items()
        if group != "fs"
    }
    point = composer().compose([f"{group}={name}" for group, name in words.items()])
    assert point.choices.items() >= words.items()


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_its_published_values(name: str) -> None:
    found = values_of(f"fs={name}")
    assert {key: found[key] for key in PRESETS[name]} == PRESETS[name]


def test_every_preset_has_a_row_in_the_hand_written_table() -> None:
    assert set(GROUPS["fs"]) == {*PRESETS, "no_fs"}


def test_no_fs_differs_from_a_preset_in_its_mode_only() -> None:
    assert values_of("fs=no_fs")["fs.mode"] == "no_fs"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        # the command line wins over the preset, whatever stands first
        (["fs=head_l8", "alpha=m2"], {"alpha.init": -2.0, "fs_variant.gate": "head"}),
        (["alpha=m2", "fs=head_l8"], {"alpha.init": -2.0, "fs_variant.gate": "head"}),
        (["fs=scalar_l10", "lstart=9"], {"lstart": 9}),
        (["fs=scalar_l10_sched_cos", "schedule=none"], {"schedule.kind": "none"}),
        (["fs=scalar_l10", "schedule=cosine"], {"schedule.kind": "cosine", "schedule.low": 0.4}),
        (["fs=scalar_l10", "fs_variant=head"], {"fs_variant.gate": "head", "lstart": 10}),
        (["fs=scalar_l10", "alpha.init=-2.5"], {"alpha.init": -2.5}),
        (["fs=scalar_l10", "fs_variant=raw"], {"alpha.init": 0.0, "alpha.lr": 5e-4}),
        (["fs=scalar_l10", "fs_variant=raw", "alpha=m4"], {"alpha.init": -4.0}),
        (["fs=scalar_l10", "alpha=m3_trainable"], {"alpha.init": -3.0, "alpha.lr": 5e-4}),
        # a preset that trains its gates still does so from another start
        (["fs=scalar_l10_trainable", "alpha=m3"], {"alpha.init": -3.0, "alpha.lr": 5e-4}),
        # an experiment wins over the preset it names, and over one named on the command line
        (["experiment=round20"], {"alpha.init": -3.0, "lstart": 10, "budget.steps": 120}),
        (["experiment=round20", "fs=scalar_l10_trainable"], {"alpha.init": -3.0, "alpha.lr": 5e-4}),
        (["experiment=round21", "fs=head_l8"], {"alpha.init": -2.0, "fs_variant.gate": "head"}),
        (["experiment=round21", "fs=scalar_l8_norm_detach"], {"alpha.init": -2.0, "lstart": 8}),
        # the command line wins over the experiment
        (["experiment=round20", "alpha=m2"], {"alpha.init": -2.0}),
        (["experiment=round20", "alpha.init=-2.5"], {"alpha.init": -2.5}),
        (["experiment=round20", "budget.steps=3"], {"budget.steps": 3}),
        (["experiment=round20", "budget=default"], option("budget", "default", "steps")),
        (["experiment=round20", "sweep.name=mine"], {"sweep.name": "mine"}),
        # models choose their optimiser, the command line wins
        (["model=nano"], option("optim", "from_scratch", "lr")),
        (["model=custom"], {"optim.lr": 3e-5}),
        (["model=custom", "optim=from_scratch"], option("optim", "from_scratch", "lr")),
        (["weights=/w.pth"], {"model.weights": "/w.pth"}),
        (["model.weights=/w.pth"], {"model.weights": "/w.pth", "weights": None}),
        # the control that reads the prompt twice runs without Future-Seed
        (["fs=scalar_l10", "control=repeat_prompt"], {"fs.mode": "no_fs"}),
        (["seed=0"], {"seed": 0}),
        (["trainer=bf16"], {"trainer.accelerator": "gpu", "trainer.precision": "bf16"}),
    ],
)
def test_precedence(overrides: list[str], expected: dict[str, object]) -> None:
    found = values_of(*overrides)
    assert {key: found[key] for key in expected} == expected


def test_options_that_another_file_would_overrule_are_refused(tmp_path: Path) -> None:
    from fseed.compose.loader import Composer, hydra_session

    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "mine.yaml").write_text("# @package _global_\nbudget:\n  steps: 7\n")
    with hydra_session([str(tmp_path)]) as hydra:
        composer = Composer(hydra.config_loader)
        assert composer.compose(["experiment=mine"]).config.budget.steps == 7
        with pytest.raises(UserError, match=r"budget=steps_120 sets budget.steps=120, but .* 7"):
            composer.compose(["experiment=mine", "budget=steps_120"])
        words = ["experiment=mine", "budget=steps_120", "budget.steps=9"]
        assert composer.compose(words).config.budget.steps == 9


def test_shipped_presets_and_experiments_leave_the_values_of_options_alone() -> None:
    """What a file of a group sets, no preset or experiment may set after it."""
    owned = set()
    for group, name in OPTIONS:
        content = read_yaml(GROUPS[group][name].path)
        own = content.get(group, content)
        if group not in ("fs", "experiment", "control"):
            owned |= {f"{group}.{leaf}" for leaf in own if leaf != "defaults"}
    # trained presets set a learning rate that plain alpha options leave open
    owned.discard("alpha.lr")
    for group, name in OPTIONS:
        if group in ("fs", "experiment"):
            content = read_yaml(GROUPS[group][name].path)
            pairs = [(k, v) for k, v in content.items() if isinstance(v, dict) and k != "hydra"]
            assert not owned & {f"{key}.{leaf}" for key, node in pairs for leaf in node}, name


@pytest.mark.parametrize("path", YAML_FILES, ids=str)
def test_every_number_has_a_comment(path: Path) -> None:
    bare = [
        line
        for line in path.read_text("utf-8").splitlines()
        if re.fullmatch(r"\s*\w+: [-+.\de]*\d[-+.\de]*", line)
    ]
    assert bare == []


@pytest.mark.parametrize("name", GROUPS["experiment"])
def test_experiments_state_question_baseline_and_decision(name: str) -> None:
    lines = GROUPS["experiment"][name].path.read_text("utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#") and not line.startswith("# @")]
    heads = [line.split(":")[0].removeprefix("# ") for line in comments[:3]]
    assert heads == ["question", "baseline", "decision"]
    assert lines[1:4] == comments[:3]


def test_no_option_is_a_yaml_word() -> None:
    """A defaults list turns no, on, off, yes and null into other things than names."""
    assert [name for _, name in OPTIONS if not isinstance(yaml.safe_load(name), str)] == []


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_has_a_sentence(group: str, name: str) -> None:
    assert len(GROUPS[group][name].summary) > 8


def test_readme_matches_the_folder() -> None:
    command = "python -m fseed.config.options > conf/README.md"
    assert (conf_dir() / "README.md").read_text("utf-8") == render_readme(), command


def test_help_names_every_option_and_every_default() -> None:
    words = set(re.findall(r"[\w.]+", help_text()))
    assert {name for _, name in OPTIONS} | set(GROUPS) <= words
    assert "fs: scalar_l10," in help_text()


def test_defaults_are_options() -> None:
    chosen = default_options()
    assert {g: o for g, o in chosen.items() if o not in [*GROUPS[g], "null"]} == {}
    assert chosen.keys() == GROUPS.keys()
