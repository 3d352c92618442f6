"""What looks wrong, what failed, and every run with what identifies and repeats it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from fseed.results.collection import Collection
from fseed.results.html.markup import Html, element, join
from fseed.results.html.plain_table import render_plain_table
from fseed.results.html.words import NOT_RECORDED, count, percent, plain
from fseed.results.runs import Run
from fseed.results.scalars import finite_number

_NUM_SHOWN = 20  # alarms that are not folded away
_NUM_LISTED = 500  # runs; a browser takes seconds for a table of ten thousand
_ID_LENGTH = 10  # characters of a hash that are shown
# always shown, also where all runs agree
_KEPT = ("Arm", "Seed", "Status", "Run")


def render_alarms(collection: Collection) -> Html:
    """Return the alarms as a list, or that there are none."""
    if not collection.alarms:
        return element("p", "None of the checks found anything.", class_="soft")
    items = [element("li", alarm) for alarm in collection.alarms]
    first, more = items[:_NUM_SHOWN], items[_NUM_SHOWN:]
    shown = element("ul", *first, class_="alarms")
    if not more:
        return shown
    summary = element("summary", count(len(more), "more alarm"))
    return Html(shown + element("details", summary, element("ul", *more, class_="alarms")))


def render_failures(collection: Collection) -> Html:
    """Return every run that gives no number, with its reason and place."""
    heading = element("h3", f"Runs without a number ({len(collection.not_usable)})")
    if not collection.not_usable:
        return Html(heading + element("p", "Every run gives a number.", class_="soft"))
    names = ("Task", "Stage", "Arm", "Seed", "Status", "Last step", "Folder", "Reason")
    rows = [_failure_cells(run) for run in collection.not_usable]
    return Html(heading + render_plain_table(names, rows, label="runs without a number"))


def render_runs(collection: Collection) -> Html:
    """Return the runs with their hashes and commands; columns in which all agree are told once.

    A list of bounded size begins with the runs that give no number, and says what it leaves out.
    """
    if not collection.runs:
        return element("p", "No runs were found.", class_="soft")
    # stable: the order stays but for those that give no number
    ordered = sorted(_ordered(collection.runs), key=lambda run: run.status == "finished")
    chosen, num_more = ordered[:_NUM_LISTED], len(ordered[_NUM_LISTED:])
    commands = commands_of(chosen)
    rows, shared = fold_shared([_run_cells(run, commands) for run in chosen])
    every = "Every run listed: " if num_more else "Every run: "
    told = element("p", every, _tell_shared(shared), ".") if shared else None
    names = list(rows[0])
    table = render_plain_table(names, [list(row.values()) for row in rows], label="runs")
    summary = element("summary", f"List of {count(len(rows), 'run')}")
    listed = [element("li", element("code", command)) for command in commands]
    heading = element("h3", "Commands")
    commands_list = [heading, element("ol", *listed, class_="commands")] if listed else []
    return join([_tell_more(num_more), told, element("details", summary, table), *commands_list])


def commands_of(runs: Sequence[Run]) -> dict[str, int]:
    """Return every command line that started runs with its number, in order of appearance."""
    found: dict[str, int] = {}
    for run in _ordered(runs):
        command = _command(run)
        if command is not None:
            found.setdefault(command, len(found) + 1)
    return found


def fold_shared(
    rows: Sequence[Mapping[str, str]],
) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Take the columns away in which all of several rows agree; return rows and what was taken."""
    shared = {
        name: value
        for name, value in rows[0].items()
        if len(rows) > 1 and name not in _KEPT and all(row[name] == value for row in rows)
    }
    kept = [{name: value for name, value in row.items() if name not in shared} for row in rows]
    return kept, shared


def _tell_more(num_more: int) -> Html | None:
    if num_more == 0:
        return None
    text = (
        f"{count(num_more, 'more run')} left out of this list, which begins with the runs that "
        "give no number: runs.csv and runs.parquet beside this report hold them all."
    )
    return element("p", text, class_="soft small")


def _ordered(runs: Sequence[Run]) -> list[Run]:
    return sorted(
        runs,
        key=lambda run: (run.labels, run.arm, run.seed is None, run.seed or 0, str(run.run_id)),
    )


def _run_cells(run: Run, commands: Mapping[str, int]) -> dict[str, str]:
    task, source, model, stage = run.labels
    result = run.record.result or {}
    command = _command(run)
    return {
        **{"Task": task, "Source": source, "Model": model, "Stage": stage},
        **{"Arm": run.arm, "Seed": str(run.seed), "Status": run.status},
        "Metric": run.primary_metric or NOT_RECORDED,
        "Score, %": percent(run.last.get(run.primary_metric or "")),
        "Loss": plain(run.last.get("loss"), digits=4),
        "Steps": plain(_count(result.get("steps"))),
        "Tokens": plain(_count(result.get("tokens"))),
        "Seconds": plain(finite_number(result.get("wall_seconds")), digits=1),
        **{"Run": str(run.run_id or NOT_RECORDED), "Pair": _short(run.pair_key)},
        **{"Arm key": _short(run.arm_key), "Data": _short(run.hashes["data_hash"])},
        **{"Weights": _weights(run), "Code": _short(run.hashes["code_hash"])},
        "Command": f"no. {commands[command]}" if command is not None else NOT_RECORDED,
    }


def _failure_cells(run: Run) -> list[str]:
    failure = run.record.failure or {}
    task, _, _, stage = run.labels
    step = plain(_count(failure.get("last_step")))
    seed = str(run.seed) if run.seed is not None else NOT_RECORDED
    reason = run.reason or NOT_RECORDED
    return [task, stage, run.arm, seed, run.status, step, str(run.record.path), reason]


def _command(run: Run) -> str | None:
    """Return the command as it can be typed again; None where choices.json tells none."""
    told = run.record.choices.get("command")
    if not isinstance(told, list) or not told:
        return None
    return shlex.join(map(str, told))


def _weights(run: Run) -> str:
    told = run.record.provenance.get("model")
    start = told.get("initialization") if isinstance(told, Mapping) else None
    return str(start) if start == "random" else _short(run.hashes["weights_hash"])


def _tell_shared(shared: Mapping[str, str]) -> str:
    return ", ".join(f"{name.lower()} {value}" for name, value in shared.items())


def _short(value: Any) -> str:
    return NOT_RECORDED if value is None else str(value)[:_ID_LENGTH]


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
