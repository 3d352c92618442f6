"""What a run takes of a GPU, measured in a process of its own.

``python -m fseed.launch.gpu_memory`` is that process, started from here and by nobody else.
The counters of PyTorch do not know the context of the driver and the code of the kernels, some
hundred MiB a process. So the driver is asked too, before the process and at its end.
"""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fseed.errors import UserError
from fseed.planned_run import PlannedRun

PROBE_SECONDS = 1800.0
DRIVER_SECONDS = 30.0
MIB_PER_GIB = 1024.0


class NotMeasured(Exception):
    """Nothing is known about the memory; the message says why."""


@dataclass(frozen=True)
class GpuMemory:
    """One GPU as the driver tells it."""

    name: str
    total_gib: float
    free_gib: float


def read_gpu_memory(gpu: str) -> GpuMemory:
    """Ask the driver about one GPU, named as in CUDA_VISIBLE_DEVICES.

    Raises:
        NotMeasured: without the driver's tool, and for a part of a GPU (MIG), of which it tells
            nothing.
    """
    if gpu.startswith("MIG-"):
        raise NotMeasured(f"the driver does not tell the memory of {gpu}")
    command = ["nvidia-smi", "-i", gpu, "--query-gpu=memory.total,memory.free,name"]
    command += ["--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(
            command, capture_output=True, text=True, timeout=DRIVER_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NotMeasured(f"nvidia-smi does not answer ({type(error).__name__})") from error
    return parse_memory(told)


def parse_memory(told: str) -> GpuMemory:
    """Read a line such as ``81559, 80994, NVIDIA H100 80GB HBM3``, in MiB.

    Raises:
        NotMeasured: for anything else, such as ``[N/A]``.
    """
    try:
        (line,) = told.strip().splitlines()
        total, free, name = (part.strip() for part in line.split(",", 2))
        return GpuMemory(name, float(total) / MIB_PER_GIB, float(free) / MIB_PER_GIB)
    except ValueError as error:
        raise NotMeasured(f"nvidia-smi tells {told.strip()[:80]!r}") from error


def needed_gib(*, peak_reserved: float, reserved: float, free_before: float, free: float) -> float:
    """Return what a process takes at its peak, in GiB.

    At its end it holds ``reserved`` in PyTorch's allocator, and ``free_before - free`` in all: what
    these differ by is context and code, which come on top of the peak of the allocator.
    """
    return peak_reserved + max(free_before - free - reserved, 0.0)


def measure_need(run: PlannedRun, gpu: str, *, free_before: float) -> float:
    """Return the GiB of ``gpu`` that ``run`` takes, from steps and scoring at its largest size.

    Nobody else should begin to use the GPU meanwhile.

    Raises:
        NotMeasured: when the run cannot work, or its process ends otherwise.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "need.json"
        command = [sys.executable, "-P", "-m", "fseed.launch.gpu_memory", str(answer), gpu]
        try:
            ended = subprocess.run(
                command,
                input=pickle.dumps(run),
                env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=PROBE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NotMeasured(f"the measurement took over {PROBE_SECONDS:.0f} s") from error
        if ended.returncode != 0:
            raise NotMeasured(_explain(ended.returncode, ended.stderr.decode(errors="replace")))
        found = json.loads(answer.read_text("utf-8"))
    return needed_gib(free_before=free_before, **found)


def _explain(code: int, told: str) -> str:
    lines = [line for line in told.splitlines() if line.strip()]
    return f"the measurement failed ({code}): {lines[-1] if lines else 'no message'}"


def main() -> int:
    """Do the largest steps of the run on standard input; write what it took to the first word."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    run = pickle.load(sys.stdin.buffer)
    import torch

    from fseed.training.probe import probe_memory

    try:
        peak = probe_memory(run).reserved_gib
        # the context lives on: the driver still counts it
        free = read_gpu_memory(sys.argv[2]).free_gib
    except (UserError, NotMeasured) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    assert peak is not None
    reserved = torch.cuda.memory_reserved() / 2**30
    found = {"peak_reserved": peak, "reserved": reserved, "free": free}
    Path(sys.argv[1]).write_text(json.dumps(found), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
