"""Which implementation of wkv7 runs here: a name that was asked for, or the fastest right one."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec

import torch

from fseed.errors import UserError
from fseed_kernels.errors import KernelUnavailable
from fseed_kernels.launchers import BACKENDS as FASTEST_FIRST
from fseed_kernels.launchers import Launcher, device_problem, load_launcher
from fseed_kernels.self_check import Verdict, approve, check_neighbours, checked_sizes

AUTO, PLAIN = "auto", "chunked"  # PLAIN runs on every device
OLDEST_TORCH = "2.8"  # the first with products of bf16 that add to float32
_approved: dict[tuple[str, torch.device, str, int, int, int], Launcher] = {}
_variants: dict[tuple[str, torch.device, str, int], str] = {}  # of what was approved last
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedBackend:
    """What runs; goes into the record of a run as it is."""

    name: str
    precision: str | None  # of the kernels: "bf16" or "high" (tf32); None for a plain backend
    variant: str | None  # of the kernels; None for a plain backend
    refused: tuple[str, ...]  # what was passed over, and why


def resolve_backend(
    name: str,
    *,
    device: torch.device,
    precision: str,
    head_size: int,
    num_heads: int,
    batch_size: int,
) -> ResolvedBackend:
    """Check the backend ``name`` on ``device``; "auto" takes the fastest that passes.

    ``precision`` is "bf16" or "high"; ``num_heads`` H of a sample, ``batch_size`` the largest.
    The first call on a machine compiles the kernels and compares them with a float64 loop; the
    verdict is kept.

    Raises:
        UserError: where a backend that was asked for cannot run; it is never replaced.
    """
    call = {"device": device, "precision": precision, "head_size": head_size}
    if name == AUTO:
        return _fastest(call, num_heads, batch_size)
    if name not in FASTEST_FIRST:
        return ResolvedBackend(name, None, None, ())
    try:
        return _approve_all(name, call, num_heads, batch_size)
    except KernelUnavailable as error:
        raise UserError(f"trainer.wkv_backend={name}: {error}; or use auto or {PLAIN}") from error


def _fastest(call: dict, num_heads: int, batch_size: int) -> ResolvedBackend:
    if call["device"].type != "cuda":
        return ResolvedBackend(PLAIN, None, None, ())
    refused: list[str] = []
    for name in FASTEST_FIRST:
        limit = device_problem(name, **call)
        if limit:  # as documented, no reason to warn
            refused.append(f"{name}: {limit}")
            continue
        try:
            resolved = _approve_all(name, call, num_heads, batch_size)
        except KernelUnavailable as error:
            refused.append(str(error))
            _logger.warning("wkv_backend=auto passes over %s: %s", name, error)
            continue
        return replace(resolved, refused=(*refused, *resolved.refused))
    return ResolvedBackend(PLAIN, None, None, tuple(refused))


def _approve_all(name: str, call: dict, num_heads: int, batch_size: int) -> ResolvedBackend:
    """Check every choice of sizes that batches of up to ``batch_size`` make, and the neighbours."""
    if torch.__version__ < OLDEST_TORCH:
        raise KernelUnavailable(
            f"the kernels need torch {OLDEST_TORCH} or newer, this is {torch.__version__}"
        )
    width = num_heads * call["head_size"]
    sizes = checked_sizes(batch_size, num_heads)
    with ThreadPoolExecutor(1) as pool:  # both compile, which takes most of their time
        neighbours = pool.submit(check_neighbours, **call, width=width)
        verdicts = [_approve(name, num_heads, size, **call)[1] for size in sizes]
        neighbours.result()
    variants = sorted({str(verdict.variant) for verdict in verdicts})
    reasons = tuple(dict.fromkeys(r for verdict in verdicts for r in verdict.reasons))
    return ResolvedBackend(name, call["precision"], " and ".join(variants), reasons)


def approved_launcher(
    backend: str,
    *,
    device: torch.device,
    precision: str,
    head_size: int,
    num_heads: int,
    batch_size: int,
) -> Launcher:
    """Return the checked kernels of ``backend``; remembered per kind of call in this process.

    On a CPU only Triton's interpreter runs kernels; it needs no check.

    Raises:
        KernelUnavailable: where the backend cannot run, or failed its check on this device.
    """
    key = (backend, device, precision, head_size, num_heads, batch_size)
    if key not in _approved:
        if device.type == "cpu" and backend == "triton" and _is_interpreting():
            _approved[key] = load_launcher(backend)
        else:
            call = {"device": device, "precision": precision, "head_size": head_size}
            _approved[key], _ = _approve(backend, num_heads, batch_size, **call)
    return _approved[key]


def approved_variant(backend: str, *, device: torch.device, precision: str, head_size: int) -> str:
    """Return the variant in use, "default" before the first call; runs no check."""
    return _variants.get((backend, device, precision, head_size), "default")


def _approve(
    backend: str,
    num_heads: int,
    batch_size: int,
    *,
    device: torch.device,
    precision: str,
    head_size: int,
) -> tuple[Launcher, Verdict]:
    call = {"device": device, "precision": precision, "head_size": head_size}
    launcher, verdict = approve(backend, **call, num_heads=num_heads, batch_size=batch_size)
    _variants[backend, device, precision, head_size] = verdict.variant or "default"
    return launcher, verdict


def require_kernels(device: torch.device) -> None:
    """Refuse a device on which no kernel runs, with the reason.

    Raises:
        KernelUnavailable: without a CUDA device (Triton's interpreter apart) or without triton.
    """
    if find_spec("triton") is None:
        raise KernelUnavailable("the kernels need triton, not installed here: fseed[kernels]")
    if device.type != "cuda" and not _is_interpreting():
        raise KernelUnavailable(f"the kernels need a CUDA device, the tensors are on {device}")


@cache
def _is_interpreting() -> bool:
    try:
        from triton import knobs
    except ImportError:
        return False
    return knobs.runtime.interpret
