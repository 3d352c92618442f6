"""The staged search as it went: every registered arm, where it stopped and why."""

from collections import defaultdict
from collections.abc import Sequence

from fseed.results.collection import Collection
from fseed.results.formats import seed_ranges
from fseed.results.html.figures.flow import Lane, Slot, Stop, flow_legend, render_flow
from fseed.results.html.markup import Html, element, join
from fseed.results.html.plain_table import render_plain_table
from fseed.results.html.words import count, p_value, percent, pp
from fseed.results.staged import StagedSweep
from fseed.results.staged_files import PlanArm, StageDecision, StagedPlan

_RULES = {
    "race": (
        "race: an arm is dropped when the upper end of its paired interval lies below the wanted "
        "gain, and passes when the lower end lies above zero; the error rate is split over the "
        "decisions."
    ),
    "halving": "halving: the better part of the arms by mean difference goes on.",
    "threshold": (
        "threshold: an arm passes when its difference on the first seed reaches a fixed number. "
        "This is the rule of the earlier work, kept to repeat it; it keeps nearly half of the arms "
        "that do nothing."
    ),
}
_IN_POINTS = ("wanted_gain", "quick_threshold", "medium_threshold")


def render_searches(collection: Collection) -> Html:
    """Return the search of every staged sweep that has a plan; nothing without one."""
    return join(_search(sweep) for sweep in collection.sweeps if sweep.plan is not None)


def slots_of(plan: StagedPlan) -> list[Slot]:
    """Return the points of decision in order; a stage without rungs has one, at all its seeds."""
    return [
        Slot(stage.name, rung, num_seeds)
        for stage in plan.stages
        for rung, num_seeds in enumerate(stage.rungs or (len(stage.seeds),))
    ]


def lanes_of(plan: StagedPlan, decisions: Sequence[StageDecision]) -> list[Lane]:
    """Return the arms of a plan for the decisions of one task, those that came furthest first.

    A control stands beneath its arm.
    """
    slots = slots_of(plan)
    by_arm: dict[str, list[StageDecision]] = defaultdict(list)
    for one in decisions:
        by_arm[one.arm].append(one)
    lanes = {arm.label: _lane(arm, by_arm[arm.label], slots) for arm in plan.arms}
    plain = [arm.label for arm in plan.arms if arm.control_of not in lanes]
    ordered: list[Lane] = []
    for label in sorted(plain, key=lambda label: _reached(lanes[label])):
        ordered.append(lanes[label])
        ordered += [lanes[arm.label] for arm in plan.arms if arm.control_of == label]
    return ordered


def _search(sweep: StagedSweep) -> Html:
    plan = sweep.plan
    assert plan is not None
    tasks = [_task(plan, task, sweep.decisions) for task in plan.tasks]
    problems = [element("p", problem, class_="problem") for problem in sweep.problems]
    return element(
        "section",
        element("h3", f"Sweep {plan.sweep}"),
        element("p", _RULES.get(plan.rule, plan.rule)),
        _facts(plan),
        *problems,
        *tasks,
        class_="search",
    )


def _facts(plan: StagedPlan) -> Html:
    numbers = [
        f"{name} {percent(value)} pp" if name in _IN_POINTS else f"{name} {value:g}"
        for name, value in plan.rules.items()
    ]
    stages = [
        f"{stage.name}: {_seeds(stage.seeds)}, decisions at {', '.join(map(str, stage.rungs))}"
        if stage.rungs
        else f"{stage.name}: {_seeds(stage.seeds)}, no arm is dropped"
        for stage in plan.stages
    ]
    plain = sum(arm.control == "none" for arm in plan.arms)
    told = {
        "Numbers of the rule": "; ".join(numbers),
        "Stages": "; ".join(stages),
        "Registered": f"{count(plain, 'arm')}, {count(len(plan.arms) - plain, 'control')}",
        "Planned": f"{plan.created_at}, code {plan.code_hash[:8]}",
        "Command": element("code", " ".join(plan.command)),
    }
    pairs = [Html(element("dt", key) + element("dd", text)) for key, text in told.items()]
    return element("dl", *pairs, class_="facts")


def _task(plan: StagedPlan, task: str, decisions: Sequence[StageDecision]) -> Html:
    here = [one for one in decisions if one.task == task]
    lanes = lanes_of(plan, here)
    num_arms = sum(arm.control == "none" for arm in plan.arms)
    caption = f"{task}: {flow_legend(num_arms)}"
    return element("div", render_flow(slots_of(plan), lanes, caption=caption), _decisions(here))


def _lane(arm: PlanArm, decisions: Sequence[StageDecision], slots: Sequence[Slot]) -> Lane:
    places = {(slot.stage, slot.rung): index for index, slot in enumerate(slots)}
    stops = tuple(
        Stop(places[one.stage, one.rung], one.state, one.text)
        for one in decisions
        if (one.stage, one.rung) in places
    )
    note = f"control: {arm.control}" if arm.control != "none" else ""
    is_beneath = arm.control_of is not None
    end = _end(decisions) if decisions or not is_beneath else "runs beside its arm"
    return Lane(arm.label, note, end, stops, is_beneath)


def _end(decisions: Sequence[StageDecision]) -> str:
    if not decisions:
        return "no decision yet"
    last = decisions[-1]
    words = {"dropped": "dropped at", "passed": "passed", "continues": "goes on in"}
    return f"{words[last.state]} {last.stage} after {count(last.num_seeds, 'seed')}: {last.text}"


def _reached(lane: Lane) -> tuple[int, bool, str]:
    if not lane.stops:
        return 1, True, lane.arm
    last = lane.stops[-1]
    return -last.slot, last.state == "dropped", lane.arm


def _decisions(decisions: Sequence[StageDecision]) -> Html | None:
    """Return every decision with its numbers, folded away."""
    if not decisions:
        return None
    names = ("Line", "Stage", "Rung", "Arm", "State", "Difference, pp", "Interval, pp")
    names = (*names, "Level", "p", "Seeds", "Reason")
    region = render_plain_table(names, [_cells(one) for one in decisions], label="decisions")
    summary = element("summary", f"All {count(len(decisions), 'decision')} with their numbers")
    return element("details", summary, region)


def _cells(one: StageDecision) -> list[str]:
    has_interval = one.low is not None and one.high is not None
    return [
        *(str(one.line), one.stage, str(one.rung), one.arm, one.state, pp(one.difference)),
        f"[{pp(one.low)}, {pp(one.high)}]" if has_interval else "none",
        f"{percent(one.confidence)} %" if one.confidence is not None else "none",
        p_value(one.p),
        seed_ranges(",".join(str(entry.seed) for entry in one.inputs)) or str(one.num_seeds),
        f"{one.reason}: {one.text}",
    ]


def _seeds(seeds: Sequence[int]) -> str:
    return f"seeds {seed_ranges(','.join(map(str, seeds)))}" if seeds else "no seeds"
