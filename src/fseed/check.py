"""Do the published numbers follow from their records, and does the model follow the official one?

``python -m fseed.check [--strict] [--root FOLDER]`` checks README.md and paper/ against the records
  and the date of every decision rule against the git history
``check archive SWEEP ... --experiment ID`` keeps the records of finished sweeps below paper/records
``check render`` writes references, paper/tables and paper/failures.md from the records
``check raw`` lists paper/kernels and paper/simulations with their hashes, after new output
``check parity`` compares the model with the rwkv package, before any experiment

Exit codes: 0 passed; 1 something does not match, with --strict also a result that cannot be traced;
2 bad input.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fseed.errors import UserError
from fseed.plain_text import plain_text

if TYPE_CHECKING:
    from fseed.claims.checking import Report
    from fseed.claims.findings import Finding
    from fseed.models.parity import ParityRow

DATA_ROOT_VARIABLE = "FSEED_DATA"
PUBLIC_WEIGHTS_FILE = "weights/tiny-rwkv-7v0-834K.safetensors"
PUBLIC_LOGITS_FILE = "weights/expected-logits-7v0-834K.bin"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one check and return its exit code."""
    arguments = _build_parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fseed.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--strict", action="store_true", help="fail also on results that no reference traces"
    )
    _add_root(parser, default=None)
    parser.set_defaults(run=run_claims)
    commands = parser.add_subparsers(metavar="COMMAND")
    archive = commands.add_parser("archive", help="keep the records of finished sweeps")
    archive.add_argument("sweeps", nargs="+", metavar="SWEEP", help="folder of a finished sweep")
    archive.add_argument("--experiment", required=True, metavar="ID", help="name in the manifest")
    _add_root(archive)
    archive.set_defaults(run=run_archive)
    render = commands.add_parser("render", help="write numbers and tables from the records")
    _add_root(render)
    render.set_defaults(run=run_render)
    raw = commands.add_parser("raw", help="list the raw files below paper/ with their hashes anew")
    _add_root(raw)
    raw.set_defaults(run=run_raw)
    _add_parity(commands)
    return parser


def _add_parity(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parity = commands.add_parser(
        "parity",
        help="compare logits and states with the rwkv package and published logits",
        description="Compare logits and all three states, prompt mode and step mode, with the "
        "rwkv package (float32, CPU) on random checkpoints and on the given one.",
    )
    parity.add_argument(
        "--weights", metavar="PATH", help=".pth, safetensors or Hugging Face folder to compare on"
    )
    parity.add_argument(
        "--expected",
        metavar="FILE",
        help="published logits of --weights after the bytes '\"in': raw float32",
    )
    parity.add_argument(
        "--data-root",
        metavar="FOLDER",
        help=f"folder that holds {PUBLIC_WEIGHTS_FILE} (default: ${DATA_ROOT_VARIABLE})",
    )
    parity.set_defaults(run=run_parity)


def _add_root(parser: argparse.ArgumentParser, *, default: str | None = argparse.SUPPRESS) -> None:
    # a subcommand leaves alone what stood before it
    parser.add_argument(
        "--root", default=default, metavar="FOLDER", help="checkout that holds README.md and paper/"
    )


def run_claims(arguments: argparse.Namespace) -> int:
    """Check every published number, print what was found and return 0, or 1."""
    from fseed.claims.checking import check_claims
    from fseed.claims.findings import failed

    report = check_claims(find_root(arguments.root))
    print_report(report, strict=arguments.strict)
    return 1 if failed(report.findings, strict=arguments.strict) else 0


def run_archive(arguments: argparse.Namespace) -> int:
    """Archive sweeps as an experiment and return 0."""
    from fseed.claims.archive import archive_sweeps
    from fseed.claims.manifest import read_manifest

    root = find_root(arguments.root)
    sweeps = [Path(sweep) for sweep in arguments.sweeps]
    absent = [str(sweep) for sweep in sweeps if not sweep.is_dir()]
    if absent:
        raise UserError(f"no such folder: {', '.join(absent)}; give folders of sweeps")
    name = arguments.experiment
    folder, seal = archive_sweeps(root, read_manifest(root), name=name, sweeps=sweeps)
    print(f"{len(seal.runs)} runs, {len(seal.files)} files archived at {folder}")
    print("now: python -m fseed.check render")
    return 0


def run_render(arguments: argparse.Namespace) -> int:
    """Write what the records say; return 1 if a reference names nothing."""
    from fseed.claims.checking import render_claims

    changed, unknown = render_claims(find_root(arguments.root))
    for path in changed:
        print(f"written: {path}")
    for line in unknown:
        print(f"not rendered: {line}")
    print(f"{len(changed)} files changed, {len(unknown)} references name nothing")
    return 1 if unknown else 0


def run_raw(arguments: argparse.Namespace) -> int:
    """Write the list of raw files and return 0."""
    from fseed.claims.raw import RAW_LIST, list_raw, write_raw_list

    root = find_root(arguments.root)
    if not (root / "paper").is_dir():
        raise UserError(f"{root} holds no folder paper; give a checkout with --root")
    changed = write_raw_list(root)
    for name in changed:
        print(f"listed anew: paper/{name}")
    print(f"{len(list_raw(root))} files in {RAW_LIST}, {len(changed)} of them changed")
    return 0


def find_root(named: str | None) -> Path:
    """Return the folder given, else the checkout this package lies in, else the current one."""
    if named is not None:
        root = Path(named).expanduser()
        if not root.is_dir():
            raise UserError(f"--root {named}: no such folder")
        return root.resolve()
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "paper").is_dir() else Path.cwd()


