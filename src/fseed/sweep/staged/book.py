"""Every run that a staged sweep may need, planned when it is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fseed.config.schema import BaselineRule, ControlKind
from fseed.errors import UserError
from fseed.identity import is_baseline
from fseed.planned_run import PlannedRun
from fseed.sweep.plan import (
    Compose,
    PlanEntry,
    Point,
    baseline_overrides,
    plan_baseline,
    plan_run,
)
from fseed.sweep.prepare import Preparer
from fseed.sweep.report import some_names
from fseed.sweep.staged.stages import Stage

BASELINE = "no_fs"
CONTROLS = tuple(kind.value for kind in ControlKind if kind is not ControlKind.none)


@dataclass(frozen=True)
class StagedArm:
    """An arm of the plan; a control stands beside the arm ``control_of`` in the confirm stage."""

    label: str
    arm_key: str
    control: str = ControlKind.none.value
    control_of: str | None = None


@dataclass(frozen=True)
class Slot:
    """The runs of one task, arm and stage, over its seeds; ``control`` none but for controls."""

    task: str
    arm: str  # BASELINE or the label of an arm
    stage: str
    control: str = ControlKind.none.value


@dataclass
class RunBook:
    """The planned runs of every slot and seed.

    ``points`` holds per task the composed points of the arms by label, in the order given.
    ``extra_words`` are overrides that preflight adds to every run of a task.
    """

    points: Mapping[str, Mapping[str, Point]]
    compose: Compose
    extra_words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    preparer: Preparer = field(default_factory=Preparer)
    _entries: dict[Slot, tuple[Point, PlanEntry]] = field(default_factory=dict)
    _runs: dict[tuple[Slot, int], PlannedRun] = field(default_factory=dict)
    _places: dict[tuple[Path, str], PlannedRun] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        """The names of the tasks, in order."""
        return list(self.points)

    @property
    def arms(self) -> list[str]:
        """The labels of the arms that race, in order; every task has the same."""
        return list(next(iter(self.points.values())))

    def run(self, slot: Slot, *, seed: int) -> PlannedRun:
        """Return one run of a slot."""
        if (slot, seed) not in self._runs:
            point = self._entry(slot)[0]
            seeded = replace(
                point,
                config=replace(point.config, seed=seed),
                overrides=[*_without(point.overrides, "seed"), f"seed={seed}"],
            )
            run = plan_run(seeded, preparer=self.preparer).run
            # a control that two arms share has a label of each, and one folder
            place = run.run_dir.parent.parent, run.run_id
            self._runs[slot, seed] = self._places.setdefault(place, run)
        return self._runs[slot, seed]

    def label(self, slot: Slot) -> str:
        """Return the label that the runs of a slot carry."""
        return self._entry(slot)[1].run.arm

    def arm_key(self, slot: Slot) -> str:
        """Return the identity of the Future-Seed part of a slot."""
        return self._entry(slot)[1].run.arm_key

    def notes(self) -> list[str]:
        """Return the remarks on the arms planned so far, each once with the arms it is about."""
        arms: dict[str, dict[str, None]] = {}
        for _, entry in self._entries.values():
            for note in entry.notes:
                arms.setdefault(note, {})[entry.run.arm] = None
        return [f"note: {note} ({some_names(list(names))})" for note, names in arms.items()]

    def add_words(self, task: str, words: Sequence[str]) -> None:
        """Plan every run of ``task`` anew with these overrides."""
        self.extra_words[task] = tuple(words)
        self._entries = {slot: kept for slot, kept in self._entries.items() if slot.task != task}
        self._runs = {key: kept for key, kept in self._runs.items() if key[0].task != task}
        self._places = {
            place: kept for place, kept in self._places.items() if kept.config.task.name != task
        }

    def controls(self, task: str, arm: str) -> list[Slot]:
        """Return the slots of all controls beside ``arm`` in the confirm stage."""
        return [Slot(task, arm, "confirm", control=kind) for kind in CONTROLS]

    def _entry(self, slot: Slot) -> tuple[Point, PlanEntry]:
        if slot not in self._entries:
            try:
                self._entries[slot] = self._plan(slot)
            except UserError as error:
                if slot.control == ControlKind.none.value:
                    raise
                raise UserError(
                    f"{slot.task}, control={slot.control}: {error}\n"
                    "sweep.controls=false leaves the controls out, and the report says so"
                ) from error
        return self._entries[slot]

    def _plan(self, slot: Slot) -> tuple[Point, PlanEntry]:
        point = self.compose(self._words(slot))
        entry = plan_run(point, preparer=self.preparer)
        if slot.arm == BASELINE:
            self._check_baseline(slot, point)
        return point, entry

    def _check_baseline(self, slot: Slot, point: Point) -> None:
        """Refuse an arm that differs from the baseline in more than Future-Seed."""
        for arm in self.points[slot.task]:
            entry = self._entry(replace(slot, arm=arm))[1]
            plan_baseline(entry, point, self.preparer)

    def _words(self, slot: Slot) -> list[str]:
        points = self.points[slot.task]
        point = points[self.arms[0] if slot.arm == BASELINE else slot.arm]
        words = list(point.overrides)
        if slot.arm == BASELINE:
            words = baseline_overrides(words)
        if slot.control != ControlKind.none.value:
            words = [*_without(words, "control"), f"control={slot.control}"]
        extra = [f"sweep.stage={slot.stage}", *self.extra_words.get(slot.task, ())]
        for word in extra:
            words = [*_without(words, word.split("=", 1)[0]), word]
        # the only runs that see the test split
        return [*words, "budget.test=true"] if slot.stage == "confirm" else words


def build_book(points: Sequence[Point], *, compose: Compose) -> RunBook:
    """Return the book of the arms among ``points``, which are composed without a seed.

    A point that is the baseline itself is left out: every stage has it anyway.

    Raises:
        UserError: when the points do not make one table of tasks and arms.
    """
    grouped: dict[str, dict[str, Point]] = {}
    files: dict[str, str] = {}
    for point in points:
        name, file = point.config.task.name, point.choices["task"]
        if files.setdefault(name, file) != file:
            raise UserError(
                f"task={files[name]} and task={file} are both {name}, and would share a folder\n"
                "sweep one of them, the other under another sweep.name"
            )
        _check_point(point)
        arms = grouped.setdefault(name, {})
        if not is_baseline(point.config):
            arms.setdefault(point.arm, point)
    if not any(grouped.values()):
        raise UserError("a staged sweep needs an arm beside no_fs, for example fs=scalar_l10")
    return RunBook(grouped, compose)


def list_arms(book: RunBook, stages: Sequence[Stage], *, has_controls: bool) -> list[StagedArm]:
    """Return the registered arms with their controls, each arm once.

    Raises:
        UserError: for two names of one arm, or an arm that a task cannot run.
    """
    found: list[StagedArm] = []
    known: dict[str, str] = {}
    first = book.tasks[0]
    for arm in book.arms:
        key = book.arm_key(Slot(first, arm, stages[0].name))
        if key in known:
            raise UserError(f"{known[key]} and {arm} are the same arm: leave one out")
        known[key] = arm
        found.append(StagedArm(arm, key))
        for slot in book.controls(first, arm) if has_controls else ():
            found.append(StagedArm(book.label(slot), book.arm_key(slot), slot.control, arm))
    return found


def check_all_stages(
    book: RunBook, stages: Sequence[Stage], *, has_controls: bool, tasks: Sequence[str] = ()
) -> None:
    """Plan the first run of every arm and stage of ``tasks``, all of them where none is named.

    What cannot work is told before a start. Of the controls only those of one arm are composed,
    which takes long.
    """
    for task in tasks or book.tasks:
        for stage in stages:
            for arm in (BASELINE, *book.arms):
                book.run(Slot(task, arm, stage.name), seed=stage.seeds[0])
        if has_controls:
            for slot in book.controls(task, book.arms[0]):
                book.run(slot, seed=stages[-1].seeds[0])


def _check_point(point: Point) -> None:
    config = point.config
    if config.control.kind is not ControlKind.none:
        raise UserError(
            f"control={config.control.kind.value}: a staged sweep adds every control beside the "
            "arms that it confirms\nleave control out; sweep.controls=false confirms without them"
        )
    if config.sweep.baseline is BaselineRule.none:
        raise UserError("sweep.baseline=none: a staged sweep decides by paired differences only")
    if config.budget.test:
        raise UserError("budget.test=true: a staged sweep scores the test split when it confirms")


def _without(words: Sequence[str], key: str) -> list[str]:
    return [word for word in words if word.split("=", 1)[0] != key]
