"""The benchmark's report: bars, tables, files. Every number here is made up, none was measured."""

from dataclasses import replace

import pytest

from bench.plot import plot_times
from bench.rows import Row, append_row, note_row, read_rows, select, write_csv
from bench.shapes import BARS
from bench.table import number, render_bars, render_report, render_times


def time_row(name, run, value, *, group="ours", shape="8x4096x12"):
    return Row(name, group, shape, run, value=value, unit="ms", n=26, timer="graph", spread=0.0)


def fake_rows():
    """Made-up numbers, 1 ms apart by design; none was measured."""
    rows = [
        Row("copy", "floor", metric="bandwidth", value=9.99, unit="TB/s"),
        time_row("streaming floor", "forward_backward", 0.5, group="floor"),
        time_row("streaming floor", "forward", 0.2, group="floor"),
    ]
    for name, group, both in (
        ("fseed triton", "ours", 1.0), ("fseed cuda", "ours", 1.0), ("FLA plain", "peer", 4.0),
        ("unchecked", "peer", 0.001),
    ):  # fmt: skip
        rows += [
            time_row(name, "forward", both / 2, group=group),
            time_row(name, "forward_backward", both, group=group),
        ]
        if name != "unchecked":
            for kind in ("typical", "fast_decay", "equal_keys"):
                row = Row(name, group, metric="error_y", value=1e-3, data=kind)
                rows += [row, replace(row, metric="error_k", value=1e-2)]
    memory = Row("fseed triton", "ours", "8x4096x12", "forward_backward", "peak_memory", 0.5, "GiB")
    seeds = [time_row("fseed cuda", "future_seed_off", 1.0)]
    seeds += [time_row("fseed cuda", "future_seed_on", 1.02)]
    return [*rows, memory, *seeds, note_row("FlashRWKV2", "peer", "skipped", "not installed")]


def bars_of(rows):
    lines = [line.strip("| ").split(" | ") for line in render_bars(rows).splitlines()[2:]]
    return {(line[0], line[1]): line[2:] for line in lines}


def test_bars_pass_miss_and_stay_open():
    bars = bars_of(fake_rows())
    assert bars["triton, ms", "8x4096x12"] == ["1", "1.4", "pass"]
    assert bars["fastest backend, ms", "8x4096x12"] == ["1", "0.85", "MISS, +17.6%"]
    assert bars["forward share, cuda", "8x4096x12"] == ["0.5", "0.4", "MISS, +25.0%"]
    assert bars["extra memory, triton, GiB", "8x4096x12"] == ["0.5", "0.6", "pass"]
    assert bars["extra memory, cuda, GiB", "8x4096x12"][-1] == "not measured"
    assert bars["Future-Seed adds, cuda", "8x4096x12"][-1] == "pass"
    assert bars["worst error, cuda", "equal_keys"][-1] == "pass"
    assert bars["worst error, cuda", "typical"] == ["0.01", "0.006", "MISS, +66.7%"]
    assert bars["triton, ms", "32x2048x12"][-1] == "not measured"
    assert {shape for bar, shape in bars if bar == "aim, ms"} == set(BARS)


def test_a_time_without_an_error_is_not_printed():
    assert "unchecked" not in render_report(fake_rows(), machine={"device": "made up"})
    assert bars_of(fake_rows())["best peer, ms", "8x4096x12"] == [
        "4",
        "(3.24 before)",
        "4.00x ours",
    ]


def test_times_stand_beside_the_floor():
    assert "| fseed triton | 0.5 / **1** (2.0x) | 0.5 |" in render_times(fake_rows())


def test_report_says_why_something_is_missing():
    report = render_report(fake_rows(), machine={"device": "made up"})
    assert "| FlashRWKV2 |  | skipped | not installed |" in report
    assert "9.99 TB/s" in report


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0.01234, "0.0123"), (12.345, "12.3"), (123.4, "123")]
)
def test_number(value, text):
    assert number(value) == text


def test_rows_survive_the_worker_that_wrote_them(tmp_path):
    path = tmp_path / "worker.jsonl"
    rows = fake_rows()
    for row in rows:
        append_row(path, row)
    with path.open("a") as file:
        file.write('{"implementation": "cut o')
    assert read_rows(path) == rows
    assert read_rows(tmp_path / "never") == []


def test_csv_has_one_row_per_number_and_the_machine_in_each(tmp_path):
    pandas = pytest.importorskip("pandas")
    rows, path = fake_rows(), tmp_path / "bench.csv"
    write_csv(path, rows, machine={"device": "made up", "commit": "0"})
    frame = pandas.read_csv(path)
    assert len(frame) == len(rows)
    assert set(frame["device"]) == {"made up"}
    key = ["implementation", "shape", "run", "metric", "data"]
    assert not frame.duplicated(key).any()
    assert len(select(rows, metric="time")) == (frame["metric"] == "time").sum()


@pytest.mark.parametrize("rows", [fake_rows(), []])
def test_plot_is_written_in_both_formats(tmp_path, rows):
    pytest.importorskip("matplotlib")
    paths = [tmp_path / "bench.png", tmp_path / "bench.svg"]
    plot_times(rows, paths, title="made up")
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in paths[1].read_text()
