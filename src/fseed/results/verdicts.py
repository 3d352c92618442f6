"""What one row says: a verdict, a machine-readable reason code and a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fseed.results.controls import ControlGain
from fseed.results.families import HOLM, SIGNIFICANCE, Family
from fseed.results.measurement import Measurement, Outlook
from fseed.results.obstacles import Obstacle, Obstacles
from fseed.results.pairs import Arm, Gap
from fseed.results.staged_files import StageDecision
from fseed.results.statistics import MIN_SEEDS

VERDICTS = (
    *("helps", "hurts", "equivalent", "no_op", "inconclusive", "pruned"),
    *("failed", "invalid", "unfinished", "no_matched_baseline"),
)
REASONS = {
    "interval_above_zero": "the interval over seeds lies above zero",
    "interval_below_zero": "the interval over seeds lies below zero",
    "interval_holds_zero": "the interval over seeds holds zero",
    "inside_margin": "the difference lies inside the stated margin, by two one-sided t tests",
    "not_above_constant": "inside the margin, but neither arm nor no_fs beats a constant answer",
    "family_not_significant": "the interval leaves zero, but not after adjusting for the family",
    "control_gains_too": "the arm is not shown to exceed a control",
    "control_unfinished": "a control beside the arm has not finished, so it rules nothing out",
    "below_constant": "a gain over no_fs, but the arm does not beat a constant answer",
    "seeds_not_started": "planned seeds have not started, and a look before the end is no test",
    "seeds_reused": "an earlier stage has seen these seeds, so they confirm nothing",
    "aa_differs": "an A/A arm of this table differs from its baseline: the comparison is off",
    "contradicting_duplicates": "a run stands twice with other numbers, and neither is known right",
    "dropped": "the staged sweep dropped the arm, and no later stage has run",
    "selection_stage": "a stage that chooses arms claims nothing, its seeds stop by what they show",
    "bit_equal": "every prediction and every metric equals the baseline's, bit for bit",
    "too_few_seeds": "fewer than three pairs, so the variance over seeds is not measured",
    "identical_differences": "all pairs differ by the same amount, so the interval has no width",
    "incomplete_seeds": "a run of the row has not finished or has no baseline",
    "repeated_seed": "a seed occurs twice in the row",
    "different_examples": "arm and baseline were not scored on the same examples and metric",
    "unequal_budget": "arm and baseline had different budgets",
    "unreadable": "the records of the runs cannot be read",
    "failed": "the runs failed",
    "invalid": "the numbers of the runs cannot be used",
    "unfinished": "the runs have not finished",
    "no_matched_baseline": "no finished no_fs run has the same pair_key",
}
# a row is named after the gap that says most: what can be mended by one more run comes first
_GAP_ORDER = (
    *("no_matched_baseline", "unequal_budget", "invalid", "unreadable"),
    *("failed", "unfinished"),
)
_INVALID_GAPS = ("unequal_budget", "unreadable")
# simulated null sweeps got helps or hurts in up to 8 % of these tables, see paper/simulations
SELECTION_STAGES = ("quick", "medium")
_CLAIMS = ("helps", "hurts", "equivalent")


@dataclass(frozen=True)
class Verdict:
    """A name of VERDICTS, a code of REASONS, and the reason in words with its numbers."""

    name: str
    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a row is judged by beside its own measurement; ``margin`` is a fraction."""

    family: Family
    margin: float
    equivalence_p: float | None = None
    outlook: Outlook = field(default_factory=lambda: Outlook(None, None))
    num_controls: int = 0  # measured ones that could show a gain
    equal_gains: Sequence[ControlGain] = field(default_factory=tuple)
    dropped: StageDecision | None = None  # where no later stage has run
    obstacles: Obstacles = field(default_factory=Obstacles)

    @property
    def is_inside_margin(self) -> bool:
        """Tell whether two one-sided tests place the difference inside the margin."""
        return self.equivalence_p is not None and self.equivalence_p < SIGNIFICANCE


