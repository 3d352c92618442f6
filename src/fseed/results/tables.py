"""The collected tables on a terminal, and the same text as Markdown."""

import re
import textwrap
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from fseed.plain_text import plain_markdown
from fseed.results.collection import Collection
from fseed.results.comparison import Comparison
from fseed.results.formats import (
    ITEMS_MARK,
    MISSING,
    evidence_cells,
    paired_cells,
    run_cells,
    seed_words,
    tables_of,
)
from fseed.results.measurement import OVER_ITEMS
from fseed.results.runs import Run
from fseed.results.staged_files import STAGES
from fseed.results.summary import appendix_rows, stage_rows, task_summaries
from fseed.results.summary_cells import (
    STAGES_LEGEND,
    SUMMARY_LEGEND,
    appendix_cells,
    stage_tables,
    summary_cells,
)
from fseed.results.terminal import build_console

MAX_WIDTH = 1000
_KEPT_COLUMNS = ("arm", "seed", "first %", "last %", "loss 0", "loss", "run")
_TEXT_COLUMNS = (
    *("task", "arm", "status", "metric", "verdict", "run", "95 % interval"),
    *("stage", "source", "model", *STAGES),
)
_FOLDING_COLUMNS = ("task", "arm", "metric", "verdict", "seeds", *STAGES)
LEGEND = (
    "diff pp: arm minus the no_fs run with the same pair_key, mean over seeds, in percentage "
    "points; 95 % interval: t interval over seeds; +/0/-: seeds above, equal, below; n: examples; "
    "loss diff: nats per answer token."
)
_HARMLESS = re.compile(r"[\w .,:;%+/()#=*-]*", re.ASCII)
ITEMS_LEGEND = f"{ITEMS_MARK.strip()} over examples only: seed variance not measured."


def print_collection(collection: Collection, console: Console, *, show_runs: bool) -> None:
    """Print headings, paired tables, runs on request, alarms and the failure list."""
    for line in collection.headings:
        console.print(line, soft_wrap=True)
    _print_paired(collection, console)
    _print_summaries(collection, console)
    if show_runs or not collection.comparisons:
        _print_runs(collection.runs, console)
    _print_list(alarm_lines(collection), console)
    _print_list(failure_lines(collection), console)


def render_markdown(collection: Collection) -> str:
    """Return headings, the paired tables in full, alarms and failures as Markdown."""
    parts = ["\n".join(f"- {plain_markdown(line)}" for line in collection.headings)]
    for caption, rows in tables_of(collection.comparisons):
        parts.append(f"**{plain_markdown(caption)}**")
        has_controls = any(row.control != "none" for row in rows)
        parts.append(_markdown([_full_cells(row, has_controls=has_controls) for row in rows]))
    if collection.comparisons:
        parts.append(f"{LEGEND} {ITEMS_LEGEND} {margin_legend(collection)}")
    parts += _markdown_summaries(collection)
    parts.append("**runs**")
    parts.append(_markdown([run_cells(run) for run in collection.runs]))
    for lines in (alarm_lines(collection), failure_lines(collection)):
        if lines:
            told = "\n".join(f"- {plain_markdown(line)}" for line in lines[1:])
            parts.append(f"**{lines[0]}**\n\n{told}")
    return "\n\n".join(parts) + "\n"


def margin_legend(collection: Collection) -> str:
    """Return the sentence that states the margin of ``equivalent``."""
    margin = f"{100 * collection.margin:.4g}"
    return f"equivalent: inside +-{margin} pp of no_fs, by two one-sided t tests (--margin)."


def _markdown_summaries(collection: Collection) -> list[str]:
    parts = []
    stages = list(stage_tables(stage_rows(collection)))
    for caption, rows in stages:
        parts += [f"**{caption}**", _markdown(rows)]
    parts += [STAGES_LEGEND] if stages else []
    summaries = task_summaries(collection)
    if summaries:
        cells = [summary_cells(row) | {"of": row.tasks} for row in summaries]
        parts += ["**arms over tasks**", _markdown(cells), SUMMARY_LEGEND]
    appendix = appendix_rows(collection)
    if appendix:
        parts += ["**arms without a result**", _markdown([appendix_cells(row) for row in appendix])]
    return parts


def alarm_lines(collection: Collection) -> list[str]:
    """Return a title and one line per alarm; nothing without alarms."""
    return [f"alarms ({len(collection.alarms)})", *collection.alarms] if collection.alarms else []


def failure_lines(collection: Collection) -> list[str]:
    """Return a title and one line per run that gives no number, with its reason and path."""
    lines = [f"{run.status}: {run.reason}: {run.record.path}" for run in collection.not_usable]
    return [f"not usable ({len(lines)} of {len(collection.runs)} runs)", *lines] if lines else []


