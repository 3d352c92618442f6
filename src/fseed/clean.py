"""Remove what no run needs any more: ``python -m fseed.clean [PATHS] [--dry-run] [--yes]``.

Checkpoints and worker logs of finished runs, leftovers of killed processes, caches; with --failed
also checkpoints of failed runs. Never results, metrics, predictions, configurations, kept weights,
nor anything of a running process. Exit codes: 0 done or nothing to do, 2 bad input, or something
could not be removed.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fseed.errors import UserError
from fseed.records import default_output_root
from fseed.sweep.needs import format_bytes
from fseed.sweep.retention import Findings, Item, find_items, remove_items


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; UserErrors become one line on stderr and exit code 2."""
    options = build_parser().parse_args(argv)
    try:
        return run_command(options)
    except UserError as error:
        print(f"fseed.clean: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # the reader of a pipe has gone; the interpreter must not try to flush into it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``python -m fseed.clean``."""
    parser = argparse.ArgumentParser(
        prog="python -m fseed.clean",
        description="List and remove what no run needs any more; no number is lost.",
    )
    text = "folders of results (default: the outputs)"
    parser.add_argument("paths", metavar="PATH", nargs="*", help=text)
    parser.add_argument("--dry-run", action="store_true", help="list it, remove nothing")
    parser.add_argument("--yes", action="store_true", help="remove it without asking")
    text = "also checkpoints of failed runs, which then begin anew"
    parser.add_argument("--failed", action="store_true", help=text)
    return parser


def run_command(options: argparse.Namespace) -> int:
    """List, ask and remove as the options say; return the exit code."""
    if options.dry_run and options.yes:
        raise UserError("--dry-run and --yes contradict each other: give one of them")
    found = find_items(_folders(options.paths), with_failed=options.failed)
    print_findings(found)
    if options.dry_run or not found.items:
        return 0
    if not options.yes and not _is_confirmed(found.items):
        print("nothing was removed")
        return 0
    removed = remove_items(found.items, with_failed=options.failed)
    for note in removed.notes:
        print(note, file=sys.stderr)
    print(f"removed {_total(removed.items)}")
    return 2 if any(note.startswith("cannot") for note in removed.notes) else 0


def print_findings(found: Findings) -> None:
    """Print a line a file with its size and reason, the totals, and what is left alone."""
    width = max((len(item.reason) for item in found.items), default=0)
    for item in found.items:
        print(f"{format_bytes(item.num_bytes):>10}  {item.reason:<{width}}  {item.path}")
    for note in found.notes:
        print(note, file=sys.stderr)
    print(f"may go: {_total(found.items)}" if found.items else "nothing to remove")


def _folders(paths: Sequence[str]) -> list[Path]:
    folders = [Path(path) for path in paths] or [default_output_root()]
    for folder in folders:
        if not folder.is_dir():
            state = "is not a folder" if folder.exists() else "does not exist"
            raise UserError(f"{folder} {state}; give folders that hold runs")
    return folders


def _is_confirmed(items: Sequence[Item]) -> bool:
    if not sys.stdin.isatty():
        raise UserError("nobody to ask: --yes removes it, --dry-run lists it only")
    return input(f"remove {_total(items)}? [y/N] ").strip().lower() in ("y", "yes")


def _total(items: Sequence[Item]) -> str:
    files = "1 file" if len(items) == 1 else f"{len(items)} files"
    return f"{files}, {format_bytes(sum(item.num_bytes for item in items))}"


if __name__ == "__main__":
    sys.exit(main())
