"""``python -m fseed.sandbox``: what isolates generated programs here, and whether it holds.

Exit status 0 when a level of isolation works and every check ends as expected, otherwise 1.
"""

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fseed.sandbox.command import ISOLATES, LEVELS
from fseed.sandbox.isolation import isolation_level, probe
from fseed.sandbox.self_check import CHECKS, run_check


def main() -> int:
    """Print both tables and return the exit status."""
    console = Console()
    level = isolation_level()
    console.print(_levels_table(level))
    if level == "none":
        console.print("Generated programs are refused here (mbpp.allow_unsandboxed=false).")
        return 1
    table = Table(title=f"checks at level {level}")
    for heading in ("check", "expected", "outcome", "seconds", "detail"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    all_held = True
    for check in CHECKS:
        verdict = run_check(check, level=level)
        held = verdict.outcome is check.expected
        all_held = all_held and held
        outcome = verdict.outcome.value if held else f"[bold red]{verdict.outcome.value}[/]"
        expected = check.expected.value
        table.add_row(
            check.name, expected, outcome, f"{verdict.seconds:.2f}", escape(verdict.detail[:60])
        )
    console.print(table)
    return 0 if all_held else 1


def _levels_table(chosen: str) -> Table:
    """Return what each level isolates and whether it works here."""
    table = Table(title="levels of isolation, best first")
    for heading in ("level", "keeps apart", "here"):
        table.add_column(heading)
    for level in LEVELS[:-1]:
        reason = probe(level)
        here = f"does not work: {escape(reason)}" if reason else "works"
        table.add_row(level, ", ".join(ISOLATES), f"{here}, used" if level == chosen else here)
    table.add_row("none", "nothing", "used" if chosen == "none" else "not needed")
    return table


if __name__ == "__main__":
    sys.exit(main())