def decide(arm: Arm, measured: Measurement | None, evidence: Evidence) -> Verdict:
    """Judge a row.

    ``helps`` and ``hurts`` need three pairs, no gap among the seeds and significance in the
    family, at a stage that does not choose arms; ``helps`` also that the arm beats a constant
    answer and every control beside it, all of them finished.
    """
    seeds = [run.seed for run, _ in arm.pairs]
    if len(set(seeds)) != len(seeds):
        return _plain("invalid", "repeated_seed")
    if evidence.dropped is not None:
        return Verdict("pruned", "dropped", _tell_dropped(evidence.dropped))
    if not arm.pairs:
        return _without_pairs(arm.gaps)
    if evidence.obstacles.contradiction is not None:
        return Verdict("invalid", *_tell_obstacle(evidence.obstacles.contradiction))
    if measured is None:
        return _plain("invalid", "different_examples")
    if measured.is_bit_equal:
        note = ", as an A/A arm must be" if arm.control == "aa" else ""
        return Verdict("no_op", "bit_equal", REASONS["bit_equal"] + note)
    if arm.gaps:
        text = f"{_tell_gaps(arm.gaps)}; {_tell_outlook(measured, evidence)}"
        return Verdict("inconclusive", "incomplete_seeds", text)
    if evidence.obstacles.seeds is not None:
        code, text = _tell_obstacle(evidence.obstacles.seeds)
        return Verdict("inconclusive", code, f"{text}; {_tell_outlook(measured, evidence)}")
    verdict = _judge_interval(arm, measured, evidence)
    if verdict.name in _CLAIMS and arm.runs[0].labels[3] in SELECTION_STAGES:
        text = f"{REASONS['selection_stage']}; {verdict.text}; {_tell_outlook(measured, evidence)}"
        return Verdict("inconclusive", "selection_stage", text)
    return verdict


def _tell_obstacle(obstacle: Obstacle) -> tuple[str, str]:
    return obstacle.code, f"{REASONS[obstacle.code]}: {obstacle.text}"


def _without_pairs(gaps: Sequence[Gap]) -> Verdict:
    code = min((gap.code for gap in gaps), key=_GAP_ORDER.index)
    return Verdict("invalid" if code in _INVALID_GAPS else code, code, _tell_gaps(gaps))


def _judge_interval(arm: Arm, measured: Measurement, evidence: Evidence) -> Verdict:
    interval, family = measured.interval, evidence.family
    if interval is None or measured.differences.size < MIN_SEEDS:
        text = f"{_tell_few(measured)}; {_tell_outlook(measured, evidence)}"
        return Verdict("inconclusive", "too_few_seeds", text)
    if not measured.can_be_tested:
        return _inconclusive("identical_differences", measured, evidence)
    if family.is_significant and interval.high < 0:
        text = _tell_test("interval_below_zero", family) + _tell_inside(evidence)
        return Verdict("hurts", "interval_below_zero", text)
    if family.is_significant and interval.low > 0:
        return _judge_gain(arm, measured, evidence)
    if evidence.is_inside_margin:
        # two constant predictors always agree, whatever Future-Seed does
        if not measured.is_above_constant:
            return _inconclusive("not_above_constant", measured, evidence)
        return Verdict("equivalent", "inside_margin", _tell_equivalence(evidence))
    if interval.low > 0 or interval.high < 0:
        return _inconclusive("family_not_significant", measured, evidence)
    return _inconclusive("interval_holds_zero", measured, evidence)


def _judge_gain(arm: Arm, measured: Measurement, evidence: Evidence) -> Verdict:
    best, unfinished = measured.constant_value, evidence.obstacles.unfinished_controls
    if best is not None and measured.arm_value <= best:
        return _inconclusive("below_constant", measured, evidence)
    if unfinished:
        text = f"{REASONS['control_unfinished']}: {', '.join(unfinished)}"
        text = f"{text}; {_tell_outlook(measured, evidence)}"
        return Verdict("inconclusive", "control_unfinished", text)
    if not evidence.equal_gains:
        text = _tell_test("interval_above_zero", evidence.family)
        text = f"{text}; {_tell_controls(arm, evidence)}{_tell_inside(evidence)}"
        return Verdict("helps", "interval_above_zero", text)
    told = "; ".join(_tell_gain(gain) for gain in evidence.equal_gains)
    text = f"{REASONS['control_gains_too']}: {told}; {_tell_outlook(measured, evidence)}"
    return Verdict("inconclusive", "control_gains_too", text)


