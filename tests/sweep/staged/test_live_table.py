import io
from pathlib import Path

from rich.console import Console

from fseed.sweep.staged.book import Slot
from fseed.sweep.staged.flow import ArmRow, Progress
from fseed.sweep.staged.live_table import (
    COLUMNS,
    LiveTable,
    build_table,
    render_decision,
    render_line,
)
from tests.sweep.staged.sweeps import Bench
from tests.sweep.staged.test_decisions_file import taken

RACING = ArmRow("arc", "quick", "raw_l10", "racing", 2, 3, difference=0.0123)
DROPPED = ArmRow(
    *("arc", "quick", "raw_l10", "dropped", 3, 3),
    difference=-0.02,
    low=-0.03,
    high=-0.01,
    reason="the interval ends below the wanted gain",
)


def progress(row: ArmRow) -> Progress:
    return Progress("arc", rows={row.arm: row})


def console(*, is_terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=is_terminal, width=140), file


def test_a_line_leaves_empty_cells_out() -> None:
    assert render_line(RACING) == "arc quick raw_l10: racing, 2/3 seeds, +1.23 pp"
    expected = "arc quick raw_l10: dropped, 3/3 seeds, -2.00 pp, [-3.00, -1.00], the interval"
    assert render_line(DROPPED).startswith(expected)


def test_a_pipe_gets_one_line_per_change() -> None:
    drawn, file = console(is_terminal=False)
    table = LiveTable(drawn)
    assert not table.is_redrawn
    decision = taken()
    for row, decisions in ((RACING, []), (RACING, []), (DROPPED, [decision])):
        for _ in range(2):
            table.update([Progress("arc", rows={row.arm: row}, taken=decisions)], [])
    table.close()
    assert file.getvalue().splitlines() == [render_line(RACING), render_decision(decision)]
    assert render_decision(decision).startswith("hotpot quick raw_l10: passed: the interval lies")


def test_a_terminal_gets_a_table_that_is_drawn_anew() -> None:
    drawn, file = console(is_terminal=True)
    table = LiveTable(drawn)
    assert table.is_redrawn
    table.update([progress(RACING)], [])
    table.say("a line above")
    table.update([progress(DROPPED)], [])
    table.close()
    table.close()
    text = file.getvalue()
    assert "a line above" in text
    assert "[-3.00, -1.00]" in text
    assert "\x1b[" in text


def test_the_table_has_a_row_per_arm_and_names_what_runs(tmp_path: Path) -> None:
    book = Bench(tmp_path).build().book
    runs = [book.run(Slot("hotpot", "raw_l10", "quick"), seed=seed) for seed in range(3)]
    table = build_table([RACING, DROPPED], runs)
    assert [column.header for column in table.columns] == list(COLUMNS)
    assert table.row_count == 2
    first, second = (f"hotpot quick raw_l10 seed {seed}" for seed in (0, 1))
    assert table.caption == f"running: {first}, {second} and 1 more"
    assert build_table([RACING]).caption is None
