"""The benchmark of training: who is equal, what is printed, what is projected."""

import csv

import pytest

from bench_throughput import processes
from bench_throughput.__main__ import main, parse_arguments
from bench_throughput.checks import GRAD_NORM_TOLERANCE, LOSS_TOLERANCE, judge
from bench_throughput.curves import write_curves
from bench_throughput.jobs import Job, Shape
from bench_throughput.processes import Workers
from bench_throughput.projection import (
    NUM_ARMS,
    NUM_SEEDS,
    SearchTask,
    Side,
    interpolate,
    project,
    read_side,
)
from bench_throughput.report import render_report, write_report
from bench_throughput.rows import job_row, write_rows
from bench_throughput.table import render_bars, render_comparison, speed, unequal

LOSSES, NORMS = [5.0, 4.0, 3.0, 2.5, 2.0], [1.0, 0.9, 0.8, 0.7, 0.6]
MACHINE = {"device": "GPU", "commit": "0"}


def trained(name, *, purpose="compare", shape="2x64", choice="", rate=100.0, **changed):
    batch, length = map(int, shape.split("x"))
    row = job_row(
        Job(purpose, name, Shape(batch, length), 5, 0, choice=choice), "train",
        losses=LOSSES, grad_norms=NORMS, batches="abc", device="GPU", tokens=128, padded=128,
        answers=12, flops={"loss": 128e6}, peak_gib=1.0, micro_batch=batch, step="eager", steps=5,
        milliseconds=128e3 / rate, p10=1.0, p90=2.0, mean=1.5, timed=4, tokens_per_second=rate,
        mfu=0.5, first_step_seconds=3.0, set_up_seconds=2.0,
    )  # fmt: skip
    return row | changed


def scaled(values, factor, *, at=0):
    return [value * (factor if i == at else 1.0) for i, value in enumerate(values)]


def test_equal_within_tolerance_and_judged_by_the_right_arm():
    near = scaled(LOSSES, 1 + 0.9 * LOSS_TOLERANCE, at=4)
    rows = [trained("unfused"), trained("ours", losses=near)]
    verdict = judge(rows, rows[1])
    assert verdict.is_equal
    assert verdict.loss_distance == pytest.approx(0.9 * LOSS_TOLERANCE)
    seeded = trained("ours_fs")
    assert "unfused_fs has no losses" in judge(rows, seeded).problem
    assert judge([trained("unfused_fs", purpose="check")], seeded).is_equal


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"losses": scaled(LOSSES, 1 + 1.1 * LOSS_TOLERANCE, at=2)}, "losses are"),
        ({"grad_norms": scaled(NORMS, 1 - 1.1 * GRAD_NORM_TOLERANCE)}, "gradient norms are"),
        ({"losses": LOSSES[:3]}, "losses are inf"),
        ({"losses": scaled(LOSSES, float("nan"), at=1)}, "not finite"),
        ({"batches": "other"}, "not the batches of unfused"),
        ({"shape": "2x128"}, "unfused has no losses at 2x128"),
        ({"device": "other"}, "unfused has no losses"),
    ],
)
def test_what_is_not_equal_has_no_speed(changed, problem):
    rows = [trained("unfused"), trained("ours", **changed)]
    assert problem in judge(rows, rows[1]).problem
    assert speed(rows, "ours", rows[1]["shape"]) is None
    table = render_comparison(rows)
    assert "NOT EQUAL" in table
    assert [text.split(":")[0] for text in unequal(rows)] == [f"ours {rows[1]['shape']}"]


def test_bars_pass_and_miss_and_name_what_is_missing():
    rows = [
        trained("unfused", rate=100.0),
        trained("unfused_fs", purpose="check"),
        trained("ours", rate=450.0),
        trained("ours_fs", rate=440.0),
        trained("fla", rate=150.0),
        trained("fla_plain", rate=300.0),
    ]
    lines = {line.split(" | ")[0].strip("| "): line for line in render_bars(rows).splitlines()}
    assert "4.50" in lines["x unfused"]
    assert lines["x unfused"].endswith("pass |")
    # the faster of FLA's counts
    assert "1.50" in lines["x FLA's best"]
    assert lines["x FLA's best"].endswith("MISS |")
    assert "2.3%" in lines["Future-Seed costs"]
    assert lines["Future-Seed costs"].endswith("pass |")
    assert "not measured" in render_bars(rows[:1])


def test_report_has_what_was_measured_and_ends_with_the_short_table(tmp_path):
    memory = [
        trained("ours", purpose="memory", choice="false", peak_gib=4.0),
        trained("ours", purpose="memory", choice="true", peak_gib=2.0),
    ]
    profile = job_row(
        Job("profile", "ours", Shape(2, 64), 5, 2, choice="as trained"), "profile",
        milliseconds=10.0, parts={"projections": 4.0, "everything else": 1.0},
        rest={"aten::add": 1.0}, bytes={"projections": 2e9}, flops={},
        least_milliseconds={"projections": 2.0}, device="GPU", step="graph", backend="cuda",
    )  # fmt: skip
    curves = [trained(name, purpose="curves") for name in ("ours", "unfused")]
    failed = job_row(Job("compare", "fla", Shape(2, 64), 5, 0), "failed", reason="it broke")
    rows = [trained("unfused"), trained("ours", rate=500.0), *memory, profile, *curves, failed]
    page = write_report(tmp_path, rows, machine=MACHINE)
    assert "| 2x64 | true | 2.00 | 0.50 |" in page
    assert "| projections | 4.000 | 40.0% | 2.00 | 2.000 | 50% | 2.000 |" in page
    assert "| nothing ran (host) | 5.000 | 50.0% |" in page
    assert "it broke" in page
    assert page.rstrip().splitlines()[-1] == "| unfused | 100 |"
    with (tmp_path / "curves.csv").open() as file:
        table = list(csv.reader(file))
    assert table[0] == ["step", "fseed", "unfused"]
    assert table[1] == ["1", "5.0", "5.0"]
    assert (tmp_path / "curves.png").stat().st_size > 0
    assert (tmp_path / "curves.svg").stat().st_size > 0


