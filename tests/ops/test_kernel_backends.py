import pytest
import torch
from torch.torch_version import TorchVersion

from fseed.errors import UserError
from fseed.ops import kernel_backends
from fseed.ops.kernel_backends import (
    ResolvedBackend,
    approved_launcher,
    require_kernels,
    resolve_backend,
)
from fseed_kernels.errors import KernelUnavailable
from fseed_kernels.self_check import Verdict

CALL = {"precision": "bf16", "head_size": 64, "num_heads": 12, "batch_size": 8}
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Verdict | None]:
    """What the self-check finds for each kernel backend; None: refused."""
    found: dict[str, Verdict | None] = {"cuda": Verdict("default", ()), "triton": None}

    def approve(backend: str, **call: object) -> tuple[str, Verdict]:
        verdict = found[backend]
        if verdict is None:
            raise KernelUnavailable(f"backend {backend} failed its self-check")
        return f"launcher of {backend}", verdict

    monkeypatch.setattr(kernel_backends, "approve", approve)
    monkeypatch.setattr(kernel_backends, "device_problem", lambda *_, **__: "")
    monkeypatch.setattr(kernel_backends, "check_neighbours", lambda **_: None)
    monkeypatch.setattr(kernel_backends, "_approved", {})
    monkeypatch.setattr(kernel_backends, "_variants", {})
    return found


def test_auto_takes_the_fastest_that_passes_and_says_what_it_passed_over(verdicts):
    resolved = resolve_backend("auto", device=GPU, **CALL)
    assert resolved == ResolvedBackend("cuda", "bf16", "default", ())
    verdicts |= {"cuda": None, "triton": Verdict("safe", ("variant default: v is off",))}
    resolved = resolve_backend("auto", device=GPU, **CALL)
    assert resolved.name == "triton"
    assert resolved.variant == "safe"
    assert resolved.refused == ("backend cuda failed its self-check", "variant default: v is off")
    verdicts["triton"] = None
    resolved = resolve_backend("auto", device=GPU, **CALL)
    assert (resolved.name, resolved.variant, len(resolved.refused)) == ("chunked", None, 2)


def test_every_choice_of_sizes_up_to_the_largest_batch_is_checked(verdicts, monkeypatch):
    asked = []

    def approve(backend: str, *, batch_size: int, **call: object) -> tuple[str, Verdict]:
        asked.append(batch_size)
        return "launcher", Verdict("safe" if batch_size > 7 else "default", ())

    monkeypatch.setattr(kernel_backends, "approve", approve)
    assert resolve_backend("cuda", device=GPU, **CALL).variant == "default and safe"
    assert asked == [1, 3, 5, 7, 8]  # 12, 36, 60, 84, 96 heads in all
    assert resolve_backend("cuda", device=GPU, **CALL | {"batch_size": 2}).variant == "default"


def test_a_wrong_neighbour_refuses_both_backends(verdicts, monkeypatch):
    def check_neighbours(**call: object) -> None:
        raise KernelUnavailable(f"backend neighbours failed at width {call['width']}")

    monkeypatch.setattr(kernel_backends, "check_neighbours", check_neighbours)
    with pytest.raises(UserError, match="neighbours failed at width 768"):
        resolve_backend("cuda", device=GPU, **CALL)
    assert resolve_backend("auto", device=GPU, **CALL).name == "chunked"


def test_what_a_backend_never_does_is_recorded_without_a_warning(verdicts, monkeypatch, caplog):
    verdicts["triton"] = Verdict("default", ())
    limit = {"cuda": "it has head size 64 only, not 32", "triton": ""}
    monkeypatch.setattr(kernel_backends, "device_problem", lambda name, **_: limit[name])
    resolved = resolve_backend("auto", device=GPU, **CALL)
    assert resolved.name == "triton"
    assert resolved.refused == ("cuda: it has head size 64 only, not 32",)
    assert caplog.records == []


def test_a_model_on_kernels_without_a_gpu_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(kernel_backends, "_is_interpreting", lambda: False)
    with pytest.raises(KernelUnavailable, match="need a CUDA device, the tensors are on cpu"):
        require_kernels(CPU)


def test_a_torch_that_is_too_old_runs_the_plain_backend(verdicts, monkeypatch):
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.7.1+cu128"))
    resolved = resolve_backend("auto", device=GPU, **CALL)
    assert resolved.name == "chunked"
    assert "need torch 2.8 or newer, this is 2.7.1" in resolved.refused[0]
    with pytest.raises(UserError, match=r"=cuda: the kernels need torch 2\.8 or newer"):
        resolve_backend("cuda", device=GPU, **CALL)


def test_auto_on_a_cpu_is_the_plain_backend(verdicts):
    assert resolve_backend("auto", device=CPU, **CALL) == ResolvedBackend("chunked", None, None, ())


def test_a_backend_that_is_asked_for_is_refused_not_replaced(verdicts):
    with pytest.raises(UserError, match=r"=triton: .* failed its self-check; or use auto"):
        resolve_backend("triton", device=GPU, **CALL)
    with pytest.raises(KernelUnavailable, match="triton failed"):
        approved_launcher("triton", device=GPU, **CALL)
    assert resolve_backend("reference", device=GPU, **CALL).name == "reference"


def test_a_launcher_is_checked_once_per_process_and_kind_of_call(verdicts):
    first = approved_launcher("cuda", device=GPU, **CALL)
    verdicts["cuda"] = None
    assert approved_launcher("cuda", device=GPU, **CALL) is first
    with pytest.raises(KernelUnavailable):
        approved_launcher("cuda", device=GPU, **CALL | {"num_heads": 1})
