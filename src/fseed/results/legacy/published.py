"""The figures that the earlier work published, from a table, against its own files."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fseed.errors import UserError
from fseed.results.legacy.agreement import is_close, recompute, signs_of
from fseed.results.legacy.model import Contents, Flaw, Study
from fseed.results.legacy.pairing import Delta, pair_up, recorded
from fseed.results.legacy.vocabulary import STAGES

_COLUMNS = ("study", "kind", "task", "stage", "preset", "mean_d_acc")
_MULTI_SEED = "multi_seed"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published row beside what the files give; differences are fractions.

    ``problem`` is None when every published number is reproduced.
    """

    row: Mapping[str, str]
    line: int
    again: float | None
    problem: str | None
    study: Study | None = None
    delta: Delta | None = None

    @property
    def is_multi_seed(self) -> bool:
        """Tell a mean over seeds from one run of a search."""
        return self.row["kind"] == _MULTI_SEED

    @property
    def difference(self) -> float | None:
        """Return the published difference."""
        return _number(self.row, "mean_d_acc")

    @property
    def has_equal_budgets(self) -> bool:
        """Tell whether the table says that both sides had one budget."""
        return self.row.get("budget_matched", "yes") == "yes"


def check_published(path: Path, contents: Contents) -> list[Published]:
    """Recompute every row of a table of published figures.

    UserError when the table cannot be read or lacks columns.
    """
    deltas = pair_up(recorded(contents.runs))
    rows = _read(path)
    return [
        _check_mean(row, line, contents)
        if row["kind"] == _MULTI_SEED
        else _check_run(row, line, contents, deltas)
        for line, row in rows
    ]


def published_flaws(path: Path, published: Sequence[Published]) -> list[Flaw]:
    """Return rows that are not reproduced, and budgets that the table itself calls unequal."""
    flaws = []
    for row in published:
        subject = _subject(row.row)
        if row.problem is not None:
            flaws.append(Flaw("not_reproduced", f"{path}:{row.line}", subject, row.problem))
        if not row.has_equal_budgets:
            text = (
                f"published with unequal budgets: {row.row['budget_matched'].removeprefix('no: ')}"
            )
            flaws.append(Flaw("unequal_budgets", f"{path}:{row.line}", subject, text))
    return flaws


def _read(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--reference {path}: {error}; give a CSV table") from error
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(
            f"--reference {path}: lacks the columns {', '.join(missing)}; "
            f"a table of published figures has {', '.join(_COLUMNS)}"
        )
    return rows


def _check_mean(row: Mapping[str, str], line: int, contents: Contents) -> Published:
    """Recompute a mean over seeds from the seed lines of its study."""
    length = row.get("length_tokens")
    found = [
        study
        for study in contents.studies
        if study.name == row["study"] and str(study.length_tokens or "") in (length, "")
    ]
    if len(found) != 1 or not found[0].pairs:
        problem = f"{len(found)} studies of this name and length, with seed lines, are here"
        return Published(row=row, line=line, again=None, problem=problem)
    again = recompute(found[0])
    problems = [
        f"{name} published {told:.4f}, from seeds {again[name]:.4f}"
        for name in ("mean_d_acc", "std_d_acc", "mean_d_loss")
        if (told := _number(row, name)) is not None and not is_close(told, again[name])
    ]
    names = ("pairs", "sign_pos", "sign_zero", "sign_neg")
    counts = dict(zip(names, (len(found[0].pairs), *signs_of(found[0])), strict=True))
    problems += [
        f"{name} published {told:g}, from seeds {count}"
        for name, count in counts.items()
        if (told := _number(row, name)) is not None and told != count
    ]
    return Published(
        row=row,
        line=line,
        again=again["mean_d_acc"],
        problem="; ".join(problems) or None,
        study=found[0],
    )


def _check_run(
    row: Mapping[str, str], line: int, contents: Contents, deltas: Sequence[Delta]
) -> Published:
    """Find one run of a search in the records and compare its scores."""
    stage = STAGES.get(row["stage"], row["stage"])
    runs = [
        run
        for run in recorded(contents.runs)
        if (run.study, run.task, run.stage, run.arm)
        == (row["study"], row["task"], stage, row["preset"])
    ]
    if len(runs) != 1:
        problem = f"{len(runs)} records of this run are here"
        return Published(row=row, line=line, again=None, problem=problem)
    (run,) = runs
    delta = next((one for one in deltas if one.run is run), None)
    again = {"arm_acc": run.accuracy, "mean_d_acc": 0.0 if run.accuracy is not None else None}
    if not run.is_baseline:
        again = {
            **{"arm_acc": run.accuracy, "mean_d_acc": delta.difference if delta else None},
            **{"baseline_acc": delta.baseline.accuracy if delta else None},
            **{"mean_d_loss": delta.loss_difference if delta else None},
        }
    problems = [
        f"{name} published {told}, in the records {value}"
        for name, value in again.items()
        if not _agree(told := _number(row, name), value, name=name)
    ]
    return Published(
        row=row,
        line=line,
        again=again["mean_d_acc"],
        problem="; ".join(problems) or None,
        delta=delta,
    )


def _agree(told: float | None, value: float | None, *, name: str) -> bool:
    """Compare numbers with all their digits; a run that failed has a baseline and no score."""
    if value is None and name == "baseline_acc":
        return True
    if told is None or value is None:
        return told is value
    return abs(told - value) <= 1e-12


def _number(row: Mapping[str, str], name: str) -> float | None:
    text = row.get(name) or ""
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _subject(row: Mapping[str, str]) -> str:
    names = ("study", "task", "stage", "preset", "length_tokens")
    return " ".join(row.get(name) or "" for name in names).replace("  ", " ").strip()
