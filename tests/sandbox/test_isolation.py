"""Which level is chosen, and what is said when there is none."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.sandbox import command, isolation
from fseed.sandbox.command import BOX_USER, LEVELS, build_command, driver_user
from fseed.sandbox.verdict import SandboxOptions


@pytest.fixture
def fresh_probe():
    isolation._find_level.cache_clear()
    yield
    isolation._find_level.cache_clear()


@pytest.mark.parametrize(
    ("working", "expected"),
    [
        (("bubblewrap", "namespaces"), "bubblewrap"),
        (("namespaces",), "namespaces"),
        ((), "none"),
    ],
)
def test_the_first_level_that_works_is_chosen(fresh_probe, monkeypatch, working, expected):
    tried = []

    def probe(level: str) -> str:
        tried.append(level)
        return "" if level in working else "refused"

    monkeypatch.setattr(isolation, "probe", probe)
    assert isolation.isolation_level() == expected
    assert isolation.isolation_level() == expected
    assert len(tried) == len(set(tried))


@pytest.mark.parametrize("allowed", [True, False])
def test_a_level_that_works_needs_no_permission(fresh_probe, monkeypatch, allowed):
    monkeypatch.setattr(isolation, "probe", lambda level: "")
    assert isolation.require_isolation(allow_unsandboxed=allowed) == "bubblewrap"


def test_no_level_needs_permission(fresh_probe, monkeypatch):
    monkeypatch.setattr(isolation, "probe", lambda level: "refused")
    assert isolation.require_isolation(allow_unsandboxed=True) == "none"
    with pytest.raises(UserError, match=r"mbpp\.allow_unsandboxed=true"):
        isolation.require_isolation(allow_unsandboxed=False)


def test_without_sandbox_the_probe_fails():
    assert isolation.probe("none")


def test_a_missing_program_is_a_reason(monkeypatch):
    monkeypatch.setattr(command.shutil, "which", lambda name: "/nonexistent/bwrap")
    assert "FileNotFoundError" in isolation.probe("bubblewrap")


def test_a_helper_that_fails_is_a_reason(monkeypatch):
    monkeypatch.setattr(command, "visible_paths", lambda: ("/nonexistent/library",))
    assert "nonexistent" in isolation.probe("namespaces")


@pytest.mark.parametrize("level", LEVELS)
def test_commands_run_the_isolated_interpreter(level):
    line = build_command(level, SandboxOptions(), report_fd=7, info_fd=8, name="run")
    assert line[-2:] == ["7", "run"]
    assert " ".join([command.interpreter(), "-I", "-S"]) in " ".join(line)


def test_no_two_runs_under_way_share_a_user_with_bubblewrap():
    users = {driver_user("bubblewrap") for _ in range(100)}
    assert len(users) == 100
    assert None not in users
    assert min(user for user in users if user is not None) > BOX_USER
    assert driver_user("none") is None


def test_what_is_mounted_below_a_visible_path_is_read_only():
    folder = sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}) + "/pydoc_data"
    program = (
        "import subprocess\n"
        "from fseed.sandbox.isolation import _outside, probe\n"
        "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'mode=777', 'tmpfs', folder], check=True)\n"
        "assert folder in _outside()\n"
        "assert probe('namespaces') == ''\n"
    )
    enter = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*enter, "true"], check=False).returncode:
        pytest.skip("no user namespaces here")
    line = [*enter, sys.executable, "-c", f"folder = {folder!r}\n{program}"]
    found = subprocess.run(line, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("level", LEVELS[:-1])
def test_machine_code_makes_no_user_namespace(level, monkeypatch, tmp_path):
    if isolation.probe(level):
        pytest.skip(f"{level}: {isolation.probe(level)}")
    if level == "bubblewrap" and os.geteuid() == 0:
        pytest.skip("as root bubblewrap cannot forbid it: said in isolation_level")
    user = driver_user(level)
    shutil.copy(Path(command.__file__).with_name("enter_namespaces.py"), tmp_path)
    (tmp_path / "driver.py").write_text(
        "import ctypes, os\n"
        f"if os.getuid() == 0: os.setgroups([]), os.setgid({user}), os.setuid({user})\n"
        "print('unshare:', ctypes.CDLL(None).unshare(0x10000000))\n"
    )
    monkeypatch.setattr(command, "_HERE", tmp_path)
    receive, send = os.pipe()
    line = build_command(level, SandboxOptions(), report_fd=send, info_fd=send, name="probe")
    found = subprocess.run(line, pass_fds=[send], capture_output=True, text=True, check=False)
    os.close(receive)
    os.close(send)
    assert found.stdout == "unshare: -1\n", found.stderr


def test_packages_are_hidden():
    hidden = command.hidden_folders()
    assert any(folder.endswith("-packages") for folder in hidden)
    assert not any("site-packages" in path for path in command.visible_paths())
