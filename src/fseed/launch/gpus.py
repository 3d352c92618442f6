"""The GPUs that this process may hand out, found without torch."""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from fseed.errors import UserError

DEVICE_FOLDER = Path("/dev")
SECONDS = 30.0  # a driver that is just loading answers late

_LISTED = re.compile(r"^(?P<indent>\s*)\S.*\(UUID: (?P<uuid>[^)\s]+)\)\s*$")


def find_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return one name per usable GPU, each good for CUDA_VISIBLE_DEVICES alone.

    What CUDA_VISIBLE_DEVICES allows is handed on as it is written: indices, UUIDs, parts of a GPU.

    Raises:
        UserError: when no GPU is to be found.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    names = list_installed() if visible is None else split_visible(visible)
    if not names:
        where = "no NVIDIA device found" if visible is None else f"{visible!r} allows none"
        raise UserError(f"trainer asks for a GPU, but CUDA_VISIBLE_DEVICES: {where}")
    return names


def split_visible(text: str) -> list[str]:
    """Return the entries of CUDA_VISIBLE_DEVICES that CUDA reads: up to the first invalid one.

    >>> split_visible("2,GPU-8a3c,MIG-7f10")
    ['2', 'GPU-8a3c', 'MIG-7f10']
    >>> split_visible("0,-1,1")
    ['0']
    """
    names: list[str] = []
    for entry in (part.strip() for part in text.split(",")):
        is_name = entry.isdecimal() or entry.startswith(("GPU-", "MIG-"))
        if not is_name or entry in names:
            break
        names.append(entry)
    return names


def list_installed() -> list[str]:
    """Return the UUIDs of all GPUs, or of their parts where they are divided (MIG).

    Without the driver's tool: the indices of the device files.
    """
    try:
        command = ["nvidia-smi", "-L"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
        return parse_listing(told.stdout.splitlines())
    except (OSError, subprocess.SubprocessError):
        files = DEVICE_FOLDER.glob("nvidia[0-9]*")
        return sorted((path.name.removeprefix("nvidia") for path in files), key=int)


def parse_listing(lines: Sequence[str]) -> list[str]:
    """Return the names in the lines of ``nvidia-smi -L``; an indented line is a part of a GPU."""
    names: list[str] = []
    for line in lines:
        found = _LISTED.match(line)
        if found is None:
            continue
        if found["indent"] and names and names[-1].startswith("GPU-"):
            # CUDA uses the parts of a divided GPU, not the whole
            names.pop()
        names.append(found["uuid"])
    return names
