"""The folder of options: where ``conf/`` lies and what each file in it offers.

``python -m fseed.config.options`` prints ``conf/README.md`` from the folder.
"""

import re
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import get_type_hints

from fseed.config.schema import RunConfig

# choices that stand for "this group is off"; users also type off, no, false or none for them
OFF_OPTIONS = {"fs": "no_fs", "schedule": "none", "control": "none", "logger": "none"}

_PURPOSES = {
    "fs": "The preset: Future-Seed on or off, with all its options in one name.",
    "control": "A control arm, which tells a mechanism from an accident.",
    "experiment": "A question with its baseline and its decision rule, as overrides of the rest.",
}

_DEFAULT = re.compile(r"^\s+- (\w+): (\w+)", re.MULTILINE)

_INTRODUCTION = """\
# Configuration

`python -m fseed.run group=option key=value`: one folder per group, one file per option. An option
on the command line wins over the preset (`fs`) and the experiment, and so does a single value.
`python -m fseed.run --cfg job ...` prints what a command line amounts to.

Three choices are plain numbers: `seed` (0 or more), `lstart` (first seeded layer, 1 .. layers - 1)
and everything with a dot, such as `alpha.init=-2.5` or `budget.steps=200`. `weights=PATH` is short
for `model.weights=PATH`. In a sweep (`-m`) any of them may list values: `seed=0,1,2`,
`lstart='range(6,11)'`, `fs='glob(scalar_*)'`.

`alpha=m3` chooses the gate logit of a preset and leaves its learning rate alone: `alpha.lr=0`
freezes the gates of any preset, `alpha=m3_trainable` trains them.

This file is printed by `python -m fseed.config.options > conf/README.md`; a test compares it with
the folder.
"""


@dataclass(frozen=True)
class Option:
    """One file of ``conf/``: its group, name and first comment line."""

    group: str
    name: str
    summary: str
    path: Path


def conf_dir() -> Path:
    """Return the absolute folder of options: the checkout's, else the one inside the wheel."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1] / "conf"
    is_checkout = package.parent.name == "src" and (checkout / "config.yaml").is_file()
    return checkout if is_checkout else package / "conf"


def read_groups(folder: Path | None = None) -> dict[str, dict[str, Option]]:
    """Return the options of every group of fseed by name, groups in the order of config.yaml."""
    root = conf_dir() if folder is None else folder
    order = [group for group, _ in _DEFAULT.findall((root / "config.yaml").read_text("utf-8"))]
    return {group: _read_group(root, group) for group in order if (root / group).is_dir()}


def default_options(folder: Path | None = None) -> dict[str, str]:
    """Return the option that config.yaml chooses for each group; ``null`` where it chooses none."""
    root = conf_dir() if folder is None else folder
    return dict(_DEFAULT.findall((root / "config.yaml").read_text("utf-8")))


def render_readme(folder: Path | None = None) -> str:
    """Return the text of ``conf/README.md``: every group and every option with its sentence."""
    defaults = default_options(folder)
    lines = [_INTRODUCTION, "| group | chooses | default |", "|---|---|---|"]
    groups = read_groups(folder)
    for group in groups:
        chosen = "none" if defaults[group] == "null" else f"`{defaults[group]}`"
        lines.append(f"| [`{group}`](#{group}) | {_purpose(group)} | {chosen} |")
    for group, options in groups.items():
        lines += ["", f"## {group}", "", "| option | |", "|---|---|"]
        lines += [f"| `{option.name}` | {option.summary} |" for option in options.values()]
    return "\n".join(lines) + "\n"


def _read_group(root: Path, group: str) -> dict[str, Option]:
    folder = root / group
    # natural order: l6 before l10
    paths = sorted(folder.rglob("*.yaml"), key=lambda path: _natural(path.stem))
    options = [
        Option(group, path.relative_to(folder).with_suffix("").as_posix(), _summary(path), path)
        for path in paths
    ]
    return {option.name: option for option in options}


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _summary(path: Path) -> str:
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("# ") and not line.startswith("# @"):
            return line.removeprefix("# ").strip()
    return ""


def _purpose(group: str) -> str:
    if group in _PURPOSES:
        return _PURPOSES[group]
    kind = get_type_hints(RunConfig)[group]
    assert is_dataclass(kind)
    return (kind.__doc__ or "").splitlines()[0]


if __name__ == "__main__":
    print(render_readme(), end="")
