from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf

from fseed.compose.loader import CONFIG_NAME, Composer, hydra_session, output_dir
from fseed.config.schema import ModelConfig, RunConfig
from fseed.errors import UserError
from fseed.records import default_output_root
from tests.configs import compose, composer


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fs=head_l8", "alpha=m2", "lstart=3", "seed=4", "weights=/w.pth"],
        ["experiment=round21", "budget.steps=null", "budget.tokens=9", "optim.lr=1e-4"],
        ["model=custom", "data=local", "data.root='/a b'", "trainer=bf16", "control=aa"],
    ],
)
def test_points_equal_what_hydra_composes_in_one_go(words: list[str]) -> None:
    """Options are composed once and values set afterwards; the result must be the same."""
    with hydra_session() as hydra:
        point = Composer(hydra.config_loader).compose(words)
        whole = hydra_compose(CONFIG_NAME, overrides=words)
    assert OmegaConf.to_object(whole) == point.config


def test_points_do_not_share_state() -> None:
    first, second = composer().compose(["seed=1", "alpha.init=-9"]), composer().compose(["seed=2"])
    assert (first.config.seed, first.config.alpha.init) == (1, -9.0)
    assert (second.config.seed, second.config.alpha.init) == (2, -2.0)


def test_the_root_is_typed() -> None:
    config = compose().config
    assert isinstance(config, RunConfig)
    assert isinstance(config.model, ModelConfig)
    assert isinstance(compose("alpha.init=-3").config.alpha.init, float)


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ([], "scalar_l10"),
        (["fs=head_l8"], "head_l8"),
        (["fs=scalar_l10", "lstart=9", "alpha=m3"], "scalar_l10,lstart=9,alpha=m3"),
        (["fs=scalar_l10", "lstart=10", "alpha=m2"], "scalar_l10"),
        (["alpha.init=-2.5"], "scalar_l10,alpha.init=-2.5"),
        (["alpha=m3", "alpha.init=-2.5"], "scalar_l10,alpha=m3,alpha.init=-2.5"),
        (["alpha=m3", "alpha.init=-3"], "scalar_l10,alpha=m3"),
        (["alpha=m3_trainable"], "scalar_l10,alpha=m3_trainable"),
        (["fs=scalar_l10_trainable", "alpha=m3"], "scalar_l10_trainable,alpha=m3"),
        (["schedule=cosine"], "scalar_l10,schedule=cosine"),
        (["schedule=cosine", "schedule.low=0.5"], "scalar_l10,schedule=cosine,schedule.low=0.5"),
        (["fs_variant=raw"], "scalar_l10,fs_variant=raw,alpha=zero_trainable"),
        (["fs_variant.detach=false"], "scalar_l10,fs_variant.detach=false"),
        (["control=aa"], "scalar_l10,control=aa"),
        (["control=repeat_prompt"], "no_fs,control=repeat_prompt"),
        (["fs=no_fs", "lstart=4"], "no_fs"),
        (["fs.mode=no_fs"], "no_fs"),
        (["experiment=round20"], "scalar_l10_norm_detach"),
        (["experiment=round20", "fs=scalar_l10_norm_node"], "scalar_l10_norm_node,alpha=m3"),
        (["seed=5", "budget.steps=3"], "scalar_l10"),
    ],
)
def test_labels_say_what_differs_from_the_preset(words: list[str], label: str) -> None:
    assert compose(*words).arm == label


def test_a_point_remembers_choices_and_words() -> None:
    point = compose("fs=head_l8", "seed=1", "hydra.verbose=false")
    assert point.choices["fs"] == "head_l8"
    assert point.choices["fs_variant"] == "head"
    assert point.choices["optim"] == "from_scratch"
    assert all("/" not in group for group in point.choices)
    assert point.overrides == ["fs=head_l8", "seed=1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "budget:\n  stpes: 3\n",
            r"conf experiment/mine: budget\.stpes: no such key; did you mean",
        ),
        ("budget:\n  steps: abc\n", r"conf experiment/mine: budget\.steps: Value 'abc'"),
        ("stpes: 3\n", r"conf experiment/mine: stpes: no such key"),
        ("budget: [1, 2\n", r"mine\.yaml, line \d"),
        ("defaults:\n  - override /fs: scalar_l9\n", r"fs=scalar_l9: no such option; did you"),
        ("defaults:\n  - override /fss: no_fs\n", r"experiment/mine"),
        ("defaults:\n  - override /fs: off\n", r"put quotes around them"),
        ("trainer:\n  accelerator: tpu\n", r"conf experiment/mine: trainer\.accelerator: Invalid"),
        ("alpha:\n  init: ${nowhere}\n", r"nowhere"),
    ],
)
def test_a_mistake_in_a_file_is_told_in_a_few_lines(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    with hydra_session([str(tmp_path)]) as hydra, pytest.raises(UserError, match=message) as caught:
        Composer(hydra.config_loader).compose(["experiment=mine"])
    assert 1 <= len(str(caught.value).splitlines()) <= 3


def test_a_value_that_no_file_gives_is_named(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text("name: hotpot\norder: question_last\n")
    with hydra_session([str(tmp_path)]) as hydra:
        composer = Composer(hydra.config_loader)
        with pytest.raises(UserError, match=r"task\.max_length_tokens: has no value; give task"):
            composer.compose(["task=mine"])


def test_a_missing_folder_of_ones_own_is_refused() -> None:
    with pytest.raises(UserError, match="no such folder"), hydra_session(["/nowhere"]):
        pytest.fail("a session without its folder")


def test_an_experiment_says_what_it_sweeps() -> None:
    assert composer().experiment_sweep(["experiment=round21"]) == ["task", "fs", "seed"]
    assert composer().experiment_sweep(["fs=static"]) == []


def test_the_folder_for_launchers_is_absolute(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FSEED_OUTPUTS", raising=False)
    assert output_dir("out", "s") == str(tmp_path / "out" / "s")
    assert output_dir(None, "s") == str(default_output_root() / "s")
