"""How many CPU threads a run computes with: asked for, recorded, or its share of the machine."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fseed.planned_run import PlannedRun
from fseed.records import PROVENANCE_FILE

# read by OpenMP, MKL and OpenBLAS when torch and numpy are imported
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CPU_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")


def count_cores(*, quota_file: Path = CPU_QUOTA_FILE) -> int:
    """Return how many cores this process may use: its affinity, bounded by a container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text("ascii").split()[:2]
        cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        # no container, or "max": no bound
        pass
    return max(cores, 1)


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment of a process that computes with ``threads`` threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"OMP_WAIT_POLICY": "passive"}


def recorded_threads(run: PlannedRun) -> int | None:
    """Return the threads of the first start of ``run``, else of a run of the same pair.

    None where neither has begun, where they do not compute on a CPU, and where this machine has
    fewer cores: then the record of the run tells that the digits may differ.
    """
    for path in (run.run_dir / PROVENANCE_FILE, *_pair_files(run)):
        told = _read(path)
        if told.get("pair_key") != run.pair_key:
            continue
        attempts = told.get("attempts") or [told]
        threads = attempts[0].get("device", {}).get("threads")
        if isinstance(threads, int):
            return threads if threads <= count_cores() else None
    return None


def _pair_files(run: PlannedRun) -> Iterator[Path]:
    """Yield the provenance of runs of the same seed beside ``run``, in a fixed order."""
    stage = run.run_dir.parents[1]
    yield from sorted(stage.glob(f"*/s{run.config.seed}-*/{PROVENANCE_FILE}"))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