def _tell_controls(arm: Arm, evidence: Evidence) -> str:
    if arm.is_control:
        return "a control, so this is no evidence for Future-Seed"
    if not evidence.num_controls:
        return "no control has run beside it"
    return f"controls that do not show this gain: {evidence.num_controls}"


def _inconclusive(code: str, measured: Measurement, evidence: Evidence) -> Verdict:
    test = _tell_test(code, evidence.family) if code == "family_not_significant" else REASONS[code]
    return Verdict("inconclusive", code, f"{test}; {_tell_outlook(measured, evidence)}")


def _tell_test(code: str, family: Family) -> str:
    """Tell the p value, and the adjusted one where the family has more than one member."""
    text = f"{REASONS[code]}, p {_p(family.p_value)}"
    if family.size < 2:
        return text
    name = "Holm" if family.adjustment == HOLM else "Benjamini-Hochberg"
    return f"{text}, {_p(family.p_adjusted)} by {name} over {family.size} arms"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _tell_equivalence(evidence: Evidence) -> str:
    margin = f"{100 * evidence.margin:.4g} pp"
    return f"the difference lies inside +-{margin}, p {_p(evidence.equivalence_p)} (two t tests)"


def _tell_inside(evidence: Evidence) -> str:
    """Tell an effect too small to matter by the stated margin; it is an effect still."""
    if not evidence.is_inside_margin:
        return ""
    return f"; inside the margin of {100 * evidence.margin:.4g} pp"


def _tell_gain(gain: ControlGain) -> str:
    text = f"{gain.label} {100 * gain.difference:+.2f} pp"
    if gain.excess is None:
        return f"{text}, fewer than {MIN_SEEDS} seeds in common"
    if not gain.excess.low < gain.excess.high:
        return f"{text}, arm minus control {100 * gain.excess.mean:+.2f} pp at every seed alike"
    ends = f"[{100 * gain.excess.low:+.2f}, {100 * gain.excess.high:+.2f}]"
    return f"{text}, arm minus control {100 * gain.excess.mean:+.2f} {ends} pp"


def _tell_dropped(decision: StageDecision) -> str:
    seeds = f"{decision.num_seeds} {'seed' if decision.num_seeds == 1 else 'seeds'}"
    place = f"{decision.path.name}:{decision.line}"
    return f"at {decision.stage} after {seeds}, {decision.reason}: {decision.text} ({place})"


def _tell_few(measured: Measurement) -> str:
    num_pairs = measured.differences.size
    pairs = "1 pair" if num_pairs == 1 else f"{num_pairs} pairs"
    text = f"{pairs}, seed variance not measured; the interval is over examples only"
    return (
        text if measured.mcnemar_p is None else f"{text}, exact McNemar p {measured.mcnemar_p:.3g}"
    )


def _tell_outlook(measured: Measurement, evidence: Evidence) -> str:
    """Tell the smallest detectable effect and how many more seeds the difference seen needs."""
    outlook = evidence.outlook
    if measured.differences.size < MIN_SEEDS:
        return f"smallest detectable effect unknown, at least {outlook.more_seeds} more seeds"
    if outlook.detectable is None:
        return "smallest detectable effect and seeds needed unknown without a spread over seeds"
    text = f"detectable with power 0.8: {100 * outlook.detectable:.2f} pp"
    if outlook.more_seeds is None:
        return f"{text}; the difference seen needs over 1,000 more seeds"
    if outlook.more_seeds == 0:
        return f"{text}; the seeds at hand suffice for the difference seen"
    return f"{text}; the difference seen needs about {outlook.more_seeds} more seeds"


def _tell_gaps(gaps: Sequence[Gap]) -> str:
    """Tell every gap with its seeds, equal reasons once."""
    seeds: dict[str, list[str]] = {}
    for gap in gaps:
        text = f"{gap.code.replace('_', ' ')}, {gap.text}" if gap.text else gap.code
        seeds.setdefault(text, []).append(str(gap.run.seed))
    return "; ".join(
        f"{'seed' if len(told) == 1 else 'seeds'} {','.join(told)}: {text}"
        for text, told in seeds.items()
    )


def _plain(name: str, code: str) -> Verdict:
    return Verdict(name, code, REASONS[code])
