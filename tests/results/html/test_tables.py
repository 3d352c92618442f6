from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fseed.results.collection import Collection, collect_runs
from fseed.results.html.sections import runs
from fseed.results.html.sections.paired import paired_table, render_table
from fseed.results.html.sections.published import PublishedTable, audit_tables, render_published
from fseed.results.html.sections.reading import render_reading
from fseed.results.html.sections.runs import (
    commands_of,
    fold_shared,
    render_alarms,
    render_failures,
    render_runs,
)
from fseed.results.html.view import TableView, build_tasks
from fseed.results.html.words import pp, sentence
from fseed.results.legacy.audit import FLAW_KINDS, Audit
from fseed.results.legacy.model import Flaw, SeedPair, Study
from fseed.results.verdicts import VERDICTS
from tests.results.html.tree import parse


@pytest.fixture(scope="module")
def table(report: Collection) -> TableView:
    return build_tasks(report)[0].tables[0]


def test_every_row_tells_verdict_numbers_and_reason(table: TableView) -> None:
    drawn = parse(paired_table(table.rows, caption=table.caption)).one("table")
    assert drawn.one("caption").text == table.caption
    lines = drawn.one("tbody").find("tr")
    assert len(lines) == 2 * len(table.rows)
    for row, main, why in zip(table.rows, lines[::2], lines[1::2], strict=True):
        one = row.comparison
        assert main.one("th").find("span")[0].text == one.arm
        assert main.one("td", "verdict").text.replace("-", "_") in (one.verdict, "no_op")
        assert why.text == sentence(one.reason)
        if one.difference is not None:
            cells = {node.attributes["data-label"]: node.text for node in main.find("td")}
            assert cells["Difference, pp"] == pp(one.difference)
            assert cells["Examples"] == "60"
            assert cells["+/0/−"] == f"{one.num_up}/{one.num_tied}/{one.num_down}"
        else:
            assert main.one("td", "unmeasured").text == "not measured, seed 30"


def test_tables_keep_their_meaning_where_rows_become_cards(table: TableView) -> None:
    drawn = parse(paired_table(table.rows, caption="c")).one("table")
    assert drawn.attributes["role"] == "table"
    assert {node.attributes["role"] for node in drawn.find("tr")} == {"row"}
    assert {node.attributes["role"] for node in drawn.find("td")} == {"cell"}
    heads = drawn.one("thead").find("th")
    assert {node.attributes["scope"] for node in heads} == {"col"}
    labels = {node.attributes.get("data-label") for node in drawn.find("td", "number")}
    assert labels <= {node.text for node in heads}


def test_a_stage_has_its_forest_and_its_table(table: TableView) -> None:
    parts = parse(render_table(table))
    assert len(parts.find("figure", "forest")) == len(parts.find("table", "paired")) == 1


def test_all_runs_are_listed_and_shared_columns_told_once(report: Collection) -> None:
    section = parse(render_runs(report))
    heads = [node.text for node in section.one("thead").find("th")]
    lines = section.one("tbody").find("tr")
    assert len(lines) == len(report.runs)
    assert "Source" not in heads
    assert "source mini" in section.find("p")[0].text
    ids = {line.find("td")[heads.index("Run")].text for line in lines}
    assert ids == {str(run.run_id) for run in report.runs}
    failed = next(line for line in lines if "raw_l6" in line.text)
    assert failed.find("td")[heads.index("Score, %")].text == "not recorded"


