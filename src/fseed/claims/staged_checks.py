"""Do the decisions of a staged sweep follow from its runs, and from the plan made before them?"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from fseed.claims.findings import Finding, error
from fseed.claims.manifest import Experiment
from fseed.claims.seal import TOLERANCE
from fseed.results.collection import Collection
from fseed.results.runs import Run
from fseed.results.staged import StagedSweep
from fseed.results.staged_files import DecisionInput, StageDecision, StagedPlan
from fseed.sweep.decisions import Rules, decide


def check_staged(collection: Collection, experiment: Experiment, root: Path) -> Iterator[Finding]:
    """Check plan and decisions of every staged sweep among the records."""
    runs = {run.run_id: run for run in collection.runs if run.status == "finished"}
    for sweep in collection.sweeps:
        for problem in sweep.problems:
            yield error("decision", experiment.folder, _below(problem, root))
        if sweep.plan is None:
            yield error("decision", _place(sweep.folder, root), "decisions without a plan")
            continue
        yield from _check_arms(sweep, sweep.plan, experiment, root)
        for decision in sweep.decisions:
            for given in decision.inputs:
                yield from _check_input(decision, given, runs, root)
        yield from _decide_again(sweep, sweep.plan, root)
        yield from _check_next_stage(sweep, sweep.plan, collection, root)
        yield from _check_seeds(sweep, sweep.plan, collection, root)


def _check_arms(
    sweep: StagedSweep, plan: StagedPlan, experiment: Experiment, root: Path
) -> Iterator[Finding]:
    place = _place(plan.path, root)
    planned = {arm.label for arm in plan.arms}
    for label in sorted(planned - set(experiment.arms)):
        yield error("unregistered_run", place, f"arm {label} is not registered")
    for label in sorted(set(experiment.arms) - planned - {"no_fs"}):
        yield error("missing_run", place, f"arm {label} is registered and not planned")
    told = {(one.task, one.arm_key) for one in sweep.decisions}
    for task in plan.tasks:
        for arm in plan.arms:
            if arm.control_of is None and (task, arm.arm_key) not in told:
                text = f"arm {arm.label} of task {task} was planned and never decided on"
                yield error("decision", place, text)


def _check_input(
    decision: StageDecision, given: DecisionInput, runs: Mapping[str | None, Run], root: Path
) -> Iterator[Finding]:
    """Take the difference of one pair again."""
    place = f"{_place(decision.path, root)}:{decision.line}"
    run, base = runs.get(given.arm_run_id), runs.get(given.baseline_run_id)
    if run is None or base is None:
        absent = given.arm_run_id if run is None else given.baseline_run_id
        yield error("decision", place, f"rests on run {absent}, which is not among the records")
        return
    if run.pair_key != base.pair_key or (run.seed, run.arm_key) != (given.seed, decision.arm_key):
        yield error(
            "decision", place, f"{given.arm_run_id} and {given.baseline_run_id} are no pair"
        )
        return
    metric = str(run.primary_metric)
    difference = run.last[metric] - base.last[metric]
    if abs(difference - given.difference) > TOLERANCE:
        text = f"difference of seed {given.seed} is {difference:+.6f}, not {given.difference:+.6f}"
        yield error("decision", place, text)


def _decide_again(sweep: StagedSweep, plan: StagedPlan, root: Path) -> Iterator[Finding]:
    """Apply the planned rule to the inputs of every rung."""
    try:
        # what else the plan keeps under rules is not the rule's
        known = {key: plan.rules[key] for key in Rules.__dataclass_fields__ if key in plan.rules}
        rules = Rules(**{**known, "rule": plan.rule})
    except (TypeError, ValueError) as problem:
        yield error("decision", _place(plan.path, root), f"rules: {problem}")
        return
    num_rungs = {stage.name: len(stage.rungs) for stage in plan.stages}

    def rung_of(one: StageDecision) -> tuple[str, str, int]:
        return one.task, one.stage, one.rung

    for (_, stage, rung), group in groupby(sorted(sweep.decisions, key=rung_of), key=rung_of):
        taken = list(group)
        if not 0 <= rung < num_rungs.get(stage, 0):
            place = f"{_place(taken[0].path, root)}:{taken[0].line}"
            yield error("decision", place, f"stage {stage} has no rung {rung} in the plan")
            continue
        differences = {one.arm_key: [given.difference for given in one.inputs] for one in taken}
        again = decide(differences, stage=stage, rung=rung, num_rungs=num_rungs[stage], rules=rules)
        for one, new in zip(taken, again, strict=True):
            if (one.state, one.reason) != (new.state, new.reason):
                text = f"{one.arm} is {new.state} ({new.reason}), not {one.state} ({one.reason})"
                yield error("decision", f"{_place(one.path, root)}:{one.line}", text)


def _check_next_stage(
    sweep: StagedSweep, plan: StagedPlan, collection: Collection, root: Path
) -> Iterator[Finding]:
    """Report arms that passed a stage and were not run at the next."""
    stages = [stage.name for stage in plan.stages]
    runs = _runs_of(sweep, collection)
    ran = {(run.labels[0], run.labels[3], run.arm_key) for run in runs}
    for one in sweep.decisions:
        following = stages[stages.index(one.stage) + 1 :][:1] if one.stage in stages else []
        if one.state == "passed" and following and (one.task, *following, one.arm_key) not in ran:
            place = f"{_place(one.path, root)}:{one.line}"
            yield error("missing_run", place, f"{one.arm} passed and has no run at {following[0]}")


def _check_seeds(
    sweep: StagedSweep, plan: StagedPlan, collection: Collection, root: Path
) -> Iterator[Finding]:
    """Compare the seeds of runs with the plan; the last stage drops none, so all must be there."""
    seeds = {stage.name: set(stage.seeds) for stage in plan.stages}
    last = plan.stages[-1].name if plan.stages else None
    found: dict[tuple[str, str], set[int | None]] = {}
    for run in _runs_of(sweep, collection):
        task, stage = run.labels[0], run.labels[3]
        if run.seed not in seeds.get(stage, ()):
            text = f"seed {run.seed} is none of stage {stage} in the plan"
            yield error("unregistered_run", _place(run.record.path, root), text)
        if stage == last:
            found.setdefault((task, run.arm), set()).add(run.seed)
    for (task, arm), ran in found.items():
        for seed in sorted(seeds[str(last)] - ran):
            text = f"arm {arm} of task {task} has no record of seed {seed} at {last}"
            yield error("missing_run", _place(sweep.folder, root), text)


def _runs_of(sweep: StagedSweep, collection: Collection) -> list[Run]:
    folder = sweep.folder.resolve()
    runs = collection.runs
    return [run for run in runs if run.record.path.resolve().is_relative_to(folder)]


def _place(path: Path, root: Path) -> str:
    return path.resolve().relative_to(root.resolve()).as_posix()


def _below(text: str, root: Path) -> str:
    return text.replace(f"{root.resolve()}/", "").replace(f"{root}/", "")
