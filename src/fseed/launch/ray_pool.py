"""Planned runs as tasks of a Ray cluster, one that is started here or one that is there already.

Ray brings each run to a worker process with its share of CPUs and GPUs. Nothing is shipped but the
planned run: fseed must be installed on every node, and a worker with other code refuses the run.
"""

import math
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from fseed.config.schema import Accelerator, LauncherConfig
from fseed.errors import UserError
from fseed.launch.attempts import Limits
from fseed.launch.cluster_pool import refusal, run_on
from fseed.launch.cluster_run import INTERRUPTED, Ended
from fseed.launch.endings import Ending
from fseed.launch.gpus import find_gpus
from fseed.launch.job import Job
from fseed.launch.ray_worker import Parcel, Returned, put_files, read_files, run_parcel
from fseed.launch.slots import devices_of, too_few_gpus
from fseed.launch.threads import count_cores
from fseed.planned_run import RunOutcome
from fseed.records import one_line
from fseed.sweep.lock import RunLocked, run_lock

# no reports over the network; Ray leaves CUDA_VISIBLE_DEVICES alone where it gives out no GPU
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
POLL_SECONDS = 0.5
CONNECT_SECONDS = 10.0

# Ray's errors that say that the worker, its node or its answer is gone, by name
LOST_ERRORS = frozenset(
    {
        *("WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError", "RaySystemError"),
        *("ObjectLostError", "ObjectFetchTimedOutError", "OwnerDiedError"),
        *("ObjectReconstructionFailedError", "NodePreemptedError"),
    }
)


@dataclass(frozen=True)
class Share:
    """What one run takes of a node."""

    cpus: float
    gpus: float


def launch_jobs(jobs: Sequence[Job], options: LauncherConfig) -> list[RunOutcome]:
    """Run every job on the cluster; one outcome each, in order, whatever happens to workers.

    Raises:
        UserError: before the first run, when the cluster cannot be reached or can never run one.
        KeyboardInterrupt: after every run was asked to save itself and has ended.
    """
    share = share_of(jobs, options)
    with connected(options, share) as ray, ExitStack() as locks:
        return run_on(RayTasks(ray, options, share, locks), jobs, options)


def share_of(jobs: Sequence[Job], options: LauncherConfig) -> Share:
    """Return the CPUs and GPUs of one run, by its own needs where the options say nothing."""
    cpus, gpus = options.cpus_per_run, options.gpus_per_run
    if cpus is None:
        cpus = float(max(devices_of(j) * (j.run.config.trainer.num_threads or 1) for j in jobs))
    if gpus is None:
        on_gpu = [job for job in jobs if job.run.config.trainer.accelerator is Accelerator.gpu]
        gpus = float(max((devices_of(job) for job in on_gpu), default=0))
    return Share(cpus, gpus)


