"""Every version that is timed: name, how it is loaded, which passes it has.

A loader imports its library and raises where it is absent or cannot run; nothing is replaced.
Conventions of each library: argument order, decay form, state layout, scale (kernels/README.md).
"""

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.operators import AutogradOperator, Function, LaunchOperator, Operator
from fseed_kernels.launchers import load_launcher

LOG_DECAY_BOUND = -0.6065306597126334  # what RWKV-7 guarantees, FLA's licence for its safe gate
TRAINING = ("forward", "forward_backward", "prompt")
FORWARD_ONLY = ("prompt", "decode")


@dataclass(frozen=True)
class Implementation:
    """One version; versions of one ``worker`` share a process, and with it tuned kernels."""

    name: str
    worker: str
    load: Callable[[], Operator]
    group: str = "peer"  # ours, reference or peer
    module: str | None = None  # what has to be importable
    passes: tuple[str, ...] = TRAINING
    environment: Mapping[str, str] = field(default_factory=dict)


def load_ours(backend: str) -> Operator:
    """Import one of our backends."""
    return LaunchOperator(load_launcher(backend))


def load_chunked() -> Operator:
    """Import the chunked PyTorch code of fseed.ops."""
    from fseed.ops.wkv7 import wkv7

    def function(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        *inputs, state = tensors
        output = wkv7(*inputs, initial_state=state, backend="chunked")
        return output[0], output[1]

    return AutogradOperator(function, form="logit", state_kv=False)


def fla_function(operator: Callable[..., Any], **options: Any) -> Function:
    """Wrap an operator of FLA: keywords r w k v a b, log decay, scale 1 (not its default)."""

    def function(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(("r", "w", "k", "v", "a", "b"), tensors[:6], strict=True))
        y, final_state = operator(
            **named, scale=1.0, initial_state=tensors[6], output_final_state=True, **options
        )
        return y, final_state

    return function


def load_fla_chunk(**options: Any) -> Operator:
    """Import FLA's chunk_rwkv7; its states are [B, H, K, V]."""
    from fla.ops.rwkv7 import chunk_rwkv7

    function = fla_function(chunk_rwkv7, **options)
    return AutogradOperator(function, form="log_decay", state_kv=True)


def load_fla_tilelang() -> Operator:
    """Import FLA's TileLang kernels, chunk 16, directly: FLA falls back unseen."""
    from fla.ops.generalized_delta_rule.dplr.backends.tilelang import DPLRTileLangBackend

    backend, entry = DPLRTileLangBackend(), "chunk_dplr_delta_rule"
    if not backend.is_available():
        raise RuntimeError("tilelang or nvcc is not installed")

    def operator(*, r: Tensor, w: Tensor, **named: Any) -> tuple[Tensor, Tensor]:
        accepted, reason = backend.verify(entry, q=r, gk=w, **named)
        if not accepted:
            raise RuntimeError(f"refused by FLA: {reason}")
        return getattr(backend, entry)(q=r, gk=w, **named)

    options = {"chunk_size": 16, "lower_bound": LOG_DECAY_BOUND, "disable_recompute": True}
    return AutogradOperator(fla_function(operator, **options), form="log_decay", state_kv=True)


def load_fla_recurrent() -> Operator:
    """Import FLA's sequential kernel, forward only."""
    from fla.ops.rwkv7 import fused_recurrent_rwkv7

    return AutogradOperator(fla_function(fused_recurrent_rwkv7), form="log_decay", state_kv=True)


def load_rwkv_ops(kernel: str) -> Operator:
    """Import rwkv-ops: r w k v a b, decay = exp(-exp(w)), states [B, H, V, K]."""
    from rwkv_ops.rwkv7_kernel import (  # pyright: ignore[reportMissingImports] installed or not
        get_generalized_delta_rule,
    )

    operator = get_generalized_delta_rule(64, KERNEL_TYPE=kernel)[0]
    if "native" in getattr(getattr(operator, "func", operator), "__module__", ""):
        raise RuntimeError(f"rwkv-ops has no {kernel} kernel here and would run its plain code")

    def function(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        *inputs, state = tensors
        return operator(*inputs, initial_state=state, output_final_state=True)

    return AutogradOperator(function, form="double_exponent", state_kv=False)


def load_flash_rwkv2() -> Operator:
    """Import FlashRWKV2's packed recurrence: [B T, H, D], decay logit, states [B, H, K, V]."""
    from flashrwkv2.tmix.wkv7.tilelang import (  # pyright: ignore[reportMissingImports] or not
        tmix_wkv7_recurrent,
    )

    offsets: dict[tuple[int, int], Tensor] = {}

    def function(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        *inputs, state = tensors
        b, t = inputs[0].shape[:2]
        if (b, t) not in offsets:
            index = torch.arange(b + 1, dtype=torch.int32, device=state.device)
            offsets[b, t] = index * t
        packed = [x.flatten(0, 1) for x in inputs]
        y, final_state = tmix_wkv7_recurrent(*packed, state, offsets[b, t], scale=1.0)
        return y.unflatten(0, (b, t)), final_state

    return AutogradOperator(function, form="logit", state_kv=True)


FLA_TRITON = {"FLA_TILELANG": "0"}
RWKV_OPS = {"KERAS_BACKEND": "torch", "KERNEL_TYPE": "triton"}  # builds nothing at import
bound = partial(load_fla_chunk, lower_bound=LOG_DECAY_BOUND)
fla = partial(Implementation, module="fla", environment=FLA_TRITON)
rwkv_ops = partial(Implementation, module="rwkv_ops", environment=RWKV_OPS)

IMPLEMENTATIONS = (
    Implementation(
        "fseed triton",
        "fseed_triton",
        partial(load_ours, "triton"),
        group="ours",
        passes=(*TRAINING, "decode"),
    ),
    Implementation("fseed cuda", "fseed_cuda", partial(load_ours, "cuda"), group="ours"),
    Implementation("PyTorch chunked", "chunked", load_chunked, group="reference"),
    fla("FLA safe gate, keep", "fla_safe", partial(bound, disable_recompute=True)),
    fla("FLA safe gate, recompute", "fla_safe", bound),
    fla("FLA recurrent", "fla_safe", load_fla_recurrent, passes=FORWARD_ONLY),
    rwkv_ops("rwkv-ops CUDA", "rwkv_ops_cuda", partial(load_rwkv_ops, "cuda")),
    rwkv_ops("rwkv-ops Triton", "rwkv_ops_triton", partial(load_rwkv_ops, "triton")),
    Implementation("FlashRWKV2", "flashrwkv2", load_flash_rwkv2, module="flashrwkv2"),
    fla("FLA plain, keep", "fla_plain", partial(load_fla_chunk, disable_recompute=True)),
    fla("FLA plain, recompute", "fla_plain", load_fla_chunk),
    Implementation(
        "FLA TileLang",
        "fla_tilelang",
        load_fla_tilelang,
        module="fla",
        environment={"FLA_TILELANG": "1"},
    ),
)
WORKERS = tuple(dict.fromkeys(item.worker for item in IMPLEMENTATIONS))


def of_worker(worker: str) -> list[Implementation]:
    """Return the versions that one worker process times.

    Raises:
        ValueError: for a worker that does not exist.
    """
    if worker not in WORKERS:
        raise ValueError(f"worker {worker!r}; allowed: {', '.join(WORKERS)}")
    return [item for item in IMPLEMENTATIONS if item.worker == worker]


def why_absent(item: Implementation) -> str | None:
    """Return why a version cannot be loaded, where that is plain without importing it."""
    if item.module is not None and importlib.util.find_spec(item.module) is None:
        return f"{item.module} is not installed"
    return None


def worker_environment(worker: str) -> dict[str, str]:
    """Return the environment variables of a worker's process."""
    environment = dict(os.environ)
    for item in of_worker(worker):
        environment.update(item.environment)
    return environment
