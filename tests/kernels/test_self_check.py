"""The check before the first use: right kernels pass, wrong ones are refused, verdicts are kept."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fseed_kernels import launchers, self_check
from fseed_kernels.errors import KernelUnavailable
from fseed_kernels.launchers import Launcher
from fseed_kernels.problem import Carried, Gradients, Inputs, Outputs, Saved
from fseed_kernels.reference import carried_reference, recurrence

CPU = torch.device("cpu")
CALL = {"device": CPU, "precision": "high", "head_size": 16}


def plain_forward(
    inputs: Inputs, *, initial_state, carried=None, lengths=None, precision="high", keep=True
) -> Outputs:
    """The token loop in the place of kernels; what it needs again is kept in ``saved``."""
    b, _, h, d = inputs.sizes
    if initial_state is None:
        initial_state = inputs.r.new_zeros(b, h, d, d)
    state = initial_state if carried is None else initial_state + carried_reference(carried)
    y, final_state = recurrence(inputs, state, lengths)
    squares = final_state.square().unflatten(2, (-1, 16)).sum((3, 4))
    saved = Saved(initial_state, *[torch.empty(0)] * 4)
    return Outputs(y, final_state, squares, saved if keep else None)


def plain_backward(
    inputs: Inputs, saved, dy, dfinal_state, *, carried, lengths, precision, needs_carried=False,
    **_: object,
) -> Gradients:  # fmt: skip
    leaves = [x.detach().requires_grad_() for x in (*inputs.tensors, saved.step)]
    if carried is not None:
        leaves += [x.detach().requires_grad_() for x in (carried.gate, carried.state)]
        carried = Carried(leaves[8], carried.squares, leaves[7], carried.clip)
    with torch.enable_grad():
        outputs = plain_forward(
            Inputs(*leaves[:6]), initial_state=leaves[6], carried=carried, lengths=lengths
        )
        loss = (outputs.y * dy).sum()
        if dfinal_state is not None:
            loss = loss + (outputs.final_state * dfinal_state).sum()
        gradients = torch.autograd.grad(loss, leaves)
    missing = (None,) * (9 - len(gradients))
    return Gradients(*gradients, *missing)


PLAIN = Launcher(plain_forward, plain_backward, plain_forward)


def spoil(launcher: Launcher, name: str) -> Launcher:
    """Return a launcher whose gradient or output ``name`` is off by 2 %."""

    def spoiled(function: Callable, owner: type) -> Callable:
        def call(*args: object, **kwargs: object):
            result = function(*args, **kwargs)
            tensor: Tensor | None = getattr(result, name)
            return result if tensor is None else replace(result, **{name: 1.02 * tensor})

        return call if name in {field.name for field in fields(owner)} else function

    return Launcher(
        spoiled(launcher.forward, Outputs), spoiled(launcher.backward, Gradients), launcher.decode
    )


def test_right_kernels_pass() -> None:
    assert self_check.find_error(PLAIN, **CALL, num_heads=2, batch_size=2) == ""


@pytest.mark.parametrize(
    "name",
    [
        *("y", "final_state", "decay_logit", "carried_state"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("r", "k", "v", "alpha", "beta", "initial_state", "gate")
        ),
    ],
)
def test_a_wrong_tensor_is_named(name: str) -> None:
    found = self_check.find_error(spoil(PLAIN, name), **CALL, num_heads=2, batch_size=2)
    assert found == f"{name} is off by 2.0e-02 (allowed 3.0e-03)"


def test_what_a_kernel_left_unwritten_is_seen() -> None:
    def forward(*args: object, **kwargs: object) -> Outputs:
        outputs = plain_forward(*args, **kwargs)
        outputs.y[-1, -1, 0, 0] = float("nan")
        return outputs

    found = self_check.find_error(
        replace(PLAIN, forward=forward), **CALL, num_heads=2, batch_size=2
    )
    assert "y is off by nan" in found


def test_prompt_and_decode_kernels_are_checked_too() -> None:
    def decode(inputs: Inputs, **start: object) -> Outputs:
        outputs = plain_forward(inputs, **start)
        return replace(outputs, final_state=outputs.final_state + 0.1)

    def prompt(*args: object, keep: bool, **kwargs: object) -> Outputs:
        outputs = plain_forward(*args, keep=keep, **kwargs)
        return outputs if keep else replace(outputs, y=-outputs.y)

    found = self_check.find_error(replace(PLAIN, decode=decode), **CALL, num_heads=2, batch_size=2)
    assert found.startswith("decode final_state")
    found = self_check.find_error(replace(PLAIN, forward=prompt), **CALL, num_heads=2, batch_size=2)
    assert found.startswith("prompt y is off by 2.0e+00")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with a device that is taken for a GPU; returns the folder of its verdicts."""
    monkeypatch.setenv("FSEED_CACHE", str(tmp_path))
    monkeypatch.setattr(self_check, "device_problem", lambda *_, **__: "")
    monkeypatch.setattr(self_check, "describe_environment", lambda device: {"device": "here"})
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a device")
    return tmp_path / "self_check"


