"""How far a task has come, computed anew from its runs each time it is asked.

Nothing is remembered between two calls but the records on disk, so that a killed sweep resumes by
doing the same computation again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fseed.planned_run import PlannedRun
from fseed.results.staged_files import DecisionInput
from fseed.results.statistics import MIN_SEEDS, paired_t_interval
from fseed.sweep.decisions import Decision, Rules, decide
from fseed.sweep.staged.book import BASELINE, RunBook, Slot
from fseed.sweep.staged.decisions_file import DecisionLog, TakenDecision
from fseed.sweep.staged.scores import FAILED, FINISHED, MISSING, Scores
from fseed.sweep.staged.stages import Stage

WAITING, RACING, CONFIRMING, COMPLETE = "waiting", "racing", "confirming", "complete"


@dataclass(frozen=True)
class ArmRow:
    """One arm of one task for the live table; numbers are fractions."""

    task: str
    stage: str
    arm: str
    state: str  # waiting | racing | passed | dropped | confirming | complete
    num_done: int
    num_seeds: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def is_decided(self) -> bool:
        """Whether a stage has taken or left the arm."""
        return self.state in ("passed", "dropped")


@dataclass
class Progress:
    """One task: what it needs next, what was decided, how its arms stand."""

    task: str
    stage: str = ""
    needed: list[PlannedRun] = field(default_factory=list)
    taken: list[TakenDecision] = field(default_factory=list)
    rows: dict[str, ArmRow] = field(default_factory=dict)
    problem: str | None = None  # why the task cannot go on
    num_failed: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to start."""
        return not self.needed


