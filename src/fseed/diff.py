"""What differs between runs: two of them, many, or the arms of whole sweeps.

``python -m fseed.diff A B [C ...]`` or ``--sweep DIR [DIR]``; A, B are run directories, config.yaml
files or first digits of run ids. Keys that cannot change a number (``volatile``) never count.

Exit codes: 0 no difference, 1 some; with ``--expect`` 0 nothing but what is expected differs, 1
something else does, and it is named on stderr; 2 bad input.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fseed.errors import UserError, did_you_mean
from fseed.records import default_output_root
from fseed.results.differences.document import (
    Section,
    render_html,
    render_markdown,
    render_text,
)
from fseed.results.differences.groups import GROUPS, setting_keys
from fseed.results.differences.report import (
    SCHEMA_VERSION,
    Comparison,
    compare_sources,
    compare_sweep,
    describe_rows,
    to_data,
    to_section,
)
from fseed.results.differences.runs import RECORD_PREFIX
from fseed.results.differences.sources import SweepRecords, find_source, read_sweep
from fseed.results.differences.sweeps import SweepChanges

FORMATS = ("terminal", "markdown", "html", "json")
PIPE_WIDTH = 120  # characters

_EXAMPLES = """\
examples:
  python -m fseed.diff 3f2a 91bc                    two runs, by the first digits of their ids
  python -m fseed.diff RUN_DIR OTHER_RUN_DIR        two runs, by folder
  python -m fseed.diff old/config.yaml new/config.yaml
  python -m fseed.diff A B C D                      many: a column each, equal keys folded
  python -m fseed.diff A B --expect fs              an arm and its baseline: only Future-Seed?
  python -m fseed.diff A B --expect fs,seed,budget.steps
  python -m fseed.diff --sweep outputs/round21      its arms, side by side, seeds folded
  python -m fseed.diff --sweep outputs/round21 --expect fs      is every arm fairly matched?
  python -m fseed.diff --sweep outputs/old outputs/new          what the new sweep changes
  python -m fseed.diff A B --format markdown        stable text for a review

groups: {groups}
  volatile holds what cannot change a number (folders, logging, threads, times); it is hidden
  without --all and never counts as a difference.

before a sweep runs: python -m fseed.run ... sweep.dry_run=true sweep.diff_against=DIR -m

