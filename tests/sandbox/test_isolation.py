"""Which level is chosen, and what is said when there is none."""

import pytest

from fseed.errors import UserError
from fseed.sandbox import command, isolation
from fseed.sandbox.command import ISOLATES, LEVELS, build_command, driver_user
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


def test_every_level_says_what_it_isolates():
    assert tuple(ISOLATES) == LEVELS
    assert ISOLATES["none"] == ()


@pytest.mark.parametrize("level", LEVELS)
def test_commands_run_the_isolated_interpreter(level):
    line = build_command(level, SandboxOptions(), report_fd=7, name="run")
    assert line[-2:] == ["7", "run"]
    assert " ".join([command.interpreter(), "-I", "-S"]) in " ".join(line)


def test_no_two_runs_under_way_share_a_user_with_bubblewrap():
    users = {driver_user("bubblewrap", slot) for slot in range(100)}
    assert len(users) == 100
    assert 0 not in users
    assert driver_user("none", 0) is None


def test_packages_are_hidden():
    hidden = command.hidden_folders()
    assert any(folder.endswith("-packages") for folder in hidden)
    assert not any("site-packages" in path for path in command.visible_paths())
