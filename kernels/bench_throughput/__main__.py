"""Time whole training steps: this trainer, flash-linear-attention's model, nothing fused.

    python kernels/bench_throughput --output DIR [--shapes 8x4096,...] [--trainers ours,fla,...]
        [--data DIR] [--vocab-file FILE] [--profile] [--memory] [--curves] [--projection]
    python kernels/bench_throughput --output DIR --merge A/throughput.jsonl B/throughput.jsonl
    python kernels/bench_throughput --output DIR --smoke

Run from the root of a checkout. Exit status 2 without a GPU (but with --smoke), 1 where a training
is not equal to its judge's or one of ours failed. Every trainer runs in a process of its own.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
# run as a folder this file has no package, and its neighbours would be top-level modules
sys.path[:] = [str(HERE.parent), str(HERE.parents[1] / "src")] + [
    path for path in sys.path if Path(path).resolve() != HERE
]

# behind the path, which they are found by
from bench_throughput.jobs import (  # noqa: E402
    DEFAULT_TRAINERS,
    NAMES,
    SHAPES,
    Job,
    Shape,
    comparison_jobs,
    find_trainer,
    memory_jobs,
    parse_shape,
    profile_jobs,
    read_jobs,
    renamed,
    score_jobs,
)
from bench_throughput.processes import Workers, describe_machine  # noqa: E402
from bench_throughput.rows import merge_rows, read_rows  # noqa: E402

CURVE_TRAINERS = ("ours", "ours_fs", "fla_bf16", "unfused")
PROFILED_STEPS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, or be one worker of it."""
    options = parse_arguments(arguments)
    if options.worker is not None or options.prepare or options.compile_fla is not None:
        return run_inside(options)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.merge:
        return merge(options)
    machine = describe_machine(device=options.device, commit=options.commit)
    if machine is None:
        print("kernels/bench_throughput: no CUDA device here, nothing was timed", file=sys.stderr)
        return 2
    from bench_throughput.report import write_report

    workers = Workers(options, machine, report=write_report)
    return workers.run(plan_jobs(options))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; exit status 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="kernels/bench_throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder of throughput.jsonl .md, curves, logs")
    add("--shapes", help="BxL, separated by commas; default: all nine")
    add("--trainers", help=f"separated by commas: {', '.join(NAMES)}; none: no comparison")
    add("--steps", type=int, default=40, help="of each training, warm-up included")
    add("--warm-up", type=int, default=12, help="steps that are not timed")
    add("--profile", action="store_true", help="one step by part, each of --shapes")
    add("--memory", action="store_true", help="with and without activation checkpointing")
    add("--detail-shapes", help="shapes of --profile and --memory; default: --shapes")
    add("--curves", action="store_true", help="losses of those of --trainers that are drawn")
    add("--curve-shape", type=parse_shape, default=Shape(8, 512), help="BxL")
    add("--curve-steps", type=int, default=200)
    add("--projection", action="store_true", help="GPU minutes of a search; needs shapes 2xL")
    add("--data", help="folder with hotpotqa/train.parquet; default: generated rows")
    add("--rows-of-text", type=int, default=1000, help="of the data, joined to one text")
    add("--vocab-file", help="World vocabulary; default: bytes, in the same 65,536 vocabulary")
    add("--model", default="rwkv7_0b1", help="option of conf/model")
    add("--weights", help="checkpoint to start from; default: a random start, no zero matrices")
    add("--ragged", type=float, default=0.0, help="by what share lengths fall below L at most")
    add("--seconds-per-shape", type=float, default=20, help="of a plain loop, behind its warm-up")
    add("--worker-seconds", type=float, default=300, help="limit of each worker")
    add("--compile-seconds", type=float, default=200, help="limit of compiling FLA's kernels ahead")
    add("--total-seconds", type=float, default=560, help="no worker runs beyond it")
    add("--smoke", action="store_true", help="everything on the CPU with the nano model, a minute")
    add("--merge", type=Path, nargs="+", help="throughput.jsonl of several commands: one report")
    add("--commit", help="commit to record, where there is no .git")
    add("--device", choices=("gpu", "cpu"), default="gpu", help=argparse.SUPPRESS)
    add("--prepare", action="store_true", help=argparse.SUPPRESS)
    add("--worker", help=argparse.SUPPRESS)
    add("--compile-fla", help=argparse.SUPPRESS)
    add("--rows", type=Path, help=argparse.SUPPRESS)
    add("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        check_options(options)
    except ValueError as error:
        parser.error(str(error))
    return options


def check_options(options: argparse.Namespace) -> None:
    """Turn names into what they name.

    Raises:
        ValueError: for shapes, trainers and steps that do not exist or cannot be.
    """
    if options.smoke:
        options.device, options.model = "cpu", "nano"
        options.shapes = options.shapes or "2x32,4x64"
        options.detail_shapes = options.detail_shapes or "2x32"
        options.steps, options.warm_up = 5, 1
        options.rows_of_text = 40
        options.curve_shape, options.curve_steps = Shape(2, 32), 8
        options.profile = options.memory = options.curves = options.projection = True
    chosen = options.shapes.split(",") if options.shapes else [shape.name for shape in SHAPES]
    options.chosen = [parse_shape(text) for text in chosen]
    detail = options.detail_shapes.split(",") if options.detail_shapes else chosen
    options.detail = [parse_shape(text) for text in detail]
    names = options.trainers.split(",") if options.trainers else list(DEFAULT_TRAINERS)
    options.names = [] if names == ["none"] else names
    for name in options.names:
        find_trainer(name)
    if not 0 <= options.warm_up < options.steps:
        raise ValueError(f"--warm-up {options.warm_up} must be below --steps {options.steps}")
    if not 0 <= options.ragged < 1:
        raise ValueError(f"--ragged {options.ragged} must lie in [0, 1)")


def plan_jobs(options: argparse.Namespace) -> list[Job]:
    """Return everything that is asked for."""
    sizes = {"steps": options.steps, "warm_up": options.warm_up}
    jobs = comparison_jobs(options.names, options.chosen, **sizes)
    if options.profile:
        is_gpu = options.device == "gpu"
        steps = {"warm_up": options.warm_up, "profiled": PROFILED_STEPS if is_gpu else 1}
        jobs += profile_jobs(options.detail, **steps, with_graphs=is_gpu)
    if options.memory:
        jobs += memory_jobs(options.detail, **sizes)
    if options.curves:
        steps = {"steps": options.curve_steps, "warm_up": options.warm_up}
        drawn = [name for name in CURVE_TRAINERS if name in (options.names or CURVE_TRAINERS)]
        curves = comparison_jobs(drawn, [options.curve_shape], **steps)
        jobs += renamed([job for job in curves if job.purpose == "compare"], "curves")
    if options.projection:
        jobs += score_jobs(options.chosen, steps=5, warm_up=2)
    return jobs


def run_inside(options: argparse.Namespace) -> int:
    """Be a worker process."""
    import torch

    from bench_throughput.worker import run_jobs
    from bench_throughput.workload import Setting, prepare

    names = ("output", "model", "device", "vocab_file", "data", "weights", "ragged")
    setting = Setting(**{name: getattr(options, name) for name in names})
    if options.prepare:
        prepare(setting, num_examples=options.rows_of_text)
        return 0
    if options.compile_fla is not None:
        from bench_throughput.fla_tuning import compile_fla

        dtype, place = options.compile_fla.split(":")
        shard, shards = map(int, place.split("/"))
        compile_fla(setting, dtype=getattr(torch, dtype), shard=shard, shards=shards)
        return 0
    run_jobs(
        setting,
        read_jobs(options.worker),
        options.rows,
        process_started=options.started or time.time(),
        max_seconds=options.seconds_per_shape,
    )
    return 0


def merge(options: argparse.Namespace) -> int:
    """Join the rows of several commands and write one report."""
    from bench_throughput.report import write_report
    from bench_throughput.table import unequal

    rows = merge_rows(read_rows(path) for path in options.merge)
    devices = dict.fromkeys(row["device"] for row in rows if "device" in row)
    machine = {"device": " and ".join(devices), "merged": str(len(options.merge))}
    print(write_report(options.output, rows, machine=machine))
    return 1 if list(unequal(rows)) else 0


if __name__ == "__main__":
    sys.exit(main())
