import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fseed.compose import probe
from fseed.confinement import check_inside, open_own
from fseed.errors import UserError
from fseed.launch import gpu_memory
from fseed.launch.process import WORKER_COMMAND


def test_what_lies_below_the_root_passes(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "a" / "b", tmp_path / "a" / ".." / "b"):
        check_inside(path, tmp_path, name="output.root")


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    check_inside(tmp_path / "root" / "sweep", tmp_path / "root", name="output.root")


@pytest.mark.parametrize("path", ["../b", "a/../../b", "link/x", "rooted"])
def test_what_leads_out_is_refused(path: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    (root / "rooted").symlink_to("/")
    with pytest.raises(UserError, match=r"leads out of .*\n.*output\.root=FOLDER"):
        check_inside(root / path, root, name="output.root")


def test_a_neighbour_with_a_longer_name_is_outside(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        check_inside(tmp_path / "root2", tmp_path / "root", name="output.root")


def test_a_link_is_never_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic"), open(tmp_path / "link", "a", opener=open_own):
        pass
    with open(tmp_path / "own", "a", opener=open_own) as file:
        file.write("x")
    assert (tmp_path / "own").read_text() == "x"
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize(("flags", "kept"), [([], False), (["-P"], True)])
def test_the_current_folder_leaves_the_module_path(
    flags: list[str], kept: bool, tmp_path: Path
) -> None:
    # as python -m puts it there; with -P whatever stands first was meant
    code = (
        "import os, sys; from fseed.confinement import leave_current_folder\n"
        "sys.path[:1] = [os.getcwd()]; leave_current_folder(); print(os.getcwd() in sys.path)"
    )
    told = subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(kept)


class EndsOnArrival:
    """Ends the process that unpickles it, in place of a run that would train there."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return sys.exit, ("arrived",)


def ask_for_help(command: tuple[str, ...]) -> None:
    subprocess.run([*command, "--help"], capture_output=True, check=True)


def start_worker() -> None:
    ask_for_help(WORKER_COMMAND)


def start_rank() -> None:
    from fseed.training.distributed_launch import RANK_COMMAND

    ask_for_help(RANK_COMMAND)


def start_probe() -> None:
    run: Any = EndsOnArrival()
    with pytest.raises(probe.ProbeFailed, match="arrived"):
        probe.measure(run)


def start_measurement() -> None:
    run: Any = EndsOnArrival()
    with pytest.raises(gpu_memory.NotMeasured, match="arrived"):
        gpu_memory.measure_need(run, "GPU-a", free_before=1.0)


@pytest.mark.parametrize(
    "begin",
    [
        start_worker,
        start_probe,
        start_measurement,
        pytest.param(start_rank, marks=pytest.mark.slow),
    ],
)
def test_processes_of_ours_take_no_module_of_the_current_folder(
    begin: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    planted = f"from pathlib import Path; Path({str(canary)!r}).touch()\n"
    for name in ("fseed", "argparse", "pickle", "json", "torch"):
        (tmp_path / f"{name}.py").write_text(planted)
    monkeypatch.chdir(tmp_path)
    begin()
    assert not canary.exists()
