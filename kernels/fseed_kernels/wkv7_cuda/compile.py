"""CUDA sources -> machine code, by NVRTC at first use; cached on disk.

Needs the package cuda-bindings (PyTorch's CUDA builds bring it) and no compiler. An entry of the
cache is a digest and a cubin; its name is a hash of the sources, the NVRTC version, the
architecture and the options. An entry that is damaged is compiled again.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from types import ModuleType
from typing import Any

from fseed_kernels.cache import write_atomically
from fseed_kernels.errors import KernelUnavailable

OLDEST_ARCHITECTURE = 80  # mma.sync on bf16, cp.async
OPTIONS = ("--std=c++17", "--ptxas-options=-v")
DIGEST_BYTES = 32


@dataclass(frozen=True)
class Kernel:
    """An entry of sources/kernels.json."""

    name: str
    file: str
    threads: int
    shared_bytes: int


@dataclass(frozen=True)
class Binary:
    """A compiled file; ``log`` has registers and spills, "" where it came from the cache."""

    cubin: bytes
    log: str


@cache
def kernel_table() -> dict[str, Kernel]:
    """Return every kernel of the package by name."""
    entries = json.loads(_read_sources()["kernels.json"])
    return {
        name: Kernel(name, entry["file"], entry["threads"], entry["shared_bytes"])
        for name, entry in entries.items()
    }


def compile_file(file: str, architecture: int, folder: Path | None) -> Binary:
    """Return the machine code of a source file, from ``folder`` if it is there.

    Args:
        file: name of a .cu file in sources.
        architecture: compute capability, major * 10 + minor.
        folder: the cache; None: always compile, keep nothing.

    Raises:
        KernelUnavailable: without NVRTC, or for an architecture that it or the kernels do not know.
        RuntimeError: with the log of a compilation that failed.
    """
    _check_architecture(architecture)
    path = folder and folder / f"{Path(file).stem}-{_cache_key(file, architecture)}.cubin"
    cubin = _read_entry(path)
    if cubin is not None:
        return Binary(cubin, "")
    binary = _compile(file, architecture)
    if path is not None:
        try:
            write_atomically(path, hashlib.sha256(binary.cubin).digest() + binary.cubin)
        except OSError as error:
            warnings.warn(f"compiled kernel not kept: {error}", RuntimeWarning, stacklevel=2)
    return binary


@cache
def _read_sources() -> dict[str, bytes]:
    folder = resources.files("fseed_kernels.wkv7_cuda") / "sources"
    return {item.name: item.read_bytes() for item in folder.iterdir() if item.is_file()}


def _headers() -> dict[str, bytes]:
    return {name: text for name, text in sorted(_read_sources().items()) if name.endswith(".h")}


def _options(architecture: int) -> list[bytes]:
    return [option.encode() for option in (f"--gpu-architecture=sm_{architecture}", *OPTIONS)]


def _cache_key(file: str, architecture: int) -> str:
    digest = hashlib.sha256()
    sources = [*_headers().items(), (file, _read_sources()[file])]
    for part in (
        *(x for name, text in sources for x in (name.encode(), text)),
        *_options(architecture),
        repr(_nvrtc_version()).encode(),
    ):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


def _read_entry(path: Path | None) -> bytes | None:
    """Return the machine code of an entry; None where it is missing or damaged."""
    try:
        content = path.read_bytes() if path is not None else b""
    except OSError:
        return None
    digest, cubin = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return cubin if cubin and hashlib.sha256(cubin).digest() == digest else None


def _nvrtc_version() -> tuple[int, int]:
    nvrtc = bindings("nvrtc")
    try:
        major, minor = check_call(nvrtc.nvrtcVersion(), "nvrtcVersion")
    except RuntimeError as error:  # the bindings look for the library at the first call
        raise KernelUnavailable(
            f"the CUDA kernels need the NVRTC library ({error}): pip install nvidia-cuda-nvrtc"
        ) from error
    return major, minor


def _known_architectures() -> list[int]:
    return check_call(bindings("nvrtc").nvrtcGetSupportedArchs(), "nvrtcGetSupportedArchs")


def _check_architecture(architecture: int) -> None:
    name = f"{architecture // 10}.{architecture % 10}"
    if architecture < OLDEST_ARCHITECTURE:
        raise KernelUnavailable(
            f"the CUDA kernels need compute capability 8.0 or newer, not {name}"
        )
    major, minor = _nvrtc_version()
    known = _known_architectures()
    if architecture not in known:
        raise KernelUnavailable(
            f"NVRTC {major}.{minor} does not know compute capability {name} "
            f"(newest: {known[-1] // 10}.{known[-1] % 10}): use a newer NVRTC"
        )


def _compile(file: str, architecture: int) -> Binary:
    nvrtc = bindings("nvrtc")
    headers, options = _headers(), _options(architecture)
    names = [name.encode() for name in headers]
    program = check_call(
        nvrtc.nvrtcCreateProgram(
            _read_sources()[file], file.encode(), len(names), list(headers.values()), names
        ),
        "nvrtcCreateProgram",
    )
    try:
        result = nvrtc.nvrtcCompileProgram(program, len(options), options)
        # the bindings fill these bytes objects in place
        text = bytes(check_call(nvrtc.nvrtcGetProgramLogSize(program), "nvrtcGetProgramLogSize"))
        check_call(nvrtc.nvrtcGetProgramLog(program, text), "nvrtcGetProgramLog")
        message = text.rstrip(b"\0").decode(errors="replace")
        check_call(result, f"{file} for sm_{architecture}", message)
        cubin = bytes(check_call(nvrtc.nvrtcGetCUBINSize(program), "nvrtcGetCUBINSize"))
        check_call(nvrtc.nvrtcGetCUBIN(program, cubin), "nvrtcGetCUBIN")
        return Binary(cubin, message)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def bindings(name: str) -> ModuleType:
    """Return the module ``driver`` or ``nvrtc`` of cuda-bindings.

    Raises:
        KernelUnavailable: where the package is not installed.
    """
    try:
        return import_module(f"cuda.bindings.{name}")
    except ImportError as error:
        raise KernelUnavailable(
            f"the CUDA kernels need the package cuda-bindings ({error}): pip install cuda-bindings"
        ) from error


def check_call(result: Sequence[Any], what: str, detail: str = "") -> Any:
    """Return the values of a call of the bindings; its error code comes first.

    Raises:
        RuntimeError: naming the error.
    """
    error, *values = result
    if int(error) != 0:
        raise RuntimeError(f"{what}: {error.name}" + (f"\n{detail}" if detail else ""))
    return values[0] if len(values) == 1 else tuple(values)
