"""Texts of a stranger that end in tables, pages, papers and on the terminal."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import yaml

from fseed.records import CHOICES_FILE, CONFIG_FILE, FAILURE_FILE, PROVENANCE_FILE, RESULT_FILE
from tests.results.builders import fail_run
from tests.results.html.tree import parse
from tests.security.attack import Attack, Command, Place
from tests.security.records import ARM, UNREADABLE, sweep

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(1)>\"' onload='alert(1)"
TEX = r"\input{/etc/passwd}\write18{touch x}^^5cinput"
FORMULA = '=HYPERLINK("http://evil.example")'
LINK = "[click](javascript:alert(1)) ![x](http://evil.example/p.png) <b onclick=x>"


_ACTIVE_MARKDOWN = re.compile(r"(?<!\\)\]\(|<(script|img|b) ?")


def _texts() -> list[Attack]:
    places = {
        "arm": _arm,
        "model name": _in_config("model", "name"),
        "task name": _in_config("task", "name"),
        "failure message": _failure,
        "note": _note,
        "metric": _metric,
    }
    attacks = [
        Attack(f"markup in {name}", "text", "runs in the page, the paper or the terminal",
               _described(change), codes=UNREADABLE, leaks=_leaks)
        for name, change in places.items()
    ]  # fmt: skip
    return [
        *attacks,
        Attack("formula in a CSV cell", "text", "runs in a spreadsheet",
               _described(_arm, text=FORMULA), codes=UNREADABLE, leaks=_has_formula),
        Attack("terminal commands in diff", "text", "steers the terminal", _diff("terminal"),
               codes=(1,), leaks=_leaks),
        Attack("markup in diff, HTML", "text", "runs in the page", _diff("html"), codes=(1,),
               leaks=lambda place, output: _runs(output)),
        Attack("markup in diff, Markdown", "text", "runs in a viewer", _diff("markdown"),
               codes=(1,), leaks=_leaks),
        Attack("YAML tag in a manifest", "records", "calls a function while parsing", _manifest,
               "could not determine"),
        Attack("terminal commands in a manifest", "text", "steers the terminal",
               _loud_manifest, "manifest", leaks=_leaks),
    ]  # fmt: skip


def _described(
    change: Callable[[Path, str], None], *, text: str = ESCAPE + SCRIPT + TEX + LINK
) -> Callable[[Place], Command]:
    def plant(place: Place) -> Command:
        for run in sweep(place):
            change(run, text)
        return ["collect", str(place.gift), "--out", str(place.outputs), "--runs"]

    return plant


def _edit(path: Path, edit: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def _arm(run: Path, text: str) -> None:
    if "scalar" in str(run):
        _edit(run / CHOICES_FILE, lambda content: content.update(arm=text))


def _in_config(group: str, key: str) -> Callable[[Path, str], None]:
    def change(run: Path, text: str) -> None:
        content = yaml.safe_load((run / CONFIG_FILE).read_text())
        content[group][key] = text
        (run / CONFIG_FILE).write_text(yaml.safe_dump(content))
        _edit(run / PROVENANCE_FILE, lambda facts: facts["model"].update(name=text))

    return change


def _failure(run: Path, text: str) -> None:
    if "scalar" in str(run):
        (run / RESULT_FILE).unlink()
        spec = ARM
        fail_run(run.parents[4], spec, kind="error", message=text)
        _edit(run / FAILURE_FILE, lambda content: content.update(traceback=text))


def _note(run: Path, text: str) -> None:
    _edit(run / RESULT_FILE, lambda content: content.update(notes=[text], stop_reason=text))


def _metric(run: Path, text: str) -> None:
    _edit(run / RESULT_FILE, lambda content: content.update(primary_metric=text))


def _leaks(place: Place, output: str) -> bool:
    texts = {path.name: path.read_text() for path in place.outputs.glob("*.[mth]*")}
    page, tex = texts.get("report.html", ""), texts.get("tables.tex", "")
    markdown = texts.get("tables.md", "")
    is_steered = any("\x1b" in text for text in (output, page, tex, markdown))
    is_run = _runs(page) or _ACTIVE_MARKDOWN.search(markdown) is not None
    return is_steered or is_run or r"\input{/etc" in tex or r"\write18{" in tex


def _runs(page: str) -> bool:
    """Tell whether a page holds an element or attribute that acts."""
    if not page:
        return False
    nodes = list(parse(page[page.index("<html") :]).walk())
    acting = {"script", "img", "iframe", "object", "embed", "b", "form", "link"}
    return any(
        node.tag in acting
        or any(name.startswith("on") for name in node.attributes)
        or "javascript:" in node.attributes.get("href", "")
        for node in nodes
    )


def _has_formula(place: Place, output: str) -> bool:
    files = list(place.outputs.glob("*.csv"))
    cells = [cell for path in files for cell in path.read_text().replace("\n", ",").split(",")]
    assert any("HYPERLINK" in cell for cell in cells)
    return any(cell.strip('"').startswith("=") for cell in cells)


def _diff(form: str) -> Callable[[Place], Command]:
    def plant(place: Place) -> Command:
        first, second = sweep(place)
        _in_config("model", "name")(second, ESCAPE + SCRIPT + LINK)
        return ["diff", str(first), str(second), "--format", form]

    return plant


def _manifest(place: Place) -> Command:
    text = f"schema_version: 1\nexperiments: !!python/object/apply:os.mkdir [{place.canary}]\n"
    place.write("paper/manifest.yaml", text)
    return ["check", "--root", str(place.gift)]


def _loud_manifest(place: Place) -> Command:
    text = json.dumps({"schema_version": 1, "experiments": {ESCAPE: {}}})
    place.write("paper/manifest.yaml", text)
    return ["check", "--root", str(place.gift)]


ATTACKS: list[Attack] = _texts()
