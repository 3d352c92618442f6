import csv
import io

from fseed.simulation.rates import Rate
from fseed.simulation.tables import Table, rate_cells, render_csv, render_markdown

TABLE = Table(
    "errors",
    "Errors",
    "What was done.",
    [
        {"world": "calm", **rate_cells(Rate(1, 200)), "found %": None, "verdict": "kept"},
        {"world": "wild", **rate_cells(Rate(50, 200)), "found %": 12.5, "verdict": "above nominal"},
        {"world": "odd", **rate_cells(Rate(9, 200)), "found %": 0.0, "verdict": "beaten by b 3"},
    ],
)


def test_markdown_holds_heading_text_and_every_row() -> None:
    lines = render_markdown(TABLE).splitlines()
    assert lines[:4] == ["## Errors", "", "What was done.", ""]
    assert lines[4] == "| world | rate % | 99 % interval | trials | found % | verdict |"
    assert lines[6] == "| calm | 0.50 | 0.00 to 3.66 | 200 |  | kept |"
    assert len(lines) == 9


def test_csv_reads_back_with_missing_as_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(TABLE))))
    assert [row["found %"] for row in rows] == ["", "12.5", "0.0"]
    assert rows[1]["rate %"] == "25.0"


def test_failures_are_the_rows_that_miss_and_those_that_lose() -> None:
    assert TABLE.failures == [
        "Errors: world wild, rate % 25.00, found % 12.50, verdict above nominal",
        "Errors: world odd, rate % 4.50, found % 0.00, verdict beaten by b 3",
    ]
