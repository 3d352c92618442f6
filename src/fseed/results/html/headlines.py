"""The first thing to read of every task: what was found, how surely, and what it does not show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fseed.results.comparison import Comparison
from fseed.results.formats import seed_words
from fseed.results.html.view import TableView, TaskView
from fseed.results.html.words import count, p_value, percent, plain, pp, verdict_word

_MEASURED_ORDER = ("helps", "hurts", "equivalent", "no_op", "inconclusive")
_ENOUGH_SEEDS = 5
_ADJUSTMENTS = {"holm": "Holm", "bh": "Benjamini-Hochberg"}


@dataclass(frozen=True)
class Headline:
    """The answer of one task; ``lead`` is the row that the numbers belong to, None without any."""

    verdict: str
    sentence: str
    lead: Comparison | None
    facts: list[str]
    limits: list[str]


def split_settings(task: TaskView) -> list[TaskView]:
    """Return the task once for every setting of its last measured stage, as each has its answer.

    Two orders of one task, say, are two tables of one stage. A setting without a number is alone.
    """
    stage = next((one.stage for one in task.tables if _measured(_arms_of(one))), None)
    if stage is None:
        return [task]
    before = [one for one in task.tables if one.stage != stage]
    return [
        replace(task, tables=[one, *(before if _measured(_arms_of(one)) else [])])
        for one in task.tables
        if one.stage == stage
    ]


def build_headline(task: TaskView) -> Headline:
    """Judge a task by its last stage that measured an arm."""
    table = next((one for one in task.tables if _measured(_arms_of(one))), task.tables[0])
    arms = _arms_of(table)
    measured = _measured(arms)
    if not measured:
        rows = arms or [row.comparison for row in table.rows]
        return Headline(rows[0].verdict, _tell_unmeasured(rows), None, [], [])
    verdict = next((name for name in _MEASURED_ORDER if _with(measured, name)), None)
    group = _with(measured, verdict) if verdict is not None else measured
    lead = (min if verdict == "hurts" else max)(group, key=lambda row: row.difference or 0.0)
    sentence = _sentence(verdict or lead.verdict, arms, group, lead)
    return Headline(
        lead.verdict, sentence, lead, _facts(lead), _limits(lead, measured, table, task)
    )


def _arms_of(table: TableView) -> list[Comparison]:
    return [row.comparison for row in table.rows if row.comparison.control == "none"]


def _measured(rows: Sequence[Comparison]) -> list[Comparison]:
    return [row for row in rows if row.difference is not None]


def _with(rows: Sequence[Comparison], verdict: str) -> list[Comparison]:
    return [row for row in rows if row.verdict == verdict]


def _sentence(
    verdict: str, arms: Sequence[Comparison], group: Sequence[Comparison], lead: Comparison
) -> str:
    """Say in words what the arms did; ``group`` are those that share the verdict."""
    some = f"{len(group)} of {count(len(arms), 'arm')}"
    is_one = len(group) == 1
    if verdict == "helps":
        return f"{lead.arm} helps." if is_one else f"{some} help, {lead.arm} most."
    if verdict == "hurts":
        told = f"{lead.arm} hurts." if is_one else f"{some} hurt, {lead.arm} most."
        return f"No arm helps; {told}"
    if verdict == "equivalent":
        margin = lead.equivalence_margin
        within = f" within \u00b1{percent(margin)} pp" if margin is not None else ""
        told = f"{lead.arm} is" if is_one else f"{some} are"
        return f"No arm helps; {told} equivalent to plain training{within}."
    if verdict == "no_op":
        told = f"{lead.arm} equals" if is_one else f"{some} equal"
        return f"No arm helps; {told} plain training in every prediction."
    if verdict == "inconclusive":
        told = f"{lead.arm} cannot" if len(arms) == 1 else "no arm can"
        return f"Not decided: {told} be told from plain training."
    if all(row.verdict == "pruned" for row in arms):
        told = f"{lead.arm} was" if len(arms) == 1 else "every arm was"
        return f"Nothing confirmed: {told} dropped by the search."
    return "No arm has a number that can be used."


def _tell_unmeasured(rows: Sequence[Comparison]) -> str:
    names = sorted({row.verdict for row in rows})
    told = ", ".join(f"{len(_with(rows, name))} {verdict_word(name)}" for name in names)
    return f"Nothing measured: {told}."


def _facts(lead: Comparison) -> list[str]:
    facts = [
        f"{lead.metric}: no_fs {percent(lead.baseline_value)} %, arm {percent(lead.arm_value)} %",
        f"{count(lead.num_pairs, 'pair')} of runs ({seed_words(lead.seeds)})",
        f"{plain(lead.num_examples)} examples of the {lead.split} split",
        f"stage {lead.stage}",
    ]
    if lead.p_adjusted is not None:
        name = _ADJUSTMENTS.get(str(lead.adjustment), str(lead.adjustment))
        family = f"{name}, family of {lead.family_size}"
        facts.append(f"adjusted p {p_value(lead.p_adjusted)} ({family})")
    return facts


def _limits(
    lead: Comparison, measured: Sequence[Comparison], table: TableView, task: TaskView
) -> list[str]:
    """Return what the numbers do not show, each as one sentence."""
    return [
        *_about_the_setting(lead, table),
        *_about_the_seeds(lead),
        *_about_the_choice(lead, measured, table, task),
        *_about_the_size(lead),
    ]


def _about_the_setting(lead: Comparison, table: TableView) -> list[str]:
    limits = []
    if lead.source == "mini":
        limits.append(
            "Generated mini data: says whether the mechanism works there, nothing about the real "
            f"{lead.task} data."
        )
    arm = table.arms.get(lead.arm)
    model = arm.runs[0].record.provenance.get("model") if arm is not None else None
    if isinstance(model, dict) and model.get("initialization") == "random":
        limits.append("The backbone starts at random: says nothing about a pre-trained one.")
    if lead.split != "test":
        limits.append(f"Scored on the {lead.split} split; the test split was not touched.")
    return limits


def _about_the_seeds(lead: Comparison) -> list[str]:
    limits = []
    if lead.stage != "confirm":
        limits.append(f"Stage {lead.stage}: not confirmed on fresh seeds.")
    if lead.num_pairs < _ENOUGH_SEEDS:
        limits.append(f"Only {count(lead.num_pairs, 'pair')} of runs; the interval is wide for it.")
    return limits


def _about_the_choice(
    lead: Comparison, measured: Sequence[Comparison], table: TableView, task: TaskView
) -> list[str]:
    limits = []
    if len(measured) > 1 and lead.verdict != "no_op":
        limits.append(
            f"The arm named is picked among {len(measured)} measured ones by its difference, "
            "which overstates it."
        )
    entered = {arm.arm for one in task.tables for arm in _arms_of(one)}
    if len(entered) > len(_arms_of(table)):
        limits.append(f"{count(len(entered), 'arm')} entered in all; see the earlier stages.")
    if lead.verdict == "helps" and not _has_control(lead, table):
        limits.append("No control ran beside this arm: a gain alone does not show the mechanism.")
    return limits


def _has_control(lead: Comparison, table: TableView) -> bool:
    """Tell whether a measured control stands beside the arm, or beside all arms of the table."""
    return any(
        row.comparison.control not in ("none", "aa")
        and row.comparison.control_of in (lead.arm, None)
        and row.comparison.difference is not None
        for row in table.rows
    )


def _about_the_size(lead: Comparison) -> list[str]:
    limits = []
    if lead.verdict == "inconclusive" and lead.detectable_difference is not None:
        limits.append(
            f"Differences below {percent(lead.detectable_difference)} pp would mostly be missed "
            "with these seeds, so no difference is not shown either."
        )
    if lead.beats_constant is False:
        limits.append(
            f"Not above the best constant answer ({percent(lead.constant_value)} %): the task is "
            "not learnt."
        )
    return limits


def lead_number(lead: Comparison) -> str:
    """Return the difference that stands large in the headline."""
    return f"{pp(lead.difference)} pp"
