"""Alarms about what runs answer: constants, collapsed answers, arms that act alike, leaks.

Prompts are not recorded, so whether an answer stands in its prompt cannot be read off the records.
What they do show is checked: what copying from the prompt scores, what an untrained model scores,
and whether an arm solves everything where its baseline does not.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fseed.results.alarms_of_training import group_paths
from fseed.results.pairs import Arm
from fseed.results.runs import Run
from fseed.results.scalars import finite_number

COLLAPSED_VARIETY = 1.25  # effective number of answers: about one answer in 96 of 100 examples
# an arm that changes less than this share of what another seed changes does nothing of its own
NOISE_SHARE = 0.1
COPY_LIMIT = 0.95
UNTRAINED_EXCESS = 0.1
SOLVED = 0.999
UNSOLVED = 0.9


def find_answer_alarms(runs: Sequence[Run], arms: Sequence[Arm]) -> list[str]:
    """Return the alarms about constant and collapsed answers, arms that act alike, and leaks."""
    return [
        *_constant_answers(runs),
        *group_paths((text, run) for run in runs for text in _collapsed(run)),
        *_alike(arms),
        *group_paths((text, run) for run in runs for text in _leak_in_data(run)),
        *_solved_by_arm_alone(arms),
    ]


def _constant_answers(runs: Sequence[Run]) -> list[str]:
    """Report arms that answer one thing to every example, one line an arm folder."""
    found: dict[Any, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.examples is not None and run.examples.constant_answer is not None:
            found[run.record.path.parent][run.examples.constant_answer].append(run)
    alarms = []
    for folder, answers in found.items():
        told = [f"{answer[:40]!r} ({_seeds(members)})" for answer, members in answers.items()]
        arm = next(iter(answers.values()))[0].arm
        alarms.append(f"{arm} answers one thing to every example: {', '.join(told)}: {folder}")
    return alarms


def _seeds(runs: Sequence[Run]) -> str:
    told = ",".join(str(run.seed) for run in runs)
    return f"{'seed' if len(runs) == 1 else 'seeds'} {told}"


def _collapsed(run: Run) -> Iterator[str]:
    """Report answers that are nearly constant although the gold answers, where known, are not."""
    examples = run.examples
    if examples is None or examples.answers is None or examples.constant_answer is not None:
        return
    answers = examples.answers
    is_true = answers.gold_variety is not None and answers.gold_variety < COLLAPSED_VARIETY
    if answers.variety < COLLAPSED_VARIETY and not is_true and answers.codes.size > 1:
        yield f"answers have collapsed to {answers.variety:.2f} effective ones"


@dataclass
class _Table:
    """Rows of one table with the answers of their seeds, and what chance alone changes."""

    rows: dict[str, dict[Any, NDArray[np.uint32]]] = field(default_factory=lambda: {"no_fs": {}})
    paths: dict[str, str] = field(default_factory=dict)
    noise: float = 0.0  # share of examples


def _alike(arms: Sequence[Arm]) -> list[str]:
    """Report rows that answer nearly as their baseline or as each other at every shared seed.

    The measure is what an A/A arm changes, and a tenth of what another seed of the baseline does.
    """
    tables: dict[Any, list[Arm]] = defaultdict(list)
    for arm in arms:
        tables[arm.runs[0].labels, arm.setting].append(arm)
    alarms = []
    for members in tables.values():
        table = _build_table(members)
        changed = {
            (left, right): most
            for left, right in (combinations(table.rows, 2) if table.noise > 0 else ())
            if (most := _most_changed(table.rows[left], table.rows[right], limit=table.noise))
            is not None
        }
        for cluster in _clusters(changed, names=list(table.rows)):
            most = max(changed[pair] for pair in combinations(cluster, 2))
            alarms.append(
                f"{', '.join(cluster[:-1])} and {cluster[-1]} answer alike: {100 * most:.2f} % of "
                f"the examples change at most, noise is {100 * table.noise:.2f} %: "
                f"{', '.join(table.paths[label] for label in cluster)}"
            )
    return alarms


def _clusters(pairs: Collection[tuple[str, str]], *, names: Sequence[str]) -> Iterator[list[str]]:
    """Yield groups of rows that are all alike, so that every pair stands in one of them.

    ``names``: all rows, in the order in which ``pairs`` has them.
    """
    told: set[tuple[str, str]] = set()
    for pair in pairs:
        if pair in told:
            continue
        cluster = list(pair)
        for name in names:
            if all((name, other) in pairs or (other, name) in pairs for other in cluster):
                cluster.append(name)
        cluster.sort(key=names.index)
        told |= {(left, right) for left in cluster for right in cluster}
        yield cluster


def _build_table(members: Sequence[Arm]) -> _Table:
    table = _Table()
    baselines: dict[Any, Run] = {base.seed: base for arm in members for _, base in arm.pairs}
    _add(table, "no_fs", baselines)
    plain = table.rows["no_fs"]
    across = [_share(left, right) for left, right in combinations(plain.values(), 2)]
    tied = [0.0]
    for arm in members:
        if arm.control == "aa":
            found = _answers({run.seed: run for run, _ in arm.pairs})
            tied += [_share(found[seed], plain[seed]) for seed in found if seed in plain]
        elif not all(_content(run) == _content(base) for run, base in arm.pairs):
            # a row that ties bit for bit is told by its verdict
            _add(table, arm.label, {run.seed: run for run, _ in arm.pairs})
    table.noise = max(*tied, NOISE_SHARE * float(np.mean(across)) if across else 0.0)
    return table


def _add(table: _Table, label: str, runs: Mapping[Any, Run]) -> None:
    found = _answers(runs)
    if found:
        table.rows[label] = found
        table.paths[label] = ", ".join(str(runs[seed].record.path) for seed in found)


def _answers(runs: Mapping[Any, Run]) -> dict[Any, NDArray[np.uint32]]:
    return {
        seed: run.examples.answers.codes
        for seed, run in runs.items()
        if run.examples is not None and run.examples.answers is not None
    }


def _most_changed(
    left: Mapping[Any, NDArray[np.uint32]],
    right: Mapping[Any, NDArray[np.uint32]],
    *,
    limit: float,
) -> float | None:
    """Return the largest share of changed answers over the shared seeds, None from ``limit`` on."""
    most = None
    for seed in left:
        if seed in right:
            most = max(most or 0.0, _share(left[seed], right[seed]))
            if most >= limit:
                return None
    return most


def _share(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> float:
    """Return the share of examples with another answer; 1.0 for other sets of examples."""
    return np.count_nonzero(left != right) / left.size if left.size == right.size else 1.0


def _content(run: Run) -> str | None:
    return run.examples.content if run.examples is not None else None


def _leak_in_data(run: Run) -> Iterator[str]:
    """Report a task whose answers can be copied, and an untrained model that knows them."""
    result, metric = run.record.result or {}, run.primary_metric or ""
    copied, constant = (
        _score(result, name, metric) for name in ("copy_baseline", "constant_baseline")
    )
    task = run.labels[0]
    if copied is not None and copied >= COPY_LIMIT:
        yield f"leak: copying from the prompt scores {100 * copied:.1f} % on {task}"
    if constant is not None and constant >= COPY_LIMIT:
        yield f"one constant answer scores {100 * constant:.1f} % on {task}"
    first, model = run.first.get(metric), run.record.provenance.get("model")
    is_random = isinstance(model, Mapping) and model.get("initialization") == "random"
    floor = max(constant or 0.0, copied or 0.0)
    if is_random and first is not None and first > floor + UNTRAINED_EXCESS:
        yield (
            f"leak: scores {100 * first:.1f} % before training from a random start, the constant "
            f"answer {100 * floor:.1f} %"
        )


def _score(result: Mapping[str, Any], name: str, metric: str) -> float | None:
    told = result.get(name)
    value = told.get(metric) if isinstance(told, dict) else None
    return finite_number(value)


def _solved_by_arm_alone(arms: Sequence[Arm]) -> list[str]:
    """Report an arm that solves every example where its baseline is far from it."""
    found = []
    for arm in arms:
        for run, base in arm.pairs:
            ours, theirs = (one.last.get(one.primary_metric or "", 0.0) for one in (run, base))
            if ours >= SOLVED and theirs < UNSOLVED:
                text = f"leak? {arm.label} solves everything, its baseline {100 * theirs:.1f} %"
                found.append((text, run))
    return group_paths(found)
