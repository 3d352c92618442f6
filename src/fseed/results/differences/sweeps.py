"""What a sweep changes against another one: tasks, arms, seeds, settings, tokens, known runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fseed.identity import is_read
from fseed.planned_run import PlannedRun
from fseed.results.differences.document import Section, Table, render_text
from fseed.results.differences.groups import (
    FS,
    GROUPS,
    SEED,
    VOLATILE,
    group_of_record,
    group_of_setting,
)
from fseed.results.differences.runs import ABSENT, RECORD_PREFIX, Sample, comparable
from fseed.results.differences.sources import Source, read_sweep
from fseed.results.differences.values import fold_numbers, told_apart, values_text
from fseed.results.runs import config_leaves

PLAN_WIDTH = 120  # characters
_MAX_NAMED = 3

# task and arm
Place = tuple[str, str]


@dataclass(frozen=True)
class Change:
    """A setting whose values over the runs of some arms are others than before."""

    group: str
    key: str
    old: Sequence[Any]
    new: Sequence[Any]
    places: Sequence[Place]


def render_plan_changes(runs: Sequence[PlannedRun], folder: Path) -> str:
    """Return what ``runs``, none of them started, change against the runs below ``folder``.

    Raises:
        UserError: if ``folder`` is none or holds no runs.
    """
    old = read_sweep(folder)
    changes = SweepChanges(old.sources, [_planned_source(run) for run in runs])
    sections = changes.as_sections(names=(old.name, "this plan"))
    notes = [Section("not compared", old.problems)] if old.problems else []
    return render_text([*sections, *notes], width=PLAN_WIDTH).rstrip("\n")


@dataclass(frozen=True)
class SweepChanges:
    """Two sweeps: the one that was, and the one that is or is planned."""

    old: Sequence[Source]
    new: Sequence[Source]

    def as_sections(self, *, names: tuple[str, str]) -> list[Section]:
        """Return an overview and the table of changed settings; ``names`` are old and new."""
        places = sorted(_by_place(self.old).keys() & _by_place(self.new).keys())
        rows = [_change_cells(change, places) for change in self.settings]
        nothing = [] if rows else ["none in the arms that both have"]
        table = Table(["group", "key", "before", "now", "arms"], rows)
        title = f"{names[1]} against {names[0]}"
        return [Section(title, self.overview()), Section("settings that change", nothing, table)]

    def overview(self) -> list[str]:
        """Return the lines on runs, tasks, stages, arms, seeds and tokens."""
        lines = (_run_lines, _arm_lines, _token_lines)
        return [line for find in lines for line in find(self.old, self.new)]

    @cached_property
    def settings(self) -> list[Change]:
        """The settings that differ in arms which both sweeps have, by group and key.

        Seeds and volatile keys are left out, and so is provenance that one side does not know.
        """
        before, after = _by_place(self.old), _by_place(self.new)
        found: dict[Any, Change] = {}
        for place in sorted(before.keys() & after.keys()):
            for change in _place_changes(place, before[place], after[place]):
                name = (change.group, change.key, repr((change.old, change.new)))
                known = found.get(name)
                places = [*known.places, place] if known is not None else [place]
                found[name] = replace(change, places=places)
        return sorted(found.values(), key=lambda change: (GROUPS.index(change.group), change.key))

    def unexpected(self, expected: Sequence[str]) -> list[str]:
        """Return what changes beside the groups and keys that are ``expected``.

        Other tasks count as data, other arms as fs, other seeds as seed.
        """
        allowed = set(expected)
        members = {
            "tasks": ("data", [{s.task for s in side} for side in (self.old, self.new)]),
            "arms": (FS, [{(s.task, s.arm) for s in side} for side in (self.old, self.new)]),
            "seeds": (SEED, [{(s.task, s.seed) for s in side} for side in (self.old, self.new)]),
        }
        sets = [
            name
            for name, (group, sides) in members.items()
            if sides[0] != sides[1] and group not in allowed
        ]
        changed = [c.key for c in self.settings if not {c.group, c.key} & allowed]
        return sets + list(dict.fromkeys(changed))

    def as_data(self) -> dict[str, Any]:
        """Return overview and changes as plain values; absent values are left out."""
        return {
            "overview": self.overview(),
            "changes": [
                {
                    **{"group": change.group, "key": change.key},
                    "before": [value for value in change.old if value is not ABSENT],
                    "now": [value for value in change.new if value is not ABSENT],
                    "arms": [{"task": task, "arm": arm} for task, arm in change.places],
                }
                for change in self.settings
            ],
        }


def max_tokens(source: Source) -> int | None:
    """Return the most tokens that a run trains on, None where its settings do not say."""
    read = source.sample.settings.get
    batch_size, length = read("budget.batch_size"), read("task.max_length_tokens")
    steps, tokens = read("budget.steps"), read("budget.tokens")
    if not isinstance(batch_size, int) or not isinstance(length, int):
        return None
    if isinstance(tokens, int):
        return tokens + batch_size * length - 1  # rounded up to a whole step
    return steps * batch_size * length if isinstance(steps, int) else None


def _planned_source(run: PlannedRun) -> Source:
    hashes = {
        **{"code_hash": run.code_hash, "data_hash": run.data_hash},
        **{"weights_hash": run.weights_hash, "vocabulary_hash": run.vocabulary_hash},
    }
    settings = dict(config_leaves(run.resolved_config()))
    return Source(Sample(settings, hashes), run.run_dir, run.arm, run.run_id)


def _by_place(sources: Sequence[Source]) -> dict[Place, list[Source]]:
    places: dict[Place, list[Source]] = {}
    for source in sources:
        places.setdefault((source.task, str(source.arm)), []).append(source)
    return places


def _place_changes(place: Place, old: Sequence[Source], new: Sequence[Source]) -> Iterator[Change]:
    """Yield every setting and every recorded fact of one arm whose values are others now."""
    before, now = ([source.sample.settings for source in side] for side in (old, new))
    for key, values in _changed_values(before, now):
        group = group_of_setting(key)
        reads = group != FS or any(is_read(key, settings) for settings in (*before, *now))
        if reads and group not in (SEED, VOLATILE):
            yield Change(group, key, *values, [place])
    before, now = (_recorded(side) for side in (old, new))
    shared = {key.split(".")[0] for leaves in before for key in leaves}
    shared &= {key.split(".")[0] for leaves in now for key in leaves}
    for key, values in _changed_values(before, now):
        group = group_of_record(key)
        if key.split(".")[0] in shared and group != VOLATILE:
            yield Change(group, RECORD_PREFIX + key, *values, [place])


def _recorded(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return the leaves of provenance.json of the runs that have one."""
    records = (comparable(source.sample.provenance) for source in sources)
    return [dict(config_leaves(record)) for record in records if record]


