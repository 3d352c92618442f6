"""The CUDA scans on a CPU (emulator) against the same recurrence in float64."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from fseed_kernels.problem import MEAN_SQUARE_FLOOR, Carried
from fseed_kernels.reference import carried_reference, relative_error
from fseed_kernels.wkv7_cuda.compile import kernel_table
from fseed_kernels.wkv7_cuda.load import parameters_of

from . import emulator

pytestmark = pytest.mark.skipif(
    emulator.compiler() is None, reason="no g++ in PATH: the CUDA sources cannot run on a CPU"
)

FORMS = {"rows": 1, "columns_1": 4}  # CTAs per head; backward: rows
GUARD = 512  # elements on either side of an output
SENTINEL = -77.0
TOLERANCE = 6e-3  # the state is rounded to bf16 once per chunk
NO_CLIP = float("inf")
NEEDED = ("dgate", "dcarried_state")  # gradients of what is carried


@dataclass(frozen=True)
class Scan:
    """What the chunk kernels leave for the scans; everything behind the end is NaN."""

    t: int
    lengths: list[int]
    step: Tensor  # [BH, NC, 64, 64] bf16, like added and query
    added: Tensor
    query: Tensor
    total: Tensor  # [BH, NC, 64]
    tokens: Tensor  # [B, T, H, 64] bf16: local part of y, or dy
    state: Tensor  # [B, H, 64, 64]: initial state, or gradient of the final state
    carried: Carried | None

    @property
    def sizes(self) -> tuple[int, int]:
        b, _, h, _ = self.tensors_shape
        return b, h

    @property
    def tensors_shape(self) -> tuple[int, int, int, int]:
        return tuple(self.tokens.shape)

    def head(self, bh: int) -> tuple[int, int, int]:
        """Return sample, head and true chunks."""
        b, h = divmod(bh, self.sizes[1])
        return b, h, -(-self.lengths[b] // 64)


def build_scan(
    t: int, lengths: list[int], *, h: int = 1, carried: str = "none", forward: bool = True
) -> Scan:
    generator = torch.Generator().manual_seed(t)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=generator)

    b, nc = len(lengths), -(-t // 64)
    step = normal(b * h, nc, 64, 64, scale=0.05).bfloat16()
    added, query = normal(2, b * h, nc, 64, 64).bfloat16()
    total = torch.rand(b * h, nc, 64, generator=generator)
    tokens = normal(b, t, h, 64).bfloat16()
    for i, length in enumerate(lengths):
        for tensor in (step, added, query, total):
            tensor[i * h : (i + 1) * h, -(-length // 64) :] = torch.nan
        if not forward:
            tokens[i, length:] = torch.nan
    previous = normal(b, h, 64, 64, scale=2.0)
    squares = previous.square().unflatten(2, (4, 16)).sum((3, 4))
    gate = 0.1 + 0.4 * torch.rand(b, h, generator=generator)
    kinds = {
        "none": None,
        "clip": Carried(previous, squares, gate, 0.3),
        "plain": Carried(previous, None, gate, 0.0),
    }
    state = normal(b, h, 64, 64)
    return Scan(t, lengths, step, added, query, total, tokens, state, kinds[carried])


def guarded(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return a tensor full of SENTINEL inside a larger one."""
    size = int(torch.tensor(shape).prod())
    whole = torch.full((size + 2 * GUARD,), SENTINEL, dtype=dtype)
    return whole[GUARD : GUARD + size].view(shape), whole


def launch(name: str, values: list[Tensor | float | int | None], heads: int, order: str) -> None:
    """Run a scan; its parameters are packed as for the GPU."""
    direction, form = name.split("_scan_")
    packed = parameters_of(name).values.pack(
        *(0 if x is None else x.data_ptr() if isinstance(x, Tensor) else x for x in values)
    )
    kernel = getattr(emulator.load(f"{direction}_scan"), f"{name}_cpu")
    failed = kernel(ctypes.c_char_p(packed), FORMS[form], heads, emulator.ORDERS[order])
    assert not failed, emulator.FAILURES[failed]


def start(carried: Carried | None) -> list[Tensor | None]:
    return [None] * 3 if carried is None else [carried.state, carried.squares, carried.gate]


def bound(carried: Carried | None) -> float:
    return carried.clip if carried is not None and carried.clip > 0 else NO_CLIP


def lengths_tensor(scan: Scan) -> Tensor | None:
    full = all(length == scan.t for length in scan.lengths)
    return None if full else torch.tensor(scan.lengths, dtype=torch.int32)