def _print_paired(collection: Collection, console: Console) -> None:
    for caption, rows in tables_of(collection.comparisons):
        cells = [paired_cells(row) for row in rows]
        console.print(f"\n{caption}", soft_wrap=True)
        _print_table(cells, console)
        reasons = [f"  {row.arm}, {seed_words(row.seeds)}: {row.reason}" for row in rows]
        _print_wrapped(reasons, console)
    if any(row.metric is not None for row in collection.comparisons):
        marked = any(row.interval_kind == OVER_ITEMS for row in collection.comparisons)
        told = [LEGEND, ITEMS_LEGEND] if marked else [LEGEND]
        if any(row.verdict == "equivalent" for row in collection.comparisons):
            told.append(margin_legend(collection))
        _print_wrapped([" ".join(told)], console)
    if collection.runs and not collection.comparisons:
        console.print("no arm to compare: all runs are no_fs baselines", soft_wrap=True)


def _print_summaries(collection: Collection, console: Console) -> None:
    """Print arms over stages and over tasks, and the registered arms that never ran."""
    stages = list(stage_tables(stage_rows(collection)))
    for caption, rows in stages:
        console.print(f"\n{caption}", soft_wrap=True)
        _print_table(rows, console)
    if stages:
        _print_wrapped([STAGES_LEGEND], console)
    summaries = task_summaries(collection)
    if summaries:
        console.print("\narms over tasks")
        _print_table([summary_cells(row) for row in summaries], console)
        _print_wrapped([SUMMARY_LEGEND], console)


def _print_wrapped(texts: Sequence[str], console: Console) -> None:
    """Print sentences, broken between words, their later lines indented."""
    wrapper = textwrap.TextWrapper(console.width, subsequent_indent=" " * 4, break_long_words=False)
    # at once: a call costs more than the text
    console.print("\n".join(line for text in texts for line in wrapper.wrap(text)), soft_wrap=True)


def _print_runs(runs: Sequence[Run], console: Console) -> None:
    ordered = sorted(runs, key=lambda run: (run.labels, run.arm, run.seed or 0))
    if ordered:
        cells, shared = _fold_shared([run_cells(run) for run in ordered])
        console.print("\nruns")
        told = ", ".join(f"{name} {value}" for name, value in shared.items())
        _print_wrapped([f"  every run: {told}"], console)
        # a run has more columns than a line is wide: on a pipe the line gives way
        _print_table(cells, console, is_whole=not console.is_terminal)


def _fold_shared(
    rows: Sequence[Mapping[str, str]],
) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Take the columns away in which all rows agree; return rows and what was taken."""
    shared = {
        name: value
        for name, value in rows[0].items()
        if name not in _KEPT_COLUMNS and all(row[name] == value for row in rows)
    }
    kept = [{name: value for name, value in row.items() if name not in shared} for row in rows]
    return kept, {name: value for name, value in shared.items() if value != MISSING}


def _print_list(lines: Sequence[str], console: Console) -> None:
    if lines:
        console.print("\n" + "\n  ".join(lines), soft_wrap=True)


def _print_table(
    rows: Sequence[Mapping[str, str]], console: Console, *, is_whole: bool = False
) -> None:
    """Print rows as wide as the console; ``is_whole``: as wide as they are."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name in rows[0]:
        folds = name in _FOLDING_COLUMNS
        justify = "left" if name in _TEXT_COLUMNS else "right"
        # folding keeps every character; the default would cut and add an ellipsis
        width = max(len(word) for row in rows for word in [name, *row[name].split()])
        least = width if name == "verdict" else None
        table.add_column(name, justify=justify, no_wrap=not folds, overflow="fold", min_width=least)
    for row in rows:
        table.add_row(*row.values())
    if is_whole:
        whole = Console(width=MAX_WIDTH).measure(table).maximum
        console = build_console(console.file, width=max(console.width, whole))
    console.print(table)


def _full_cells(row: Comparison, *, has_controls: bool) -> dict[str, str]:
    labels = {"task": row.task, "source": row.source, "model": row.model, "stage": row.stage}
    labels |= {"setting": row.setting} if row.setting else {}
    labels |= {"control of": row.control_of or MISSING} if has_controls else {}
    return labels | paired_cells(row) | evidence_cells(row) | {"reason": row.reason}


def _markdown(rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return "none"
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(map(_markdown_cell, line))} |" for line in lines)


def _markdown_cell(text: str) -> str:
    # nearly every cell
    if _HARMLESS.fullmatch(text) is not None:
        return text
    return plain_markdown(text).replace("|", "\\|").replace("\n", " ")
