"""Compile the CUDA sources for the CPU (emulator.h) and load them.

The library is kept in the temporary directory under a hash of everything it is made of.
"""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import fseed_kernels

HERE = Path(__file__).parent
SOURCES = Path(fseed_kernels.__file__).parent / "wkv7_cuda" / "sources"
WARNINGS = ["-Wall", "-Werror", "-Wno-unknown-pragmas"]
FLAGS = ["-std=c++20", "-O2", "-shared", "-fPIC", *WARNINGS, "-DFSEED_EMULATOR"]
ORDERS = {"ascending": 0, "descending": 1}  # emulator.h
FAILURES = {
    1: "deadlock at a barrier",
    2: "shared memory written out of bounds",
    3: "memory used before await_previous, or no such call",
}


def compiler() -> str | None:
    """Return the path of g++, None where there is none."""
    return shutil.which("g++")


@cache
def load(name: str) -> ctypes.CDLL:
    """Return the library built from the driver ``name``.cpp of this folder.

    Raises:
        RuntimeError: with the compiler's message.
    """
    files = sorted([*HERE.glob("*.h"), HERE / f"{name}.cpp", *SOURCES.glob("*.*")])
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for file in files:
        digest.update(file.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"fseed-emulator-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    library = folder / f"{name}-{digest.hexdigest()[:16]}.so"
    if not library.exists():
        build(HERE / f"{name}.cpp", library)
    return ctypes.CDLL(str(library))


def build(driver: Path, library: Path) -> None:
    """Compile ``driver`` into ``library``, which appears whole or not at all.

    Raises:
        RuntimeError: with the compiler's message.
    """
    executable = compiler()
    if executable is None:
        raise RuntimeError("no g++ in PATH; install it to run the CUDA sources on a CPU")
    unfinished = library.with_suffix(f".{os.getpid()}")
    command = [executable, *FLAGS, f"-I{SOURCES}", f"-I{HERE}", "-o", str(unfinished), str(driver)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{driver.name} does not compile:\n{result.stderr[-3000:]}")
    unfinished.replace(library)


def run(name: str, pointers: list[int | None], *sizes: int, order: str) -> None:
    """Run kernel ``name`` on host memory; ``sizes`` as its driver lists them.

    Raises:
        RuntimeError: the kernel did not end, or wrote outside its shared memory.
    """
    kernel = getattr(load(name), f"{name}_cpu")
    array = (ctypes.c_void_p * len(pointers))(*pointers)
    result = kernel(array, *sizes, ORDERS[order])
    if result != 0:
        raise RuntimeError(f"{name}: {FAILURES[result]}")
