"""Kernels on a device: modules loaded through the driver, launched with little work per call."""

import ctypes
import struct
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fseed_kernels.cache import cache_folder
from fseed_kernels.errors import KernelUnavailable
from fseed_kernels.wkv7_cuda.compile import (
    Kernel,
    bindings,
    check_call,
    compile_file,
    kernel_table,
)


@dataclass(frozen=True)
class Parameters:
    """How the parameters of a kernel lie in memory; codes of ``struct``: P pointer, i int, f float.

    ``offsets`` has one entry per parameter of the kernel.
    """

    values: struct.Struct
    offsets: tuple[int, ...]

    @classmethod
    def separate(cls, codes: str) -> "Parameters":
        """One parameter per code."""
        ends = [struct.calcsize(codes[: i + 1]) for i in range(len(codes))]
        sizes = [struct.calcsize(code) for code in codes]
        offsets = tuple(end - size for end, size in zip(ends, sizes, strict=True))
        return cls(struct.Struct(codes), offsets)

    @classmethod
    def together(cls, codes: str) -> "Parameters":
        """One parameter: a C struct with these members, padded at its end as C does."""
        return cls(struct.Struct(codes + "0P"), (0,))


# first part of a kernel's name -> its parameter list, at the end of its source file
PARAMETERS = {
    "forward_chunk": Parameters.separate("P" * 13 + "iii"),
    "backward_chunk": Parameters.separate("P" * 17 + "ii"),
    "forward_scan": Parameters.together("P" * 13 + "fii"),
    "forward_chained": Parameters.together("P" * 13 + "iii" + "P" * 13 + "fii" + "P" + "ii"),
    "backward_scan": Parameters.together("P" * 13 + "fii"),
    "backward_chained": Parameters.together("P" * 13 + "fii" + "P" * 17 + "ii" + "P" + "ii"),
}


# whether a kernel may come to the device while the one before it still runs: its blocks wait there
# (await_previous in sources/device.h), which hides the time of a launch; for timing it without
DEPENDENT_LAUNCH = True
DEPENDENT_ARCHITECTURE = 90  # the oldest that can wait


def parameters_of(name: str) -> Parameters:
    """Return how the parameters of a kernel lie in memory."""
    return PARAMETERS["_".join(name.split("_")[:2])]


class LoadedKernel:
    """A kernel on one device, ready to be launched often; safe to call from several threads."""

    def __init__(self, function: Any, kernel: Kernel, architecture: int) -> None:
        """Wrap a CUfunction whose limits are set, of a module for ``architecture``."""
        driver = bindings("driver")
        self._cu_launch_kernel = driver.cuLaunchKernelEx
        self._function = function
        self._name = kernel.name
        self._may_depend = architecture >= DEPENDENT_ARCHITECTURE
        self._config = _launch_config(driver, kernel)
        self._lock = threading.Lock()
        parameters = parameters_of(kernel.name)
        self._pack_into = parameters.values.pack_into
        self._buffer = ctypes.create_string_buffer(parameters.values.size)
        first = ctypes.addressof(self._buffer)
        addresses = [first + offset for offset in parameters.offsets]
        self._addresses = (ctypes.c_void_p * len(addresses))(*addresses)
        self._parameters = ctypes.addressof(self._addresses)

    def __call__(self, grid: tuple[int, int], stream: int, values: Sequence[float]) -> None:
        """Launch on ``stream`` (a handle) with the kernel's parameters; addresses are integers.

        Raises:
            RuntimeError: naming the CUDA error.
        """
        config = self._config
        with self._lock:  # the driver reads buffer and config during the call
            self._pack_into(self._buffer, 0, *values)
            config.gridDimX, config.gridDimY = grid
            config.hStream = stream
            config.numAttrs = int(self._may_depend and DEPENDENT_LAUNCH)
            result = self._cu_launch_kernel(config, self._function, self._parameters, 0)
        check_call(result, f"launch of {self._name}")


def _launch_config(driver: Any, kernel: Kernel) -> Any:
    """Return a CUlaunchConfig with what all launches share; its attribute counts if numAttrs is 1.

    The attribute lets the kernel start before the one ahead of it in the stream is done.
    """
    attribute = driver.CUlaunchAttribute()
    attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    attribute.value.programmaticStreamSerializationAllowed = 1
    config = driver.CUlaunchConfig()
    config.attrs = [attribute]
    config.gridDimZ = 1
    config.blockDimX, config.blockDimY, config.blockDimZ = kernel.threads, 1, 1
    config.sharedMemBytes = kernel.shared_bytes
    return config


_loaded: dict[int, Mapping[str, LoadedKernel]] = {}
_loading = threading.Lock()


def loaded_kernels(device_index: int) -> Mapping[str, LoadedKernel]:
    """Return all kernels on a CUDA device, which has to be the current one.

    The first call of a process compiles what the cache does not have, all files at once.

    Raises:
        KernelUnavailable: where they cannot be compiled or do not fit the device.
        RuntimeError: naming the CUDA or NVRTC error.
    """
    kernels = _loaded.get(device_index)
    if kernels is None:
        with _loading:
            kernels = _loaded.get(device_index)
            if kernels is None:
                kernels = _loaded[device_index] = _load_all(device_index)
    return kernels


def _load_all(device_index: int) -> dict[str, LoadedKernel]:
    table = kernel_table()
    architecture = _check_device(device_index, table)
    files = sorted({kernel.file for kernel in table.values()})
    folder = cache_folder("kernels")
    with ThreadPoolExecutor(len(files)) as pool:
        binaries = list(pool.map(lambda file: compile_file(file, architecture, folder), files))
    load = bindings("driver").cuModuleLoadData
    modules = {
        file: check_call(load(binary.cubin), f"cuModuleLoadData of {file}")
        for file, binary in zip(files, binaries, strict=True)
    }
    return {
        name: _load(modules[kernel.file], kernel, architecture) for name, kernel in table.items()
    }


def _check_device(device_index: int, table: Mapping[str, Kernel]) -> int:
    """Return the architecture of the device; refuse one with too little shared memory."""
    driver = bindings("driver")
    names = (
        "COMPUTE_CAPABILITY_MAJOR",
        "COMPUTE_CAPABILITY_MINOR",
        "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN",
    )
    major, minor, shared_bytes = (
        check_call(
            driver.cuDeviceGetAttribute(
                getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}"), device_index
            ),
            f"cuDeviceGetAttribute of {name}",
        )
        for name in names
    )
    needed = max(kernel.shared_bytes for kernel in table.values())
    if shared_bytes < needed:
        raise KernelUnavailable(
            f"the CUDA kernels need {needed} bytes of shared memory per block, this device of "
            f"compute capability {major}.{minor} has {shared_bytes}: use backend triton"
        )
    return major * 10 + minor


def _load(module: Any, kernel: Kernel, architecture: int) -> LoadedKernel:
    driver = bindings("driver")
    name = kernel.name
    function = check_call(driver.cuModuleGetFunction(module, name.encode()), f"find {name}")
    attribute = driver.CUfunction_attribute
    for key, value in (
        (attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel.shared_bytes),
        (attribute.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100),
    ):
        check_call(driver.cuFuncSetAttribute(function, key, value), f"{key.name} of {name}")
    return LoadedKernel(function, kernel, architecture)
