"""A git repository around a published study, with commits at given times."""

import os
import subprocess
from pathlib import Path

REGISTERED_AT = "2026-11-19T09:00:00+00:00"
BEFORE = "2026-11-18T09:00:00+00:00"
AFTER = "2026-11-21T09:00:00+00:00"
LATER = "2026-11-22T09:00:00+00:00"
# nothing of the user's own configuration
_ENVIRONMENT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def git(root: Path, *words: str, at: str = BEFORE) -> str:
    people = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in _WHAT}
    dates = {f"GIT_{who}_DATE": at for who in ("AUTHOR", "COMMITTER")}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-C", str(root), *words],
        check=True,
        capture_output=True,
        env=kept | _ENVIRONMENT | people | dates,
    )
    return done.stdout.decode().strip()


_WHAT = ("NAME", "EMAIL")


def begin(root: Path) -> None:
    """Start a repository with a commit that holds nothing."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "--quiet", "--template=", "--initial-branch=main")
    git(root, "commit", "--quiet", "--allow-empty", "--message=begin")


def commit_manifest(root: Path, *, at: str = REGISTERED_AT) -> None:
    git(root, "add", "paper/manifest.yaml")
    git(root, "commit", "--quiet", "--message=manifest", at=at)
