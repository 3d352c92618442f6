"""Runs and studies of the earlier work as tidy rows, with the columns of our own runs."""

from collections.abc import Mapping
from typing import Any

from fseed.results.legacy.audit import Audit
from fseed.results.legacy.model import LegacyRun, Study
from fseed.results.legacy.vocabulary import order_of, preset_of, task_of

# settings of the earlier work under the names of ours; its clock is no budget of ours
_COLUMNS = {
    "alpha_init": "alpha.init",
    "alpha_lr": "alpha.lr",
    "fs_layer_start": "lstart",
    "fs_variant": "fs_variant.gate",
    "fs_clip": "fs_variant.clip",
    "fs_detach": "fs_variant.detach",
    "fs_alpha_schedule": "schedule.kind",
    "model_lr": "optim.lr",
    "lr": "optim.lr",
    "bsz": "budget.batch_size",
    "time_budget_sec": "budget.seconds",
    "time_budget": "budget.seconds",
    "eval_every": "budget.eval_every_steps",
    "val_batches": "budget.evaluation_batches",
    "n_train": "data.num_train",
    "n_val": "data.num_validation",
}


def legacy_rows(audit: Audit) -> list[dict[str, Any]]:
    """Return a row per run and per study; scores are fractions, what was not told is absent.

    ``kind`` is legacy_run or legacy_study. ``best.*`` is the best of all evaluations, the score
    that was reported; a study has ``difference.*`` in place of scores.
    """
    return [
        *(_run_row(run) for run in audit.runs),
        *(_study_row(study) for study in audit.studies),
    ]


def _run_row(run: LegacyRun) -> dict[str, Any]:
    labels = _labels(run.study, task=run.task, settings=run.settings, stage=run.stage)
    size = {"budget.batch_size": run.batch_size} if run.batch_size is not None else {}
    return {
        **{"kind": "legacy_run", "path": run.place, "status": run.status, "reason": run.reason},
        **{"arm": "no_fs" if run.is_baseline else run.arm, **labels, "seed": run.seed},
        **_settings(run.settings),
        **size,
        **run.scores,
        "legacy.run_dir": run.folder,
    }


def _study_row(study: Study) -> dict[str, Any]:
    labels = _labels(study.label, task=task_of(study.name), settings=study.settings, stage="plain")
    names = {"d_acc": "token_accuracy", "d_seq": "sequence_accuracy", "d_loss": "loss"}
    signs = study.signs or (None, None, None)
    return {
        **{"kind": "legacy_study", "path": study.place, "status": "finished", "reason": None},
        **{"arm": preset_of(study.settings) or "prompt_fs", **labels, "seed": None},
        **_settings(study.settings),
        **{f"difference.{names.get(key, key)}": value for key, value in study.means.items()},
        **{f"spread.{names.get(key, key)}": value for key, value in study.deviations.items()},
        **{"task.max_length_tokens": study.length_tokens, "num_pairs": study.num_pairs},
        **dict(zip(("num_up", "num_tied", "num_down"), signs, strict=True)),
    }


def _labels(
    study: str, *, task: str | None, settings: Mapping[str, Any], stage: str
) -> dict[str, Any]:
    return {
        **{"task.name": task_of(task) or task, "legacy.task": task, "data.source": "legacy"},
        **{"task.order": order_of(settings), "sweep.name": study, "sweep.stage": stage},
    }


def _settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings under our names, the others under ``legacy.*``; no step limit is None."""
    told = {_COLUMNS.get(key, f"legacy.{key}"): value for key, value in settings.items()}
    told.pop("legacy.seed", None)
    steps = told.pop("legacy.max_steps", None)
    return told | {"budget.steps": steps or None}