def test_a_long_list_begins_with_what_failed_and_tells_the_rest(
    report: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_NUM_LISTED", 3)
    section = parse(render_runs(report))
    lines = section.one("tbody").find("tr")
    assert len(lines) == 3
    assert "failed" in lines[0].text
    told = [node.text for node in section.find("p")]
    assert told[0].startswith(f"{len(report.runs) - 3} more runs left out of this list")
    assert "runs.csv and runs.parquet" in told[0]
    assert told[1].startswith("Every run listed: ")


def test_commands_are_listed_once_as_they_can_be_typed(report: Collection) -> None:
    commands = commands_of(report.runs)
    assert commands["fseed-run task=hotpot fs=scalar_l6 -m"] >= 1
    assert list(commands.values()) == list(range(1, len(commands) + 1))
    listed = [node.text for node in parse(render_runs(report)).one("ol").find("li")]
    assert listed == list(commands)


def test_folding_keeps_a_single_row_whole() -> None:
    assert fold_shared([{"A": "1", "Run": "x"}]) == ([{"A": "1", "Run": "x"}], {})
    rows, shared = fold_shared([{"A": "1", "Run": "x"}, {"A": "1", "Run": "x"}])
    assert (rows, shared) == ([{"Run": "x"}] * 2, {"A": "1"})


def test_failures_and_alarms_are_listed_with_place_and_reason(report: Collection) -> None:
    (failed,) = report.not_usable
    line = parse(render_failures(report)).one("tbody").one("tr")
    cells = [node.text for node in line.find("td")]
    assert cells[2:6] == ["raw_l6", "30", "failed", "3"]
    assert cells[6:] == [str(failed.record.path), "oom: CUDA out of memory at step 3"]
    alarming = Collection(report.runs, [], ["first", "<second>"], 0)
    items = [node.text for node in parse(render_alarms(alarming)).find("li")]
    assert items == ["first", "<second>"]
    many = Collection(report.runs, [], [f"alarm {index}" for index in range(25)], 0)
    shown = parse(render_alarms(many))
    assert len(shown.find("li")) == 25
    assert shown.one("summary").text == "5 more alarms"


def test_empty_lists_say_that_they_are_empty(tmp_path: Path) -> None:
    empty = collect_runs([tmp_path])
    assert "Every run gives a number" in render_failures(empty)
    assert "None of the checks found anything" in render_alarms(empty)
    assert "No runs were found" in render_runs(empty)


def test_published_figures_stand_beside_ours() -> None:
    table = PublishedTable("c", ("row", "published", "ours"), (("a<b", "+1.00", "-"),), ("note",))
    drawn = parse(render_published([table]))
    assert [node.text for node in drawn.find("th")] == ["row", "published", "ours", "a<b"]
    assert [node.text for node in drawn.find("td")] == ["+1.00", "-"]
    assert "note" in drawn.text
    assert render_published([]) == ""
    with pytest.raises(ValueError, match="does not fit"):
        render_published([PublishedTable("c", ("a",), (("1", "2"),))])


def test_every_verdict_is_explained() -> None:
    shown = parse(render_reading(0.01))
    badges = {node.find("use")[0].attributes["href"] for node in shown.find("span", "badge")}
    assert badges == {f"#sign-{name}" for name in VERDICTS}
    assert "±1.00 pp" in shown.text


PRESET = {"fs_variant": "scalar", "fs_layer_start": 8, "alpha_init": -2.0}


def test_an_audit_stands_as_published_matched_and_ours(report: Collection, tmp_path: Path) -> None:
    scores: dict[str, Any] = {"baseline": 0.4, "arm": 0.45, "difference": 0.05}
    study = Study(
        path=tmp_path / "a.txt",
        line=1,
        name="hotpot",
        settings={},
        length_tokens=None,
        num_pairs=1,
        means={"d_acc": 0.05},
        deviations={},
        signs=(1, 0, 0),
        pairs=[SeedPair(line=1, seed=0, loss_difference=-0.1, **scores)],
    )
    empty: dict[str, Any] = {"runs": [], "claims": [], "entries": [], "foreign": []}
    flaw = Flaw("single_seed", "a.txt:1", "kvsort", "one seed")
    audit = Audit(
        path=tmp_path, num_files=1, studies=[study], flaws=[flaw], problems=["b: torn"], **empty
    )
    outcomes, flaws = audit_tables(audit, ours=report)
    cells = dict(zip(outcomes.columns, outcomes.rows[0], strict=True))
    told = [cells[name] for name in ("Published, pp", "Matched, pp", "Ours, pp", "Our verdict")]
    assert told == ["+5.00", "+5.00", "no run", "no run"]
    row = next(one for one in report.comparisons if one.arm == "scalar_l8")
    ours = audit_tables(replace(audit, studies=[replace(study, settings=PRESET)]), ours=report)
    mine = dict(zip(outcomes.columns, ours[0].rows[0], strict=True))
    ends = f"[{pp(row.interval_low)}, {pp(row.interval_high)}]"
    assert mine["Ours, pp"] == f"{pp(row.difference)} {ends}"
    assert mine["Our verdict"] == f"{row.verdict} (plain, nano, mini)"
    assert flaws.rows == (("single seed", "1", FLAW_KINDS["single_seed"]),)
    assert flaws.notes == ("Not read: b: torn",)
    assert render_published([outcomes, flaws])