exit codes: 0 no difference, 1 some; with --expect: 0 as expected, 1 something else differs;
  2 bad input. Records of a sweep that cannot be read count as a difference."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; UserErrors become one line on stderr and exit code 2."""
    options = build_parser().parse_args(argv)
    try:
        expected = parse_expected(options.expect)
        return _compare(options, expected)
    except UserError as error:
        print(f"fseed.diff: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader of a pipe has gone; the interpreter must not try to flush into it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m fseed.diff``."""
    parser = argparse.ArgumentParser(
        prog="python -m fseed.diff",
        description="Show in which settings and circumstances runs differ, by group.",
        epilog=_EXAMPLES.format(groups=", ".join(GROUPS)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "run directory, config.yaml, or first digits of a run id below the default outputs"
    parser.add_argument("runs", metavar="RUN", nargs="*", help=text)
    text = "a sweep: its arms side by side; two sweeps: what the second changes"
    parser.add_argument("--sweep", metavar="DIR", nargs="+", default=[], help=text)
    text = "groups and keys that may differ, comma separated: exit 1 when anything else does"
    parser.add_argument("--expect", metavar="NAMES", help=text)
    parser.add_argument("--all", action="store_true", help="show volatile keys as well")
    text = f"{', '.join(FORMATS)} (default: terminal)"
    parser.add_argument("--format", default="terminal", metavar="FORM", help=text)
    return parser


def parse_expected(text: str | None) -> list[str] | None:
    """Return the groups and dotted keys of ``--expect``; UserError for what is neither."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    keys = setting_keys()
    for name in names:
        is_free = name.startswith(("task.options.", RECORD_PREFIX))
        if name not in GROUPS and name not in keys and not is_free:
            near = did_you_mean(name, [*GROUPS, *keys])
            raise UserError(f"--expect {name!r}: not one of {', '.join(GROUPS)}, nor a key{near}")
    return names


def _compare(options: argparse.Namespace, expected: list[str] | None) -> int:
    if options.format not in FORMATS:
        near = did_you_mean(options.format, FORMATS)
        raise UserError(f"--format {options.format!r}: not one of {', '.join(FORMATS)}{near}")
    if options.sweep and options.runs:
        raise UserError("give runs or --sweep, not both")
    if len(options.sweep) == 2:
        return _compare_sweeps(options, expected)
    if len(options.sweep) > 2:
        raise UserError(f"--sweep takes one or two folders, {len(options.sweep)} were given")
    if options.sweep:
        sweep = read_sweep(Path(options.sweep[0]))
        return _report(compare_sweep(sweep.sources), options, expected=expected, sweep=sweep)
    if len(options.runs) < 2:
        raise UserError("give two runs or more, or --sweep DIR (see --help)")
    root = default_output_root()
    sources = [find_source(name, root=root) for name in options.runs]
    return _report([compare_sources(sources)], options, expected=expected)


def _report(
    comparisons: Sequence[Comparison],
    options: argparse.Namespace,
    *,
    expected: list[str] | None,
    sweep: SweepRecords | None = None,
) -> int:
    """Print the comparisons and return the exit code."""
    problems = list(sweep.problems) if sweep is not None else []
    notes = sweep.notes() if sweep is not None else []
    how = {"expected": expected, "shows_volatile": options.all}
    if options.format == "json":
        content = {
            "schema_version": SCHEMA_VERSION,
            "comparisons": [to_data(comparison, **how) for comparison in comparisons],
            **{"problems": problems, "notes": notes},
        }
        _print_json(content)
    else:
        sections = [to_section(comparison, **how) for comparison in comparisons]
        _print_sections([*sections, *_closing(problems, notes)], options.format)
    rows = [row for entry in comparisons for row in entry.matrix.unexpected_rows(expected or ())]
    if expected is not None and rows:
        print(f"fseed.diff: not expected: {describe_rows(rows)}", file=sys.stderr)
    return 1 if rows or problems else 0


def _compare_sweeps(options: argparse.Namespace, expected: list[str] | None) -> int:
    """Print what the second sweep changes against the first and return the exit code."""
    old, new = (read_sweep(Path(name)) for name in options.sweep)
    changes = SweepChanges(old.sources, new.sources)
    problems = [f"{sweep.name}: {line}" for sweep in (old, new) for line in sweep.problems]
    notes = [f"{sweep.name}: {line}" for sweep in (old, new) for line in sweep.notes()]
    if options.format == "json":
        data = changes.as_data() | {"problems": problems, "notes": notes}
        _print_json({"schema_version": SCHEMA_VERSION, **data})
    else:
        sections = changes.as_sections(names=(old.name, new.name))
        _print_sections([*sections, *_closing(problems, notes)], options.format)
    names = changes.unexpected(expected or ())
    if expected is not None and names:
        print(f"fseed.diff: not expected: {', '.join(names)}", file=sys.stderr)
    return 1 if names or problems else 0


def _closing(problems: Sequence[str], notes: Sequence[str]) -> list[Section]:
    named = [Section(f"not compared ({len(problems)})", problems)] if problems else []
    return [*named, Section("", notes)]


def _print_sections(sections: Sequence[Section], form: str) -> None:
    if form == "html":
        print(render_html(sections, title="What differs between runs"), end="")
    elif form == "markdown":
        print(render_markdown(sections), end="")
    else:
        print(render_text(sections, width=_width()), end="")


def _width() -> int:
    """Return the characters of a line: the terminal's, and on a pipe COLUMNS or 120."""
    return shutil.get_terminal_size((PIPE_WIDTH, 0)).columns


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, indent=2, sort_keys=True, default=str))


if __name__ == "__main__":
    sys.exit(main())