def _changed_values(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, tuple[list[Any], list[Any]]]]:
    """Yield (key, (values before, values now)) where these are not the same values."""
    for key in dict.fromkeys(key for leaves in (*old, *new) for key in leaves):
        before, now = (_each_once([leaves.get(key, ABSENT) for leaves in s]) for s in (old, new))
        if before.keys() != now.keys():
            yield key, (list(before.values()), list(now.values()))


def _each_once(values: Sequence[Any]) -> dict[str, Any]:
    """Return the values in a fixed order, each once, by their text."""
    once = {repr(value): value for value in values}
    return {text: once[text] for text in sorted(once)}


def _run_lines(old: Sequence[Source], new: Sequence[Source]) -> Iterator[str]:
    yield f"{_count(old, 'run')} before, {_count(new, 'run')} now"
    yield from _set_line("tasks", {s.task for s in old}, {s.task for s in new})
    yield from _set_line("stages", {s.stage for s in old}, {s.stage for s in new})
    there = {source.run_id: source for source in old if source.run_id is not None}
    pairs = [(source, there[source.run_id]) for source in new if source.run_id in there]
    num_done = sum(_is_skipped(planned, known) for planned, known in pairs)
    line = f"same run id: {len(pairs)} of {len(new)}"
    if num_done:
        line += f", {num_done} finished in the same place and skipped"
    if pairs and num_done < len(pairs):
        line += f", {len(pairs) - num_done} in another place or not finished, to be run"
    yield line


