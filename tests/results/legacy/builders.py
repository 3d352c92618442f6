"""Small files in the forms of the earlier work; every number is invented."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SETTINGS = {
    **{"ds": "ai2_arc", "q_first": False, "n_val": 200, "bsz": 4, "time_budget_sec": 240},
    **{"max_steps": 0, "eval_every": 50, "val_batches": 8, "alpha_init": -2.0, "alpha_lr": 0.0},
    **{"fs_variant": "scalar", "fs_layer_start": 6, "fs_norm": True, "fs_clip": 1.0},
}


def seed_line(seed: int, *, base: float, arm: float, loss: float = 0.01) -> str:
    difference = f"{arm - base:+.4f}"
    return f"  seed={seed} d_acc={difference} (no={base:.4f} fs={arm:.4f}) d_loss={loss:+.4f}"


def study_text(
    pairs: Sequence[tuple[float, float]],
    *,
    mean: float,
    std: float,
    signs: str | None = "1/0/1",
    loss: float = 0.01,
    settings: Mapping[str, Any] = SETTINGS,
) -> str:
    """Return a summary of (baseline, arm) pairs; the head says what it is told to say."""
    head = f"L=512 pairs={len(pairs)} mean d_acc={mean:+.4f} std={std:.4f}"
    head += f" | mean d_loss={loss:+.4f} std=0.0000"
    head += f" | sign(+/0/-)={signs}" if signs is not None else ""
    lines = [
        seed_line(seed, base=base, arm=arm, loss=loss) for seed, (base, arm) in enumerate(pairs)
    ]
    return "\n".join([f"filter: {dict(settings)!r}", "=" * 90, head, *lines]) + "\n"


def write_study(folder: Path, name: str, *pairs: tuple[float, float], **told: Any) -> Path:
    path = folder / f"_summary_{name}.txt"
    path.write_text(study_text(pairs, **told))
    return path


def record(arm: str = "baseline", stage: str = "quick", **changes: Any) -> dict[str, Any]:
    """Return one record line; ``acc`` and ``loss`` stand for the long names."""
    told = {
        **{"task": "mbpp_low", "seed": 0, "stage": stage, "config": arm, "status": "ok", "bsz": 2},
        **{"best_val_loss": changes.pop("loss", 5.0), "best_val_tok_acc": changes.pop("acc", 0.1)},
        "run_dir": f"runs/1/mbpp_longctx_sft/{arm}",
    }
    return {key: value for key, value in (told | changes).items() if value is not ...}


def write_records(folder: Path, round_name: str, *records: Mapping[str, Any]) -> Path:
    path = folder / f"_{round_name}_records.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def write_manifest(folder: Path, **means: float | None) -> Path:
    """Write a manifest that names ``_summary_<name>.txt`` for every mean."""
    experiments = [
        {"id": f"id_{name}", "summary": f"results/_summary_{name}.txt", "mean_d_acc": mean}
        for name, mean in means.items()
    ]
    path = folder / "exp_manifest.json"
    path.write_text(json.dumps({"experiments": experiments}))
    return path


def write_reference(folder: Path, *rows: Mapping[str, Any]) -> Path:
    """Write a table of published figures beside ``folder``, not in it."""
    names = (
        *("study", "kind", "task", "length_tokens", "pairs", "stage", "preset", "baseline_acc"),
        *("arm_acc", "mean_d_acc", "std_d_acc", "mean_d_loss", "sign_pos", "sign_zero", "sign_neg"),
        "budget_matched",
    )
    path = folder.parent / "published.csv"
    lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path
