"""What a check found: one line each, with the file it is about."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fseed.record_schema import one_line

# error: a number or a record is wrong; strict: it cannot be traced; note: worth knowing
LEVELS = ("error", "strict", "note")
CODES = {
    "unreadable_archive": "the list of what was archived cannot be read",
    "missing_file": "a file of the archive is gone",
    "changed_file": "a file is not the one that was archived",
    "unlisted_file": "a file lies among the records that was not archived",
    "registration": "question, rule, arms or seeds are not those of the archive",
    "rule_after_run": "the rule is dated, or was committed, after the first run",
    "history": "the git history does not say when a rule was written, or another day",
    "missing_run": "a registered arm and seed has no record",
    "unregistered_run": "a run that the manifest does not list",
    "status": "a run does not read as it did when it was archived",
    "place": "a run lies in a folder that tells another run",
    "identity": "run_id, pair_key or arm_key does not follow from the configuration",
    "order": "predictions are not in the order in which they were written",
    "score": "a score does not follow from the predictions",
    "metrics": "metrics.jsonl and result.json tell different numbers",
    "budget": "a run or a pair did not spend what its configuration says",
    "pair": "an arm has no baseline that differs in nothing but Future-Seed",
    "decision": "a decision of a staged sweep does not follow from its runs",
    "outcome": "a difference, an interval or a verdict is not the archived one",
    "reference": "a reference names nothing that the records hold",
    "number": "a document tells another number than the records",
    "unit": "the word after a number is not its unit",
    "stale": "a generated text is not what the records give now",
    "unmarked": "a result stands outside a reference",
    "unrecorded": "a measured number of which no raw output was kept",
    "link": "a link leads nowhere",
    "planned": "an experiment that is registered and has not run",
    "unreferenced": "a result that no document quotes",
    "alarm": "what the collected table warns of",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``place`` is a path below the root, with a line where there is one.

    ``code`` is one of CODES, ``level`` one of LEVELS.
    """

    level: str
    code: str
    place: str
    text: str

    def __str__(self) -> str:
        """Return the line as it is printed."""
        return f"{self.level:6} {_printable(self.place)}: {_printable(self.text)} [{self.code}]"


def _printable(text: str) -> str:
    """Keep one line: names of files may hold line breaks and escape codes."""
    return "".join(char if char.isprintable() else " " for char in text)


def error(code: str, place: Path | str, text: str) -> Finding:
    """Return a finding that fails every check."""
    return Finding("error", code, str(place), text)


def guarded(findings: Iterable[Finding], *, code: str, place: Path | str) -> Iterator[Finding]:
    """Yield the findings of a check; a record of another form than it expects is one itself."""
    try:
        yield from findings
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
        text = f"has another form: {type(problem).__name__} {one_line(problem)}"
        yield error(code, place, text)


def failed(findings: Iterable[Finding], *, strict: bool) -> list[Finding]:
    """Return the findings that make the exit code 1."""
    fatal = ("error", "strict") if strict else ("error",)
    return [finding for finding in findings if finding.level in fatal]