def run_forward(
    scan: Scan, form: str, *, keep: bool = True, initial: bool = True, order: str = "ascending"
) -> dict[str, Tensor]:
    b, h = scan.sizes
    y, whole_y = guarded(scan.tensors_shape, torch.bfloat16)
    y.copy_(scan.tokens)
    states, whole_states = guarded(tuple(scan.step.shape), torch.bfloat16)
    final, whole_final = guarded((b, h, 64, 64), torch.float32)
    squares, whole_squares = guarded((b, h, 4), torch.float32)
    lengths = lengths_tensor(scan)
    values = [scan.step, scan.added, scan.query, scan.total, lengths]
    values += [scan.state if initial else None, *start(scan.carried)]
    values += [y, states if keep else None, final, squares, bound(scan.carried), scan.t, h]
    launch(f"forward_scan_{form}", values, b * h, order)
    check_guards(whole_y, whole_states, whole_final, whole_squares)
    return {"y": y, "states": states, "final_state": final, "squares": squares}


def run_backward(
    scan: Scan, *, final: bool = True, order: str = "ascending", needed: Sequence[str] = NEEDED
) -> dict[str, Tensor]:
    b, h = scan.sizes
    dstates, whole_dstates = guarded(tuple(scan.step.shape), torch.bfloat16)
    dinitial, whole_dinitial = guarded((b, h, 64, 64), torch.float32)
    dgate, whole_dgate = guarded((b, h), torch.float32)
    dcarried, whole_dcarried = guarded((b, h, 64, 64), torch.float32)
    needed = () if scan.carried is None else needed
    lengths = lengths_tensor(scan)
    values = [scan.step, scan.query, scan.tokens, scan.total, lengths]
    values += [scan.state if final else None, *start(scan.carried)]
    values += [dstates, dinitial, dgate if "dgate" in needed else None]
    values += [dcarried if "dcarried_state" in needed else None, bound(scan.carried), scan.t, h]
    launch("backward_scan_rows", values, b * h, order)
    check_guards(whole_dstates, whole_dinitial, whole_dgate, whole_dcarried)
    states = {"dstates": dstates, "dinitial_state": dinitial}
    return states | {"dgate": dgate, "dcarried_state": dcarried}


def check_guards(*wholes: Tensor) -> None:
    for whole in wholes:
        assert (whole[:GUARD] == SENTINEL).all()
        assert (whole[-GUARD:] == SENTINEL).all()


def expected_forward(scan: Scan, *, initial: bool = True) -> dict[str, Tensor]:
    first = scan.state.double() if initial else torch.zeros_like(scan.state, dtype=torch.double)
    if scan.carried is not None:
        first = first + carried_reference(as_double(scan.carried))
    y, final = scan.tokens.double(), first.clone()
    states = torch.full(scan.step.shape, SENTINEL, dtype=torch.double)
    for bh in range(len(scan.step)):
        b, h, chunks = scan.head(bh)
        state = first[b, h]
        for c in range(chunks):
            rows = slice(64 * c, min(64 * c + 64, scan.lengths[b]))
            states[bh, c] = state
            y[b, rows, h] += (scan.query[bh, c].double() @ state.T)[: rows.stop - rows.start]
            step = scan.step[bh, c].double() + torch.diag(scan.total[bh, c].double())
            state = state @ step + scan.added[bh, c].double()
        final[b, h] = state
    squares = final.square().unflatten(2, (4, 16)).sum((3, 4))
    return {"y": y, "states": states, "final_state": final, "squares": squares}


def expected_backward(scan: Scan, *, final: bool = True) -> dict[str, Tensor]:
    dinitial = scan.state.double() * (1.0 if final else 0.0)
    dstates = torch.full(scan.step.shape, SENTINEL, dtype=torch.double)
    for bh in range(len(scan.step)):
        b, h, chunks = scan.head(bh)
        for c in reversed(range(chunks)):
            dy = torch.zeros(64, 64, dtype=torch.double)
            rows = slice(64 * c, min(64 * c + 64, scan.lengths[b]))
            dy[: rows.stop - rows.start] = scan.tokens[b, rows, h].double()
            after = dinitial[b, h]
            dstates[bh, c] = after * scan.total[bh, c].double()
            before = after @ scan.step[bh, c].double().T + dy.T @ scan.query[bh, c].double()
            dinitial[b, h] = dstates[bh, c] + before
    expected = {"dstates": dstates, "dinitial_state": dinitial}
    if scan.carried is not None:
        carried = as_double(scan.carried)
        n = carried_reference(replace(carried, clip=0.0, gate=torch.ones_like(carried.gate)))
        u = carried.gate[..., None, None] * n
        delta = dinitial * (u.abs() <= bound(carried))
        dgate = expected["dgate"] = (delta * n).sum((2, 3))
        mean, rms = torch.zeros_like(dgate), torch.ones_like(dgate)
        if carried.squares is not None:
            mean_square = carried.squares.double().sum(2) / 64**2
            mean = dgate / 64**2 * (mean_square > MEAN_SQUARE_FLOOR)
            rms = mean_square.clamp(min=MEAN_SQUARE_FLOOR).sqrt()
        factor = (carried.gate / rms)[..., None, None]
        expected["dcarried_state"] = factor * (delta - n * mean[..., None, None])
    return expected


