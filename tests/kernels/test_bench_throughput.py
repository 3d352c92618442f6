"""The benchmark of training: jobs, shapes, FLOPs, clocks, parts of a step, rows."""

import json

import pytest
import torch

from bench_throughput.__main__ import main, parse_arguments, plan_jobs
from bench_throughput.flops import (
    H100_BANDWIDTH,
    H100_DENSE_BF16,
    Load,
    Peak,
    bytes_by_part,
    flops_by_part,
    mfu,
    parameters_by_part,
    peak_of,
    roofline_seconds,
)
from bench_throughput.jobs import (
    CHECK_STEPS,
    TRAINERS,
    Job,
    Shape,
    checkpointing_values,
    comparison_jobs,
    find_trainer,
    memory_jobs,
    parse_shape,
    read_jobs,
    score_jobs,
    why_absent,
    write_jobs,
)
from bench_throughput.parts import PARTS, Work, part_of
from bench_throughput.processes import in_turn
from bench_throughput.rows import append_row, job_row, merge_rows, read_rows
from bench_throughput.timing import StepClock, steady_after, summarize
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape

SHAPE = RWKV7Shape(
    num_layers=3, width=64, head_size=32, ffn_width=256, decay_rank=16, in_context_rank=8,
    value_rank=4, gate_rank=12, vocab_size=320,
)  # fmt: skip


def test_shapes_and_trainers_are_named():
    assert parse_shape("8x4096") == Shape(8, 4096)
    assert Shape(8, 4096).name == "8x4096"
    with pytest.raises(ValueError, match="expected BxL"):
        parse_shape("8x4096x12")
    with pytest.raises(ValueError, match="allowed: ours, ours_fs, fla"):
        find_trainer("theirs")
    for trainer in TRAINERS:
        judge = None if trainer.judge is None else find_trainer(trainer.judge)
        # who judges has to be the same arm, and nobody judges it
        assert judge is None or (judge.arm, judge.judge) == (trainer.arm, None)


def test_a_judge_that_is_not_timed_takes_the_first_steps():
    jobs = comparison_jobs(["ours", "ours_fs", "unfused"], [Shape(2, 64)], steps=9, warm_up=3)
    names = [(job.purpose, job.trainer, job.steps) for job in jobs]
    assert names == [
        ("check", "unfused_fs", CHECK_STEPS),
        *(("compare", name, 9) for name in ("ours", "ours_fs", "unfused")),
    ]
    assert in_turn(jobs) == ["ours", "ours_fs", "unfused_fs", "unfused"]
    assert read_jobs(write_jobs(jobs)) == jobs


def test_memory_has_a_job_for_every_value_of_the_option():
    jobs = memory_jobs([Shape(2, 64)], steps=4, warm_up=1)
    assert [job.choice for job in jobs] == checkpointing_values()
    assert {job.words for job in jobs} >= {("trainer.activation_checkpointing=false",)}
    assert len({job.name for job in jobs}) == len(jobs) >= 2


def test_absent_libraries_are_named():
    from dataclasses import replace

    absent = replace(find_trainer("fla"), module="no_such_library.models")
    assert why_absent(absent) == "no_such_library is not installed"
    assert why_absent(find_trainer("ours")) is None


def test_parameters_of_the_parts_are_those_of_the_model():
    parts = parameters_by_part(SHAPE)
    matrices = sum(
        p.numel() for p in RWKV7(SHAPE).parameters() if p.squeeze().ndim == 2 and 2 not in p.shape
    )
    # r_k [H, N] is a vector in the shape of a matrix
    assert sum(parts.values()) == matrices


def test_flops_are_two_for_each_weight_and_token_three_times():
    load = Load(tokens=100, answers=10)
    flops, weights = flops_by_part(SHAPE, load), parameters_by_part(SHAPE)
    for part in ("projections", "low rank", "channel mix"):
        assert flops[part] == 6 * weights[part] * load.tokens
    assert flops["loss"] == 6 * weights["loss"] * load.answers
    assert flops["wkv7"] == 3 * 9 * 64 * 32 * 3 * load.tokens


def test_mfu_is_a_share_of_the_dense_peak():
    load = Load(tokens=1000, answers=100)
    peak = Peak(flops=1e9, bandwidth=1e9)
    seconds = sum(flops_by_part(SHAPE, load).values()) / 1e9
    assert mfu(SHAPE, load, seconds=2 * seconds, peak=peak) == pytest.approx(0.5)
    assert peak_of("NVIDIA H100 80GB HBM3") == Peak(H100_DENSE_BF16, H100_BANDWIDTH)
    assert peak_of("CPU") is None


def test_roofline_is_bound_by_bytes_or_by_flops():
    load = Load(tokens=1000, answers=100)
    moved, flops = bytes_by_part(SHAPE, load), flops_by_part(SHAPE, load)
    slow_memory = roofline_seconds(SHAPE, load, Peak(flops=1e30, bandwidth=1.0))
    slow_units = roofline_seconds(SHAPE, load, Peak(flops=1.0, bandwidth=1e30))
    assert slow_memory == pytest.approx(moved)
    assert slow_units["projections"] == pytest.approx(flops["projections"])
    both = slow_units["wkv7 forward"] + slow_units["wkv7 backward"]
    assert both == pytest.approx(flops["wkv7"])
    assert set(moved) <= set(PARTS)


