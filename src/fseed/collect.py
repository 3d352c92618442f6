"""Read finished runs, compare every arm with its baseline, print and write the tables.

``python -m fseed.collect [PATHS] [--runs] [--out DIR] [--format markdown,csv,parquet]``

Exit codes: 0 a table was made from readable records; 1 some records are unreadable, or there are
no runs; 2 bad input. Runs that failed are listed and leave the exit code alone.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fseed.errors import UserError, did_you_mean
from fseed.records import TABLES_DIR, default_output_root, is_run_dir
from fseed.results.collection import collect_runs
from fseed.results.export import FORMATS, write_files
from fseed.results.tables import build_console, print_collection


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; UserErrors become one line on stderr and exit code 2."""
    options = build_parser().parse_args(argv)
    try:
        return collect_and_print(
            _existing(options.paths) or [_existing_root()],
            out=Path(options.out) if options.out is not None else None,
            formats=_parse_formats(options.format),
            show_runs=options.runs,
        )
    except UserError as error:
        print(f"fseed.collect: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader of a pipe has gone; the interpreter must not try to flush into it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def collect_and_print(
    paths: Sequence[Path],
    *,
    out: Path | None = None,
    formats: Sequence[str] = FORMATS,
    show_runs: bool = False,
) -> int:
    """Print the tables of all runs below ``paths`` and write them to ``out``.

    ``paths`` may be run directories, also of runs that were not started. ``out`` defaults to
    tables/ in the folder that holds all paths. Returns the exit code. UserError for another path
    that is no folder, or an ``out`` that cannot be written.
    """
    collection = collect_runs(paths)
    console = build_console()
    written: list[Path] = []
    try:
        # before printing, which ends early in a pipe that is closed
        if collection.runs:
            folder = out if out is not None else default_tables_dir(paths)
            written = write_files(collection, folder, formats=formats)
    finally:
        print_collection(collection, console, show_runs=show_runs)
    if written:
        names = ", ".join(path.name for path in written)
        console.print(f"\nwritten to {written[0].parent}: {names}", soft_wrap=True)
    if not collection.runs:
        print(f"fseed.collect: no runs below {', '.join(map(str, paths))}", file=sys.stderr)
        return 1
    return 1 if "unreadable" in collection.counts else 0


def default_tables_dir(paths: Sequence[Path]) -> Path:
    """Return tables/ in the folder that holds all ``paths``, outside every run directory."""
    folders = [path.parent if is_run_dir(path) else path for path in map(Path.absolute, paths)]
    return Path(os.path.commonpath(folders)) / TABLES_DIR


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m fseed.collect``."""
    parser = argparse.ArgumentParser(
        prog="python -m fseed.collect",
        description="Compare every arm with its matched no_fs baseline and write the tables.",
        epilog="Exit codes: 0 done, 1 unreadable records or no runs, 2 bad input.",
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
        help="files to write, comma separated: markdown, csv, parquet, or none (default: all)",
    )
    return parser


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
    sys.exit(main())
