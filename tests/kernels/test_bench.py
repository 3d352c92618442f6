"""The benchmark on a CPU: shapes, layouts of the peers, errors, workers."""

import inspect
from pathlib import Path

import pytest
import torch

from bench.correctness import measure_errors
from bench.data import convert_decay, draw_problem, reference, to_decay_form, to_log_decay
from bench.operators import AutogradOperator, LaunchOperator, draw_carried
from bench.peers import IMPLEMENTATIONS, fla_function, load_chunked
from bench.profiling import per_call, summarize_kernel
from bench.shapes import Shape, num_input_sets, parse_shape
from bench.table import judge
from bench.timing import Timing, check_replay, summarize, tensors_of
from fseed_kernels.launchers import Launcher
from fseed_kernels.problem import Gradients, Inputs, Outputs, Saved
from fseed_kernels.reference import build_problem
from fseed_kernels.reference import reference as logit_reference

TINY = Shape(2, 24, 2, 16)
BENCH = Path(__file__).parents[2] / "kernels" / "bench"


@pytest.mark.parametrize(("text", "name"), [("8x4096x12", "8x4096x12"), ("1X16x2x32", "1x16x2x32")])
def test_parse_shape_reads_what_it_names(text, name):
    assert parse_shape(text).name == name


@pytest.mark.parametrize("text", ["8x4096", "8x0x12", "axbxc", "1x2x3x4x5"])
def test_parse_shape_refuses_and_says_what_is_allowed(text):
    with pytest.raises(ValueError, match=f"{text}.*expected BxTxH"):
        parse_shape(text)


def test_bytes_of_a_shape():
    assert Shape(8, 4096, 12).tensor_bytes == 50_331_648
    assert Shape(8, 4096, 12).state_bytes == 1_572_864


def test_input_sets_leave_the_cache_and_are_bounded():
    assert num_input_sets(400, 50) == 1
    assert num_input_sets(50, 50) == 3
    assert num_input_sets(1, 50) == 8


def test_decay_forms_mean_the_same_decay():
    logit = torch.linspace(-9, 9, 101, dtype=torch.float64)
    expected = to_log_decay(logit, "logit")
    for form in ("log_decay", "double_exponent"):
        decay = to_decay_form(logit, form)
        torch.testing.assert_close(to_log_decay(decay, form), expected, rtol=1e-12, atol=0)
        assert (decay != logit).all()


def test_reference_in_logit_form_is_the_reference_of_the_kernels():
    problem = build_problem(t=9, d=16)
    expected = logit_reference(problem)
    actual = reference(problem, "logit")
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-12, atol=1e-12)


def test_drawn_data_is_typical_and_differs_between_input_sets():
    first, second = (draw_problem(TINY, seed=seed, device="cpu") for seed in (0, 1))
    assert first.inputs.r.dtype == torch.bfloat16
    assert not torch.equal(first.inputs.r, second.inputs.r)
    inputs = first.inputs
    ratio = -inputs.beta.float() / inputs.alpha.float()  # a, in (0, 1) up to rounding
    assert ratio.min() >= 0
    assert ratio.max() < 1.02
    torch.testing.assert_close(
        inputs.alpha.float().norm(dim=-1), torch.ones(2, 24, 2), rtol=1e-2, atol=0
    )


def sequential(form, state_kv):
    """A correct library with its own conventions, differentiable, in float32."""

    def function(*tensors):
        r, decay, k, v, alpha, beta, state = (x.float() for x in tensors)
        if state_kv:
            state = state.transpose(-1, -2)
        ys = []
        factor = torch.exp(to_log_decay(decay, form))
        for t in range(r.shape[1]):
            read = state @ alpha[:, t].unsqueeze(-1)
            state = state * factor[:, t].unsqueeze(-2) + read * beta[:, t].unsqueeze(-2)
            state = state + v[:, t].unsqueeze(-1) * k[:, t].unsqueeze(-2)
            ys.append((state @ r[:, t].unsqueeze(-1)).squeeze(-1))
        y = torch.stack(ys, 1).to(tensors[0].dtype)
        return y, state.transpose(-1, -2) if state_kv else state

    return function


@pytest.mark.parametrize("kind", ["typical", "fast_decay", "equal_keys"])
@pytest.mark.parametrize(
    ("form", "state_kv"), [("logit", False), ("log_decay", True), ("double_exponent", False)]
)
def test_a_correct_library_has_small_errors_in_every_convention(form, state_kv, kind):
    operator = AutogradOperator(sequential(form, state_kv), form=form, state_kv=state_kv)
    errors = measure_errors(operator, kind=kind, trains=True, shape=TINY, device="cpu")
    assert len(errors) == 9
    assert max(errors.values()) < 4e-3  # bf16 results


@pytest.mark.parametrize("fault", [{"form": "log_decay"}, {"state_kv": False}])
def test_a_wrong_convention_shows_in_the_errors(fault):
    claimed = {"form": "logit", "state_kv": True} | fault
    operator = AutogradOperator(sequential("logit", True), **claimed)
    errors = measure_errors(operator, kind="typical", trains=True, shape=TINY, device="cpu")
    assert errors["y"] > 0.05


def test_not_finite_results_have_no_error_that_passes():
    def function(*tensors):
        y, state = sequential("logit", False)(*tensors)
        return y * float("nan"), state

    operator = AutogradOperator(function, form="logit", state_kv=False)
    errors = measure_errors(operator, kind="typical", trains=False, shape=TINY, device="cpu")
    assert errors["y"] != errors["y"]
    assert judge("worst", "typical", errors["y"], 1.0)[-1].startswith("MISS")


def test_the_pytorch_reference_loads_and_is_right():
    errors = measure_errors(load_chunked(), kind="typical", trains=True, shape=TINY, device="cpu")
    assert max(errors.values()) < 4e-3


