from pathlib import Path

from fseed.results.collection import Collection, collect_runs
from fseed.results.html.plain_table import render_plain_table
from fseed.results.html.sections.summary import render_across_tasks, render_appendix
from fseed.results.html.words import pp
from fseed.results.summary import appendix_rows, task_summaries
from tests.results.html.tree import parse


def test_arms_over_tasks_with_their_signs(report: Collection) -> None:
    section = parse(render_across_tasks(report))
    (row,) = task_summaries(report)
    cells = [node.text for node in section.one("tbody").one("tr").find("td")]
    assert cells[:3] == [row.arm, pp(row.mean_difference), f"{row.num_up}/0/0 of 2"]
    assert (row.arm, row.num_up) == ("scalar_l8", 2)
    assert cells[-2:] == ["hotpot, kvsort", "0"]


def test_one_task_has_no_summary(staged: Collection) -> None:
    assert render_across_tasks(staged) == ""


def test_every_arm_without_a_result_has_its_reason(report: Collection, staged: Collection) -> None:
    for collection in (report, staged):
        lines = parse(render_appendix(collection)).one("tbody").find("tr")
        rows = appendix_rows(collection)
        assert [line.find("td")[2].text for line in lines] == [row.arm for row in rows]
        assert all(
            row.reason_code == line.find("td")[5].text
            for row, line in zip(rows, lines, strict=True)
        )
    (failed,) = appendix_rows(report)
    assert (failed.arm, failed.state) == ("raw_l6", "failed")


def test_without_runs_there_is_no_appendix(tmp_path: Path) -> None:
    assert render_appendix(collect_runs([tmp_path])) == ""


def test_cells_of_a_plain_table_are_text() -> None:
    table = parse(render_plain_table(["a", "<b>"], [["1", "<i>2</i>"]], label="x")).one("table")
    assert [node.text for node in table.find("th")] == ["a", "<b>"]
    assert [node.children for node in table.find("td")] == [["1"], ["<i>2</i>"]]
