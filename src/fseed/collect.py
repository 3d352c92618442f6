"""Read finished runs, compare every arm with its baseline, print and write the tables.

``python -m fseed.collect [PATHS] [--runs] [--margin PP] [--out DIR] [--format NAMES]``
``python -m fseed.collect --legacy DIR [--reference FILE] [PATHS]``: audit earlier results

Exit codes: 0 a table was made from readable records; 1 some records are unreadable, there are no
runs, or published figures are not what the legacy files give; 2 bad input. Runs that failed are
listed and leave the exit code alone.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fseed.confinement import check_inside
from fseed.errors import UserError, did_you_mean
from fseed.records import TABLES_DIR, Scan, default_output_root, is_run_dir, scan
from fseed.results.beside import beside, leave_at_once
from fseed.results.defaults import DEFAULT_MARGIN, FORMATS
from fseed.results.index import default_cache_path, without_garbage_collector
from fseed.results.last_time import LAST_TIME_NAME, LastTime, state_of
from fseed.results.signatures import sign_folders
from fseed.results.terminal import build_console, copied_output, describe_console, tell_written

if TYPE_CHECKING:
    from rich.console import Console

    from fseed.results.collection import Collection
    from fseed.results.legacy.audit import Audit


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; UserErrors become one line on stderr and exit code 2."""
    options = build_parser().parse_args(argv)
    try:
        with without_garbage_collector():
            return run_command(options)
    except UserError as error:
        print(f"fseed.collect: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader of a pipe has gone; the interpreter must not try to flush into it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def run_command(options: argparse.Namespace) -> int:
    """Collect, audit, or both, as the options say, and return the exit code."""
    out = Path(options.out) if options.out is not None else None
    margin, formats = _parse_margin(options.margin), _parse_formats(options.format)
    paths = _existing(options.paths)
    if options.legacy is None and options.reference is not None:
        raise UserError("--reference belongs to --legacy DIR: give the folder to check it against")
    audit = _read_audit(options.legacy, options.reference) if options.legacy is not None else None
    if audit is not None and not paths:
        return print_audit(audit, folder=out, formats=formats)
    paths = paths or [_existing_root()]
    return collect_and_print(
        paths,
        out=out,
        formats=formats,
        show_runs=options.runs,
        margin=margin,
        audit=audit,
        cache=None if options.no_cache else default_cache_path(paths),
    )


def collect_and_print(
    paths: Sequence[Path],
    *,
    out: Path | None = None,
    formats: Sequence[str] = FORMATS,
    show_runs: bool = False,
    margin: float = DEFAULT_MARGIN,
    audit: "Audit | None" = None,
    cache: Path | None = None,
) -> int:
    """Print the tables of all runs below ``paths`` and write them to ``out``.

    ``paths`` may be run directories, also of runs that were not started. ``out`` defaults to
    tables/ in the folder that holds all paths. ``margin``: the difference that counts as none, a
    fraction; ``audit``: earlier results to set beside these; ``cache``: file that keeps loaded
    runs for the next time. Returns the exit code. UserError for another path that is no folder, or
    an ``out`` that cannot be written.
    """
    found, console = scan(paths), build_console()
    folder = out if out is not None else default_tables_dir(paths)
    if folder.name == TABLES_DIR:
        check_inside(folder, folder.parent, name="--out")
    signatures, last = None, None
    if cache is not None and audit is None:
        signatures, last = _look_up(found, cache, margin=margin)
    look = f"{describe_console(console)}, runs {show_runs}"
    if last is not None and last.tell(look, folder, console, formats=formats):
        return 0
    # here, not above: while nothing has changed, no table is made
    from fseed.results.collection import collect_found

    collection = collect_found(found, margin=margin, cache=cache, signatures=signatures)
    with copied_output() as printed:
        written = _print_and_write(
            collection, console, folder, show_runs=show_runs, formats=formats, audit=audit
        )
    tell_written(list(written), console)
    code = 0
    if audit is not None:
        code = print_audit(audit, folder=folder, formats=formats, ours=collection)
    code = max(code, _exit_code(collection, paths))
    if last is not None and code == 0:
        last.keep(look, "".join(printed), folder, formats=formats, written=written)
    return code


def _look_up(found: Scan, cache: Path, *, margin: float) -> tuple[dict[str, str], LastTime | None]:
    """Return the signatures of all run folders, and what the last time told of this state."""
    signed_at, names = time.time(), list(map(str, found.run_dirs))
    sign = partial(sign_folders, names)
    signatures = beside(sign, num_runs=len(names))
    if signatures is not sign:
        # meanwhile: a quarter of a second of imports, which changed runs need
        import_module("fseed.results.export")
    told = signatures()
    state = state_of(found, told, signed_at=signed_at, margin=margin)
    path = cache.with_name(LAST_TIME_NAME)
    return told, LastTime(path, state=state) if state is not None else None


def _print_and_write(
    collection: "Collection",
    console: "Console",
    folder: Path,
    *,
    show_runs: bool,
    formats: Sequence[str],
    audit: "Audit | None",
) -> dict[Path, str | None]:
    from fseed.results.export import start_writing
    from fseed.results.tables import print_collection

    # before the process is copied, so that no copy computes them again
    _ = collection.headings
    chosen = formats if collection.runs else ()
    finish_writing = start_writing(collection, folder, formats=chosen, audit=audit)
    try:
        print_collection(collection, console, show_runs=show_runs)
    finally:
        # also when printing ends early, in a pipe that is closed
        written = finish_writing()
    return written


def _exit_code(collection: "Collection", paths: Sequence[Path]) -> int:
    if not collection.runs:
        print(f"fseed.collect: no runs below {', '.join(map(str, paths))}", file=sys.stderr)
        return 1
    is_unreadable = any(sweep.problems for sweep in collection.sweeps)
    return 1 if is_unreadable or "unreadable" in collection.counts else 0


def print_audit(
    audit: "Audit",
    *,
    folder: Path | None,
    formats: Sequence[str] = FORMATS,
    ours: "Collection | None" = None,
) -> int:
    """Print the audit of earlier results, write it below ``folder`` if any; return the exit code.

    UserError when ``folder`` cannot be written.
    """
    from fseed.results.audit_files import write_audit
    from fseed.results.legacy.render import render_audit_lines

    console = build_console()
    if ours is not None:
        console.print()
    for line in render_audit_lines(audit, ours=ours):
        console.print(line, soft_wrap=True)
    if folder is not None:
        written = write_audit(audit, folder, formats=formats, ours=ours)
        names = ", ".join(path.name for path in written)
        console.print(f"\nwritten to {folder}: {names or 'nothing'}", soft_wrap=True)
    return 0 if audit.is_clean else 1


def _read_audit(legacy: str, reference: str | None) -> "Audit":
    from fseed.results.legacy.audit import audit_folder

    table = Path(reference) if reference is not None else None
    return audit_folder(Path(legacy), reference=table)


def default_tables_dir(paths: Sequence[Path]) -> Path:
    """Return tables/ in the folder that holds all ``paths``, outside every run directory."""
    folders = [path.parent if is_run_dir(path) else path for path in map(Path.absolute, paths)]
    return Path(os.path.commonpath(folders)) / TABLES_DIR


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m fseed.collect``."""
    parser = argparse.ArgumentParser(
        prog="python -m fseed.collect",
        description="Compare every arm with its matched no_fs baseline and write the tables.",
        epilog="Exit codes: 0 done, 1 unreadable records, no runs or published figures that the "
        "legacy files do not give, 2 bad input.",
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        help="folders that hold runs (default: $FSEED_OUTPUTS, else outputs/)",
    )
    parser.add_argument("--runs", action="store_true", help="print a row per run as well")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the tables (default: tables/ in the folder of all PATHs)",
    )
    parser.add_argument(
        "--format",
        default=",".join(FORMATS),
        help=f"files to write, comma separated: {', '.join(FORMATS)}, or none (default: all)",
    )
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="read every file again and keep nothing for the next time",
    )
    parser.add_argument(
        "--margin",
        metavar="PP",
        default=f"{100 * DEFAULT_MARGIN:g}",
        help="largest difference in percentage points that counts as none, for the verdict "
        "equivalent (default: %(default)s)",
    )
    _add_audit_options(parser)
    return parser


def _add_audit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--legacy",
        metavar="DIR",
        help="audit the results of the earlier work in this folder; alone, without PATH, or "
        "beside the runs below PATH",
    )
    parser.add_argument(
        "--reference",
        metavar="FILE",
        help="table of published figures that the legacy files must give",
    )


def _existing(paths: Sequence[str]) -> list[Path]:
    missing = [path for path in paths if not Path(path).is_dir()]
    if missing:
        raise UserError(f"no such folder: {', '.join(missing)}; give folders that hold runs")
    return [Path(path) for path in paths]


def _existing_root() -> Path:
    root = default_output_root()
    if not root.is_dir():
        raise UserError(f"no results yet: {root} does not exist; give a folder or start a run")
    return root


def _parse_margin(text: str) -> float:
    """Return a margin given in percentage points as a fraction."""
    try:
        points = float(text)
    except ValueError:
        points = math.nan
    if not 0 < points < 100:
        raise UserError(f"--margin {text!r}: percentage points above 0 and below 100, such as 1.0")
    return points / 100


def _parse_formats(text: str) -> list[str]:
    if text == "none":
        return []
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            near = did_you_mean(name, FORMATS)
            raise UserError(f"--format {name!r}: not one of {', '.join(FORMATS)}, none{near}")
    return names


if __name__ == "__main__":
    leave_at_once(main())