def _is_skipped(planned: Source, known: Source) -> bool:
    return known.status == "finished" and planned.path.resolve() == known.path.resolve()


def _arm_lines(old: Sequence[Source], new: Sequence[Source]) -> Iterator[str]:
    """Yield what changes in the arms and seeds of the tasks that both sweeps have."""
    for task in sorted({s.task for s in old} & {s.task for s in new}):
        arms = [{str(s.arm) for s in side if s.task == task} for side in (old, new)]
        yield from (f"{task}: {line}" for line in _set_line("arms", *arms))
    places = _by_place(old).keys() & _by_place(new).keys()
    found: dict[str, list[Place]] = {}
    for place in sorted(places):
        before, now = (
            {s.seed for s in side if (s.task, str(s.arm)) == place} for side in (old, new)
        )
        for line in _set_line("seeds", before, now):
            found.setdefault(line, []).append(place)
    yield from (f"{_places_text(who, sorted(places))}: {line}" for line, who in found.items())


def _set_line(what: str, before: set[Any], now: set[Any]) -> Iterator[str]:
    """Yield one line when two sets differ: what was added, what was removed."""
    parts = [
        f"{verb} {_names(members)}"
        for verb, members in (("added", now - before), ("removed", before - now))
        if members
    ]
    if parts:
        yield f"{what} {'; '.join(parts)}"


def _names(members: set[Any]) -> str:
    if all(type(member) is int for member in members):
        return fold_numbers(list(members))
    return ", ".join(sorted(map(str, members)))


def _token_lines(old: Sequence[Source], new: Sequence[Source]) -> Iterator[str]:
    before, now = (_total_tokens(side) for side in (old, new))
    if before and now is not None:
        yield (
            f"training tokens, at most: {before:,} before, {now:,} now "
            f"({100 * (now - before) / before:+.1f} %)"
        )
    for task in sorted({s.task for s in old} & {s.task for s in new}):
        each = [_numbers({max_tokens(s) for s in side if s.task == task}) for side in (old, new)]
        if each[0] != each[1]:
            yield f"{task}: tokens of one run, at most: {each[0]} before, {each[1]} now"


def _numbers(members: set[int | None]) -> str:
    """Return numbers with thousands separators, "?" for one that is not known."""
    known = sorted(number for number in members if number is not None)
    unknown = ["?"] if None in members else []
    return ", ".join([f"{number:,}" for number in known] + unknown)


def _total_tokens(sources: Sequence[Source]) -> int | None:
    found = [max_tokens(source) for source in sources]
    known = [number for number in found if number is not None]
    return sum(known) if len(known) == len(found) else None


def _change_cells(change: Change, places: Sequence[Place]) -> list[str]:
    texts = [values_text(change.old), values_text(change.new)]
    told = told_apart(texts, [change.old, change.new])
    return [change.group, change.key, *told, _places_text(change.places, places)]


def _places_text(places: Sequence[Place], of: Sequence[Place]) -> str:
    """Name arms briefly: all of them, whole tasks, or one by one."""
    if set(places) == set(of):
        return "all arms"
    tasks = sorted({task for task, _ in places})
    names: list[str] = []
    for task in tasks:
        own = [place for place in places if place[0] == task]
        is_whole = len(own) == sum(place[0] == task for place in of)
        names += [f"all of {task}"] if is_whole else [f"{task} {arm}" for _, arm in own]
    more = len(names) - _MAX_NAMED
    return ", ".join([*names[:_MAX_NAMED], *([f"{more} more"] if more > 0 else [])])


def _count(members: Sequence[Any], noun: str) -> str:
    return f"{len(members)} {noun}{'' if len(members) == 1 else 's'}"