def test_clock_marks_every_step():
    clock = StepClock(torch.device("cpu"))
    clock.start()
    for _ in range(4):
        clock.mark()
    assert len(clock.seconds()) == 4
    assert min(clock.seconds()) >= 0


def test_times_leave_the_warm_up_out():
    times = summarize([9.0, 9.0, 1.0, 2.0, 3.0], warm_up=2)
    assert (times.median, times.p10, times.p90, times.n) == (2.0, 1.0, 3.0, 3)
    assert times.window == pytest.approx(2.0)
    with pytest.raises(ValueError, match="leave none"):
        summarize([1.0], warm_up=1)


def test_steady_begins_behind_the_last_slow_step():
    assert steady_after([5.0, 1.0, 4.0, 1.0, 1.0], median=1.0) == 10.0
    assert steady_after([1.0, 1.0], median=1.0) == 0.0


@pytest.mark.parametrize(
    ("kernel", "operator", "sizes", "part"),
    [
        ("norm_shift_mix_backward", "", (), "norm, shift, mix"),
        ("fseed_forward_chained_bf16", "", (), "wkv7 forward"),
        ("backward_scan_h64", "", (), "wkv7 backward"),
        ("relu_squared_forward", "", (), "channel mix"),
        ("cross_entropy_rows", "", (), "loss"),
        ("nvjet_tst_128x256", "aten::mm", ((512, 64), (64, 64)), "projections"),
        ("nvjet_tst_128x256", "aten::mm", ((64, 512), (512, 256)), "channel mix"),
        ("nvjet_tst_128x256", "aten::mm", ((512, 64), (64, 16)), "low rank"),
        ("nvjet_tst_128x256", "aten::mm", ((50, 64), (64, 320)), "loss"),
        ("nvjet_tst_128x256", "", (), "matrix products"),
        ("multi_tensor_apply_FusedAdamMathFunctor", "aten::_fused_adamw_", (), "optimiser"),
        ("void LpNormFunctor", "aten::_foreach_norm", (), "clip"),
        ("embedding_dense", "aten::embedding_dense_backward", (), "embedding"),
        ("unrolled_elementwise", "aten::copy_", (), "casts"),
        ("Memcpy HtoD (Pinned -> Device)", "", (), "transfers"),
        ("vectorized_elementwise", "aten::add", (), "everything else"),
    ],
)
def test_kernels_have_a_part(kernel, operator, sizes, part):
    assert part_of(Work(kernel, operator, sizes, (), 1.0), SHAPE) == part
    assert part in PARTS


def test_rows_survive_a_cut_and_merge(tmp_path):
    job = Job("compare", "ours", Shape(2, 64), 5, 1)
    path = tmp_path / "rows.jsonl"
    append_row(path, job_row(job, "train", device="GPU", milliseconds=2.0))
    with path.open("a") as file:
        file.write('{"kind": "tra')
    (row,) = read_rows(path)
    assert (row["kind"], row["shape"], row["milliseconds"]) == ("train", "2x64", 2.0)
    later = row | {"milliseconds": 1.0}
    failed = job_row(job, "failed", reason="no memory")
    merged = merge_rows([[row], [later, failed]])
    assert merged == [later]
    other = failed | {"shape": "8x64"}
    assert merge_rows([[other], [row], [failed]]) == [other, row]
    assert merge_rows([[later | {"device": "other"}], [later]])[0]["device"] == "other"


def test_command_line(tmp_path, capsys):
    options = parse_arguments(["--output", str(tmp_path), "--smoke"])
    assert (options.device, options.model) == ("cpu", "nano")
    purposes = {job.purpose for job in plan_jobs(options)}
    assert purposes == {"check", "compare", "profile", "memory", "curves", "score"}
    for words in (["--shapes", "8"], ["--trainers", "them"], ["--warm-up", "9", "--steps", "9"]):
        with pytest.raises(SystemExit) as error:
            parse_arguments(["--output", str(tmp_path), *words])
        assert error.value.code == 2
    nothing = parse_arguments(["--output", str(tmp_path), "--trainers", "none", "--profile"])
    assert {job.purpose for job in plan_jobs(nothing)} == {"profile"}


def test_without_a_gpu_nothing_is_timed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--output", str(tmp_path)]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_rows_are_plain_json(tmp_path):
    row = job_row(Job("memory", "ours", Shape(2, 64), 5, 1, ("a=b",), "true"), "skipped", reason="")
    assert json.loads(json.dumps(row)) == row


def test_scoring_is_timed_at_one_batch_size():
    shapes = [Shape(2, 64), Shape(8, 64), Shape(8, 128)]
    jobs = score_jobs(shapes, steps=3, warm_up=1)
    assert {job.shape.batch for job in jobs} == {8}
    assert [job.trainer for job in jobs] == ["ours", "ours", "unfused", "unfused"]
    assert {job.shape.batch for job in score_jobs(shapes[:1], steps=3, warm_up=1)} == {2}
