"""The command that shows what the sandbox holds back."""

import pytest

from fseed.sandbox import __main__ as command
from fseed.sandbox.isolation import isolation_level
from fseed.sandbox.self_check import CHECKS
from fseed.sandbox.verdict import Outcome, Verdict


def test_every_check_holds_here(capsys):
    if isolation_level() == "none":
        pytest.skip("no level of isolation works here")
    assert command.main() == 0
    shown = capsys.readouterr().out
    assert isolation_level() in shown
    assert "output_limit" in shown


def test_a_check_that_does_not_hold_is_an_error(capsys, monkeypatch):
    escaped = Verdict(Outcome.PASSED, 1, 1, 0.1, "[/bold] x", "namespaces", code_ran=True)
    monkeypatch.setattr(command, "isolation_level", lambda: "namespaces")
    monkeypatch.setattr(command, "probe", lambda level: "")
    monkeypatch.setattr(command, "run_check", lambda check, level: escaped)
    assert command.main() == 1
    assert "[/bold] x" in capsys.readouterr().out


def test_no_isolation_is_an_error(capsys, monkeypatch):
    monkeypatch.setattr(command, "isolation_level", lambda: "none")
    monkeypatch.setattr(command, "probe", lambda level: "OSError: [Errno 1] refused")
    assert command.main() == 1
    assert "refused" in capsys.readouterr().out


def test_names_of_the_checks_differ():
    assert len({check.name for check in CHECKS}) == len(CHECKS)