def use(monkeypatch: pytest.MonkeyPatch, **variants: Launcher) -> list[str]:
    """Put launchers in the place of the Triton variants; returns the log of forward calls."""
    calls: list[str] = []
    monkeypatch.setattr(self_check, "FULL_TOKENS", 20)
    monkeypatch.setattr(self_check, "SHORT_LENGTHS", (30, 7))

    def load(backend: str, variant: str = "default") -> Launcher:
        def forward(*args: object, **kwargs: object) -> Outputs:
            calls.append(variant)
            return variants[variant].forward(*args, **kwargs)

        return replace(variants[variant], forward=forward)

    monkeypatch.setattr(self_check, "load_launcher", load)
    return calls


def approve(batch_size: int = 2) -> tuple[Launcher, self_check.Verdict]:
    return self_check.approve("triton", **CALL, num_heads=2, batch_size=batch_size)


def test_a_verdict_is_kept_per_kind_of_call(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    calls = use(monkeypatch, default=PLAIN, safe=PLAIN)
    assert approve()[1].variant == "default"
    checked = len(calls)
    assert checked > 0
    assert approve(batch_size=15)[1] == approve()[1]
    assert len(calls) == checked
    approve(batch_size=16)
    assert len(calls) == 2 * checked
    assert len(list(machine.iterdir())) == 2


def test_the_check_runs_inside_an_operator_that_has_no_gradients(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    use(monkeypatch, default=PLAIN, safe=PLAIN)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert approve()[1] == self_check.Verdict("default", ())


def test_a_wrong_default_gives_way_to_the_safe_variant_and_says_so(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    use(monkeypatch, default=spoil(PLAIN, "v"), safe=PLAIN)
    verdict = approve()[1]
    assert verdict.variant == "safe"
    assert verdict.reasons == ("variant default: v is off by 2.0e-02 (allowed 3.0e-03)",)
    assert approve()[1] == verdict


def test_kernels_that_are_all_wrong_are_refused_in_one_line_also_by_the_next_process(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    def crash(*args: object, **kwargs: object) -> Outputs:
        raise RuntimeError("illegal memory access\nand more")

    use(monkeypatch, default=spoil(PLAIN, "k"), safe=replace(PLAIN, forward=crash))
    for _ in range(2):
        with pytest.raises(KernelUnavailable, match="failed its self-check on a device") as caught:
            approve()
        assert "k is off by 2.0e-02" in str(caught.value)
        assert "RuntimeError: illegal memory access" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_too_little_memory_is_no_verdict(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    def exhausted(*args: object, **kwargs: object) -> Outputs:
        raise torch.OutOfMemoryError("no more")

    use(monkeypatch, default=replace(PLAIN, forward=exhausted), safe=PLAIN)
    with pytest.raises(KernelUnavailable, match="not enough memory for the self-check"):
        approve()
    use(monkeypatch, default=PLAIN, safe=PLAIN)
    assert approve()[1].variant == "default"


def test_a_folder_that_cannot_be_written_only_warns(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    monkeypatch.setenv("FSEED_CACHE", "/proc/none")
    use(monkeypatch, default=PLAIN, safe=PLAIN)
    with pytest.warns(UserWarning, match="self-check of the kernels is not kept"):
        assert approve()[1].variant == "default"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 1}'])
def test_a_damaged_verdict_is_made_again(
    monkeypatch: pytest.MonkeyPatch, machine: Path, content: str
) -> None:
    calls = use(monkeypatch, default=PLAIN, safe=PLAIN)
    approve()
    (path,) = machine.iterdir()
    path.write_text(content)
    calls.clear()
    assert approve()[1].variant == "default"
    assert calls
    assert json.loads(path.read_text())["verdict"]["variant"] == "default"


def test_without_a_cache_every_process_checks(
    monkeypatch: pytest.MonkeyPatch, machine: Path
) -> None:
    monkeypatch.setenv("FSEED_CACHE", "off")
    calls = use(monkeypatch, default=PLAIN, safe=PLAIN)
    approve()
    assert calls
    assert not machine.exists()


def test_a_backend_that_cannot_run_is_refused_with_the_reason() -> None:
    with pytest.raises(KernelUnavailable, match="cuda cannot run here: it needs a CUDA device"):
        self_check.approve("cuda", **CALL, num_heads=2, batch_size=2)
    with pytest.raises(ValueError, match="allowed: cuda, triton"):
        launchers.load_launcher("rocm")
