"""The words of ``python -m fseed.run``: overrides in any order, options anywhere between them."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from fseed.errors import UserError, did_you_mean

INFO_TOPICS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


@dataclass
class CommandLine:
    """What the user asked for; exactly one of the actions, a run where none is named."""

    overrides: list[str]
    is_sweep: bool
    config_dirs: list[str]
    options: argparse.Namespace
    parser: argparse.ArgumentParser

    @property
    def shows_only(self) -> bool:
        """Whether the command prints something and runs nothing."""
        asked = self.options
        return asked.hydra_help or asked.version or bool(asked.cfg or asked.info)


def parse_command_line(words: Sequence[str]) -> CommandLine:
    """Split the words into overrides and options.

    Raises:
        UserError: for an unknown option, or two actions at once.
    """
    parser = build_parser()
    options = parser.parse_intermixed_args(list(words))
    # Hydra's own way to ask for a sweep
    modes = [text for text in options.overrides if text.startswith("hydra.mode=")]
    overrides = [text for text in options.overrides if text not in modes]
    is_sweep = options.multirun or any(text.upper().endswith("MULTIRUN") for text in modes)
    if is_sweep and options.cfg is not None:
        raise UserError("--cfg shows one run: leave -m out and give one value per key")
    return CommandLine(overrides, is_sweep, options.config_dir, options, parser)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the options; its errors are UserErrors."""
    parser = FriendlyParser(prog="fseed-run", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*", help="group=option and key=value")
    _add_flag(parser, "--help", "-h", text="examples, groups and options")
    _add_flag(parser, "--hydra-help", text="options of Hydra")
    _add_flag(parser, "--version", text="versions of fseed and Hydra")
    _add_flag(parser, "--multirun", "-m", text="run every combination of listed values")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"), help="print, run nothing")
    parser.add_argument("--package", "-p", help="part of the configuration to print with --cfg")
    _add_flag(parser, "--resolve", text="accepted, and always on with --cfg job")
    parser.add_argument(
        "--info", "-i", nargs="?", const="all", choices=INFO_TOPICS, help="what Hydra knows"
    )
    parser.add_argument("--config-dir", "-cd", action="append", default=[], help="more options")
    _add_flag(parser, "--shell-completion", "-sc", text="install=bash, zsh or fish")
    return parser


def _add_flag(parser: argparse.ArgumentParser, *names: str, text: str) -> None:
    parser.add_argument(*names, action="store_true", help=text)


def completion_line(line: str) -> str:
    """Move ``-m`` to the front, where Hydra's completion accepts it.

    >>> completion_line("fseed-run fs=scalar_l10 -m se")
    'fseed-run -m fs=scalar_l10 se'
    """
    words = line.split(" ")
    flags = [word for word in words[1:-1] if word in ("-m", "--multirun")]
    rest = [word for word in words[1:-1] if word not in flags]
    return " ".join([words[0], *flags, *rest, *words[-1:]]) if len(words) > 1 else line


class FriendlyParser(argparse.ArgumentParser):
    """An argument parser that raises instead of printing its usage and leaving."""

    def error(self, message: str) -> NoReturn:
        """Turn what argparse found into one line."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            word = unknown.split()[0]
            known = [name for action in self._actions for name in action.option_strings]
            raise UserError(f"{word}: no such option{did_you_mean(word, known)} (see --help)")
        raise UserError(f"{message} (see --help)")
