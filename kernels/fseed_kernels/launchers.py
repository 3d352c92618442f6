"""The two backends behind one interface; a kernel module is imported when it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import torch

from fseed_kernels.errors import KernelUnavailable
from fseed_kernels.problem import HEAD_SIZES, Gradients, Outputs
from fseed_kernels.wkv7_triton.sizes import architecture, chunk_size

BACKENDS = ("cuda", "triton")  # fastest first
CUDA_CHUNK_SIZE = 64
VARIANTS = {"cuda": ("default",), "triton": ("default", "safe")}


@dataclass(frozen=True)
class Launcher:
    """The three entries of a backend; see ``wkv7_triton/launch.py`` for their arguments."""

    forward: Callable[..., Outputs]
    backward: Callable[..., Gradients]
    decode: Callable[..., Outputs]


def saved_chunk_size(
    backend: str, *, device: torch.device, precision: str, head_size: int, variant: str
) -> int:
    """Return the tokens per chunk of what a forward pass keeps."""
    if backend == "cuda":
        return CUDA_CHUNK_SIZE
    return chunk_size(precision, head_size, architecture(device), variant)


def load_launcher(backend: str, variant: str = "default") -> Launcher:
    """Import the kernels of ``backend``.

    Raises:
        KernelUnavailable: where a package that they need is not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"kernel backend {backend!r}; allowed: {', '.join(BACKENDS)}")
    try:
        triton_launch = import_module("fseed_kernels.wkv7_triton.launch")
        if backend == "triton":
            forward = partial(triton_launch.forward, variant=variant)
            backward = partial(triton_launch.backward, variant=variant)
            return Launcher(forward, backward, triton_launch.decode)
        cuda_launch = import_module("fseed_kernels.wkv7_cuda.launch")
        return Launcher(cuda_launch.forward, cuda_launch.backward, triton_launch.decode)
    except ImportError as error:
        package = (error.name or "").partition(".")[0] or "a package"
        raise KernelUnavailable(
            f"backend {backend} needs {package}, which cannot be imported here ({error}); "
            "install fseed[kernels]"
        ) from error


def device_problem(backend: str, device: torch.device, *, precision: str, head_size: int) -> str:
    """Return why ``backend`` cannot run there, in one clause; "" where it can."""
    if device.type != "cuda":
        return f"it needs a CUDA device, the tensors are on {device}"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"it needs compute capability 8.0 or newer, {device} has {major}.{minor}"
    if head_size not in HEAD_SIZES:
        return f"it has head sizes {', '.join(map(str, HEAD_SIZES))}, not {head_size}"
    if backend == "cuda" and head_size != 64:
        return f"it has head size 64 only, not {head_size} (triton has 16, 32 and 64)"
    if backend == "cuda" and precision != "bf16":
        return f"it computes in bf16 only, not in precision {precision!r} (triton has both)"
    return ""
