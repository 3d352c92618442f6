"""How the runs of a sweep are started: section ``launcher``, which cannot change a number."""

from dataclasses import dataclass


@dataclass
class LauncherConfig:
    """Options of the launchers; which one uses which stands in launch/README.md."""

    slots: int | None = None  # runs at a time; null: as many as GPUs, cores or the cluster allow
    runs_per_gpu: int | None = None  # null: as many as the measured memory allows
    reuse: bool = False  # keep worker processes between runs
    timeout_minutes: float | None = None  # a run that takes longer is ended and invalid
    stall_minutes: float | None = None  # a run without a sign of life is ended
    retries: int = 1  # of runs that were lost: worker or node gone, stalled, network
    grace_seconds: float = 30.0  # between asking a run to stop and ending its processes
    ray_address: str | None = None  # null: a cluster of this machine; "auto" or host:port
    cpus_per_run: float | None = None  # Ray resources of one run; null: what the run uses
    gpus_per_run: float | None = None
    shared_files: bool = True  # Ray: workers see output.root; false: results are sent back
