"""``python -m fseed.run [-m] group=option key=value ...``: one run, or a sweep with its table.

Exit codes: 0 done, 1 a run failed, 2 bad input, 130 stopped by Ctrl-C. Nothing is written and
torch is not imported before the whole command line has been checked.
"""

import os
import sys
from collections.abc import Sequence

from fseed.confinement import leave_current_folder
from fseed.errors import UserError

STOPPED = "\nstopped; the same command continues where it stopped"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (``sys.argv`` by default) and return its exit code."""
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        # here, not above: a help text needs no rich
        from fseed.lasting_console import say

        say(STOPPED)
        return 130
    except BrokenPipeError:
        # the reader of a pipe has enough; Python would complain again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(words: list[str]) -> int:
    from fseed.compose.command_line import parse_command_line

    command = parse_command_line(words)
    if command.options.help:
        from fseed.compose.help import help_text

        print(help_text())
        return 0
    # the rest knows Hydra, a third of a second
    from fseed.compose.commands import complete, run_once, run_sweep, show

    if command.options.shell_completion:
        return complete(command)
    if command.shows_only:
        return show(command)
    return run_sweep(command) if command.is_sweep else run_once(command)


if __name__ == "__main__":
    leave_current_folder()
    sys.exit(main())
