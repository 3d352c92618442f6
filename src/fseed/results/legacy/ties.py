"""Flaws that equal digits give away: constant answers, no-ops, runs that are not independent."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from fseed.results.legacy.model import Flaw, LegacyRun, Study, count_of
from fseed.results.legacy.pairing import recorded, setting_of

_MIN_CONSTANT = 3  # runs that share a score although their losses differ


def find_ties(runs: Sequence[LegacyRun], studies: Sequence[Study]) -> list[Flaw]:
    """Return the flaws about scores that agree to the last digit."""
    return [
        *_medium_repeats_quick(recorded(runs)),
        *_equal_arms(recorded(runs)),
        *_equal_pairs(studies),
        *_constant_scores(runs),
        *_repeated_records(recorded(runs)),
        *_equal_losses(recorded(runs)),
        *_repeated_listings(runs),
        *_repeated_studies(studies),
    ]


def _medium_repeats_quick(runs: Sequence[LegacyRun]) -> list[Flaw]:
    quick = {(setting_of(run), run.arm): run for run in runs if run.stage == "quick"}
    flaws = []
    for run in runs:
        other = quick.get((setting_of(run), run.arm))
        if run.stage != "medium" or other is None:
            continue
        same = [name for name, value in run.scores.items() if other.scores.get(name) == value]
        if same:
            told = ", ".join(f"{name} {run.scores[name]!r}" for name in same)
            text = f"medium repeats quick to the last digit: {told} (quick: line {other.line})"
            flaws.append(Flaw("medium_repeats_quick", run.place, _subject(run), text))
    return flaws


def _equal_arms(runs: Sequence[LegacyRun]) -> list[Flaw]:
    """Report arms of one setting and stage with the same accuracy."""
    clusters: dict[Any, list[LegacyRun]] = defaultdict(list)
    for run in runs:
        if run.status == "finished" and run.accuracy is not None:
            clusters[setting_of(run), run.stage, run.accuracy].append(run)
    return [flaw for group in clusters.values() if len(group) > 1 for flaw in _judge(group)]


def _judge(group: Sequence[LegacyRun]) -> list[Flaw]:
    """Name what one cluster of equal accuracies means."""
    first = group[0]
    arms = ", ".join(run.arm for run in group)
    told = f"accuracy {first.accuracy!r} in {len(group)} runs ({arms})"
    losses = [run.loss for run in group]
    flaws = []
    if len(set(losses)) > 1:
        is_constant = len(group) >= _MIN_CONSTANT
        code = "degenerate_constant" if is_constant else "equal_digits"
        text = f"{told}, although the losses differ"
        flaws.append(Flaw(code, first.place, _subject(first, arm=""), text))
    for index, run in enumerate(group):
        twin = next((other for other in group[:index] if other.loss == run.loss), None)
        if twin is not None:
            code = "no_op" if twin.is_baseline else "equal_digits"
            text = f"accuracy and loss equal those of {twin.arm} (line {twin.line})"
            flaws.append(Flaw(code, run.place, _subject(run), text))
    return flaws


def _equal_pairs(studies: Sequence[Study]) -> list[Flaw]:
    """Report seeds of a study whose two sides agree in all printed digits."""
    flaws = []
    for study in studies:
        tied = [pair for pair in study.pairs if pair.baseline == pair.arm]
        if not tied:
            continue
        seeds = ",".join(str(pair.seed) for pair in tied)
        is_all, same_loss = len(tied) == len(study.pairs), _all_zero(tied)
        code = "no_op" if is_all and same_loss else "equal_digits"
        code = "degenerate_constant" if is_all and not same_loss else code
        rest = "and the loss too" if same_loss else "although the loss differs"
        text = f"accuracy of the baseline at seeds {seeds} of {len(study.pairs)}, {rest}"
        flaws.append(Flaw(code, study.place, study.label, text))
    return flaws


def _all_zero(pairs: Iterable[Any]) -> bool:
    return all(pair.loss_difference == 0 for pair in pairs)


def _constant_scores(runs: Sequence[LegacyRun]) -> list[Flaw]:
    """Report scores of a study that never change, over both arms and all seeds."""
    values: dict[Any, list[tuple[LegacyRun, float]]] = defaultdict(list)
    for run in runs:
        if run.is_rounded and run.folder is None:
            for name, value in run.scores.items():
                values[run.path, run.study, name].append((run, value))
    return [
        Flaw(
            "degenerate_constant",
            entries[0][0].place,
            study,
            f"{name} is {entries[0][1]:g} in all {len(entries)} runs",
        )
        for (_, study, name), entries in values.items()
        if len(entries) > _MIN_CONSTANT and len({value for _, value in entries}) == 1
    ]


def _repeated_records(runs: Sequence[LegacyRun]) -> list[Flaw]:
    """Report rounds that hold the same numbers as another one, counted per pair of rounds."""
    seen: dict[Any, LegacyRun] = {}
    repeats: dict[Any, list[tuple[LegacyRun, LegacyRun]]] = defaultdict(list)
    for run in runs:
        if run.accuracy is None or run.loss is None:
            continue
        first = seen.setdefault((run.accuracy, run.loss), run)
        if first.study != run.study:
            repeats[first.study, run.study].append((first, run))
    return [
        Flaw(
            "repeated_runs",
            pairs[0][1].place,
            later,
            f"{count_of(len(pairs), 'run')} as in {earlier}, accuracy and loss to the last digit: "
            + "; ".join(_subject(run) for _, run in pairs),
        )
        for (earlier, later), pairs in repeats.items()
    ]


def _equal_losses(runs: Sequence[LegacyRun]) -> list[Flaw]:
    """Report runs with the loss of an earlier round and another accuracy: one run, two scores."""
    seen: dict[Any, LegacyRun] = {}
    flaws = []
    for run in runs:
        if run.loss is None or run.accuracy is None:
            continue
        first = seen.setdefault((run.stage, run.arm, run.loss), run)
        if first.study != run.study and first.accuracy != run.accuracy:
            text = (
                f"loss {run.loss!r} as in {first.study} line {first.line}, accuracy "
                f"{first.accuracy:.4f} there and {run.accuracy:.4f} here: which evaluations "
                "were kept made the difference"
            )
            flaws.append(Flaw("equal_digits", run.place, _subject(run), text))
    return flaws


def _repeated_listings(runs: Sequence[LegacyRun]) -> list[Flaw]:
    """Report runs that stand in two lists, by their folder."""
    lists: dict[str, list[LegacyRun]] = defaultdict(list)
    for run in runs:
        if run.folder is not None and run.is_rounded:
            lists[run.folder].append(run)
    repeats: dict[Any, int] = defaultdict(int)
    for group in lists.values():
        for other in group[1:]:
            repeats[group[0].path, other.path, other.study] += 1
    return [
        Flaw("repeated_runs", str(path), study, f"{count_of(count, 'run')} stand in {first} too")
        for (first, path, study), count in repeats.items()
    ]


def _repeated_studies(studies: Sequence[Study]) -> list[Flaw]:
    """Report studies with the same scores, seed by seed, as an earlier one."""
    seen: dict[Any, Study] = {}
    flaws = []
    for study in studies:
        scores = tuple((pair.seed, pair.baseline, pair.arm) for pair in study.pairs)
        first = seen.setdefault(scores, study) if len(scores) > 1 else study
        if first is not study:
            text = f"both sides score as in {first.label}, at every seed ({first.place})"
            flaws.append(Flaw("repeated_runs", study.place, study.label, text))
    return flaws


def _subject(run: LegacyRun, *, arm: str | None = None) -> str:
    seed = f"seed {run.seed}" if run.seed is not None else ""
    name = run.arm if arm is None else arm
    return " ".join(part for part in (run.study, run.task or "", run.stage, name, seed) if part)