def count_at_once(jobs: Sequence[Job], options: LauncherConfig) -> int:
    """Return how many of ``jobs`` may run at a time; all, where the cluster is not known.

    Raises:
        UserError: when this machine, where it is the cluster, has too few GPUs for one.
    """
    share, limit = share_of(jobs, options), options.slots or len(jobs)
    if options.ray_address is not None:
        return min(limit, len(jobs))
    places = [float(limit), float(len(jobs))]
    if options.slots is None and share.cpus:
        places.append(max(count_cores() // share.cpus, 1))
    if share.gpus:
        num_gpus = len(find_gpus())
        if num_gpus < share.gpus:
            raise too_few_gpus(math.ceil(share.gpus), num_gpus)
        places.append(num_gpus // share.gpus)
    return int(min(places))


@contextmanager
def connected(options: LauncherConfig, share: Share) -> Iterator[Any]:
    """Yield Ray, connected; a cluster that was started here ends here.

    Raises:
        UserError: when Ray is not installed, cannot be reached, or lacks what one run takes.
    """
    ray = import_ray()
    is_own = not ray.is_initialized()
    if is_own:
        _connect(ray, options, share)
    try:
        _check_resources(ray, share)
        yield ray
    finally:
        if is_own:
            ray.shutdown()


def import_ray() -> Any:
    """Return the module ``ray``; UserError when it is not installed."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    try:
        return import_module("ray")
    except ModuleNotFoundError as error:
        raise UserError(
            f"launcher=ray: {error.name} is not installed\ninstall it: pip install 'fseed[ray]'"
        ) from error


def _connect(ray: Any, options: LauncherConfig, share: Share) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    address = options.ray_address
    try:
        if address is not None:
            _knock(address)
            ray.init(address=address, **quiet)
            return
        cpus = None if options.slots is None else max(math.ceil(options.slots * share.cpus), 1)
        # "local" never joins a cluster that happens to run here
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"launcher.ray_address={address or 'null'}: no Ray cluster: {one_line(error)}\n"
            "start one with ray start --head, or leave the address out for one of this machine"
        ) from error


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at host:port; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def _check_resources(ray: Any, share: Share) -> None:
    """Refuse what no node of the cluster has: such a run would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(n.get("CPU", 0) >= share.cpus and n.get("GPU", 0) >= share.gpus for n in nodes):
        return
    found = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
    raise UserError(
        f"a run takes {share.cpus:g} CPU and {share.gpus:g} GPU (launcher.cpus_per_run, "
        f"launcher.gpus_per_run), and no node of the Ray cluster has that: {found or 'no node'}"
    )


@dataclass
class RayTasks:
    """What is on the cluster and has not ended."""

    ray: Any
    options: LauncherConfig
    share: Share
    locks: ExitStack
    running: dict[Any, int] = field(default_factory=dict)  # reference of a task -> its number
    jobs: dict[int, Job] = field(default_factory=dict)
    _refused: list[tuple[int, Ended]] = field(default_factory=list)
    _held: dict[int, ExitStack] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Prepare the task."""
        self._task = self.ray.remote(
            max_calls=0 if self.options.reuse else 1,
            # Ray's own retries know neither what was saved nor what deserves another start
            max_retries=0,
            num_cpus=self.share.cpus,
            num_gpus=self.share.gpus,
        )(run_parcel)

    def room(self, num_running: int) -> int:
        """Return what ``launcher.slots`` leaves, else all: Ray queues what it has no place for."""
        slots = self.options.slots
        return 10**6 if slots is None else max(slots - num_running, 0)

    def start(self, jobs: Mapping[int, Job]) -> None:
        """Hand ``jobs`` over one by one; the next ``poll`` tells which of them were refused."""
        for number, job in jobs.items():
            self.jobs[number] = job
            try:
                self.running[self._task.remote(self._pack(number, job))] = number
            except RunLocked as error:
                outcome = RunOutcome("skipped", str(error), 0)
                self._refused.append((number, Ended(Ending.answered, outcome)))
            # the others are on their way, and this may be the folder of one run alone
            except (RuntimeError, OSError) as error:
                self._let_go(number)
                self._refused.append((number, refusal(error)))

    def poll(self) -> list[tuple[int, Ended]]:
        """Wait a moment; return the runs that have ended."""
        refused, self._refused = self._refused, []
        if not self.running:
            time.sleep(0.0 if refused else POLL_SECONDS)
            return refused
        ended, _ = self.ray.wait(list(self.running), num_returns=1, timeout=POLL_SECONDS)
        for reference in ended:
            number, answer = self._end(reference)
            if answer is None:
                # its process is about to leave; another takes the run
                time.sleep(POLL_SECONDS)
                self.start({number: self.jobs[number]})
            else:
                refused.append((number, answer))
        return refused

    def ask_to_stop(self) -> None:
        """Interrupt every run; what waits for a place never starts."""
        for reference in self.running:
            self.ray.cancel(reference, force=False)

    def kill(self) -> None:
        """End the worker of every run."""
        for reference in self.running:
            self.ray.cancel(reference, force=True)

    def _pack(self, number: int, job: Job) -> Parcel:
        """Return what the worker needs; RunLocked when another process works on the run."""
        limits = Limits.of(self.options)
        threads = job.run.config.trainer.num_threads or max(int(self.share.cpus), 1)
        parcel = Parcel(job, limits, threads, Path.cwd(), reuse=self.options.reuse)
        if self.options.shared_files:
            return parcel
        # the worker locks a folder of its own: this one is held here meanwhile
        held = ExitStack()
        held.enter_context(run_lock(job.run.run_dir))
        self._held[number] = self.locks.enter_context(held)
        return replace(parcel, files=read_files(job.run.run_dir))

    def _end(self, reference: Any) -> tuple[int, Ended | None]:
        number = self.running.pop(reference)
        try:
            returned = self.ray.get(reference)
            assert isinstance(returned, Returned)
            if returned.files is not None:
                put_files(self.jobs[number].run.run_dir, returned.files)
            ended = returned.ended
        except OSError as error:
            folder = self.jobs[number].run.run_dir
            outcome = RunOutcome("failed", f"cannot write to {folder}: {error.strerror}", 1)
            ended = Ended(Ending.answered, outcome)
        except Exception as error:
            ended = explain_error(error)
        finally:
            self._let_go(number)
        return number, ended

    def _let_go(self, number: int) -> None:
        """Hold a run no longer, where it was held here."""
        if number in self._held:
            self._held.pop(number).close()


def explain_error(error: Exception) -> Ended:
    """Return how a run ended that gave no answer, by Ray's error."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "TaskCancelledError" in names:
        return Ended(Ending.answered, INTERRUPTED)
    if "OutOfMemoryError" in names:
        message = f"Ray ended the worker because its node ran out of memory: {one_line(error)}"
        return Ended(Ending.out_of_memory, RunOutcome("failed", message, 1))
    if names & LOST_ERRORS and "ModuleNotFoundError" not in str(error):
        message = f"the Ray worker or its node was lost ({type(error).__name__})"
        return Ended(Ending.node_lost, RunOutcome("failed", message, 1))
    message = f"the Ray worker failed: {type(error).__name__}: {one_line(error)}"
    return Ended(Ending.exited, RunOutcome("failed", message, 1))