def test_fla_wrapper_against_flas_own_plain_code():
    naive = pytest.importorskip("fla.ops.generalized_delta_rule.dplr.naive")

    def operator(*, r, w, k, v, a, b, scale, initial_state, output_final_state):
        assert scale == 1.0
        assert output_final_state
        heads_first = [x.transpose(1, 2) for x in (r * r.shape[-1] ** 0.5, k, v, a, b, w)]
        y, state = naive.dplr_recurrence(*heads_first, initial_state=initial_state)
        return y.transpose(1, 2), state

    wrapped = AutogradOperator(fla_function(operator), form="log_decay", state_kv=True)
    # its loop keeps a view of y that in-place writes invalidate: outputs only
    errors = measure_errors(wrapped, kind="typical", trains=False, shape=TINY, device="cpu")
    assert max(errors.values()) < 6e-3


def test_fla_takes_the_arguments_that_are_passed():
    rwkv7 = pytest.importorskip("fla.ops.rwkv7")
    for item in IMPLEMENTATIONS:
        if item.worker not in ("fla_safe", "fla_plain"):
            continue
        operator = item.load()
        assert isinstance(operator, AutogradOperator)
        entry, options = inspect.getclosurevars(operator.function).nonlocals.values()
        called = dict.fromkeys("rwkvab") | {"scale": 1.0, "initial_state": None}
        inspect.signature(entry).bind(**called, output_final_state=True, **options)
        assert entry in (rwkv7.chunk_rwkv7, rwkv7.fused_recurrent_rwkv7)


def fake_launcher():
    """Our launchers' interface over the float64 reference, in float32."""

    def forward(inputs, *, initial_state, carried, lengths, precision, keep):
        assert (lengths, precision) == (None, "bf16")
        function = sequential("logit", False)
        y, state = function(*inputs.tensors, initial_state)
        empty = torch.empty(0)
        saved = Saved(empty, empty, empty, empty, empty) if keep else None
        return Outputs(y, state, empty, saved)

    def backward(inputs, saved, dy, dfinal_state, *, carried, lengths, precision):
        assert saved is not None
        leaves = [x.detach().requires_grad_() for x in (*inputs.tensors, dfinal_state * 0)]
        leaves[6] = fake_launcher.state.detach().requires_grad_()
        outputs = sequential("logit", False)(*leaves)
        return Gradients(*torch.autograd.grad(outputs, leaves, (dy, dfinal_state)), None, None)

    return Launcher(forward, backward, forward)


def test_our_launchers_are_called_as_they_ask(monkeypatch):
    operator = LaunchOperator(fake_launcher())
    state = build_problem(b=2, t=24, h=2, d=16, dtype=torch.bfloat16).initial_state
    monkeypatch.setattr(fake_launcher, "state", state, raising=False)
    errors = measure_errors(operator, kind="typical", trains=True, shape=TINY, device="cpu")
    assert len(errors) == 9
    assert max(errors.values()) < 4e-3
    prompt = operator.named(operator.prompt(build_problem(t=5, d=16)))
    assert prompt.keys() == {"y", "final_state"}


@pytest.mark.parametrize("backend", ["wkv7_triton", "wkv7_cuda"])
def test_our_launchers_have_the_arguments_that_are_passed(backend):
    launch = pytest.importorskip(f"fseed_kernels.{backend}.launch")
    common = {"carried": None, "lengths": None, "precision": "bf16"}
    inspect.signature(launch.forward).bind(None, initial_state=None, keep=True, **common)
    inspect.signature(launch.backward).bind(*[None] * 4, needs_carried=True, **common)


def test_drawn_carried_state_has_its_own_squares():
    problem = draw_problem(TINY, seed=0, device="cpu")
    carried = draw_carried(problem, seed=1)
    assert carried.squares is not None
    total = carried.state.square().sum((2, 3))
    torch.testing.assert_close(carried.squares.sum(2), total)
    assert carried.gate.shape == (2, 2)


def test_two_series_give_median_and_spread():
    timing = summarize([1.0, 1.0, 1.2], [1.1, 1.1, 1.1], timer="events")
    assert timing == Timing(1.1, pytest.approx(0.1 / 1.1), 6, "events")


def test_tensors_of_a_result():
    inputs = Inputs(*(torch.full((1,), float(i)) for i in range(6)))
    nested = (inputs, None, [torch.ones(1)], torch.ones(1, dtype=torch.int32))
    assert [float(x) for x in tensors_of(nested)] == [0, 1, 2, 3, 4, 5, 1]


def test_a_graph_that_misses_a_kernel_is_refused():
    result, expected = torch.ones(3), torch.full((3,), 2.0)
    check_replay(lambda: result.fill_(2.0), [result], [expected])
    for replay in (lambda: None, lambda: result.fill_(1.0)):
        with pytest.raises(RuntimeError, match="does not give its results"):
            check_replay(replay, [result], [expected])


def test_kernels_launched_in_slices_count_as_one():
    assert per_call([1.0, 2.0, 3.0, 4.0], 2) == [3.0, 7.0]
    kernel = summarize_kernel("void forward_chunk(int)", [0.2, 0.3, 0.4], Shape(8, 4096, 12))
    assert kernel.name == "forward_chunk"
    assert kernel.tb_per_second == pytest.approx(11 * 50_331_648 / 0.3e-3 / 1e12)
    assert summarize_kernel("memset", [0.1], TINY).tb_per_second is None


def test_decay_is_rounded_before_the_reference_sees_it():
    problem = build_problem(t=5, d=16, dtype=torch.bfloat16)
    converted = convert_decay(problem, "log_decay").inputs.decay_logit
    assert converted.dtype == torch.bfloat16
    assert converted.min() >= -0.61