def test_curves_of_different_lengths_keep_their_steps(tmp_path):
    rows = [
        trained("ours", purpose="curves", losses=[3.0, 2.0]),
        trained("unfused", purpose="curves", losses=[3.0]),
    ]
    write_curves(tmp_path / "curves.csv", rows)
    assert (tmp_path / "curves.csv").read_text().splitlines()[2] == "2,2.0,"


def test_projection_adds_up():
    side = Side(
        trainer="ours", first_start=30.0, later_start=6.0, steps={100: 0.5, 300: 1.5},
        scored={800: 0.1, 1600: 0.2}, scored_batch=8, decoded_per_second=200.0,
    )  # fmt: skip
    tasks = (SearchTask("a", 100), SearchTask("b", 200, decoded=10))
    found = project(side, tasks=tasks)
    runs = NUM_ARMS * NUM_SEEDS
    assert found.starting == pytest.approx((30.0 + (4 * runs - 1) * 6.0) / 60)
    assert found.training == pytest.approx(runs * 520 * (0.5 + 1.0) / 60)
    assert found.scoring == pytest.approx(2 * runs * 2 * 25 * (0.1 + 0.2) / 60)
    assert found.decoding == pytest.approx(2 * runs * 200 * 10 / 200.0 / 60)


def test_interpolation():
    known = {100: 1.0, 200: 3.0}
    assert interpolate(known, 150) == 2.0
    assert interpolate(known, 200) == 3.0
    assert interpolate(known, 50) == 1.0
    assert interpolate(known, 400) == 6.0


def test_projection_is_printed_with_its_inputs_or_not_at_all():
    rates = {"ours": 500.0, "unfused": 100.0}
    shapes = ("2x512", "2x2048")
    rows = [trained(name, shape=shape, rate=rates[name]) for name in rates for shape in shapes]
    for row in rows:
        if row["shape"] == "2x512":
            row |= {"cold_seconds": 20.0, "steady_seconds": 22.0}
    assert "Projection" not in render_report(rows, machine=MACHINE)
    for name in ("ours", "unfused"):
        job = Job("score", name, Shape(2, 512), 5, 1)
        rows.append(
            job_row(job, "score", milliseconds=5.0, tokens=1024, device="GPU",
                    decoded_per_second=1000.0, decoded_at_a_time=8)
        )  # fmt: skip
    side = read_side(rows, "ours", process_per_run=False)
    assert side is not None
    assert (side.first_start, side.later_start) == (20.0, 5.0)
    before = read_side(rows, "unfused", process_per_run=True)
    assert before is not None
    assert before.later_start == 20.0
    page = render_report(rows, machine=MACHINE)
    assert "Projection" in page
    assert "first start 20.0 s, each later one 5.0 s" in page


def test_merge_joins_commands(tmp_path, capsys):
    write_rows(tmp_path / "a.jsonl", [trained("unfused")])
    write_rows(tmp_path / "b.jsonl", [trained("ours")])
    paths = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    assert main(["--output", str(tmp_path / "both"), "--merge", *paths]) == 0
    assert "| fseed | 100 |" in capsys.readouterr().out
    write_rows(tmp_path / "b.jsonl", [trained("ours", batches="other")])
    assert main(["--output", str(tmp_path / "both"), "--merge", *paths]) == 1


WORKER = """
import json, sys
jobs = json.loads(sys.argv[sys.argv.index("--worker") + 1])
rows = sys.argv[sys.argv.index("--rows") + 1]
for job in jobs:
    place = {"purpose": job["purpose"], "trainer": job["trainer"], "choice": "",
             "shape": f"{job['shape']['batch']}x{job['shape']['length']}"}
    with open(rows, "a") as file:
        file.write(json.dumps({"kind": "started", **place}) + "\\n")
        if job["shape"]["length"] == 2:
            file.close()
            sys.exit(7)
        file.write(json.dumps({"kind": "failed", "reason": "done", **place}) + "\\n")
"""


def test_a_process_that_dies_costs_one_job(tmp_path, monkeypatch):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    monkeypatch.setattr(processes, "HERE", script)
    options = parse_arguments(["--output", str(tmp_path), "--smoke"])
    workers = Workers(options, MACHINE, report=lambda *_, **__: "")
    jobs = [Job("compare", "ours", Shape(1, length), 5, 0) for length in (1, 2, 3)]
    workers._run_trainer("ours", jobs)
    reasons = {row["shape"]: row["reason"] for row in workers.rows}
    assert reasons["1x1"] == reasons["1x3"] == "done"
    assert reasons["1x2"] == "exit status 7, see logs/ours.log"


def test_spent_time_and_absent_libraries_are_told(tmp_path):
    options = parse_arguments(["--output", str(tmp_path), "--smoke", "--total-seconds", "0"])
    workers = Workers(options, MACHINE, report=lambda *_, **__: "")
    for name in ("ours", "fla"):
        workers._run_trainer(name, [Job("compare", name, Shape(1, 8), 5, 0)])
    reasons = [row["reason"] for row in workers.rows]
    assert reasons == ["the time of the whole run is spent", "needs a GPU"]