def as_double(carried: Carried) -> Carried:
    return replace(carried, state=carried.state.double(), gate=carried.gate.double())


def check(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, tensor in expected.items():
        # what lies behind the end stays as it was
        assert torch.equal(found[name] == SENTINEL, tensor == SENTINEL), name
        assert relative_error(found[name], tensor) < TOLERANCE, name


CASES = [
    (1, [1], 2, "none"),
    (64, [64, 64], 1, "clip"),
    (65, [65, 64], 1, "plain"),
    (200, [200, 0, 129], 1, "clip"),
]


@pytest.mark.parametrize(("t", "lengths", "h", "carried"), CASES)
def test_forward(t: int, lengths: list[int], h: int, carried: str) -> None:
    scan = build_scan(t, lengths, h=h, carried=carried)
    found = {form: run_forward(scan, form) for form in FORMS}
    check(found["rows"], expected_forward(scan))
    assert_same(found)


@pytest.mark.parametrize(("t", "lengths", "h", "carried"), CASES)
def test_backward(t: int, lengths: list[int], h: int, carried: str) -> None:
    scan = build_scan(t, lengths, h=h, carried=carried, forward=False)
    check(run_backward(scan), expected_backward(scan))


@pytest.mark.parametrize("needed", [(), ("dgate",), ("dcarried_state",)])
def test_gradients_of_what_is_carried_only_if_needed(needed: tuple[str, ...]) -> None:
    scan = build_scan(65, [65, 3], carried="clip", forward=False)
    found, everything = run_backward(scan, needed=needed), run_backward(scan)
    for name in NEEDED:
        if name not in needed:
            everything[name].fill_(SENTINEL)
    assert_same({"found": found, "expected": everything})


def test_rms_at_its_floor_is_a_constant() -> None:
    scan = build_scan(65, [65], carried="clip", forward=False)
    assert scan.carried is not None
    assert scan.carried.squares is not None
    tiny = replace(scan.carried, state=scan.carried.state * 1e-8, squares=scan.carried.squares * 0)
    scan = replace(scan, carried=tiny)
    check(run_backward(scan), expected_backward(scan))


def assert_same(found: dict[str, dict[str, Tensor]]) -> None:
    """Every bit is the same."""
    for one, other in pairwise(found):
        for name, tensor in found[one].items():
            assert torch.equal(tensor, found[other][name]), (one, other, name)


@pytest.mark.parametrize("form", ["rows", "columns_1"])
def test_a_long_row_wraps_the_stages(form: str) -> None:
    """More chunks than stages; both orders of the emulator (races, waits)."""
    scan = build_scan(577, [577])
    found = {order: run_forward(scan, form, order=order) for order in emulator.ORDERS}
    check(found["ascending"], expected_forward(scan))
    assert_same(found)


def test_a_long_row_wraps_the_stages_backwards() -> None:
    scan = build_scan(577, [577], carried="clip", forward=False)
    found = {order: run_backward(scan, order=order) for order in emulator.ORDERS}
    check(found["ascending"], expected_backward(scan))
    assert_same(found)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_given_and_nothing_kept(form: str) -> None:
    scan = build_scan(65, [65])
    found = run_forward(scan, form, keep=False, initial=False)
    expected = expected_forward(scan, initial=False)
    assert (found.pop("states") == SENTINEL).all()
    del expected["states"]
    check(found, expected)


def test_no_gradient_of_the_final_state_and_nothing_carried() -> None:
    scan = build_scan(65, [65], forward=False)
    found = run_backward(scan, final=False)
    check(found, expected_backward(scan, final=False))
    assert all((found[name] == SENTINEL).all() for name in NEEDED)


@pytest.mark.parametrize(
    "name", [*(f"forward_scan_{form}" for form in FORMS), "backward_scan_rows"]
)
def test_shared_memory_is_what_the_table_says(name: str) -> None:
    kernel = getattr(emulator.load(name.rsplit("_scan_")[0] + "_scan"), f"{name}_cpu")
    assert kernel(None, 0, 0, 0) == kernel_table()[name].shared_bytes
