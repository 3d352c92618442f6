"""Loading and launching through a pretended driver."""

import ctypes
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import pytest

from fseed_kernels.errors import KernelUnavailable
from fseed_kernels.wkv7_cuda import load
from fseed_kernels.wkv7_cuda.compile import Binary, kernel_table


class Result(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1


class Attribute(IntEnum):
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76
    CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN = 97
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
    CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT = 9


class Driver(SimpleNamespace):
    """Records what it is asked for."""

    CUdevice_attribute = CUfunction_attribute = Attribute
    CUlaunchAttributeID = SimpleNamespace(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION=6)
    CUlaunchConfig = SimpleNamespace

    def __init__(self, shared_bytes: int = 232448) -> None:
        self.answers = {75: 9, 76: 0, 97: shared_bytes}
        self.result = Result.CUDA_SUCCESS
        self.limits: dict[tuple[str, int], int] = {}
        self.launches: list[dict[str, Any]] = []

    def CUlaunchAttribute(self) -> SimpleNamespace:
        return SimpleNamespace(value=SimpleNamespace())

    def cuDeviceGetAttribute(self, attribute: int, device: int) -> tuple[Result, int]:
        return Result.CUDA_SUCCESS, self.answers[attribute]

    def cuModuleLoadData(self, cubin: bytes) -> tuple[Result, str]:
        return Result.CUDA_SUCCESS, cubin.decode()

    def cuModuleGetFunction(self, module: str, name: bytes) -> tuple[Result, str]:
        return Result.CUDA_SUCCESS, f"{module}:{name.decode()}"

    def cuFuncSetAttribute(self, function: str, key: int, value: int) -> tuple[Result]:
        self.limits[function.split(":")[1], key] = value
        return (Result.CUDA_SUCCESS,)

    def cuLaunchKernelEx(
        self, config: SimpleNamespace, function: str, parameters: int, extra: int
    ) -> tuple[Result]:
        self.launches.append(vars(config) | {"function": function, "parameters": parameters})
        return (self.result,)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    pretended = Driver()
    monkeypatch.setattr(load, "bindings", lambda name: pretended)
    monkeypatch.setattr(load, "_loaded", {})
    monkeypatch.setattr(load, "compile_file", lambda file, arch, _: Binary(file.encode(), ""))
    return pretended


def test_every_kernel_is_loaded_once_with_its_limits(driver: Driver) -> None:
    kernels = load.loaded_kernels(0)
    assert kernels.keys() == kernel_table().keys()
    for name, kernel in kernel_table().items():
        assert driver.limits[name, 8] == kernel.shared_bytes
    driver.limits.clear()
    assert load.loaded_kernels(0) is kernels
    assert not driver.limits
    assert load.loaded_kernels(1) is not kernels


@pytest.mark.parametrize("name", ["forward_chunk", "forward_scan_rows"])
def test_a_launch_hands_over_the_parameters(driver: Driver, name: str) -> None:
    kernel = load.loaded_kernels(0)[name]
    parameters = load.parameters_of(name)
    numbers = [2, 3, 1] if name == "forward_chunk" else [0.5, 2, 3]
    values = [*range(100, 113), *numbers]  # both have 13 pointers
    kernel((4, 5), 77, values)
    launch, table = driver.launches[0], kernel_table()[name]
    assert launch["function"] == f"{table.file}:{name}"
    assert [launch[f"gridDim{axis}"] for axis in "XYZ"] == [4, 5, 1]
    assert [launch[f"blockDim{axis}"] for axis in "XYZ"] == [table.threads, 1, 1]
    assert (launch["sharedMemBytes"], launch["hStream"]) == (table.shared_bytes, 77)
    addresses = (ctypes.c_void_p * len(parameters.offsets)).from_address(launch["parameters"])
    if name == "forward_scan_rows":  # one struct
        content = ctypes.string_at(addresses[0], parameters.values.size)
        assert list(parameters.values.unpack(content)) == values
    else:
        assert ctypes.c_void_p.from_address(addresses[3]).value == 103
        tail = [ctypes.c_int.from_address(addresses[i]).value for i in (-3, -2, -1)]
        assert tail == numbers


@pytest.mark.parametrize(
    ("major", "switch", "attributes"), [(9, True, 1), (9, False, 0), (8, True, 0), (10, True, 1)]
)
def test_a_kernel_may_start_before_the_one_ahead_is_done(
    driver: Driver,
    monkeypatch: pytest.MonkeyPatch,
    *,
    major: int,
    switch: bool,
    attributes: int,
) -> None:
    driver.answers[75] = major
    monkeypatch.setattr(load, "DEPENDENT_LAUNCH", switch)
    load.loaded_kernels(0)["backward_scan_rows"]((1, 1), 0, [0] * 13 + [0.0, 1, 1])
    (launch,) = driver.launches
    assert launch["numAttrs"] == attributes
    (attribute,) = launch["attrs"]
    assert (attribute.id, attribute.value.programmaticStreamSerializationAllowed) == (6, 1)


def test_a_failed_launch_names_kernel_and_error(driver: Driver) -> None:
    kernel = load.loaded_kernels(0)["backward_scan_rows"]
    driver.result = Result.CUDA_ERROR_INVALID_VALUE
    with pytest.raises(RuntimeError, match="backward_scan_rows: CUDA_ERROR_INVALID_VALUE"):
        kernel((1, 1), 0, [0] * 13 + [0.0, 1, 1])


def test_a_device_with_little_shared_memory_is_refused(driver: Driver) -> None:
    driver.answers[97] = 101376
    with pytest.raises(KernelUnavailable, match=r"bytes of shared memory .* has 101376"):
        load.loaded_kernels(0)
