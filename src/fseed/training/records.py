"""Identity, result and failure files of a run, written from what training knows."""

import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from fseed.config.rules import notes
from fseed.config.schema import Accelerator, RunConfig
from fseed.models.checkpoint import save_future_seed, save_safetensors, save_task_head
from fseed.models.rwkv7 import RWKV7
from fseed.ops.kernel_backends import ResolvedBackend
from fseed.planned_run import PlannedRun
from fseed.provenance import build_provenance, redact, redact_all
from fseed.record_schema import INSTALLATION_KEYS
from fseed.records import (
    CHOICES_FILE,
    CONFIG_FILE,
    FAILURE_FILE,
    PROVENANCE_FILE,
    RESULT_FILE,
    SCHEMA_VERSION,
    read_run,
    write_json_atomic,
    write_text_atomic,
)
from fseed.sandbox.isolation import isolation_level
from fseed.tasks.base import Task
from fseed.tasks.registry import TaskData, get_task, task_notes
from fseed.training.checkpoint_file import Start, remove_checkpoints
from fseed.training.memory import peak_memory_gib, peak_reserved_gib
from fseed.training.memory_split import training_size
from fseed.training.module import FutureSeedModule
from fseed.training.run_log import RunLog
from fseed.worker_facts import worker_facts

# what may differ between the first start of a run and its continuation
ATTEMPT_KEYS = (
    *("started_at", "git_commit", "git_dirty_hash", "platform"),
    *INSTALLATION_KEYS,
)
NOTE_MIXED = "continued on another installation, device or backend, see attempts in provenance.json"
NOTE_RANDOM = "backbone randomly initialised by the official RWKV-7 rules, no pre-training"


