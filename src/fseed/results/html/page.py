"""The report: one HTML file without scripts, fonts or pictures from elsewhere."""

from collections.abc import Sequence
from pathlib import Path

from fseed.results.collection import Collection
from fseed.results.formats import seed_words
from fseed.results.html.headlines import (
    Headline,
    build_headline,
    lead_number,
    split_settings,
)
from fseed.results.html.markup import Html, element, join
from fseed.results.html.sections.curves import render_curves
from fseed.results.html.sections.paired import render_table
from fseed.results.html.sections.published import PublishedTable, render_published
from fseed.results.html.sections.reading import render_reading
from fseed.results.html.sections.response import render_dose_response, render_maps
from fseed.results.html.sections.runs import render_alarms, render_failures, render_runs
from fseed.results.html.sections.search import render_searches
from fseed.results.html.sections.summary import render_across_tasks, render_appendix
from fseed.results.html.view import Histories, TableView, TaskView, build_tasks
from fseed.results.html.words import badge, count, interval, sign_symbols

# the page may load nothing and run nothing, whatever a record says
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = Path(__file__).with_name("style.css")


def render_html(
    collection: Collection, *, title: str, published: Sequence[PublishedTable] = ()
) -> str:
    """Return the report as one HTML document that depends on the collection and nothing else.

    ``published``: tables of figures published earlier beside matched and own ones.
    """
    tasks = build_tasks(collection)
    sections = _sections(collection, tasks, published)
    contents = [element("a", name, href=f"#{anchor}") for anchor, name, _ in sections]
    body = element(
        "body",
        sign_symbols(),
        _header(collection, title),
        element("main", _at_a_glance(tasks, contents), *(_section(*one) for one in sections)),
    )
    return f"<!DOCTYPE html>\n{element('html', _head(title), body, lang='en')}\n"


def _head(title: str) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name_="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(_STYLE.read_text(encoding="utf-8"))),
    )


def _header(collection: Collection, title: str) -> Html:
    """Return the title and what everything below rests on: models, data, runs."""
    facts = []
    for line in collection.headings:
        name, _, text = line.partition(": ") if ": " in line else line.partition("  ")
        facts.append(Html(element("dt", " ".join(name.split())) + element("dd", text)))
    kicker = element("p", "Future-Seed against plain training", class_="kicker")
    lines = element("dl", *facts, class_="facts")
    return element("header", kicker, element("h1", title), lines)


def _at_a_glance(tasks: Sequence[TaskView], contents: Sequence[Html]) -> Html:
    cards = [
        _card(index, part, build_headline(part))
        for index, task in enumerate(tasks, start=1)
        for part in split_settings(task)
    ]
    empty = element("p", "There is no arm to compare with plain training.", class_="soft")
    return element(
        "section",
        element("h2", "What was found"),
        *(cards or [empty]),
        element("nav", *contents, aria_label="contents"),
        class_="glance",
        id="glance",
    )


def _card(index: int, task: TaskView, headline: Headline) -> Html:
    """Return the answer of one task: verdict in words, number, facts, what it does not show."""
    lead = headline.lead
    number = None
    if lead is not None:
        between = interval(lead)
        ends = element("span", f"95 % interval {between}", class_="ends") if between else None
        name = element("span", lead.arm, class_="arm-name")
        number = element("p", element("strong", lead_number(lead)), name, ends, class_="lead")
    facts = [element("li", fact) for fact in headline.facts]
    limits = [element("li", limit) for limit in headline.limits]
    shown = element("h4", "What this does not show")
    setting = task.tables[0].rows[0].comparison.setting
    place = f"{_place(task)}, {setting}" if setting else _place(task)
    return element(
        "article",
        element("p", place, class_="kicker"),
        element("h3", element("a", headline.sentence, href=f"#task-{index}")),
        element("div", badge(headline.verdict), number, class_="verdict-line"),
        element("ul", *facts, class_="inline-facts") if facts else None,
        element("div", shown, element("ul", *limits), class_="limits") if limits else None,
        class_=f"card {headline.verdict}",
    )


def _sections(
    collection: Collection, tasks: Sequence[TaskView], published: Sequence[PublishedTable]
) -> list[tuple[str, str, Html]]:
    """Return (anchor, heading, content) of every section that has content."""
    histories = Histories()
    failures = join([render_appendix(collection), render_failures(collection)])
    sections = [
        (f"task-{index}", f"Task {_place(task)}", _task(task, histories))
        for index, task in enumerate(tasks, start=1)
    ]
    sections += [
        ("across", "Across tasks", render_across_tasks(collection)),
        ("search", "Staged search", render_searches(collection)),
        ("published", "Published, matched, ours", render_published(published)),
        ("alarms", f"Alarms ({len(collection.alarms)})", render_alarms(collection)),
        ("failures", "Without a result", failures),
        ("runs", f"Runs ({len(collection.runs)})", render_runs(collection)),
        ("reading", "How to read this", render_reading(collection.margin)),
    ]
    return [section for section in sections if section[2]]


def _section(anchor: str, heading: str, content: Html) -> Html:
    return element("section", element("h2", heading), content, id=anchor)


def _task(task: TaskView, histories: Histories) -> Html:
    first, *others = task.tables
    rest = [_stage(table, histories, is_first=False) for table in others]
    return join([_stage(first, histories, is_first=True), *rest])


def _stage(table: TableView, histories: Histories, *, is_first: bool) -> Html:
    first = table.rows[0].comparison
    num_arms = sum(row.comparison.control == "none" for row in table.rows)
    seeds = max((row.comparison.seeds for row in table.rows), key=len)
    told = f"{count(num_arms, 'arm')}, {seed_words(seeds)}" if seeds else count(num_arms, "arm")
    setting = element("p", first.setting, class_="soft small") if first.setting else None
    return element(
        "section",
        element("h3", f"Stage {first.stage}", element("span", told, class_="soft")),
        setting,
        render_table(table),
        render_curves(table, histories, is_open=is_first),
        render_maps(table),
        render_dose_response(table),
        class_="stage",
    )


def _place(task: TaskView) -> str:
    return f"{task.task}, source {task.source}, model {task.model}"
