"""The kinds of damage to a published study, each with the code that must catch it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fseed.atomic import write_text_atomic
from fseed.claims.manifest import MANIFEST_FILE
from fseed.claims.seal import SEAL_FILE
from fseed.records import (
    CHOICES_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    PREDICTIONS_FILE,
    PROVENANCE_FILE,
    RESULT_FILE,
)
from tests.claims import harm
from tests.claims.document_damage import IN_DOCUMENTS
from tests.claims.harm import RECORDS, SWEEP, Damage, Harm, group, on_study, on_text
from tests.claims.history_damage import IN_HISTORY
from tests.claims.publishing import RAW_FILE, STEPS, plan, write_run

HIDDEN = ", seal and documents renewed"
ARM = ("scalar_l10", 0)  # arm and seed of the run that is damaged
PLACE = "scalar_l10/s0-"


def on_result(change: harm.Change) -> Harm:
    return harm.on_json(*ARM, RESULT_FILE, change)


def on_rows(change: Callable[[list[harm.Row]], list[harm.Row] | None]) -> Harm:
    return harm.on_rows(*ARM, change)


def on_config(change: harm.Change) -> Harm:
    return harm.on_config(*ARM, change)


def on_line(old: str, new: str, *, at: int) -> Harm:
    return harm.on_line(*ARM, old, new, at=at)


def on_outcome(index: int, **changes: object) -> Harm:
    return harm.on_seal(lambda seal: seal["outcomes"][index].update(changes))


def remove(arm: str, seed: int) -> Harm:
    return lambda root: shutil.rmtree(harm.folder_of(root, arm, seed))


def add_to(metric: str, key: str, amount: float) -> Harm:
    return on_result(harm.add_to_evaluation(metric, key, amount))


def empty_seeds(root: Path) -> None:
    """Take the seeds off the manifest, and with them a seed off the records."""
    on_study(lambda study: study.update(seeds=[]))(root)
    for path in (root / SWEEP).rglob("s2-*"):
        shutil.rmtree(path)


def forge_rule(root: Path) -> None:
    """Change the rule in the manifest and in the copy that the archive keeps."""
    on_study(lambda study: study.update(rule="Whatever came out."))(root)
    harm.on_seal(lambda seal: seal["registration"].update(rule="Whatever came out."))(root)


UNUSABLE = {
    "prediction file deleted": harm.unlink(*ARM, PREDICTIONS_FILE),
    "prediction file truncated": harm.truncate(*ARM, PREDICTIONS_FILE),
    "result.json deleted": harm.unlink(*ARM, RESULT_FILE),
    "config.yaml deleted": harm.unlink(*ARM, CONFIG_FILE),
    "NaN metric in result.json": on_result(harm.set_primary(float("nan"))),
    "wrong schema version in result.json": on_result(lambda c: c.update(schema_version=99)),
    "run scored at its end declared failed": harm.declare_failed,
}
RESCORED = {
    "score edited in result.json": add_to("token_accuracy", "value", 0.05),
    "second metric edited in result.json": add_to("exact_match", "value", 0.1),
    "last loss edited in result.json": add_to("loss", "value", -0.01),
    "wrong n in result.json": add_to("token_accuracy", "n", 1),
    "counts edited in the predictions": on_rows(lambda rows: rows[-1].update(num_tokens_correct=0)),
    "counts and scores edited in the predictions": on_rows(harm.better_rows),
    "losses edited in the predictions": on_rows(lambda rows: rows[-1].update(loss_sum=0.1)),
    "an example dropped": on_rows(lambda rows: rows[:-1]),
    "predictions of arm and baseline swapped": harm.swap_predictions,
}
REORDERED = {
    "predictions reordered": on_rows(lambda rows: rows[:12] + rows[:11:-1]),
    "an example twice": on_rows(lambda rows: [*rows, rows[-1]]),
}
TOLD_TWICE = {
    "evaluation added that was never made": on_result(harm.best_evaluation),
    "last loss edited in metrics.jsonl": on_line('"loss": 0.', '"loss": 0.0', at=-1),
    "a line of metrics.jsonl torn": on_line("}", "", at=1),
}
SPENT = {
    "steps edited in result.json": on_result(lambda c: c.update(steps=0)),
    "tokens edited in result.json": on_result(lambda c: c.update(tokens=399)),
    "an optimiser step cut from metrics.jsonl": on_line('"train"', '"trial"', at=2),
    "fewer tokens behind a line without a kind": harm.hide_tokens,
    "budget changed in config.yaml": on_config(lambda c: c["budget"].update(steps=9)),
}
MOVED = {
    "records of two seeds swapped": harm.swap_runs,
    "arm renamed in choices.json": harm.on_json(
        *ARM, CHOICES_FILE, lambda c: c.update(arm="head_l8")
    ),
}
RENAMED = {
    "seed changed in config.yaml": on_config(lambda c: c.update(seed=7)),
    "learning rate changed in config.yaml": on_config(lambda c: c["optim"].update(lr=1.0)),
    "Future-Seed option changed in config.yaml": on_config(lambda c: c.update(lstart=3)),
    "data hash edited in provenance.json": harm.on_json(
        *ARM, PROVENANCE_FILE, lambda c: c.update(data_hash="e" * 64)
    ),
}
UNPAIRED = {
    "an example renamed": on_rows(lambda rows: rows[-1].update(example_id="example-999")),
    "run on other data": harm.replace_run(*ARM, data="e" * 64),
    "baseline of another code version": harm.replace_run("no_fs", 0, code="e" * 64),
    "arm with twice the budget": harm.replace_run(*ARM, steps=2 * STEPS),
    "baseline dropped": remove("no_fs", 0),
    "constant answer edited in result.json": on_result(
        lambda c: c["constant_baseline"].update(token_accuracy=0.01)
    ),
}
DROPPED = {
    "failed run dropped": remove("head_l8", 1),
    "seed dropped": remove(*ARM),
    "arm dropped": lambda root: shutil.rmtree(harm.folder_of(root, "head_l8", 0).parent),
}
ADDED = [
    Damage(
        "run of an unregistered seed added",
        lambda root: write_run(root / SWEEP, plan("no_fs", 7)),
        "unregistered_run",
        "no_fs/s7-",
    ),
    Damage(
        "run of an unregistered arm added",
        lambda root: write_run(root / SWEEP, plan("raw_l10", 0), gain=3),
        "unregistered_run",
        "raw_l10/s0-",
    ),
    Damage("run copied", harm.copy_run, "unregistered_run", PLACE),
]
IN_RECORDS = [
    *group("status", PLACE, UNUSABLE),
    *group("score", PREDICTIONS_FILE, RESCORED),
    *group("order", PREDICTIONS_FILE, REORDERED),
    *group("metrics", METRICS_FILE, TOLD_TWICE),
    *group("budget", RESULT_FILE, SPENT),
    *group("budget", METRICS_FILE, {"optimiser steps cut from metrics.jsonl": harm.drop_training}),
    *group("place", PLACE, MOVED),
    *group("identity", CONFIG_FILE, RENAMED),
    *group("pair", PLACE, UNPAIRED),
    *group("missing_run", RECORDS, DROPPED),
    *group("registration", PLACE, {"seeds emptied, a seed dropped": empty_seeds}),
    *IN_HISTORY,
    *ADDED,
]

REGISTERED = {
    "rule changed after the run": on_study(lambda c: c.update(rule="Whatever came out.")),
    "question changed after the run": on_study(lambda c: c.update(question="Another?")),
    "role changed after the run": on_study(lambda c: c.update(role="exploratory")),
    "experiment with records called planned": on_study(lambda c: c.update(planned=True)),
    "margin changed after the run": on_study(lambda c: c.update(margin=0.05)),
}
OUTCOMES = {
    "interval edited in archive.json": on_outcome(1, interval_low=0.2),
    "verdict edited in archive.json": on_outcome(0, verdict="helps"),
    "row dropped from archive.json": harm.on_seal(lambda seal: seal["outcomes"].pop(0)),
}
UNDATED = harm.on_json(*ARM, PROVENANCE_FILE, lambda c: c.pop("started_at"))
POSTDATED = on_study(lambda c: c.update(registered="2026-11-21"))
UNLISTED_ARM = on_study(lambda c: c["arms"].remove("head_l8"))
UNLISTED_SEED = on_study(lambda c: c["seeds"].remove(1))
UNLISTED = harm.on_yaml(MANIFEST_FILE, lambda c: c["experiments"].clear())
NO_SEAL = harm.remove(f"{RECORDS}/{SEAL_FILE}")
NO_ARCHIVE = harm.remove(str(RECORDS))
RAW_EDITED = on_text(RAW_FILE, "0.81", "0.91")
RAW_DELETED = harm.remove(RAW_FILE)
RAW_ADDED = harm.write("paper/kernels/x.txt", "9.9 times faster\n")
RAW_UNLISTED = harm.remove("paper/raw.sha256")
RAW_TORN = on_text("paper/raw.sha256", "  ", " ")
STRAYS = {
    "file beside the records": harm.write("paper/records/x.json", "{}"),
    "report that no record gives": harm.write("paper/report.html", "<p>gains 9.9 pp</p>"),
}
UNDER_SEAL = [
    *group("registration", MANIFEST_FILE, REGISTERED),
    *group("outcome", SEAL_FILE, OUTCOMES),
    Damage("rule changed in manifest and archive", forge_rule, "registration", SEAL_FILE),
    *group(
        "rule_after_run",
        PLACE,
        {"rule dated after the run": POSTDATED, "start of a run deleted": UNDATED},
    ),
    *group("unregistered_run", "head_l8/s0-", {"arm taken off the manifest": UNLISTED_ARM}),
    *group("unregistered_run", "/s1-", {"seed taken off the manifest": UNLISTED_SEED}),
    *group("unregistered_run", RECORDS, {"experiment taken off the manifest": UNLISTED}),
    Damage(
        "training loss edited in metrics.jsonl",
        on_line('"loss": 1.5', '"loss": 1.4', at=2),
        "changed_file",
        METRICS_FILE,
    ),
    Damage(
        "command edited in choices.json",
        harm.on_json(*ARM, CHOICES_FILE, lambda c: c.update(overrides=[])),
        "changed_file",
        CHOICES_FILE,
    ),
    Damage(
        "file added to the records",
        lambda root: write_text_atomic(root / RECORDS / "notes.txt", "x"),
        "unlisted_file",
        "notes.txt",
    ),
    *group("unlisted_file", RESULT_FILE, {"record replaced by a link": harm.link_record}),
    *group("unlisted_file", "paper/", STRAYS),
    *group("changed_file", RAW_FILE, {"digit of raw output edited": RAW_EDITED}),
    *group("missing_file", RAW_FILE, {"raw output deleted": RAW_DELETED}),
    *group("unlisted_file", "paper/kernels/x.txt", {"raw output added": RAW_ADDED}),
    *group("unlisted_file", RAW_FILE, {"list of raw output deleted": RAW_UNLISTED}),
    *group("unreadable_archive", "paper/raw.sha256:1", {"list of raw output torn": RAW_TORN}),
    *group("unreadable_archive", SEAL_FILE, {"archive.json deleted": NO_SEAL}),
    *group("missing_run", MANIFEST_FILE, {"archive deleted": NO_ARCHIVE}),
]

ALL = [
    *IN_RECORDS,
    *(replace(one, kind=one.kind + HIDDEN, is_hidden=True) for one in IN_RECORDS),
    *UNDER_SEAL,
    *IN_DOCUMENTS,
]
