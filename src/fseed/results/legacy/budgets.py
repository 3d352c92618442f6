"""Flaws of the protocol: budgets, stages, selection, seeds, probes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fseed.results.legacy.model import Flaw, LegacyRun, Study, count_of
from fseed.results.legacy.pairing import Delta, pair_up, recorded, setting_of


def find_protocol_flaws(runs: Sequence[LegacyRun], studies: Sequence[Study]) -> list[Flaw]:
    """Return the flaws of how runs were budgeted, selected and compared."""
    return [
        *_unequal_budgets(recorded(runs)),
        *_reused_seeds(recorded(runs)),
        *_misleading_probes(recorded(runs)),
        *_wall_clock(studies),
        *_best_of_many(runs, studies),
        *_single_seeds(recorded(runs), studies),
    ]


def _unequal_budgets(runs: Sequence[LegacyRun]) -> list[Flaw]:
    """Report longer stages that were compared with the baseline of a shorter one."""
    groups: dict[Any, list[Delta]] = defaultdict(list)
    for delta in pair_up(runs):
        if not delta.is_same_stage:
            groups[setting_of(delta.run), delta.run.stage].append(delta)
    return [_unequal(deltas, stage=stage) for (_, stage), deltas in groups.items()]


def _unequal(deltas: Sequence[Delta], *, stage: str) -> Flaw:
    run, base = deltas[0].run, deltas[0].baseline
    text = (
        f"{count_of(len(deltas), f'{stage} arm')} compared with the {base.stage} baseline "
        f"(line {base.line}): no {stage} baseline was run"
    )
    return Flaw("unequal_budgets", run.place, _setting(run), text)


def _reused_seeds(runs: Sequence[LegacyRun]) -> list[Flaw]:
    """Report confirmations on the seed that the arm was selected on."""
    quick = {(setting_of(run), run.arm) for run in runs if run.stage == "quick"}
    groups: dict[Any, list[LegacyRun]] = defaultdict(list)
    for run in runs:
        if run.stage == "medium" and (setting_of(run), run.arm) in quick:
            groups[setting_of(run)].append(run)
    return [
        Flaw(
            "medium_reuses_seed",
            group[0].place,
            _setting(group[0]),
            f"{count_of(len(group), 'medium run')} on the seed of the quick run that chose the arm",
        )
        for group in groups.values()
    ]


def _misleading_probes(runs: Sequence[LegacyRun]) -> list[Flaw]:
    """Report probes that were recorded as fine before the first run failed."""
    probes = {
        (run.study, run.task): run
        for run in runs
        if run.stage == "probe" and run.status == "finished"
    }
    return [
        Flaw(
            "probe_without_failure",
            probe.place,
            _setting(run),
            f"probe recorded as ok with batch {probe.batch_size}; line {run.line}: {run.reason}",
        )
        for run in runs
        if run.is_baseline
        and run.status == "failed"
        and (probe := probes.get((run.study, run.task))) is not None
    ]


def _wall_clock(studies: Sequence[Study]) -> list[Flaw]:
    flaws = []
    for study in studies:
        seconds, steps = study.settings.get("time_budget_sec"), study.settings.get("max_steps")
        if seconds is None:
            continue
        limit = f"or {steps} steps" if steps else "no step limit"
        text = f"both sides stop after {seconds} s ({limit}); the steps taken are not recorded"
        flaws.append(Flaw("wall_clock_budget", study.place, study.label, text))
    return flaws


def _best_of_many(runs: Sequence[LegacyRun], studies: Sequence[Study]) -> list[Flaw]:
    """Report scores that are the best of several evaluations on a few examples."""
    flaws = [
        Flaw("best_of_many", study.place, study.label, text)
        for study in studies
        if (text := _selection(study.settings)) is not None
    ]
    first: dict[Any, LegacyRun] = {}
    counts: dict[Any, int] = defaultdict(int)
    for run in runs:
        if run.accuracy is not None and (not run.is_rounded or run.folder is not None):
            first.setdefault(run.path, run)
            counts[run.path] += 1
    return flaws + [
        Flaw(
            "best_of_many",
            str(path),
            first[path].study,
            f"{count_of(count, 'score')}: the best of an unrecorded number of evaluations",
        )
        for path, count in counts.items()
    ]


def _selection(settings: Mapping[str, Any]) -> str | None:
    """Say on how many examples a score was chosen; None where the settings do not tell."""
    every, batches, size = (settings.get(key) for key in ("eval_every", "val_batches", "bsz"))
    if every is None or batches is None or size is None:
        return None
    drawn, held = batches * size, settings.get("n_val")
    of_all = f" of {held}" if held is not None else ""
    return (
        f"score = best of all evaluations (every {every} steps), each on {drawn}{of_all} "
        "validation examples drawn anew"
    )


def _single_seeds(runs: Sequence[LegacyRun], studies: Sequence[Study]) -> list[Flaw]:
    """Report results from one seed, whose variance over seeds is unknown."""
    flaws = [
        Flaw("single_seed", study.place, study.label, "one seed: its variance is not measured")
        for study in studies
        if study.num_pairs == 1
    ]
    seeds: dict[Any, set[int | None]] = defaultdict(set)
    first: dict[Any, LegacyRun] = {}
    for delta in pair_up(runs):
        key = delta.run.study, delta.run.task
        seeds[key].add(delta.run.seed)
        first.setdefault(key, delta.run)
    return flaws + [
        Flaw(
            "single_seed",
            first[key].place,
            f"{key[0]} {key[1] or ''}".strip(),
            "arms selected on one seed: its variance is not measured",
        )
        for key, found in seeds.items()
        if len(found) == 1
    ]


def _setting(run: LegacyRun) -> str:
    seed = f"seed {run.seed}" if run.seed is not None else ""
    size = f"batch {run.batch_size}" if run.batch_size is not None else ""
    return " ".join(part for part in (run.study, run.task or "", seed, size) if part)
