"""What can be done to a published study: functions of its root that damage one thing."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import yaml

from fseed.atomic import write_json_atomic, write_text_atomic
from fseed.claims.checking import render_claims
from fseed.claims.manifest import MANIFEST_FILE, read_manifest
from fseed.claims.seal import SEAL_FILE, build_seal, read_seal, write_seal
from fseed.records import (
    CHOICES_FILE,
    CONFIG_FILE,
    FAILURE_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    PROVENANCE_FILE,
    RESULT_FILE,
)
from fseed.results.collection import collect_runs
from tests.claims.publishing import STEPS, plan, write_rows, write_run

RECORDS = "paper/records/study"
SWEEP = f"{RECORDS}/first"
Row = dict[str, Any]
Change = Callable[[Any], object]
Harm = Callable[[Path], object]


@dataclass(frozen=True)
class Damage:
    """One kind of damage. ``code`` must be among the findings, at a place that holds ``file``.

    ``is_hidden``: whoever did it renews the seal and renders the documents, and is caught still.
    """

    kind: str
    harm: Harm
    code: str
    file: str
    is_hidden: bool = False


def group(code: str, file: str, kinds: Mapping[str, Harm]) -> list[Damage]:
    return [Damage(kind, done, code, file) for kind, done in kinds.items()]


def folder_of(root: Path, arm: str, seed: int) -> Path:
    return next((root / SWEEP / "hotpot" / "plain" / arm).glob(f"s{seed}-*"))


def on_json(arm: str, seed: int, name: str, change: Change) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        path = folder_of(root, arm, seed) / name
        content = json.loads(path.read_text())
        change(content)
        write_json_atomic(path, content)

    return harm


def on_rows(arm: str, seed: int, change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        path = folder_of(root, arm, seed) / PREDICTIONS_FILE
        rows = parquet.read_table(path).to_pylist()
        changed = change(rows)
        write_rows(path, rows if changed is None else changed)

    return harm


def remove(name: str) -> Callable[[Path], None]:
    """Delete a file or a folder."""

    def harm(root: Path) -> None:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return harm


def on_yaml(name: str, change: Change) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        content = yaml.safe_load((root / name).read_text())
        change(content)
        write_text_atomic(root / name, yaml.safe_dump(content, sort_keys=False))

    return harm


def on_config(arm: str, seed: int, change: Change) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        path = (folder_of(root, arm, seed) / CONFIG_FILE).relative_to(root).as_posix()
        on_yaml(path, change)(root)

    return harm


def on_study(change: Change) -> Callable[[Path], None]:
    return on_yaml(MANIFEST_FILE, lambda content: change(content["experiments"]["study"]))


def on_seal(change: Change) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        path = root / RECORDS / SEAL_FILE
        content = json.loads(path.read_text())
        change(content)
        write_json_atomic(path, content)

    return harm


def on_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        text = (root / name).read_text()
        assert old in text, f"{name} does not hold {old!r}"
        write_text_atomic(root / name, text.replace(old, new, 1))

    return harm


def on_reference(key: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    """Change the text behind a key in the README."""

    def harm(root: Path) -> None:
        text = (root / "README.md").read_text()
        head, mark, tail = text.partition(f"<!-- fseed: {key} -->")
        assert mark, f"no reference {key}"
        told, end, rest = tail.partition("<!--")
        write_text_atomic(root / "README.md", head + mark + change(told) + end + rest)

    return harm


def on_line(arm: str, seed: int, old: str, new: str, *, at: int) -> Callable[[Path], None]:
    """Change line ``at`` of metrics.jsonl."""

    def harm(root: Path) -> None:
        path = folder_of(root, arm, seed) / METRICS_FILE
        lines = path.read_text().splitlines()
        assert old in lines[at]
        lines[at] = lines[at].replace(old, new, 1)
        write_text_atomic(path, "\n".join(lines) + "\n")

    return harm


def renew(root: Path) -> None:
    """Do what someone would who wants the damage to look like the archive."""
    folder = root / RECORDS
    old, experiment = read_seal(folder), read_manifest(root).experiments["study"]
    collection = collect_runs([folder], margin=experiment.margin)
    seal = build_seal(
        experiment, folder, collection=collection, arms=old.arms, hidden_keys=old.hidden_keys
    )
    write_seal(seal, folder)
    render_claims(root)


def swap_runs(root: Path) -> None:
    first, second = folder_of(root, "scalar_l10", 0), folder_of(root, "scalar_l10", 2)
    for name in (CONFIG_FILE, CHOICES_FILE, PROVENANCE_FILE, METRICS_FILE, PREDICTIONS_FILE,
                 RESULT_FILE):  # fmt: skip
        _swap(first / name, second / name)


def swap_predictions(root: Path) -> None:
    _swap(
        folder_of(root, "scalar_l10", 0) / PREDICTIONS_FILE,
        folder_of(root, "no_fs", 0) / PREDICTIONS_FILE,
    )


def _swap(first: Path, second: Path) -> None:
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def replace_run(arm: str, seed: int, **changes: Any) -> Callable[[Path], None]:
    """Put a run of another data set, code or budget in the place of one, all ids consistent."""

    def harm(root: Path) -> None:
        shutil.rmtree(folder_of(root, arm, seed))
        write_run(root / SWEEP, plan(arm, seed, **changes))

    return harm


def copy_run(root: Path) -> None:
    source = folder_of(root, "scalar_l10", 0)
    shutil.copytree(source, root / RECORDS / "second" / source.relative_to(root / SWEEP))


def better_rows(rows: list[Any]) -> None:
    for row in rows[-3:]:
        row["num_tokens_correct"] = row["num_correct"] = 5
        row["score"], row["is_right"] = 5.0, True


def drop_training(root: Path) -> None:
    """Cut every optimiser step of a run from its log, so that its tokens may be any."""
    path = folder_of(root, "scalar_l10", 0) / METRICS_FILE
    kept = [line for line in path.read_text().splitlines() if '"train"' not in line]
    write_text_atomic(path, "\n".join(kept) + "\n")


def hide_tokens(root: Path) -> None:
    """Add a line that readers of the log might stop at, and report fewer tokens."""
    path = folder_of(root, "scalar_l10", 0) / METRICS_FILE
    write_text_atomic(path, path.read_text() + '{"step": 4}\n')
    on_json("scalar_l10", 0, RESULT_FILE, lambda content: content.update(tokens=7))(root)


def declare_failed(root: Path) -> None:
    """Turn a finished run, scored at its end, into one that gives no number."""
    path = folder_of(root, "scalar_l10", 0)
    result = json.loads((path / RESULT_FILE).read_text())
    (path / RESULT_FILE).unlink()
    kept = {key: result[key] for key in ("schema_version", "run_id", "pair_key", "arm_key")}
    failure = kept | {"class": "oom", "message": "out of memory", "last_step": STEPS}
    write_json_atomic(path / FAILURE_FILE, failure)


def link_record(root: Path) -> None:
    """Let a record be a link to a file outside the archive."""
    path = folder_of(root, "scalar_l10", 0) / RESULT_FILE
    path.rename(root / "elsewhere.json")
    path.symlink_to(root / "elsewhere.json")


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda root: write_text_atomic(root / name, text)


def best_evaluation(content: Any) -> None:
    """Report the end of training as an evaluation that was never made."""
    entry = json.loads(json.dumps(content["evaluations"][-1]))
    content["evaluations"].insert(1, entry | {"step": STEPS - 1})


def unlink(arm: str, seed: int, name: str) -> Callable[[Path], None]:
    return lambda root: (folder_of(root, arm, seed) / name).unlink()


def truncate(arm: str, seed: int, name: str) -> Callable[[Path], None]:
    def harm(root: Path) -> None:
        path = folder_of(root, arm, seed) / name
        path.write_bytes(path.read_bytes()[:-200])

    return harm


def add_to_evaluation(name: str, key: str, amount: float) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        content["evaluations"][-1]["metrics"][name][key] += amount

    return change


def set_primary(value: float) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        content["evaluations"][-1]["metrics"]["token_accuracy"]["value"] = value

    return change


def flip_digit(text: str) -> str:
    """Change the last digit."""
    place = max(index for index, letter in enumerate(text) if letter.isdigit())
    return text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]


def on_end(text: str) -> Callable[[Path], None]:
    """Add a paragraph to the README."""

    def harm(root: Path) -> None:
        path = root / "README.md"
        write_text_atomic(path, f"{path.read_text()}\n{text}\n")

    return harm


def on_readme(old: str, new: str) -> Harm:
    return on_text("README.md", old, new)
