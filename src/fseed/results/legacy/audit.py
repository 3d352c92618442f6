"""Read a folder of results of the earlier work and say what is wrong with them.

The files tell their form themselves: ``.jsonl`` holds a record a line, ``.json`` the manifest,
``.txt`` a summary with a ``filter`` line, a list of runs, or the summary of a search round.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fseed.errors import UserError
from fseed.record_schema import one_line
from fseed.results.legacy.agreement import find_disagreements
from fseed.results.legacy.budgets import find_protocol_flaws
from fseed.results.legacy.model import Claim, Contents, Entry, Flaw, LegacyRun, Study
from fseed.results.legacy.published import Published, check_published, published_flaws
from fseed.results.legacy.records import read_manifest, read_records
from fseed.results.legacy.rounds import read_round
from fseed.results.legacy.studies import read_run_list, read_study, study_name
from fseed.results.legacy.ties import find_ties

MAX_BYTES = 16 * 2**20
_READ = (".jsonl", ".json", ".txt")

# every kind of flaw, in the order of the report, with its consequence
FLAW_KINDS = {
    "unequal_budgets": "arms with a larger budget than their baseline: the gain may be the budget",
    "medium_repeats_quick": "medium equals quick to the last digit: it confirms nothing",
    "medium_reuses_seed": "medium on the seed that selected the arm: no fresh evidence",
    "degenerate_constant": "scores that never change: constant answers, not a missing effect",
    "no_op": "the arm equals its baseline to the last digit: it did nothing",
    "equal_digits": "scores that agree to the last digit and should differ",
    "repeated_runs": "the same run under two names: counted as independent evidence",
    "best_of_many": "best of many evaluations on few examples: gains under the null, too",
    "wall_clock_budget": "stopped by the clock: both sides took an unknown number of steps",
    "single_seed": "one seed: no interval can be stated",
    "missing_numbers": "numbers that are missing",
    "probe_without_failure": "a probe recorded as fine before its run failed",
    "left_out": "results that the manifest leaves out",
    "disagreement": "numbers that contradict each other",
    "not_reproduced": "published figures that the files do not give",
}


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a folder of the earlier work holds, every flaw, and what could not be read.

    ``problems`` name a path each; ``published`` is empty without a table of published figures.
    """

    path: Path
    num_files: int
    runs: list[LegacyRun]
    studies: list[Study]
    claims: list[Claim]
    entries: list[Entry]
    flaws: list[Flaw]
    foreign: list[Path]
    problems: list[str]
    published: list[Published] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of flaws per kind, in the order of ``FLAW_KINDS``."""
        found = Counter(flaw.code for flaw in self.flaws)
        return {code: found[code] for code in FLAW_KINDS if found[code]}

    @property
    def is_clean(self) -> bool:
        """Tell whether everything was read and every published figure is reproduced."""
        return not self.problems and all(row.problem is None for row in self.published)


def audit_folder(path: Path, *, reference: Path | None = None) -> Audit:
    """Read every file below ``path``, and a table of published figures, and list the flaws.

    UserError when ``path`` is no folder or ``reference`` is no such table. A file that cannot be
    read is named in ``problems``; one of no known form in ``foreign``.
    """
    if not path.is_dir():
        state = "is not a folder" if path.exists() else "does not exist"
        raise UserError(f"--legacy {path} {state}; give the folder of the earlier results")
    contents = _read_all(path)
    flaws = [
        *find_protocol_flaws(contents.runs, contents.studies),
        *find_ties(contents.runs, contents.studies),
        *find_disagreements(contents),
    ]
    published = check_published(reference, contents) if reference is not None else []
    if reference is not None:
        flaws += published_flaws(reference, published)
    order = list(FLAW_KINDS)
    return Audit(
        path=path,
        num_files=len(contents.files),
        runs=contents.runs,
        studies=contents.studies,
        claims=contents.claims,
        entries=contents.entries,
        flaws=sorted(flaws, key=lambda flaw: order.index(flaw.code)),
        foreign=contents.foreign,
        problems=contents.problems,
        published=published,
    )


def _read_all(folder: Path) -> Contents:
    contents = Contents()
    for path in _files_below(folder, contents):
        contents.files.append(path)
        if path.suffix not in _READ:
            contents.foreign.append(path)
            continue
        try:
            text = _read_text(path)
        except (OSError, ValueError) as error:
            contents.problems.append(f"{path}: {one_line(error)}")
            continue
        _read_file(path, text, contents)
    return contents


def _files_below(folder: Path, contents: Contents) -> Iterator[Path]:
    """Yield the files in order; folders behind links are not entered, so no loop is."""

    def note(error: OSError) -> None:
        contents.problems.append(f"{error.filename}: {one_line(error)}")

    for parent, names, files in os.walk(folder, onerror=note):
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _read_text(path: Path) -> str:
    """Return the text of a file; ValueError when it is no regular file, too large or no UTF-8."""
    if not path.is_file():
        raise ValueError("not a regular file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{size:,} bytes; files of results have at most {MAX_BYTES:,}")
    return path.read_bytes().decode()


def _read_file(path: Path, text: str, contents: Contents) -> None:
    """Read one file by its form."""
    if not text.strip():
        contents.tell_missing(str(path), study_name(path), "the file is empty")
    elif path.suffix == ".jsonl":
        read_records(path, text, contents)
    elif path.suffix == ".json":
        read_manifest(path, text, contents)
    elif text.startswith("filter: "):
        read_study(path, text, contents)
    elif "Total runs parsed:" in text or "best_loss=" in text:
        read_run_list(path, text, contents)
    else:
        read_round(path, text, contents)
