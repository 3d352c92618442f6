"""Where a run came from: code, versions, inputs. Nothing that names a person or a machine.

What the environment holds is private unless it is listed here, and texts that end in a record
(commands, messages, tracebacks) lose their secrets first.
"""

import contextlib
import hashlib
import io
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

from fseed.config.schema import RunConfig
from fseed.planned_run import PlannedRun
from fseed.records import SCHEMA_VERSION

PACKAGES = (
    *("fseed", "torch", "lightning", "numpy", "scipy", "pandas", "pyarrow", "safetensors"),
    *("hydra-core", "omegaconf", "datasets", "transformers", "rwkv", "triton"),
)

# recorded, for they can change a number or the speed
RECORDED_VARIABLES = (
    *("CUBLAS_WORKSPACE_CONFIG", "CUDA_LAUNCH_BLOCKING", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE"),
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PYTORCH_CUDA_ALLOC_CONF", "TRITON_INTERPRET"),
)
# names of places and jobs, which a configuration may ask for
_READABLE_VARIABLES = frozenset({"HOME", "SCRATCH", "TMPDIR", "WORK", *RECORDED_VARIABLES})
_READABLE_PREFIXES = ("FSEED_", "SLURM_JOB")
_RECORDED_VALUE = re.compile(r"[\w.,:=-]{0,80}")

REDACTED = "[redacted]"
MIN_SECRET_LENGTH = 6  # characters; shorter values are words that occur anywhere
_SECRET_NAME = r"(?:token|passw(?:or)?d|passphrase|secret|api[_-]?key|access[_-]?key|credentials?)"
_SECRET_VARIABLE = re.compile(
    rf"{_SECRET_NAME}|(?:^|_)(?:key|auth|pat|cookie|dsn)(?:_|$)|_pwd(?:_|$)", re.IGNORECASE
)  # PWD alone is the current folder of a shell, a part of every path
# what shows by its form alone that it opens a door, group 1 is kept
_SECRET_TEXTS = (
    # a path made of a URL has lost a stroke
    re.compile(r"(\b[a-z][a-z0-9+.-]*:/{1,2})[^\s/@'\"]+(?=@)", re.IGNORECASE),
    re.compile(
        rf"({_SECRET_NAME}[\"']?\s*[=:]\s*[\"']?)(?!\[redacted)[^\s\"'&,;()\[\]{{}}]{{6,}}",
        re.IGNORECASE,
    ),
    re.compile(
        r"(--[\w-]*(?:token|password|secret|api-key)\s+)[^\s\"'-][^\s\"']{5,}", re.IGNORECASE
    ),
    re.compile(r"(\bbearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE),
    re.compile(
        r"()\b(?:hf_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|sk-[\w-]{16,}"
        r"|xox[abprs]-[\w-]{10,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}"
        r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,})"
    ),
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
        "versions": {"python": platform.python_version(), **package_versions(PACKAGES)},
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "environment": recorded_environment(),
        "data": {"source": run.config.data.source.value},
        "model": _describe_model(run.config),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def recorded_environment() -> dict[str, str]:
    """Return the listed variables that are set; a value of another form is left out."""
    found = {name: os.environ[name] for name in RECORDED_VARIABLES if name in os.environ}
    return {name: text for name, text in found.items() if _RECORDED_VALUE.fullmatch(text)}


def is_readable_variable(name: str) -> bool:
    """Tell whether a configuration, which is recorded, may hold this variable."""
    if _SECRET_VARIABLE.search(name) is not None:
        return False
    return name in _READABLE_VARIABLES or name.startswith(_READABLE_PREFIXES)


def redact(text: str) -> str:
    """Return the text without secrets: values of the environment, keys, tokens, passwords in URLs.

    >>> redact("wget https://me:hunter22@example.org/a?token=abcdef123")
    'wget https://[redacted]@example.org/a?token=[redacted]'
    """
    for value in _secret_values():
        text = text.replace(value, REDACTED)
    for pattern in _SECRET_TEXTS:
        text = pattern.sub(rf"\g<1>{REDACTED}", text)
    return text


def redact_all(content: Any) -> Any:
    """Return a copy of nested mappings and lists whose texts are redacted."""
    if isinstance(content, Mapping):
        return {key: redact_all(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [redact_all(value) for value in content]
    return redact(content) if isinstance(content, str) else content


@contextlib.contextmanager
def redacted_output() -> Iterator[None]:
    """Redact what this process prints, for output that is kept; not what its children print."""
    output, errors = RedactingText(sys.stdout), RedactingText(sys.stderr)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            yield
        finally:
            output.flush()
            errors.flush()


class RedactingText(io.TextIOBase):
    """A stream of text that hands on whole lines, redacted, and the rest when it is flushed."""

    def __init__(self, stream: TextIO) -> None:
        """Write to ``stream``."""
        self._stream, self._rest = stream, ""

    def write(self, text: str, /) -> int:
        """Keep the last, unfinished line: a secret may come in two pieces."""
        whole, end, self._rest = (self._rest + text).rpartition("\n")
        if end:
            self._stream.write(redact(whole) + end)
        return len(text)

    def flush(self) -> None:
        """Hand on what there is."""
        rest, self._rest = self._rest, ""
        self._stream.write(redact(rest))
        self._stream.flush()

    def fileno(self) -> int:
        """Return the descriptor behind it."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Tell whether a person reads it."""
        return self._stream.isatty()


def _secret_values() -> list[str]:
    """Return the values of variables whose names promise a secret, the longest first."""
    found = {
        value
        for name, value in os.environ.items()
        if len(value) >= MIN_SECRET_LENGTH and _SECRET_VARIABLE.search(name) is not None
    }
    return sorted(found, key=len, reverse=True)


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


@cache
def package_versions(names: tuple[str, ...]) -> Mapping[str, str | None]:
    """Return the installed version of each package; found once in a process."""
    found: dict[str, str | None] = {}
    for name in names:
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
