import dataclasses
import json
import re
import subprocess
import sys
import time
from itertools import pairwise, product
from pathlib import Path

import pytest

from fseed.results.collection import Collection, collect_runs
from fseed.results.html.page import render_html
from fseed.results.html.sections.published import PublishedTable
from fseed.results.html.view import build_tasks
from tests.results.builders import RunSpec, fail_run, finish_run
from tests.results.html.builders import finish, root_of, spec_of
from tests.results.html.tree import Node, parse

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'</style></title>\u202e"


@pytest.fixture(scope="module")
def page(report: Collection) -> Node:
    return parse(render_html(report, title="A title")).one("html")


def test_the_page_is_one_document_that_loads_and_runs_nothing(report: Collection) -> None:
    text = render_html(report, title="A title")
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    tree = parse(text)
    tags = {node.tag for node in tree.walk()}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    for node in tree.walk():
        assert not [name for name in node.attributes if name.startswith("on")]
        assert "style" not in node.attributes
        target = node.attributes.get("href", node.attributes.get("src", "#"))
        assert target.startswith("#"), target
    policy = [node for node in tree.find("meta") if "http-equiv" in node.attributes]
    assert policy[0].attributes["content"].startswith("default-src 'none'")


def test_what_all_rests_on_comes_first(page: Node) -> None:
    header = page.one("header")
    assert header.one("h1").text == page.one("head").one("title").text == "A title"
    names = [node.text for node in header.find("dt")]
    assert names == ["model nano", "data hotpot, source mini", "data kvsort, source mini", "runs"]
    assert "randomly initialised" in header.find("dd")[0].text


def test_every_order_of_a_task_has_its_card(tmp_path: Path) -> None:
    for order, effect in {"clue_first": 0.0, "plain": 0.5}.items():
        for seed, arm in product(range(5), ("no_fs", "scalar_l8")):
            gain = effect if arm == "scalar_l8" else 0.0
            finish(tmp_path, spec_of(arm, seed, effect=gain, changes={"task.order": order}))
    page = parse(render_html(collect_runs([tmp_path]), title="t"))
    cards = page.find("article", "card")
    assert [card.find("p", "kicker")[0].text.rpartition(", ")[2] for card in cards] == [
        *("task.order=clue_first", "task.order=plain")
    ]
    assert [card.one("h3").text for card in cards] == [
        *("Not decided: scalar_l8 cannot be told from plain training.", "scalar_l8 helps.")
    ]


def test_every_task_has_its_card_and_its_section(page: Node, report: Collection) -> None:
    cards = page.find("article", "card")
    tasks = build_tasks(report)
    assert len(cards) == len(tasks) == 2
    for index, card in enumerate(cards, start=1):
        anchor = card.one("h3").one("a").attributes["href"].removeprefix("#")
        assert anchor == f"task-{index}"
        (section,) = [node for node in page.walk() if node.attributes.get("id") == anchor]
        assert f"Task {tasks[index - 1].task}" in section.find("h2")[0].text
        assert "What this does not show" in card.text


