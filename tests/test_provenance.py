import getpass
import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fseed import provenance
from fseed.provenance import build_provenance, describe_checkout
from fseed.records import SCHEMA_VERSION
from fseed.sweep.plan import plan_run
from tests.configs import compose


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("a = 1\n")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *words: str) -> str:
    names = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *names, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "m")


def describe(folder: Path) -> tuple[str | None, str | None]:
    describe_checkout.cache_clear()
    return describe_checkout(folder)


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    assert describe(checkout) == (git(checkout, "rev-parse", "HEAD"), None)


def test_every_change_has_its_own_hash(checkout: Path) -> None:
    (checkout / ".gitignore").write_text("ignored\n")
    commit(checkout)
    hashes = [describe(checkout)[1]]
    (checkout / "ignored").write_text("results\n")
    assert describe(checkout)[1] is None
    for name, text in (("a.py", "a = 2\n"), ("b.py", "b = 1\n"), ("b.py", "b = 2\n")):
        (checkout / name).write_text(text)
        hashes.append(describe(checkout)[1])
    git(checkout, "add", "b.py")
    hashes.append(describe(checkout)[1])
    assert len(set(hashes)) == 5
    (checkout / "b.py").unlink()
    assert describe(checkout)[1] is not None


def test_a_repository_without_a_commit_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert describe(tmp_path) == (None, None)


def test_a_folder_inside_another_repository_is_no_checkout(checkout: Path) -> None:
    (checkout / "site-packages").mkdir()
    assert describe(checkout / "site-packages") == (None, None)


def test_git_may_be_missing(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert describe(checkout) == (None, None)


def test_what_is_known_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "describe_checkout", lambda: ("abc", None))
    run = plan_run(compose("fs=scalar_l10")).run
    found = build_provenance(run)
    assert found["schema_version"] == SCHEMA_VERSION
    ids = ("run_id", "pair_key", "arm_key", "code_hash", "data_hash", "weights_hash")
    assert {key: found[key] for key in ids} == {key: getattr(run, key) for key in ids}
    assert (found["git_commit"], found["git_dirty_hash"]) == ("abc", None)
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["torch"][0].isdigit()
    assert found["data"] == {"source": "mini"}
    assert found["model"] == {"name": "nano", "num_layers": 12, "initialization": "random"}
    started = datetime.fromisoformat(found["started_at"])
    assert abs((datetime.now(UTC) - started).total_seconds()) < 60


def test_a_package_that_is_not_installed_stays_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package-here",))
    found = build_provenance(plan_run(compose()).run)
    assert found["versions"]["no-such-package-here"] is None


def test_nothing_names_a_person_or_a_machine() -> None:
    text = json.dumps(build_provenance(plan_run(compose()).run))
    for secret in (platform.node(), getpass.getuser(), str(Path.home()), str(Path.cwd())):
        assert not secret or secret not in text.replace('"rwkv"', "")
