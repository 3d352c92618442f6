"""The one way from a planned run to the trainer, in whatever process it starts."""

import os
from dataclasses import replace

from fseed.launch.threads import recorded_threads
from fseed.planned_run import PlannedRun, RunOutcome


def train(run: PlannedRun, position: str) -> RunOutcome:
    """Train one run; the import of torch and Lightning takes seconds."""
    # threads that spin while they wait stall a busy machine; OpenMP reads this at import
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from fseed.training.runner import train_run

    return train_run(with_threads(run), position=position)


def with_threads(run: PlannedRun) -> PlannedRun:
    """Return ``run`` with the CPU threads that it, or its pair, was begun with.

    Another number of threads moves the last bits of float sums: a run that continues elsewhere
    would differ from one that was never stopped.
    """
    trainer = run.config.trainer
    threads = recorded_threads(run) if trainer.num_threads is None else None
    if threads is None:
        return run
    trainer = replace(trainer, num_threads=threads)
    return replace(run, config=replace(run.config, trainer=trainer))