def print_report(report: "Report", *, strict: bool) -> None:
    """Print a line per finding, those that fail last, and a summary."""
    from fseed.claims.findings import LEVELS, failed

    for level in reversed(LEVELS):
        for finding in report.findings:
            if finding.level == level:
                print(plain_text(str(finding)))
    counts = (f"{_count(report.findings, level)} {level}" for level in LEVELS)
    print(
        f"check: {report.num_experiments} experiments, {report.num_runs} runs,"
        f" {report.num_references} references,"
        f" {report.num_excused} numbers marked not a result; {', '.join(counts)};"
        f" {'FAILED' if failed(report.findings, strict=strict) else 'passed'}"
        f"{' (strict)' if strict else ''}"
    )


def _count(findings: Sequence["Finding"], level: str) -> int:
    return sum(finding.level == level for finding in findings)


def run_parity(arguments: argparse.Namespace) -> int:
    """Compare, print the table and return 0, or 1 if an error exceeds the tolerance."""
    weights, expected = arguments.weights, arguments.expected
    if expected is not None and weights is None:
        raise UserError("--expected belongs to a checkpoint: give --weights too")
    if weights is not None:
        # before torch is imported: a bad path answers at once
        from fseed.models.checkpoint_header import read_shape

        read_shape(weights)
    public, skipped = _find_public(arguments.data_root)

    from fseed.models import parity

    rows = parity.compare_random()
    if public is not None:
        rows += parity.compare_checkpoint(public[0])
        rows += parity.compare_published(*public)
    if weights is not None:
        rows += parity.compare_checkpoint(weights)
        rows += [] if expected is None else parity.compare_published(weights, expected)
    print_parity(rows, skipped=skipped, tolerance=parity.TOLERANCE)
    return 0 if all(row.passed for row in rows) else 1


def _find_public(data_root: str | None) -> tuple[tuple[Path, Path] | None, str | None]:
    """Return the public checkpoint and its logits, or None and the reason to skip them."""
    named = data_root if data_root is not None else os.environ.get(DATA_ROOT_VARIABLE)
    if not named:
        return None, f"published logits: neither --data-root nor ${DATA_ROOT_VARIABLE} is set"
    root = Path(named).expanduser()
    files = root / PUBLIC_WEIGHTS_FILE, root / PUBLIC_LOGITS_FILE
    absent = [str(path) for path in files if not path.is_file()]
    if absent and data_root is not None:
        raise UserError(f"--data-root {data_root} does not hold {', '.join(absent)}")
    if absent:
        return None, f"published logits: ${DATA_ROOT_VARIABLE} does not hold {', '.join(absent)}"
    return files, None


def print_parity(rows: Sequence["ParityRow"], *, skipped: str | None, tolerance: float) -> None:
    """Print one line per checkpoint and mode with the relative error of each tensor."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from fseed.models.trace import TRACE_PARTS

    table = Table(box=SIMPLE_HEAD, title="Relative errors", title_justify="left")
    table.add_column("checkpoint", overflow="fold")
    for name in ("compared with", "mode"):
        table.add_column(name, no_wrap=True)
    for name in (*TRACE_PARTS, ""):
        table.add_column(name, no_wrap=True, justify="right")
    for row in rows:
        errors = (f"{row.errors[name]:.1e}" if name in row.errors else "-" for name in TRACE_PARTS)
        verdict = "FAIL" if not row.passed else "ok*" if row.beyond_tolerance else "ok"
        table.add_row(row.checkpoint, row.oracle, row.mode, *errors, verdict)
    # a table folded to the 80 columns that a pipe pretends to have is hard to read
    console = Console(width=None if sys.stdout.isatty() else 110)
    console.print(table)
    for row in rows:
        for name in row.beyond_tolerance if row.passed else ():
            print(
                f"* {row.checkpoint}, {row.mode}: {name} {row.errors[name]:.1e}, where"
                f" {row.oracle} is {row.noise[name]:.1e} from itself (prompt against step)"
            )
    failed = sum(not row.passed for row in rows)
    noisy = sum(row.passed and bool(row.beyond_tolerance) for row in rows)
    print(
        f"parity: {len(rows) - failed} of {len(rows)} comparisons passed, {noisy} of them only"
        f" within the oracle's own noise; tolerance {tolerance:.0e}"
    )
    if skipped is not None:
        print(f"skipped: {skipped}")


if __name__ == "__main__":
    sys.exit(main())