def test_links_lead_somewhere_and_ids_are_unique(page: Node) -> None:
    ids = [node.attributes["id"] for node in page.walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    targets = {node.attributes["href"][1:] for node in page.walk() if "href" in node.attributes}
    assert targets <= set(ids)


def test_headings_do_not_skip_a_level(page: Node) -> None:
    levels = [int(node.tag[1]) for node in page.walk() if re.fullmatch(r"h[1-6]", node.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    for above, below in pairwise(levels):
        assert below <= above + 1


def test_figures_and_tables_are_told_in_words(page: Node) -> None:
    for figure in page.find("figure"):
        assert figure.find("figcaption")[0].text
    for drawing in page.find("svg"):
        is_hidden = drawing.attributes.get("aria-hidden") == "true"
        inner = drawing.attributes.get("role") is None
        assert is_hidden or inner or drawing.find("title")[0].text
    for table in page.find("table"):
        assert {node.attributes.get("scope") for node in table.find("th")} <= {"col", "row"}
        assert table.find("th")


def test_every_arm_and_every_reason_is_on_the_page(page: Node, report: Collection) -> None:
    for row in report.comparisons:
        assert row.arm in page.text
    for run in report.not_usable:
        assert str(run.reason) in page.text
        assert str(run.record.path) in page.text


def test_the_same_records_give_the_same_bytes(report: Collection) -> None:
    again = collect_runs([root_of(report)])
    assert render_html(report, title="t") == render_html(again, title="t")


def test_hostile_names_and_messages_stay_text(tmp_path: Path) -> None:
    changes = {"task.name": "hotpot", "fs_variant.label": HOSTILE}
    for seed in range(3):
        finish(tmp_path, spec_of("no_fs", seed))
        path = finish(tmp_path, spec_of("scalar_l6", seed, changes=changes))
        _rename(path, HOSTILE)
    broken = spec_of("raw_l6", 7)
    _rename(fail_run(tmp_path, broken, message=HOSTILE), HOSTILE)
    collection = collect_runs([tmp_path])
    hostile = dataclasses.replace(collection, alarms=[HOSTILE])
    published = [PublishedTable(HOSTILE, (HOSTILE,), ((HOSTILE,),), (HOSTILE,))]
    text = render_html(hostile, title=HOSTILE, published=published)
    text.encode()
    tree = parse(text)
    assert not {node.tag for node in tree.walk()} & {"script", "img"}
    assert "\u202e" not in text
    shown = HOSTILE.replace("\u202e", "\\u202e")
    assert tree.one("head").one("title").text == tree.one("h1").text == shown
    names = {node.text for node in tree.find("span", "arm-name")}
    assert any(shown in name for name in names)
    assert tree.find("ul", "alarms")[0].one("li").text == shown


def _rename(path: Path, arm: str) -> None:
    choices = json.loads((path / "choices.json").read_text())
    (path / "choices.json").write_text(json.dumps({**choices, "arm": arm, "command": [arm]}))


def test_nothing_is_drawn_from_nothing(tmp_path: Path) -> None:
    page = parse(render_html(collect_runs([tmp_path]), title="empty"))
    assert page.find("figure") == page.find("polyline") == []
    assert "There is no arm to compare" in page.text
    finish_run(tmp_path, RunSpec())
    page = parse(render_html(collect_runs([tmp_path]), title="a baseline alone"))
    assert page.find("figure") == []
    assert "1 finished" in page.text
    assert "not recorded" in page.text


def test_an_arm_without_baseline_has_a_row_without_a_number(tmp_path: Path) -> None:
    finish_run(tmp_path, RunSpec(arm="scalar_l10"))
    page = parse(render_html(collect_runs([tmp_path]), title="t"))
    assert page.one("article").one("h3").text == "Nothing measured: 1 no matched baseline."
    assert page.find("circle") == page.find("line") == []
    assert page.one("table", "paired").one("td", "unmeasured").text == "not measured, seed 0"


def test_the_search_and_the_published_figures_have_their_place(staged: Collection) -> None:
    table = PublishedTable(
        "Earlier", ("row", "published", "matched", "ours"), (("a", "1", "2", "3"),)
    )
    page = parse(render_html(staged, title="t", published=[table]))
    ids = [node.attributes["id"] for node in page.find("section") if "id" in node.attributes]
    assert ids == [
        *("glance", "task-1", "search", "published", "alarms", "failures", "runs", "reading")
    ]


def test_a_thousand_rows_take_no_time(report: Collection) -> None:
    template = next(row for row in report.comparisons if row.arm == "scalar_l8")
    rows = [
        dataclasses.replace(template, arm=f"arm{index:04d}", difference=index / 10_000)
        for index in range(1000)
    ]
    many = dataclasses.replace(report, comparisons=rows)
    start = time.process_time()
    text = render_html(many, title="many")
    assert time.process_time() - start < 5
    assert len(text) < 8_000_000
    page = parse(text)
    assert len(page.one("table", "paired").one("tbody").find("tr")) == 2000


def test_rendering_imports_neither_torch_nor_pandas_nor_matplotlib() -> None:
    code = (
        "import sys, fseed.results.html.page; "
        "print(sorted({'torch', 'pandas', 'matplotlib', 'hydra'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
