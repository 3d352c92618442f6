"""Where a run came from: code, versions, inputs. Nothing that names a person or a machine."""

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fseed.config.schema import RunConfig
from fseed.planned_run import PlannedRun
from fseed.records import SCHEMA_VERSION

PACKAGES = (
    *("fseed", "torch", "lightning", "numpy", "scipy", "pandas", "pyarrow", "safetensors"),
    *("hydra-core", "omegaconf", "datasets", "transformers", "rwkv", "triton"),
)


def build_provenance(run: PlannedRun) -> dict[str, Any]:
    """Return what is known before training; the trainer adds device, data counts and model sizes.

    A package that is not installed, and git outside a checkout, are null.
    """
    commit, dirty = describe_checkout()
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "pair_key": run.pair_key,
        "arm_key": run.arm_key,
        "code_hash": run.code_hash,
        "data_hash": run.data_hash,
        "weights_hash": run.weights_hash,
        "vocabulary_hash": run.vocabulary_hash,
        "git_commit": commit,
        "git_dirty_hash": dirty,
        "versions": {"python": platform.python_version(), **_package_versions()},
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "data": {"source": run.config.data.source.value},
        "model": _describe_model(run.config),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def describe_checkout(folder: Path | None = None) -> tuple[str | None, str | None]:
    """Return the commit of the checkout and the SHA-256 of its changes; null where there is none.

    Changes are the diff of tracked files and the content of untracked ones that git does not
    ignore. A folder that merely lies inside someone else's repository is no checkout of fseed.
    """
    root = Path(__file__).resolve().parents[2] if folder is None else folder
    if not (root / ".git").exists():
        return None, None
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None, None
    diff = _git(root, "diff", "--no-ext-diff", "--binary", "HEAD") or b""
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z") or b""
    names = [name for name in untracked.decode(errors="surrogateescape").split("\0") if name]
    dirty = _hash_changes(root, diff, names) if diff or names else None
    return commit.decode().strip(), dirty


def _hash_changes(root: Path, diff: bytes, names: Sequence[str]) -> str:
    digest = hashlib.sha256(diff)
    for name in sorted(names):
        path = root / name
        content = path.read_bytes() if path.is_file() else b""
        digest.update(name.encode(errors="surrogateescape") + b"\0" + content)
    return digest.hexdigest()


def _git(root: Path, *words: str) -> bytes | None:
    command = ["git", "-C", str(root), *words]
    try:
        return subprocess.run(command, check=True, capture_output=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _package_versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _describe_model(config: RunConfig) -> dict[str, Any]:
    return {
        "name": config.model.name,
        "num_layers": config.model.num_layers,
        "initialization": "random" if config.model.weights is None else "checkpoint",
    }
