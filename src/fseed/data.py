"""``python -m fseed.data task=... [key=value ...]``: the data card of a task.

Composed as ``fseed.run`` composes, so the card shows the rows that a run would read. Exit codes:
0 done, 2 bad input, 130 stopped by Ctrl-C. Never imports torch.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from fseed.compose.command_line import FriendlyParser
from fseed.confinement import leave_current_folder
from fseed.errors import UserError

if TYPE_CHECKING:
    from fseed.config.schema import RunConfig
    from fseed.data_card.blocks import Card

HELP = """\
The data card of a task: what a run would read, counted, measured and shown.

  python -m fseed.data                                     the default task on its embedded data
  python -m fseed.data task=sudoku4                        another task
  python -m fseed.data task=hotpot task.order=evidence_last     another order of the sections
  python -m fseed.data task=hotpot_2048 data=local data.root=FOLDER model.tokenizer=world
  python -m fseed.data task=arc --markdown arc.md --html arc.html

group=option and key=value are those of python -m fseed.run (its --help lists the groups; here
task, data, model and budget matter). On the card: rows per split, why rows were dropped, overlap
between splits, lengths, balance of kinds and labels, what answers that ignore the question score,
pads in training batches, and three examples with the scored units marked. The examples come from
the data cache where they have been built before, and a run finds those that the card built.

Options:
  --markdown FILE    write the card as Markdown too
  --html FILE        write it as one HTML page too, without script or anything from elsewhere
  --test             count the test split as well (a plain run never reads it)
  --config-dir FOLDER    options of your own beside those of conf/
  -h, --help         this text

Environment: FSEED_CACHE=FOLDER is the place of the data cache, FSEED_CACHE=off turns it off.
Exit codes: 0 done, 2 bad input, 130 stopped by Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Show one card (``sys.argv`` by default) and return the exit code."""
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of a pipe has enough; Python would complain again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(words: list[str]) -> int:
    options = _build_parser().parse_intermixed_args(words)
    if options.help:
        print(HELP)
        return 0
    files = {name: _check_file(name, vars(options)[name]) for name in ("markdown", "html")}
    card = _build(_compose(options.overrides, options.config_dir), with_test=options.test)
    # the files first: a pipe such as `| head` may end the rest
    _write(card, files)
    _show(card)
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = FriendlyParser(prog="fseed-data", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--markdown", metavar="FILE")
    parser.add_argument("--html", metavar="FILE")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    return parser


def _check_file(name: str, value: str | None) -> Path | None:
    """Return the path to write to; a folder is refused before any work is done."""
    if value is None:
        return None
    path = Path(value).expanduser().absolute()
    if path.is_dir():
        raise UserError(f"--{name} {value}: is a folder; give the name of a file")
    return path


def _compose(overrides: list[str], config_dirs: list[str]) -> "RunConfig":
    """Return the configuration of one run."""
    # these know Hydra, a third of a second
    from fseed.compose.loader import Composer, hydra_session
    from fseed.compose.overrides import parse_overrides
    from fseed.config.rules import check_values

    with hydra_session(config_dirs) as hydra:
        loader = hydra.config_loader
        for override in parse_overrides(overrides, multirun=True, config_loader=loader):
            if override.is_sweep_override():
                raise UserError(f"{override.input_line}: a card shows one task; give one value")
        config = Composer(loader).compose(overrides).config
    check_values(config)
    return config


def _build(config: "RunConfig", *, with_test: bool) -> "Card":
    """Load the examples and return the card."""
    from fseed.data_card.content import Subject, build_card
    from fseed.models.tokenizer import build_tokenizer
    from fseed.tasks.registry import PLAIN_SPLITS, build_request, load_with_report

    splits = (*PLAIN_SPLITS, "test") if with_test else PLAIN_SPLITS
    request = build_request(config.task, config.data, splits=splits)
    tokenizer = build_tokenizer(config.model.tokenizer, vocab_file=config.model.vocab_file)
    data, report = load_with_report(
        config.task, config.data, tokenizer, splits=splits, scoring=config.mbpp
    )
    return build_card(
        Subject(
            config=config,
            task=request.task,
            options=request.options,
            data=data,
            cache=report,
            tokenizer=tokenizer,
        )
    )


def _show(card: "Card") -> None:
    from fseed.data_card.terminal import print_card

    # a terminal that cannot show a letter of the data gets its number
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    print_card(card, sys.stdout)


def _write(card: "Card", files: dict[str, Path | None]) -> None:
    """Write the files that were asked for."""
    from fseed.atomic import write_text_atomic
    from fseed.data_card.markdown import render_markdown
    from fseed.data_card.page import render_page

    for name, render in (("markdown", render_markdown), ("html", render_page)):
        path = files[name]
        if path is None:
            continue
        try:
            write_text_atomic(path, render(card))
        except OSError as error:
            raise UserError(f"--{name} {path}: {error.strerror}") from error
        print(f"written: {path}", file=sys.stderr)


if __name__ == "__main__":
    leave_current_folder()
    sys.exit(main())
