import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from fseed.claims.experiment_checks import Published, load_published
from fseed.claims.figures import (
    LABEL_WIDTH,
    PLOT_WIDTH,
    build_ticks,
    render_forest,
    row_labels,
    x_of,
)
from fseed.claims.generated import (
    FAILURES_FILE,
    markdown_table,
    render_all,
    render_experiment,
    render_failures,
    render_tables,
)
from fseed.claims.manifest import Manifest, read_manifest


@pytest.fixture(scope="module")
def manifest(original: Path) -> Manifest:
    return read_manifest(original)


@pytest.fixture(scope="module")
def published(original: Path, manifest: Manifest) -> dict[str, Published]:
    study, _ = load_published(original, manifest.experiments["study"])
    assert study is not None
    return {"study": study}


def test_every_experiment_has_a_page_and_a_figure(
    manifest: Manifest, published: dict[str, Published]
) -> None:
    files = render_all(manifest, published)
    assert {path.as_posix() for path in files} == {
        *("paper/tables/study.md", "paper/figures/study.svg", "paper/failures.md")
    }


def test_the_page_tells_what_was_asked_and_every_run(published: dict[str, Published]) -> None:
    page = render_experiment(published["study"])
    for text in (
        "- question: Does the check see what was damaged?",
        "is kept when its verdict is helps. (registered 2026-11-19)",
        "- arms: no_fs, scalar_l10, head_l8",
        "`make study`",
        render_tables(published["study"]),
        "![paired differences](../figures/study.svg)",
    ):
        assert text in page
    ids = [run.run_id for run in published["study"].collection.runs]
    assert len(ids) == 9
    assert all(str(run_id) in page for run_id in ids)


def test_failures_hold_what_did_not_help_and_what_failed(
    manifest: Manifest, published: dict[str, Published]
) -> None:
    page = render_failures(manifest, published)
    assert "| head_l8 |" in page
    # it helps, so it is no failure
    assert "| scalar_l10 |" not in page
    assert "- hotpot, head_l8, seed 1: failed: oom: no memory for FOLDER/x" in page


def test_an_experiment_without_records_is_listed(manifest: Manifest) -> None:
    planned = replace(manifest.experiments["study"], planned=True)
    page = render_all(Manifest({"study": planned}), {})[FAILURES_FILE]
    assert "## study (main)\n\nRegistered; no records yet." in page


def test_cells_cannot_break_a_table() -> None:
    assert markdown_table([{"a": "x|y\nz", "b": "1"}]).splitlines()[2] == "| x\\|y z | 1 |"
    assert markdown_table([]) == "None."


def test_the_figure_is_drawn_to_scale(published: dict[str, Published]) -> None:
    rows = published["study"].collection.comparisons
    text = render_forest(rows, title="a < b")
    assert text is not None
    svg = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    title = svg.find(f"{space}title")
    assert title is not None
    assert title.text == "a < b"
    drawn = [row for row in rows if row.interval_low is not None]
    lines = [line for line in svg.iter(f"{space}line") if line.get("class") == "interval"]
    assert len(lines) == len(drawn) == len(list(svg.iter(f"{space}circle")))
    ends = [100 * end for row in drawn for end in (row.interval_low or 0, row.interval_high or 0)]
    ticks = build_ticks(min(0, *ends), max(0, *ends))
    for row, line in zip(drawn, lines, strict=True):
        assert float(line.get("x1", "0")) == pytest.approx(
            x_of(100 * (row.interval_low or 0), ticks), abs=0.06
        )
    places = [float(line.get(name, "0")) for line in lines for name in ("x1", "x2")]
    assert min(places) >= LABEL_WIDTH
    assert max(places) <= LABEL_WIDTH + PLOT_WIDTH


def test_labels_tell_rows_apart_and_no_more(published: dict[str, Published]) -> None:
    rows = published["study"].collection.comparisons
    assert row_labels(rows) == [row.arm for row in rows]
    other = [replace(rows[0], stage="confirm"), *rows[1:]]
    assert row_labels(other)[0] == f"confirm {rows[0].arm}"


def test_without_an_interval_there_is_no_figure(published: dict[str, Published]) -> None:
    rows = [replace(row, interval_low=None) for row in published["study"].collection.comparisons]
    assert render_forest(rows, title="none") is None


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (-0.2, 0.55, [-0.2, 0.0, 0.2, 0.4, 0.6]),
        (0.0, 40.0, [0, 10, 20, 30, 40]),
        (0.0, 0.0, [0, 0.2]),
    ],
)
def test_ticks_are_round_and_span_the_values(low: float, high: float, ticks: list[float]) -> None:
    assert build_ticks(low, high) == pytest.approx(ticks)
