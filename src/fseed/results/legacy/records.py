"""Record files (one JSON object a line) and the manifest of the earlier work."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fseed.record_schema import one_line
from fseed.results.legacy.model import ACCURACY, LOSS, Contents, Entry, LegacyRun
from fseed.results.legacy.vocabulary import STAGES, round_of

_SCORES = {
    "best_val_tok_acc": ACCURACY,
    "best_val_loss": LOSS,
    "val_r1": "best.recall_at_1",
    "val_r5": "best.recall_at_5",
    "val_mrr10": "best.mrr_at_10",
}


def read_records(path: Path, text: str, contents: Contents) -> None:
    """Add a run per line; a line that is no record is a problem."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
        except (ValueError, RecursionError) as error:
            contents.problems.append(f"{path}:{number}: not valid JSON ({one_line(error)})")
            continue
        if not isinstance(told, dict) or "status" not in told:
            contents.problems.append(f"{path}:{number}: no record of a run: {line[:80]}")
            continue
        contents.runs.append(_run(path, number, told))


def read_manifest(path: Path, text: str, contents: Contents) -> None:
    """Add the experiments of exp_manifest.json."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        contents.problems.append(f"{path}: not valid JSON ({one_line(error)})")
        return
    listed = told.get("experiments") if isinstance(told, dict) else None
    if not isinstance(listed, list):
        contents.foreign.append(path)
        return
    for number, item in enumerate(listed, start=1):
        if not isinstance(item, dict) or "summary" not in item:
            contents.problems.append(f"{path}: experiment {number} names no summary")
            continue
        contents.entries.append(_entry(path, item))


def _entry(path: Path, item: Mapping[str, Any]) -> Entry:
    is_told = _is_number(item, "mean_d_acc")
    return Entry(
        path=path,
        identifier=str(item.get("id")),
        summary=Path(str(item["summary"])).name,
        role=str(item.get("paper_role")),
        mean_difference=float(item["mean_d_acc"]) if is_told else None,
    )


def _run(path: Path, number: int, told: Mapping[str, Any]) -> LegacyRun:
    is_ok = told["status"] == "ok"
    folder = str(told.get("run_dir") or "") or None
    arm = str(told.get("config") or told.get("mode"))
    return LegacyRun(
        path=path,
        line=number,
        study=round_of(path.stem) or path.stem,
        task=_text(told.get("task")) or _task_of_folder(folder),
        stage=STAGES.get(str(told.get("stage")), "plain"),
        arm=arm,
        seed=told["seed"] if isinstance(told.get("seed"), int) else _only_seed(path),
        status="finished" if is_ok else "failed",
        reason=None if is_ok else one_line(told.get("error") or told["status"]),
        batch_size=told["bsz"] if isinstance(told.get("bsz"), int) else None,
        scores={name: float(told[key]) for key, name in _SCORES.items() if _is_number(told, key)},
        folder=folder,
    )


def _only_seed(path: Path) -> int | None:
    """Return the seed in the name of a file that holds one seed only."""
    return 0 if path.stem.endswith("_s0_records") else None


def _task_of_folder(folder: str | None) -> str | None:
    """Return the task in runs/<time>/<task>_sft/<arm>."""
    parts = Path(folder).parts if folder is not None else ()
    return parts[-2].removesuffix("_sft") if len(parts) > 1 else None


def _is_number(told: Mapping[str, Any], key: str) -> bool:
    value = told.get(key)
    # a whole number of any length is valid JSON, and no float
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return is_whole or isinstance(value, float)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
