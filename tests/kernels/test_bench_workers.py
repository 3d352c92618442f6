"""The benchmark's processes on a CPU: workers, failures, limits, tuning."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import worker as worker_module
from bench.data import draw_problem
from bench.peers import IMPLEMENTATIONS, WORKERS, of_worker, why_absent
from bench.rows import Row, read_rows
from bench.shapes import Shape
from bench.timing import Timing

TINY = Shape(2, 24, 2, 16)
BENCH = Path(__file__).parents[2] / "kernels" / "bench"


def test_every_worker_has_one_environment_and_a_version():
    for worker in WORKERS:
        items = of_worker(worker)
        assert len({tuple(item.environment.items()) for item in items}) == 1
        assert len({item.module for item in items}) == 1
    assert len({item.name for item in IMPLEMENTATIONS}) == len(IMPLEMENTATIONS)
    with pytest.raises(ValueError, match="allowed: fseed_triton"):
        of_worker("fla")


def test_absent_libraries_are_named():
    absent = replace(IMPLEMENTATIONS[-1], module="no_such_library")
    assert why_absent(absent) == "no_such_library is not installed"
    assert why_absent(IMPLEMENTATIONS[0]) is None


def test_a_failing_step_becomes_a_row_and_the_next_one_runs(tmp_path, monkeypatch):
    def draw(shape, *, seed):
        return draw_problem(shape, seed=seed, device="cpu")

    def times(calls, *, repeats):
        calls[0]()
        return Timing(1.0, 0.0, 2 * repeats, "events")

    def errors(operator, *, kind, trains):
        if kind == "typical":
            raise RuntimeError("no typical data today\nsecond line")
        return {"y": 0.5}

    monkeypatch.setattr(worker_module, "draw_problem", draw)
    monkeypatch.setattr(worker_module, "time_calls", times)
    monkeypatch.setattr(worker_module, "quick_estimate", lambda _: 30.0)
    monkeypatch.setattr(worker_module, "peak_gib", lambda _: 0.25)
    monkeypatch.setattr(worker_module, "measure_errors", errors)
    properties = SimpleNamespace(L2_cache_size=10_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    plan = worker_module.Plan([TINY], 13, False, tmp_path / "rows.jsonl")
    worker_module.run_worker("chunked", plan)
    rows = read_rows(plan.rows)
    assert rows[0].metric == "failed"
    assert rows[0].note == "RuntimeError: no typical data today"
    assert [row.data for row in rows[1:3]] == ["fast_decay", "equal_keys"]
    timed = [row for row in rows if row.metric == "time"]
    assert [row.run for row in timed] == ["forward", "forward_backward", "prompt"]
    assert {row.n for row in timed} == {20}  # a slow version gets fewer samples
    assert rows[-1] == Row(
        "PyTorch chunked", "reference", TINY.name, "forward_backward", "peak_memory", 0.25, "GiB"
    )


def test_a_library_that_cannot_load_is_one_row(tmp_path):
    pytest.importorskip("fla")
    plan = worker_module.Plan([TINY], 13, False, tmp_path / "rows.jsonl")
    worker_module.run_worker("flashrwkv2", plan)
    (row,) = read_rows(plan.rows)
    assert (row.implementation, row.metric) == ("FlashRWKV2", "failed")
    assert "flashrwkv2" in row.note


@pytest.fixture
def command(monkeypatch):
    """The module behind ``python kernels/bench``, on a machine that seems to have a GPU."""
    spec = spec_from_file_location("bench_command", BENCH / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "describe_machine", lambda commit: {"device": "made up"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return module


def start_script(script):
    """Replace a worker by a small program."""

    def start(run, *words, log):
        process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
        run.started.append(process)
        return process

    return start


def test_a_worker_that_hangs_is_stopped_and_the_rest_is_written(command, tmp_path, monkeypatch):
    monkeypatch.setattr(command.Run, "start", start_script("import time; time.sleep(60)"))
    options = ["--output", str(tmp_path), "--only", "fseed_triton", "--worker-seconds", "1"]
    assert command.main(options) == 1  # our backend gave no time
    report = (tmp_path / "bench.md").read_text()
    assert "| fseed triton |  | failed | stopped after 1 s" in report
    assert "| streaming floor |  | failed | stopped after 1 s" in report
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"bench.csv", "bench.md", "bench.png", "bench.svg"}


def test_a_worker_that_crashes_is_noted_and_the_next_one_starts(command, tmp_path, monkeypatch):
    monkeypatch.setattr(command.Run, "start", start_script("import os; os.abort()"))
    assert command.main(["--output", str(tmp_path), "--only", "chunked,rwkv_ops_triton"]) == 0
    report = (tmp_path / "bench.md").read_text()
    assert "| PyTorch chunked |  | failed | exit status -6, see chunked.log |" in report
    assert "| rwkv-ops Triton |  | skipped | rwkv_ops is not installed |" in report


def test_no_worker_starts_when_the_time_is_spent(command, tmp_path, monkeypatch):
    monkeypatch.setattr(command.Run, "start", None)  # calling it would fail
    options = ["--output", str(tmp_path), "--only", "chunked", "--total-seconds", "0"]
    assert command.main(options) == 0
    assert "the time of the whole run is spent" in (tmp_path / "bench.md").read_text()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="checks the refusal without a GPU")
def test_without_a_gpu_the_command_says_so_in_one_line(tmp_path):
    command = [sys.executable, str(BENCH), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "kernels/bench: no CUDA device here, nothing was timed"
    ]
    assert not (tmp_path / "out").exists()


def test_tuning_leaves_out_wide_configs_only(monkeypatch):
    triton = pytest.importorskip("triton")
    from triton.runtime.autotuner import Autotuner

    from bench import tuning

    monkeypatch.setattr(Autotuner, "prune_configs", Autotuner.prune_configs)
    monkeypatch.setattr(Autotuner, "do_bench", Autotuner.do_bench)
    sizes = [(32, 4), (64, 8), (128, 4), (64, 16), (64, 2)]
    configs = [triton.Config({"BK": block}, num_warps=warps) for block, warps in sizes]
    tuner = SimpleNamespace(configs=configs, early_config_prune=None, perf_model=None)
    tuning.leave_out_wide_configs()
    kept = Autotuner.prune_configs(tuner, {})
    assert [(c.kwargs["BK"], c.num_warps) for c in kept] == [(32, 4), (64, 8), (64, 2)]
    tuning.compile_shard(1, 2)  # on top of it, every second one
    assert [c.kwargs["BK"] for c in Autotuner.prune_configs(tuner, {})] == [64]
    tuning.compile_shard(7, 8)
    assert len(Autotuner.prune_configs(tuner, {})) == 1
