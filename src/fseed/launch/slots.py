"""Places to run in: which GPU and how many CPU threads each run of a sweep gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from fseed.config.schema import Accelerator, LauncherConfig
from fseed.errors import UserError
from fseed.launch.gpus import find_gpus
from fseed.launch.job import Job
from fseed.launch.threads import count_cores, thread_variables


@dataclass(frozen=True)
class Slot:
    """One place for one run at a time."""

    number: int
    threads: int  # CPU threads of a run that does not name its own
    gpus: tuple[str, ...] = ()  # as in CUDA_VISIBLE_DEVICES; none: a CPU slot

    @property
    def label(self) -> str:
        """Return "3", or "3 gpu 0" where a GPU belongs to it."""
        return f"{self.number} gpu {','.join(self.gpus)}" if self.gpus else str(self.number)

    def environment(self) -> dict[str, str]:
        """Return what the worker of this slot finds in its environment beside the parent's."""
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {}
        return thread_variables(self.threads) | visible


@dataclass(frozen=True)
class SlotPlan:
    """The slots of one launch, and what to tell about them."""

    slots: Sequence[Slot]
    note: str


def plan_slots(
    jobs: Sequence[Job],
    options: LauncherConfig,
    *,
    runs_per_gpu: int | None = None,
    cores: int | None = None,
    gpus: Sequence[str] | None = None,
) -> SlotPlan:
    """Return the slots for ``jobs``: GPU slots where any of them asks for a GPU.

    ``runs_per_gpu`` is what fits by measurement, where ``launcher.runs_per_gpu`` is null; ``cores``
    and ``gpus`` are found where they are not given.

    Raises:
        UserError: for no GPU, or too few, where one is asked for.
    """
    cores = count_cores() if cores is None else cores
    if any(job.run.config.trainer.accelerator is Accelerator.gpu for job in jobs):
        found = find_gpus() if gpus is None else gpus
        return _gpu_slots(jobs, options, cores=cores, gpus=found, measured=runs_per_gpu)
    return _cpu_slots(jobs, options, cores=cores)


def _cpu_slots(jobs: Sequence[Job], options: LauncherConfig, *, cores: int) -> SlotPlan:
    """One thread a device where nothing is said: runs side by side scale better than threads."""
    asked = max((job.run.config.trainer.num_threads or 0 for job in jobs), default=0)
    devices = max((devices_of(job) for job in jobs), default=1)
    number = options.slots or max(cores // (devices * (asked or 1)), 1)
    # all devices of a run together
    threads = devices * asked or max(cores // max(options.slots or cores, 1), devices)
    number = min(number, max(len(jobs), 1))
    slots = [Slot(index, threads) for index in range(number)]
    return SlotPlan(slots, f"{_count(number, 'slot')} of {_count(threads, 'CPU thread')}")


def _gpu_slots(
    jobs: Sequence[Job],
    options: LauncherConfig,
    *,
    cores: int,
    gpus: Sequence[str],
    measured: int | None,
) -> SlotPlan:
    devices = max((devices_of(job) for job in jobs), default=1)
    groups = [tuple(gpus[i : i + devices]) for i in range(0, len(gpus) - devices + 1, devices)]
    if not groups:
        raise too_few_gpus(devices, len(gpus))
    per_gpu, why = _runs_per_gpu(options, num_groups=len(groups), measured=measured)
    number = min(per_gpu * len(groups), options.slots or len(jobs), max(len(jobs), 1))
    threads = max(cores // number, 1)
    # neighbours get different GPUs: a short sweep spreads before it packs
    places = islice((group for _ in range(number) for group in groups), number)
    slots = [Slot(index, threads, group) for index, group in enumerate(places)]
    told = f"{_count(number, 'slot')} on {_count(len(gpus), 'GPU')}"
    return SlotPlan(slots, f"{told}, {_count(threads, 'CPU thread')} each; {why}")


def _runs_per_gpu(
    options: LauncherConfig, *, num_groups: int, measured: int | None
) -> tuple[int, str]:
    if options.runs_per_gpu is not None:
        return options.runs_per_gpu, f"launcher.runs_per_gpu={options.runs_per_gpu}"
    if options.slots is not None and options.slots > num_groups:
        return -(-options.slots // num_groups), f"launcher.slots={options.slots}"
    if measured is not None:
        return max(measured, 1), f"{_count(max(measured, 1), 'run')} fit on a GPU, as measured"
    return 1, "one run per GPU: nothing was measured (launcher.runs_per_gpu=N says otherwise)"


def devices_of(job: Job) -> int:
    """Return how many GPUs, or processes on CPUs, one run takes."""
    return job.run.config.trainer.devices


def too_few_gpus(devices: int, num_gpus: int) -> UserError:
    """Return the refusal of a run that needs more GPUs than there are."""
    found = f"{_count(num_gpus, 'GPU')} to use (CUDA_VISIBLE_DEVICES)"
    return UserError(f"trainer.devices={devices}, but only {found}; lower trainer.devices")


def merged_environment(base: Mapping[str, str], slot: Slot) -> dict[str, str]:
    """Return the environment of a worker: the parent's with what the slot says."""
    return {**base, **slot.environment()}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
