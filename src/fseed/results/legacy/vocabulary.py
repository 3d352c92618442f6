"""Names of the earlier work in terms of ours: tasks, orders, stages, presets."""

import re
from collections.abc import Mapping
from typing import Any

STAGES = {"med": "medium", "quick": "quick", "probe": "probe"}

# longest first: protein_contact before protein
_TASK_PREFIXES = {
    "embedding_hotpot": "hotpot_retrieval",
    "protein_contact": "protein_contact",
    "protein_ss": "protein_ss",
    "punc_restore": "punc_restore",
    "longfill": "longfill",
    "sudoku4": "sudoku4",
    "sudoku9": "sudoku9",
    "hotpot": "hotpot",
    "squad": "squad",
    "mbpp": "mbpp",
    "arc": "arc",
}
_ROUND = re.compile(r"(?<![A-Za-z0-9])round\d+")
_STATIC = {"fs_norm": False, "fs_clip": 0.0, "fs_detach": False, "fs_layer_start": 1}


def task_of(name: str | None) -> str | None:
    """Return our task for a task or study name of the earlier work; None where there is none.

    >>> task_of("mbpp_low"), task_of("protein_ss_refine"), task_of("chess")
    ('mbpp', 'protein_ss', None)
    """
    for prefix, task in _TASK_PREFIXES.items():
        if name is not None and name.startswith(prefix):
            return task
    return None


def round_of(name: str) -> str | None:
    """Return ``round20`` for names of that round.

    >>> round_of("_summary_round20_serial_earlystop_s0"), round_of("arc_static")
    ('round20', None)
    """
    found = _ROUND.search(name.replace("_", " "))
    return found.group() if found is not None else None


def order_of(settings: Mapping[str, Any]) -> str | None:
    """Return our order for the settings of a study."""
    if "mask_region" in settings:
        return str(settings["mask_region"])
    if "q_first" not in settings:
        return None
    return "evidence_last" if settings["q_first"] else "question_last"


def preset_of(settings: Mapping[str, Any]) -> str | None:
    """Return the preset with these settings; None where no preset has them.

    >>> preset_of({"fs_variant": "scalar", "fs_layer_start": 6, "alpha_init": -2.0})
    'scalar_l6'
    """
    start = settings.get("fs_layer_start")
    if start is None:
        return None
    if all(settings.get(key) == value for key, value in _STATIC.items()):
        return "static"
    if settings.get("alpha_init", -2.0) not in (-2.0, -3.0):
        return None
    if settings.get("seed_scale", 1.0) != 1.0:
        return None
    changes = _changes(settings)
    gate = "inputgate" if settings.get("fs_in_gate") else settings.get("fs_variant", "scalar")
    if gate in ("head", "inputgate"):
        return f"{gate}_l{start}" if not changes else None
    return "_".join([f"{gate}_l{start}", *changes]) if len(changes) < 2 else None


def _changes(settings: Mapping[str, Any]) -> list[str]:
    """Return what differs from the scalar preset, in the words of the preset names."""
    schedule = {"cosine": "sched_cos", "cos": "sched_cos", "linear": "sched_linear"}
    kind = str(settings.get("fs_alpha_schedule", "none"))
    told = {
        "norm_detach": settings.get("alpha_init", -2.0) == -3.0,
        "norm_node": settings.get("fs_detach", True) is False,
        "nonorm_detach": settings.get("fs_norm", True) is False,
        "trainable": bool(settings.get("alpha_lr")),
        schedule.get(kind, kind): kind != "none",
    }
    return [name for name, holds in told.items() if holds]