def write_config(run: PlannedRun) -> None:
    """Write config.yaml and choices.json: what was asked for, before anything can fail."""
    config_text = yaml.safe_dump(redact_all(run.resolved_config()), sort_keys=False)
    write_text_atomic(run.run_dir / CONFIG_FILE, config_text)
    choices = {
        "schema_version": SCHEMA_VERSION,
        "arm": run.arm,
        "choices": run.choices,
        "overrides": redact_all(run.overrides),
        "command": redact_all([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    write_json_atomic(run.run_dir / CHOICES_FILE, choices)


def write_provenance(
    run: PlannedRun,
    *,
    data: TaskData,
    model: RWKV7,
    backend: ResolvedBackend,
    start: Start,
    step: Mapping[str, Any],
) -> None:
    """Write provenance.json: what the run really reads and computes on, and each of its starts."""
    config = run.config
    facts = {
        "device": describe_device(config),
        "wkv_backend": asdict(backend),
        "step": dict(step),
        "data": {
            "source": config.data.source.value,
            "counts": {split: len(examples) for split, examples in data.splits.items()},
            "preflight": data.preflight.as_dict(),
        },
        "model": {
            "name": config.model.name,
            "num_layers": model.shape.num_layers,
            "parameters": sum(p.numel() for p in model.parameters()),
            "initialization": "random" if config.model.weights is None else "checkpoint",
        },
        "sandbox": isolation_level() if get_task(config.task.name).executes_code else None,
    }
    provenance = build_provenance(run) | facts
    earlier = read_run(run.run_dir).provenance.get("attempts", [])
    attempt = {key: provenance[key] for key in ATTEMPT_KEYS}
    attempt |= _sizes(config) | {
        "from_step": max(start.step, 0),
        "step": dict(step),
        "worker": worker_facts(),
        "damaged_checkpoints": list(start.damaged),
    }
    write_json_atomic(run.run_dir / PROVENANCE_FILE, provenance | {"attempts": [*earlier, attempt]})


def write_step(run: PlannedRun, step: Mapping[str, Any]) -> None:
    """Tell in provenance.json how the steps of this attempt were done, now that they are."""
    provenance = read_run(run.run_dir).provenance
    *earlier, last = provenance["attempts"]
    told = {"step": dict(step), "attempts": [*earlier, last | {"step": dict(step)}]}
    write_json_atomic(run.run_dir / PROVENANCE_FILE, provenance | told)


def write_result(
    run: PlannedRun, *, log: RunLog, module: FutureSeedModule, data: TaskData, task: Task
) -> None:
    """Keep what the configuration asks for, then write ``result.json`` as the last file."""
    output = run.config.output
    if output.save_weights:
        weights_path = run.run_dir / "model.safetensors"
        save_safetensors(module.model, weights_path)
        if module.future_seed is not None:
            save_future_seed(module.future_seed, weights_path)
        if module.learner.task_head is not None:
            save_task_head(module.learner.task_head, weights_path)
    rows, device = log.training_rows, run_device(run.config)
    result = {
        "schema_version": SCHEMA_VERSION,
        "status": "finished",
        "run_id": run.run_id,
        "pair_key": run.pair_key,
        "arm_key": run.arm_key,
        "steps": rows[-1]["step"],
        "tokens": log.total("tokens"),
        "answer_tokens": log.total("answer_tokens"),
        "wall_seconds": log.total("seconds"),
        "stop_reason": "budget",
        "primary_metric": task.primary_metric,
        "evaluations": [evaluation_entry(row) for row in log.evaluation_rows],
        "constant_baseline": data.constant_baseline,
        "copy_baseline": data.copy_baseline,
        "gates": {"first": rows[0]["gates_before"], "last": rows[-1]["gates"]},
        # the last scoring comes behind the last row
        "peak_memory_gib": max(peak_memory_gib(device), *(row["memory_gib"] for row in rows)),
        "peak_reserved_gib": peak_reserved_gib(device),
        **_sizes(run.config),
        "memory_splits": [split.row() for split in log.splits],
        "tokens_per_second": log.total("tokens") / sum(row["seconds"] for row in rows),
        "notes": collect_notes(run, log=log),
    }
    write_json_atomic(run.run_dir / RESULT_FILE, result)
    remove_checkpoints(run.run_dir, keep_last=output.keep_checkpoint)


def collect_notes(run: PlannedRun, *, log: RunLog) -> list[str]:
    """Return what a reader of the numbers has to know beside them."""
    start = [] if run.config.model.weights is not None else [NOTE_RANDOM]
    attempts = read_run(run.run_dir).provenance["attempts"]
    first = {key: attempts[0][key] for key in INSTALLATION_KEYS}
    is_mixed = any(attempt[key] != value for attempt in attempts for key, value in first.items())
    told = task_notes(run.config.task.name, has_weights=run.config.model.weights is not None)
    damaged = [text for attempt in attempts for text in attempt.get("damaged_checkpoints", ())]
    happened = [*([NOTE_MIXED] if is_mixed else []), *damaged]
    return [*start, *happened, *(split.text() for split in log.splits), *notes(run.config), *told]


def write_failure(run: PlannedRun, *, failure: str, error: BaseException) -> None:
    """Write ``failure.json``: class, message, traceback and how far the run came."""
    device = torch.device("cuda" if torch.cuda.is_initialized() else "cpu")
    # of several processes this one trained nothing: its own memory says nothing of theirs
    is_known = run.config.trainer.devices == 1
    content = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run.run_id,
        "pair_key": run.pair_key,
        "class": failure,
        "message": redact(str(error) or type(error).__name__),
        "traceback": redact("".join(traceback.format_exception(error))),
        "last_step": RunLog(run.run_dir).last_recorded_step(),
        "peak_memory_gib": peak_memory_gib(device) if is_known else None,
    }
    write_json_atomic(run.run_dir / FAILURE_FILE, content)


def run_device(config: RunConfig) -> torch.device:
    """Return the device of a run."""
    return torch.device("cuda" if config.trainer.accelerator is Accelerator.gpu else "cpu")


def _sizes(config: RunConfig) -> dict[str, int]:
    """Return how many samples at a time are really used."""
    return {
        "micro_batch_size": training_size(config),
        "eval_batch_size": config.budget.eval_batch_size,
    }


def describe_device(config: RunConfig) -> dict[str, Any]:
    """Return what the run computes on, without any name of the machine."""
    trainer, shared = config.trainer, {}
    if trainer.devices > 1:
        shared = {"devices": trainer.devices, "strategy": trainer.strategy.value}
    if trainer.accelerator is Accelerator.gpu:
        name = torch.cuda.get_device_name()
        return {"kind": "gpu", "name": name, "cuda": torch.version.cuda, **shared}
    return {"kind": "cpu", "threads": torch.get_num_threads(), **shared}


def evaluation_entry(row: dict[str, Any]) -> dict[str, Any]:
    """Turn an evaluation row of metrics.jsonl into its entry of result.json."""
    metrics = {name: {"value": v, "n": row["n"][name]} for name, v in row["metrics"].items()}
    return {"step": row["step"], "split": row["split"], "metrics": metrics}