@dataclass(frozen=True)
class Flow:
    """What every task of a sweep shares."""

    book: RunBook
    stages: Sequence[Stage]
    rules: Rules
    has_controls: bool
    scores: Scores
    log: DecisionLog

    def advance(self, task: str) -> Progress:
        """Return how far a task has come; nothing is started or written."""
        progress, alive = Progress(task), self.book.arms
        for stage in self.stages:
            progress.stage = stage.name
            if stage.is_last:
                self._confirm(progress, stage, alive)
            else:
                alive = self._race(progress, stage, alive)
            if progress.needed or progress.problem is not None or not alive:
                break
        return progress

    def _race(self, progress: Progress, stage: Stage, alive: Sequence[str]) -> list[str]:
        """Decide rung by rung as far as the runs reach; return the arms that pass the stage."""
        racing, passed = list(alive), []
        for rung, num_seeds in enumerate(stage.rungs):
            seeds = stage.seeds[:num_seeds]
            slots = [Slot(progress.task, arm, stage.name) for arm in racing]
            self._collect(progress, stage, slots, seeds)
            self._tell_racing(progress, stage, racing, num_seeds)
            if progress.needed or progress.problem is not None:
                return []
            taken = self._decide(progress.task, stage, rung, racing)
            progress.taken += taken
            for one in taken:
                self._tell_decision(progress, stage, one)
            states = {one.decision.arm: one.decision.state for one in taken}
            passed += [arm for arm in racing if states[arm] == "passed"]
            racing = [arm for arm in racing if states[arm] == "continues"]
            if not racing:
                break
        return [arm for arm in alive if arm in passed]

    def _confirm(self, progress: Progress, stage: Stage, alive: Sequence[str]) -> None:
        slots = [Slot(progress.task, arm, stage.name) for arm in alive]
        if self.has_controls:
            slots += [slot for arm in alive for slot in self.book.controls(progress.task, arm)]
        self._collect(progress, stage, slots, stage.seeds)
        for arm in alive:
            slot = Slot(progress.task, arm, stage.name)
            progress.rows[arm] = self._row(slot, stage, len(stage.seeds), state=CONFIRMING)
            if not progress.needed and progress.problem is None:
                progress.rows[arm] = replace(progress.rows[arm], state=COMPLETE)

    def _collect(
        self, progress: Progress, stage: Stage, slots: Sequence[Slot], seeds: Sequence[int]
    ) -> None:
        """Put the runs that are left into ``progress.needed``, each seed's baseline first."""
        needed: dict[str, PlannedRun] = {}
        num_decided = self._num_decided(progress.task, stage)
        for index, seed in enumerate(seeds):
            for slot in (Slot(progress.task, BASELINE, stage.name), *slots):
                run = self.book.run(slot, seed=seed)
                if not self.scores.is_settled(run, is_decided=index < num_decided):
                    needed.setdefault(run.run_id, run)
                    continue
                score = self.scores.read(run)
                progress.num_failed += score.state != FINISHED
                # another process holds a run that is missing after its start
                if score.state == MISSING or (slot.arm == BASELINE and score.state == FAILED):
                    progress.problem = (
                        f"{progress.task} stops in stage {stage.name}: {run.arm} of seed {seed} "
                        f"{score.state}: {score.reason}"
                    )
                    return
        progress.needed = list(needed.values())

    def _num_decided(self, task: str, stage: Stage) -> int:
        """Return how many seeds are part of a decision on disk: their failures stay as they are."""
        decided = [
            num_seeds
            for rung, num_seeds in enumerate(stage.rungs)
            if self.log.is_decided(task, stage.name, rung)
        ]
        return max(decided, default=0)

    def _decide(
        self, task: str, stage: Stage, rung: int, racing: Sequence[str]
    ) -> list[TakenDecision]:
        seeds = stage.seeds[: stage.rungs[rung]]
        inputs = {arm: self._pairs(Slot(task, arm, stage.name), seeds) for arm in racing}
        differences = {arm: [one.difference for one in pairs] for arm, pairs in inputs.items()}
        decisions = decide(
            differences,
            stage=stage.name,
            rung=rung,
            num_rungs=len(stage.rungs),
            rules=self.rules,
        )
        return [
            TakenDecision(
                task=task,
                stage=stage.name,
                rung=rung,
                arm_key=self.book.arm_key(Slot(task, one.arm, stage.name)),
                decision=self._explain(one, Slot(task, one.arm, stage.name), seeds),
                inputs=tuple(inputs[one.arm]),
                rule=self.rules.rule,
            )
            for one in decisions
        ]

    def _explain(self, decision: Decision, slot: Slot, seeds: Sequence[int]) -> Decision:
        """Add to a decision why runs are missing from it."""
        failed = self._failures(slot, seeds)
        if not failed:
            return decision
        return replace(decision, text=f"{decision.text}; {'; '.join(failed)}")

    def _failures(self, slot: Slot, seeds: Sequence[int]) -> list[str]:
        scores = {seed: self.scores.read(self.book.run(slot, seed=seed)) for seed in seeds}
        return [
            f"seed {seed} failed ({score.reason})"
            for seed, score in scores.items()
            if score.state == FAILED
        ]

    def _pairs(self, slot: Slot, seeds: Sequence[int]) -> list[DecisionInput]:
        """Return the finished pairs of a slot."""
        pairs = []
        for seed in seeds:
            arm = self.book.run(slot, seed=seed)
            base = self.book.run(Slot(slot.task, BASELINE, slot.stage), seed=seed)
            value, reference = self.scores.read(arm).value, self.scores.read(base).value
            if value is not None and reference is not None:
                pairs.append(DecisionInput(seed, arm.run_id, base.run_id, value - reference))
        return pairs

    def _tell_racing(
        self, progress: Progress, stage: Stage, racing: Sequence[str], num_seeds: int
    ) -> None:
        for arm in racing:
            slot = Slot(progress.task, arm, stage.name)
            progress.rows[arm] = self._row(slot, stage, num_seeds, state=RACING)

    def _row(self, slot: Slot, stage: Stage, num_seeds: int, *, state: str) -> ArmRow:
        """Return an arm as it stands before a decision, its interval at 95 %."""
        pairs = self._pairs(slot, stage.seeds[:num_seeds])
        values = [one.difference for one in pairs]
        state = state if pairs else WAITING
        row = ArmRow(slot.task, stage.name, slot.arm, state, len(pairs), num_seeds)
        row = replace(row, reason="; ".join(self._failures(slot, stage.seeds[:num_seeds])))
        if values:
            row = replace(row, difference=float(np.mean(values)))
        if len(values) >= MIN_SEEDS:
            interval = paired_t_interval(values)
            row = replace(row, low=interval.low, high=interval.high)
        return row

    def _tell_decision(self, progress: Progress, stage: Stage, taken: TakenDecision) -> None:
        told = taken.decision
        progress.rows[told.arm] = ArmRow(
            task=taken.task,
            stage=stage.name,
            arm=told.arm,
            state=told.state if told.state != "continues" else RACING,
            num_done=len(taken.inputs),
            num_seeds=stage.rungs[taken.rung],
            difference=told.difference,
            low=told.low,
            high=told.high,
            reason=told.text.removeprefix(f"{told.state}: "),
        )
