"""The settings of torch that a run may change and another would compute with.

Torch is never imported here: what a process has not loaded has no state.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

# c10::detail default_rng_seed_val: the generators of a CPU start from entropy, those of GPUs here
GPU_SEED = 67280421310721
# left on the GPU by libraries (workspaces of cuBLAS), not by runs
MAX_LEFT_BYTES = 64 * 2**20


def read_torch() -> dict[str, Any]:
    """Return every setting by name as plain values; empty where torch is not loaded."""
    torch = _torch()
    if torch is None:
        return {}
    found = {name: read(torch) for name, (read, _) in _SETTINGS.items()}
    return found | {name: read(torch) for name, read in _READ_ONLY.items()}


def read_random() -> dict[str, Any]:
    """Return the state of torch's global generators, of each GPU once CUDA is in use."""
    torch = _torch()
    if torch is None:
        return {}
    states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "gpu": states}


def restore_torch(settings: Mapping[str, Any], random: Mapping[str, Any]) -> None:
    """Put settings and generators back to what ``read_torch`` and ``read_random`` have found."""
    torch = _torch()
    if torch is None:
        return
    for name, (read, write) in _SETTINGS.items():
        if name in settings and read(torch) != settings[name]:
            write(torch, settings[name])
    if random:
        torch.set_rng_state(random["cpu"])
        if torch.cuda.is_initialized() and not random["gpu"]:
            # the run was the first here to use a GPU: this is how its generators begin
            torch.cuda.manual_seed_all(GPU_SEED)
        for number, state in enumerate(random["gpu"]):
            torch.cuda.set_rng_state(state, number)


def hash_random() -> str | None:
    """Return a digest of the generator of the CPU, None where torch is not loaded."""
    state = read_random().get("cpu")
    return None if state is None else hashlib.sha256(state.numpy().tobytes()).hexdigest()


def hash_gpu_random() -> str | None:
    """Return a digest of the generators of the GPUs, None before CUDA is in use."""
    states = read_random().get("gpu", [])
    if not states:
        return None
    return hashlib.sha256(b"".join(each.numpy().tobytes() for each in states)).hexdigest()


def left_on_gpu() -> int:
    """Return the bytes that live tensors hold on this process's GPUs, beyond what is usual."""
    torch = _torch()
    if torch is None or not torch.cuda.is_initialized():
        return 0
    held = sum(torch.cuda.memory_allocated(i) for i in range(torch.cuda.device_count()))
    return held if held > MAX_LEFT_BYTES else 0


def _torch() -> Any:
    return sys.modules.get("torch")


def _attribute(path: str) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
    """Return reader and writer of an attribute below torch."""
    *parents, name = path.split(".")

    def owner(torch: Any) -> Any:
        for part in parents:
            torch = getattr(torch, part)
        return torch

    def write(torch: Any, value: Any) -> None:
        setattr(owner(torch), name, value)

    return lambda torch: getattr(owner(torch), name), write


def _read_deterministic(torch: Any) -> list[bool]:
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    return [torch.are_deterministic_algorithms_enabled(), warns]


def _flushes_tiny(torch: Any) -> bool:
    # there is no getter: a denormal number is flushed, or not
    tiny = torch.tensor([1e-40], dtype=torch.float32, device="cpu")
    return bool((tiny * 1.0 == 0.0).item())


def _dtype(torch: Any, name: str) -> Any:
    return getattr(torch, name.removeprefix("torch."))


_SETTINGS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    "torch threads": (lambda t: t.get_num_threads(), lambda t, n: t.set_num_threads(n)),
    "torch dtype": (
        lambda t: str(t.get_default_dtype()),
        lambda t, name: t.set_default_dtype(_dtype(t, name)),
    ),
    "torch device": (
        lambda t: str(t.get_default_device()),
        lambda t, name: t.set_default_device(None if name == "cpu" else name),
    ),
    "deterministic": (
        _read_deterministic,
        lambda t, told: t.use_deterministic_algorithms(told[0], warn_only=told[1]),
    ),
    "matmul precision": (
        lambda t: t.get_float32_matmul_precision(),
        lambda t, name: t.set_float32_matmul_precision(name),
    ),
    "gradients": (lambda t: t.is_grad_enabled(), lambda t, on: t._C._set_grad_enabled(on)),
    "anomalies": (lambda t: t.is_anomaly_enabled(), lambda t, on: t.set_anomaly_enabled(on)),
    "flush": (_flushes_tiny, lambda t, on: t.set_flush_denormal(on)),
    **{
        path: _attribute(path)
        for path in (
            "utils.deterministic.fill_uninitialized_memory",
            "backends.cudnn.enabled",
            "backends.cudnn.benchmark",
            "backends.cudnn.deterministic",
            "backends.cudnn.allow_tf32",
            "backends.cuda.matmul.allow_tf32",
            "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
            "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
        )
    },
}
_READ_ONLY: dict[str, Callable[[Any], Any]] = {
    "torch interop threads": lambda t: t.get_num_interop_threads(),
    "autocast": lambda t: [t.is_autocast_enabled("cpu"), t.is_autocast_enabled("cuda")],
    "inference": lambda t: t.is_inference_mode_enabled(),
    "mkldnn": lambda t: t.backends.mkldnn.enabled,
}
