"""The list itself: what passes, what a user can allow, and how a refusal reads."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from fseed.compose.allow_list import check_names, check_search_path, check_words
from fseed.compose.guarded_loader import guarded_resolvers
from fseed.compose.loader import Composer, hydra_session
from fseed.config.options import read_groups
from fseed.errors import UserError

SUBMITIT = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"


def launcher(target: str, **options: Any) -> dict[str, Any]:
    return {"hydra": {"launcher": {"_target_": target, **options}}}


@pytest.mark.parametrize(
    "target",
    [
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        f"{SUBMITIT}.LocalLauncher",
        f"{SUBMITIT}.SlurmLauncher",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.fseed_slots_launcher.launcher.SlotsLauncher",
        "hydra_plugins.fseed_ray_launcher.launcher.RayLauncher",
    ],
)
def test_the_launchers_that_are_meant_pass(target: str) -> None:
    check_names(launcher(target))


@pytest.mark.parametrize(
    "name",
    ["fseed_evil.X", "fseed_slots_launcherX.Y", "hydra_ray_launcher.ray_launcher.RayLauncher"],
)
def test_a_name_that_looks_like_ours_does_not(name: str) -> None:
    with pytest.raises(UserError, match="may not start"):
        check_names(launcher(f"hydra_plugins.{name}"))


def test_a_launcher_is_no_callback() -> None:
    target = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    with pytest.raises(UserError, match="callbacks"):
        check_names({"hydra": {"callbacks": {"a": {"_target_": target}}}})


def test_a_user_can_allow_a_class_by_its_exact_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSEED_ALLOW_TARGETS", " other.B, mine.Launcher ")
    check_names(launcher("mine.Launcher"))
    for near in ("mine.Launchers", "mine", "mine.launcher"):
        with pytest.raises(UserError, match="FSEED_ALLOW_TARGETS"):
            check_names(launcher(near))


def test_a_refusal_says_what_where_and_what_to_do() -> None:
    with pytest.raises(UserError) as caught:
        check_names(launcher("os.system"))
    assert str(caught.value).splitlines() == [
        "hydra.launcher._target_=os.system: a configuration may not start this",
        "allowed: hydra/launcher and hydra/sweeper of Hydra, fseed, submitit, joblib and Ray",
        "code that you know and trust: FSEED_ALLOW_TARGETS=os.system in your environment",
    ]


def test_the_command_line_may_do_what_a_file_may_not() -> None:
    config = launcher(f"{SUBMITIT}.SlurmLauncher", setup=["module load cuda"], partition="gpu")
    config |= {"output": {"root": "/elsewhere"}}
    with pytest.raises(UserError, match=r"hydra\.launcher\.setup="):
        check_names(config, given=["output.root"])
    with pytest.raises(UserError, match=r"output\.root="):
        check_names(config, given=["hydra.launcher.setup"])
    check_names(config, given=["hydra.launcher.setup", "output.root"])


def test_the_command_line_starts_no_code_either() -> None:
    with pytest.raises(UserError, match="may not start"):
        check_names(launcher("os.system"), given=["hydra.launcher._target_"])


def test_harmless_slurm_parameters_pass() -> None:
    options = {"requeue": True, "mail-user": "me@example.org", "open-mode": "append"}
    folder = "${hydra.sweep.dir}/.submitit/%j"
    target = f"{SUBMITIT}.SlurmLauncher"
    check_names(launcher(target, additional_parameters=options, submitit_folder=folder, setup=None))


@pytest.mark.parametrize("address", ["ray://evil.example:10001", "10.0.0.1:6379"])
def test_a_file_names_no_cluster(address: str) -> None:
    with pytest.raises(UserError, match=r"launcher\.ray_address"):
        check_names({"launcher": {"ray_address": address}})
    check_names({"launcher": {"ray_address": address}}, given=["launcher.ray_address"])
    check_names({"launcher": {"ray_address": "auto"}})


@pytest.fixture
def cluster_of_a_stranger(tmp_path: Path) -> str:
    """Return a folder of options that name a cluster."""
    for group in ("experiment", "launcher"):
        (tmp_path / group).mkdir()
        text = "# @package _global_\nlauncher:\n  ray_address: ray://evil.example:10001\n"
        (tmp_path / group / "mine.yaml").write_text(text)
    return str(tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=mine"],
        ["experiment=mine", "launcher=ray"],
        ["experiment=mine", "launcher=ray", "launcher.slots=2"],
        ["launcher=mine"],
    ],
    ids=" ".join,
)
def test_choosing_a_launcher_is_not_giving_its_address(
    cluster_of_a_stranger: str, words: list[str]
) -> None:
    with hydra_session([cluster_of_a_stranger]) as hydra:
        composer = Composer(hydra.config_loader)
        with pytest.raises(UserError, match=r"launcher\.ray_address=ray://evil.* is set by a file"):
            composer.compose(words)


@pytest.mark.parametrize(
    ("key", "in_file", "by_hand"),
    [
        ("launcher.ray_address", "ray://evil.example:10001", "head:6379"),
        ("output.root", "/elsewhere", "/here"),
        ("mbpp.allow_unsandboxed", True, False),
    ],
)
def test_the_command_line_overrules_the_file_that_it_was_refused_for(
    tmp_path: Path, key: str, in_file: object, by_hand: object
) -> None:
    (tmp_path / "experiment").mkdir()
    group, leaf = key.split(".")
    text = f"# @package _global_\n{group}:\n  {leaf}: {in_file}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with hydra_session([str(tmp_path)]) as hydra:
        composer = Composer(hydra.config_loader)
        with pytest.raises(UserError, match="is set by a file"):
            composer.compose(["experiment=mine"])
        config = composer.compose(["experiment=mine", f"{key}={by_hand}"]).config
    assert getattr(getattr(config, group), leaf) == by_hand


@pytest.mark.parametrize("choice", ["none", "disabled", "default", "stdout"])
def test_the_logging_of_hydra_passes(choice: str) -> None:
    with hydra_session() as hydra:
        Composer(hydra.config_loader).compose([f"hydra/job_logging={choice}"])


@pytest.mark.parametrize("group", ["experiment", "sweep", "logger"])
def test_every_option_of_our_own_passes(group: str) -> None:
    with hydra_session() as hydra:
        composer = Composer(hydra.config_loader)
        for option in read_groups()[group]:
            composer._compose_options(f"{group}={option}")


def test_only_harmless_variables_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSEED_DATA", "/data")
    monkeypatch.setenv("FSEED_TOKEN", "hidden-value")
    with guarded_resolvers():
        config = OmegaConf.create(
            {"a": "${oc.env:FSEED_DATA}", "b": "${oc.env:FSEED_TOKEN}", "c": "${oc.env:FSEED_NO,x}"}
        )
        assert (config.a, config.c) == ("/data", "x")
        with pytest.raises(InterpolationResolutionError, match="may hold a secret"):
            _ = config.b
        with pytest.raises(InterpolationResolutionError, match="write the value out"):
            _ = OmegaConf.create({"a": "${oc.decode:'1'}"}).a
    assert OmegaConf.create({"a": "${oc.decode:'1'}"}).a == 1


def test_words_of_a_file_are_told_from_the_users() -> None:
    check_words({"hydra": {"overrides": {"hydra": ["a=1"], "task": []}}}, words=["a=1"])
    with pytest.raises(UserError, match="a file adds"):
        check_words({"hydra": {"overrides": {"hydra": [], "task": ["a=2"]}}}, words=["a=1"])


def test_folders_of_options_may_be_named(tmp_path) -> None:
    check_search_path([f"hydra.searchpath=[file://{tmp_path}]", "task=hotpot"])
    with pytest.raises(UserError, match="--config-dir"):
        check_search_path(["+hydra.searchpath=['pkg://x']"])
