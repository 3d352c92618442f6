"""Did an experiment's question and rule stand in the git history before its first run began?

The commit that counts is the one since which they read as they do now. Its date is that of the
committer, which a later amendment or rebase moves: no history, or one that begins after the run,
proves nothing either way and is told as a note.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from fseed.claims.findings import Finding, error
from fseed.claims.manifest import MANIFEST_FILE, Experiment
from fseed.record_schema import one_line
from fseed.results.defaults import DEFAULT_MARGIN

# what decides how a result is read; an entry that leaves the margin out has the default
HELD = {"question": None, "role": None, "rule": None, "margin": DEFAULT_MARGIN}
_TIMEOUT_SECONDS = 30


class NoHistory(Exception):
    """There is no git history of the manifest to look at, and why."""


@dataclass(frozen=True)
class Commit:
    """A commit that touched the manifest; ``parents`` are the nearest earlier ones of that kind."""

    name: str
    time: datetime
    parents: tuple[str, ...]


class History:
    """The commits that touched the manifest below ``root``, newest first, and their entries."""

    def __init__(self, root: Path) -> None:
        """Read the commits; NoHistory where there is no checkout, no git or no commit."""
        self._root = root
        if not (root / ".git").exists():
            raise NoHistory("this is no git checkout")
        lines = self._git("rev-list", "--parents", "--timestamp", "HEAD", "--", MANIFEST_FILE)
        listed = [_read_commit(line) for line in lines.decode().split("\n") if line]
        self._commits = {commit.name: commit for commit in listed}
        self._texts = self._read_texts(list(self._commits))
        self._entries: dict[str, Mapping[str, Any] | None] = {}
        self.head = next(iter(self._commits), None)
        if self.head is not None and self._content(self.head) is None:
            raise NoHistory("the manifest of the last commit cannot be read")

    def standing_since(self, name: str, wanted: Mapping[str, Any]) -> Commit | None:
        """Return the earliest commit from which on the entry ``name`` has read ``wanted``.

        None where it does not in the last commit.
        """
        ahead, seen, found = [self.head], set(), []
        while ahead:
            commit = self._commits.get(ahead.pop() or "")
            if commit is None or commit.name in seen:
                continue
            seen.add(commit.name)
            content = self._content(commit.name)
            # a manifest that cannot be read is passed through, and dates nothing
            if content is not None and held_keys(content.get(name)) != wanted:
                continue
            found += [commit] if content is not None else []
            ahead += commit.parents
        return min(found, key=lambda commit: commit.time, default=None)

    def entry_before(self, commit: Commit, name: str) -> dict[str, Any] | None:
        """Return what was held of the entry before ``commit``, None where there was no entry."""
        for parent in commit.parents:
            held = held_keys((self._content(parent) or {}).get(name))
            if held is not None:
                return held
        return None

    def has_earlier(self, commit: Commit) -> bool:
        """Tell whether any commit is older than ``commit``; none is in a shallow clone of it."""
        dates = self._git("log", "--format=%ct", "HEAD").split()
        return min(map(int, dates)) < commit.time.timestamp()

    def _content(self, commit: str) -> Mapping[str, Any] | None:
        """Return the experiments of a commit's manifest, None where it cannot be read."""
        if commit not in self._entries:
            self._entries[commit] = _parse(self._texts.get(commit))
        return self._entries[commit]

    def _read_texts(self, names: list[str]) -> dict[str, bytes]:
        asked = "".join(f"{name}:{MANIFEST_FILE}\n" for name in names)
        told = BytesIO(self._git("cat-file", "--batch", given=asked.encode()))
        found = {}
        for name in names:
            header = told.readline().split()
            if header[-1] != b"missing":
                found[name] = told.read(int(header[-1]))
                told.readline()
        return found

    def _git(self, *words: str, given: bytes = b"") -> bytes:
        # a hook that runs this check names its own repository in the environment
        kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        command = ["git", "--no-replace-objects", "-C", str(self._root), *words]
        try:
            done = subprocess.run(
                command,
                check=True,
                input=given,
                capture_output=True,
                timeout=_TIMEOUT_SECONDS,
                env=kept | {"GIT_NO_LAZY_FETCH": "1"},
            )
        except subprocess.CalledProcessError as problem:
            told = problem.stderr.decode(errors="replace")
            raise NoHistory(one_line(told or "git found nothing")) from problem
        except (OSError, subprocess.SubprocessError) as problem:
            raise NoHistory(one_line(problem)) from problem
        return done.stdout


def check_history(root: Path, starts: Mapping[str, tuple[Experiment, datetime]]) -> list[Finding]:
    """Compare the history with ``starts``: {name: (experiment, start of its first run)}."""
    if not starts:
        return []
    try:
        history = History(root)
    except NoHistory as problem:
        names = ", ".join(starts)
        text = f"whether the rule of {names} is older than the runs cannot be checked: {problem}"
        return [Finding("note", "history", MANIFEST_FILE, text)]
    return [
        finding
        for experiment, start in starts.values()
        if (finding := _check_one(history, experiment, start)) is not None
    ]


def held_keys(entry: Any) -> dict[str, Any] | None:
    """Return what of an entry must not change; None for what is no entry."""
    if not isinstance(entry, Mapping):
        return None
    told = {key: entry.get(key, default) for key, default in HELD.items()}
    # another way to fold the lines of a text is no other text
    return {k: " ".join(v.split()) if isinstance(v, str) else v for k, v in told.items()}


def _check_one(history: History, experiment: Experiment, start: datetime) -> Finding | None:
    name, wanted = experiment.name, held_keys(experiment.registration)
    assert wanted is not None
    began = f"its first run began {_date(start)}"
    since = history.standing_since(name, wanted)
    if since is None:
        text = f"{name}: no commit holds its question, role, rule and margin as they are now"
        return error("rule_after_run", MANIFEST_FILE, f"{text}, {began}")
    commit = f"commit {since.name[:10]} of {_date(since.time)}"
    if since.time < start:
        return _check_claimed(history, experiment, since, commit=commit)
    if not history.has_earlier(since):
        text = f"{name}: the history begins with {commit}, {began}: it cannot tell which came first"
        return Finding("note", "history", MANIFEST_FILE, text)
    before = history.entry_before(since, name)
    if before is None:
        text = f"{name} was written into the manifest by {commit}, {began}"
    else:
        changed = ", ".join(key for key in HELD if before[key] != wanted[key])
        text = f"{name}: {changed} was changed by {commit}, {began}"
    return error("rule_after_run", MANIFEST_FILE, text)


def _check_claimed(
    history: History, experiment: Experiment, since: Commit, *, commit: str
) -> Finding | None:
    """Tell of a date of registration that is older than what the history knows."""
    claimed = datetime.fromisoformat(experiment.registered).date()
    if claimed >= since.time.date() or not history.has_earlier(since):
        return None
    text = f"{experiment.name} is registered {experiment.registered}, and stands so since {commit}"
    return Finding("note", "history", MANIFEST_FILE, text)


def _parse(text: bytes | None) -> Mapping[str, Any] | None:
    try:
        content = yaml.load(text or b"", Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return dict(content.get("experiments") or {})
    except (AttributeError, RecursionError, TypeError, ValueError, yaml.YAMLError):
        return None


def _read_commit(line: str) -> Commit:
    seconds, name, *parents = line.split()
    return Commit(name, datetime.fromtimestamp(int(seconds), UTC), tuple(parents))


def _date(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")
