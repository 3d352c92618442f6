"""``python -m tests.security.table [--slow]``: every malicious input and how it ended."""

import sys
import tempfile
from pathlib import Path

from fseed.plain_text import plain_text
from tests.security.attack import Verdict, execute
from tests.security.catalogue import ATTACKS

WIDTH = 100


def main() -> int:
    """Print a line per attack and the counts; the exit code is 1 when anything was executed."""
    verdicts: list[Verdict] = []
    for attack in ATTACKS:
        if attack.is_slow and "--slow" not in sys.argv:
            continue
        with tempfile.TemporaryDirectory() as folder:
            verdicts.append(execute(attack, Path(folder).resolve()))
        print(_row(verdicts[-1]), flush=True)
    executed = sum(verdict.executed for verdict in verdicts)
    unclear = sum(not verdict.is_safe for verdict in verdicts) - executed
    print(f"\n{executed} of {len(verdicts)} malicious inputs executed, {unclear} told unclearly")
    return int(executed + unclear > 0)


def _row(verdict: Verdict) -> str:
    attack = verdict.attack
    state = "EXECUTED" if verdict.executed else "refused" if attack.says else "harmless"
    state = state if verdict.is_safe or verdict.executed else "UNCLEAR"
    line = plain_text(verdict.line)
    shown = line if len(line) <= WIDTH else f"{line[:WIDTH]}..."
    return f"{attack.way:13}  {attack.name:38}  {state:8}  {shown}"


if __name__ == "__main__":
    sys.exit(main())
