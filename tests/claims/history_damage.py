"""The kinds of damage to when a rule was written: in the git history around the study."""

import shutil
from pathlib import Path
from typing import Any

from fseed.claims.manifest import MANIFEST_FILE
from tests.claims.harm import Harm, group, on_study
from tests.claims.publishing import MANIFEST, write_manifest
from tests.claims.repository import AFTER, LATER, begin, commit_manifest

OTHER = "Whatever came out."


def commit_changed(at: str = AFTER, **changes: Any) -> Harm:
    """Change keys of the entry and commit them."""

    def harm(root: Path) -> None:
        on_study(lambda study: study.update(changes))(root)
        commit_manifest(root, at=at)

    return harm


def change_and_return(root: Path) -> None:
    """Have another rule for a day, so that the manifest reads as it did at first."""
    rule = MANIFEST["experiments"]["study"]["rule"]
    commit_changed(rule=OTHER)(root)
    commit_changed(LATER, rule=rule)(root)


def register_late(root: Path) -> None:
    """Let the history begin before the runs, and the experiment come into it after them."""
    shutil.rmtree(root / ".git")
    begin(root)
    write_manifest(root, MANIFEST | {"experiments": {}})
    commit_manifest(root)
    write_manifest(root)
    commit_manifest(root, at=AFTER)


KINDS = {
    "rule changed after the run, and committed": commit_changed(rule=OTHER),
    "question changed after the run, and committed": commit_changed(question="Another?"),
    "margin changed after the run, and committed": commit_changed(margin=0.05),
    "rule changed after the run and back again": change_and_return,
    "rule changed, and not committed": on_study(lambda study: study.update(rule=OTHER)),
    "experiment registered after the run": register_late,
}
IN_HISTORY = group("rule_after_run", MANIFEST_FILE, KINDS)
