"""Do the files of the earlier work agree with each other? Numbers that differ or are missing."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, pstdev

from fseed.results.legacy.model import Claim, Contents, Entry, Flaw, LegacyRun, Study
from fseed.results.legacy.pairing import Delta, pair_up, recorded
from fseed.results.legacy.vocabulary import round_of

# four digits were printed: each of two rounded numbers may be off by half of the last one
ROUNDING = 1e-4 + 1e-9


def find_disagreements(contents: Contents) -> list[Flaw]:
    """Return the numbers that contradict others, and those that are missing."""
    runs = recorded(contents.runs)
    deltas = pair_up(runs)
    return [
        *contents.told_missing,
        *(flaw for study in contents.studies for flaw in _check_study(study)),
        *(flaw for claim in contents.claims for flaw in _check_claim(claim, runs, deltas)),
        *_failed_runs(contents.runs),
        *_unsummarised(runs, contents),
        *_check_manifest(contents, deltas),
    ]


def recompute(study: Study) -> dict[str, float]:
    """Return mean and spread (population) of the seed lines, as the summaries define them."""
    if not study.pairs:
        return {}
    scores = [pair.difference for pair in study.pairs]
    losses = [pair.loss_difference for pair in study.pairs]
    return {
        **{"mean_d_acc": fmean(scores), "std_d_acc": pstdev(scores)},
        **{"mean_d_loss": fmean(losses), "std_d_loss": pstdev(losses)},
    }


def signs_of(study: Study) -> tuple[int, int, int]:
    """Return the numbers of seeds above, at and below the baseline."""
    scores = [pair.difference for pair in study.pairs]
    return (
        sum(value > 0 for value in scores),
        sum(value == 0 for value in scores),
        sum(value < 0 for value in scores),
    )


def is_close(left: float | None, right: float | None) -> bool:
    """Tell whether two numbers agree in the four digits that were printed."""
    if left is None or right is None:
        return left is right
    return math.isfinite(left) and math.isfinite(right) and abs(left - right) <= ROUNDING


def _check_study(study: Study) -> Iterator[Flaw]:
    """Compare the head of a block with its seed lines."""
    if len(study.pairs) != study.num_pairs:
        text = f"says {study.num_pairs} pairs and lists {len(study.pairs)}"
        yield Flaw("missing_numbers", study.place, study.label, text)
        return
    again = recompute(study)
    for name in ("d_acc", "d_loss"):
        for word, told in (("mean", study.means.get(name)), ("std", study.deviations.get(name))):
            value = again[f"{word}_{name}"]
            if not is_close(told, value):
                text = f"{word} {name} is {_text(told)}, its seed lines give {value:.4f}"
                yield Flaw("disagreement", study.place, study.label, text)
    if study.signs is None:
        yield Flaw("missing_numbers", study.place, study.label, "tells no sign counts")
    elif study.signs != signs_of(study):
        text = f"signs are {study.signs}, its seed lines give {signs_of(study)}"
        yield Flaw("disagreement", study.place, study.label, text)
    for pair in study.pairs:
        if not is_close(pair.difference, pair.arm - pair.baseline):
            text = f"seed {pair.seed}: d_acc {pair.difference:+.4f} is not the difference"
            yield Flaw("disagreement", f"{study.path}:{pair.line}", study.label, text)


def _check_claim(
    claim: Claim, runs: Sequence[LegacyRun], deltas: Sequence[Delta]
) -> Iterator[Flaw]:
    """Compare one line of a round summary with the records of that round."""
    subject = " ".join(part for part in (claim.study, claim.task, claim.stage, claim.arm) if part)
    found = [delta for delta in deltas if _is_meant(claim, delta.run)]
    sides = [run for run in runs if run.is_baseline and _is_meant(claim, run)]
    of_arm = sides if claim.arm == "baseline" else [delta.run for delta in found]
    if not of_arm:
        yield Flaw("missing_numbers", claim.place, subject, "no record holds this run")
        return
    differences = [value for delta in found if (value := delta.difference) is not None]
    if claim.is_mean and not is_close(claim.difference, fmean(differences)):
        text = f"mean is {_text(claim.difference)}, the records give {fmean(differences):.4f}"
        yield Flaw("disagreement", claim.place, subject, text)
    if claim.is_mean:
        return
    told = {"accuracy": [run.accuracy for run in of_arm], "loss": [run.loss for run in of_arm]}
    told["difference"] = list(differences)
    for name, values in told.items():
        value = getattr(claim, name)
        if value is not None and not any(is_close(value, other) for other in values):
            text = f"{name} {value:.4f} is in no record ({', '.join(map(_text, values))})"
            yield Flaw("disagreement", claim.place, subject, text)


def _is_meant(claim: Claim, run: LegacyRun) -> bool:
    """Tell whether a claim is about a run; what a claim leaves open fits every run."""
    return run.study == claim.study and all(
        told is None or known is None or told == known
        for told, known in (
            (claim.stage if run.stage != "plain" else None, run.stage),
            (claim.task, run.task),
            (claim.arm, run.arm),
            (claim.seed, run.seed),
            (claim.batch_size, run.batch_size),
        )
    )


def _failed_runs(runs: Sequence[LegacyRun]) -> list[Flaw]:
    failed = [run for run in runs if run.status == "failed"]
    silent = [run for run in runs if run.status == "finished" and run.stage != "probe"]
    return [
        Flaw("missing_numbers", run.place, _subject(run), f"failed, no score: {run.reason}")
        for run in failed
    ] + [
        Flaw("missing_numbers", run.place, _subject(run), "recorded as ok without a finite score")
        for run in silent
        if run.accuracy is None or not math.isfinite(run.accuracy)
    ]


def _unsummarised(runs: Sequence[LegacyRun], contents: Contents) -> list[Flaw]:
    """Report rounds that have records and no summary."""
    told = {claim.study for claim in contents.claims}
    rounds = {run.study: run for run in reversed(runs)}
    return [
        Flaw("missing_numbers", str(run.path), study, "the round has records and no summary")
        for study, run in rounds.items()
        if study not in told
    ]


def _check_manifest(contents: Contents, deltas: Sequence[Delta]) -> Iterator[Flaw]:
    """Compare the manifest with the summaries it names, and name what it leaves out."""
    for entry in contents.entries:
        if entry.mean_difference is None:
            yield Flaw("missing_numbers", str(entry.path), entry.identifier, "no mean_d_acc")
        elif not any(
            is_close(entry.mean_difference, value)
            for value in _differences(entry, contents, deltas)
        ):
            text = f"mean_d_acc {entry.mean_difference:.4f} is not in {entry.summary}"
            yield Flaw("disagreement", str(entry.path), entry.identifier, text)
    named = {entry.summary for entry in contents.entries}
    for path in contents.files if contents.entries else []:
        if path.suffix == ".txt" and path.name not in named:
            yield Flaw("left_out", str(path), path.stem, "the manifest does not name this summary")


def _differences(entry: Entry, contents: Contents, deltas: Sequence[Delta]) -> list[float]:
    """Return every difference that a summary holds or that its round's records give."""
    studies = [study for study in contents.studies if study.path.name == entry.summary]
    claims = [claim for claim in contents.claims if claim.path.name == entry.summary]
    name = round_of(entry.summary)
    told = [study.means["d_acc"] for study in studies]
    told += [claim.difference for claim in claims if claim.difference is not None]
    of_round = [delta.difference for delta in deltas if delta.run.study == name]
    return told + [value for value in of_round if value is not None]


def _text(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4f}"


def _subject(run: LegacyRun) -> str:
    parts = (run.study, run.task, run.stage, run.arm)
    return " ".join(part for part in parts if part)
