"""Who a run is: the resolved configuration without what cannot change a number, hashed."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fseed.config.rules import leaves
from fseed.config.schema import ControlKind, Gate, Mode, RunConfig, ScheduleKind

ID_LENGTH = 10  # hexadecimal digits

# what tells arms of one pair apart
ARM_KEYS = ("fs", "fs_variant", "lstart", "alpha", "schedule", "control")

# what an arm's own options are called in its canonical form, where not by section and name
_ARM_NAMES = {
    "fs.mode": "mode",
    "lstart": "lstart",
    "control.kind": "control",
    "control.state_lr": "control_state_lr",
}

# options of the arm that a control replaces: noise and the learned constant take no gradient to the
# layer below, with detach or without; an A/A arm has the scale 0, see training/build.py
UNREAD_BY_CONTROL: Mapping[str, tuple[str, ...]] = {
    ControlKind.random_state.value: ("fs_variant.detach",),
    ControlKind.learned_state.value: ("fs_variant.detach",),
    ControlKind.aa.value: ("fs_variant.seed_scale",),
}

# what cannot change a number, or is replaced by the hash of what it points to
VOLATILE_KEYS = (
    *("output", "logger", "sweep", "launcher", "weights"),
    *("data.root", "model.weights", "model.vocab_file"),
    *("model.needs_weights", "model.allow_above_uniform"),
    *("trainer.num_threads", "trainer.progress", "budget.checkpoint_every_steps"),
)

# of config/schema; ``sweep``, ``launcher`` and ``output`` hold volatile sections alone
_SCHEMA_PARTS = ("root", "task", "model", "future_seed", "training")

# source that can change a number; the rest only plans, records and reports
CODE_PARTS = (
    *("ops", "models", "sandbox", "tasks", "training"),
    *(f"config/schema/{name}.py" for name in _SCHEMA_PARTS),
)


@dataclasses.dataclass(frozen=True)
class Hashes:
    """Content that a configuration points to, as SHA-256 in hexadecimal digits."""

    data: str
    weights: str | None  # null: random start
    vocabulary: str | None  # null: bytes need no vocabulary
    code: str


@dataclasses.dataclass(frozen=True)
class Identity:
    """``run_id`` of a run, ``pair_key`` shared with its baseline, ``arm_key`` of its FS part."""

    run_id: str
    pair_key: str
    arm_key: str


def identify(config: RunConfig, hashes: Hashes) -> Identity:
    """Return the identity of a resolved configuration.

    The baseline of an arm is the ``no_fs`` run with the same ``pair_key``.
    """
    return identify_content(
        canonical_config(config), arm=canonical_arm(config), hashes=dataclasses.asdict(hashes)
    )


def identify_content(
    config: Mapping[str, Any], *, arm: Mapping[str, Any], hashes: Mapping[str, Any]
) -> Identity:
    """Return the identity of plain content: what ``canonical_config`` and ``canonical_arm`` give.

    With it an archived record can be checked after the schema has grown.
    """
    shared = {"config": config, "hashes": hashes}
    return Identity(
        run_id=_digest({**shared, "arm": arm}), pair_key=_digest(shared), arm_key=_digest(arm)
    )


def canonical_config(config: RunConfig) -> dict[str, Any]:
    """Return what an arm shares with its baseline: no FS keys, nothing volatile, plain values."""
    return without_keys(_plain(dataclasses.asdict(config)), (*ARM_KEYS, *VOLATILE_KEYS))


def without_keys(content: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return a copy of nested mappings without the dotted ``keys``; KeyError for one not there."""
    copied = _plain(content)
    for key in keys:
        *parents, leaf = key.split(".")
        node = copied
        for parent in parents:
            node = node[parent]
        del node[leaf]
    return copied


def canonical_arm(config: RunConfig) -> dict[str, Any]:
    """Return the FS part without the options that ``is_read`` says nothing reads."""
    settings = {key: _plain(value) for key, value in leaves(config)}
    arm: dict[str, Any] = {}
    for key, value in settings.items():
        section, _, option = key.partition(".")
        name = _ARM_NAMES.get(key)
        if section not in ARM_KEYS or not is_read(key, settings):
            continue
        if name is not None:
            arm[name] = value
        else:
            arm.setdefault(section, {})[option] = value
    if arm["control"] == ControlKind.none.value:
        del arm["control"]
    return arm


def is_read(key: str, settings: Mapping[str, Any]) -> bool:
    """Tell whether a run with these settings reads the Future-Seed option ``key``.

    Both are dotted keys of the configuration, values plain. An option that is not read cannot
    change a number: arms that differ in such options alone are one arm.
    """
    control = settings.get("control.kind")
    if key in ("fs.mode", "control.kind"):
        return True
    if key == "control.state_lr":
        return control == ControlKind.learned_state.value
    if key == "fs.allow_noop" or settings.get("fs.mode") == Mode.no_fs.value:
        return False
    if key in UNREAD_BY_CONTROL.get(str(control), ()):
        return False
    gate, schedule = settings.get("fs_variant.gate"), settings.get("schedule.kind")
    if key in ("fs_variant.head_init", "fs_variant.head_lr"):
        return gate == Gate.head.value
    if key == "fs_variant.input_lr":
        return gate == Gate.inputgate.value
    return key not in ("schedule.low", "schedule.high") or schedule != ScheduleKind.none.value


def is_baseline(config: RunConfig) -> bool:
    """Tell whether a run is the plain ``no_fs`` run that arms are compared with."""
    return canonical_arm(config) == {"mode": Mode.no_fs.value}


def code_fingerprint() -> str:
    """Return the SHA-256 of the installed source files that can change a number."""
    package = Path(__file__).resolve().parent
    files = [("fseed", package, path) for path in _source_files(package, CODE_PARTS)]
    kernels = find_spec("fseed_kernels")
    if kernels is not None and kernels.submodule_search_locations:
        root = Path(next(iter(kernels.submodule_search_locations)))
        files += [("fseed_kernels", root, path) for path in _source_files(root, ["."])]
    return _hash_files(files)


def source_fingerprint(parts: Iterable[str]) -> str:
    """Return the SHA-256 of the files below ``parts`` of the installed package."""
    package = Path(__file__).resolve().parent
    return _hash_files(("fseed", package, path) for path in _source_files(package, parts))


def _source_files(root: Path, parts: Iterable[str]) -> list[Path]:
    found: list[Path] = []
    for part in parts:
        path = root / part
        candidates = [path] if path.is_file() else sorted(path.rglob("*"))
        found += [file for file in candidates if file.is_file() and not _is_compiled(file)]
    return found


def _is_compiled(file: Path) -> bool:
    """Tell code that Python or numba compiled from source."""
    return file.suffix == ".pyc" or file.parent.name == "__pycache__"


def _hash_files(files: Iterable[tuple[str, Path, Path]]) -> str:
    digest = hashlib.sha256()
    for name, root, path in files:
        content = path.read_bytes()
        label = f"{name}/{path.relative_to(root).as_posix()}"
        digest.update(f"{label}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value.value if isinstance(value, Enum) else value


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]
