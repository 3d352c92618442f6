"""When a rule was written: what the git history says, and where it says nothing."""

import shutil
from pathlib import Path

import pytest

from fseed.claims.checking import check_claims
from fseed.claims.manifest import MANIFEST_FILE
from tests.claims.harm import on_study
from tests.claims.history_damage import OTHER, change_and_return, commit_changed, register_late
from tests.claims.publishing import STARTED, write_manifest
from tests.claims.repository import AFTER, BEFORE, LATER, begin, commit_manifest, git


def told(root: Path, level: str) -> list[str]:
    """Return the findings about the history."""
    codes = ("rule_after_run", "history")
    found = [one for one in check_claims(root).findings if one.code in codes]
    assert {one.place for one in found} <= {MANIFEST_FILE}
    assert {one.level for one in found} <= {level}
    return [one.text for one in found]


def test_a_changed_rule_is_an_error_that_names_both_dates(root: Path) -> None:
    commit_changed(rule=OTHER, margin=0.05)(root)
    commit = git(root, "rev-parse", "HEAD")[:10]
    (text,) = told(root, "error")
    assert text == (
        f"study: rule, margin was changed by commit {commit} of {AFTER}, "
        f"its first run began {STARTED}"
    )


def test_a_rule_that_was_changed_back_counts_from_then(root: Path) -> None:
    change_and_return(root)
    (text,) = told(root, "error")
    assert f"of {LATER}, its first run began {STARTED}" in text


def test_an_entry_that_came_after_its_run_is_an_error(root: Path) -> None:
    register_late(root)
    (text,) = told(root, "error")
    assert text.startswith("study was written into the manifest by commit ")
    assert f"of {AFTER}, its first run began {STARTED}" in text


def test_a_rule_that_no_commit_holds_is_an_error(root: Path) -> None:
    on_study(lambda study: study.update(rule=OTHER))(root)
    (text,) = told(root, "error")
    assert text.startswith("study: no commit holds its question, role, rule and margin")
    assert STARTED in text


def test_other_commits_other_keys_and_another_layout_change_nothing(root: Path) -> None:
    commit_changed(command="make it")(root)
    path = root / MANIFEST_FILE
    path.write_text(path.read_text().replace("rule: ", "rule: >-\n      "))
    commit_manifest(root, at=LATER)
    git(root, "commit", "--quiet", "--allow-empty", "--message=other", at=LATER)
    assert told(root, "note") == []


def test_a_manifest_that_could_not_be_read_for_a_while_changes_nothing(root: Path) -> None:
    path = root / MANIFEST_FILE
    text = path.read_text()
    for content, at in (("a: [", AFTER), (text, LATER)):
        path.write_text(content)
        commit_manifest(root, at=at)
    assert told(root, "note") == []


def test_a_rule_from_a_branch_counts_from_its_own_commit(root: Path) -> None:
    git(root, "checkout", "--quiet", "-b", "side", "HEAD^")
    write_manifest(root, {"schema_version": 1, "logs": {"paper/LOG.md": "other notes"}})
    commit_manifest(root, at=BEFORE)
    git(root, "checkout", "--quiet", "main")
    git(root, "merge", "--no-commit", "--strategy=ours", "side", at=AFTER)
    commit_changed(command="both")(root)
    assert len(git(root, "rev-list", "--no-walk", "--parents", "HEAD").split()) == 3
    assert told(root, "note") == []


@pytest.mark.parametrize("is_empty", [True, False])
def test_without_a_history_there_is_a_note(root: Path, is_empty: bool) -> None:
    shutil.rmtree(root / ".git")
    if is_empty:
        git(root, "init", "--quiet", "--template=")
    (text,) = told(root, "note")
    assert text.startswith("whether the rule of study is older than the runs cannot be checked: ")
    assert "this is no git checkout" in text or is_empty


def test_without_git_there_is_a_note(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (text,) = told(root, "note")
    assert "cannot be checked: [Errno 2]" in text


def test_a_repository_around_the_checkout_is_none_of_it(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / ".git")
    begin(tmp_path)
    (text,) = told(root, "note")
    assert "this is no git checkout" in text


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_WORK_TREE"])
def test_the_repository_of_a_hook_is_not_looked_at(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    assert told(root, "note") == []


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_shallow_clone_proves_what_it_reaches(root: Path, tmp_path: Path, depth: int) -> None:
    for at in (AFTER, LATER):
        git(root, "commit", "--quiet", "--allow-empty", "--message=other", at=at)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", f"--depth={depth}", f"file://{root}", str(clone))
    shutil.rmtree(root / ".git")
    (clone / ".git").rename(root / ".git")
    found = told(root, "note")
    if depth == 3:
        assert found == []
    else:
        (text,) = found
        assert text.startswith("study: the history begins with commit ")
        assert text.endswith("it cannot tell which came first")


def test_a_date_that_the_history_does_not_bear_out_is_a_note(root: Path) -> None:
    commit_changed("2026-11-19T10:00:00+00:00", registered="2026-11-18")(root)
    (text,) = told(root, "note")
    assert text.startswith("study is registered 2026-11-18, and stands so since commit ")


def test_an_experiment_without_records_needs_no_history(root: Path) -> None:
    shutil.rmtree(root / ".git")
    shutil.rmtree(root / "paper/records")
    on_study(lambda study: study.update(planned=True))(root)
    assert told(root, "note") == []
