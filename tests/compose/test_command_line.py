import pytest

from fseed.compose.command_line import completion_line, parse_command_line
from fseed.errors import UserError


@pytest.mark.parametrize(
    "words",
    [
        ["-m", "seed=0,1", "fs=static"],
        ["seed=0,1", "-m", "fs=static"],
        ["seed=0,1", "fs=static", "--multirun"],
        ["seed=0,1", "hydra.mode=MULTIRUN", "fs=static"],
        ["seed=0,1", "hydra.mode=multirun", "fs=static"],
    ],
)
def test_multirun_may_stand_anywhere(words: list[str]) -> None:
    command = parse_command_line(words)
    assert command.is_sweep
    assert command.overrides == ["seed=0,1", "fs=static"]


def test_options_between_overrides() -> None:
    command = parse_command_line(["seed=1", "--cfg", "job", "fs=static", "-p", "optim"])
    assert command.overrides == ["seed=1", "fs=static"]
    assert (command.options.cfg, command.options.package) == ("job", "optim")
    assert command.shows_only
    assert not command.is_sweep


def test_no_words_mean_one_run() -> None:
    command = parse_command_line([])
    assert (command.overrides, command.is_sweep, command.shows_only) == ([], False, False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--multi"], "--multi: no such option; did you mean --multirun?"),
        (["--cfg"], "argument --cfg/-c: expected one argument"),
        (["--cfg", "all_of_it"], "invalid choice: 'all_of_it'"),
        (["seed=1", "-x"], "-x: no such option"),
        (["--cfg", "job", "-m"], "--cfg shows one run: leave -m out"),
        (["--info", "seed=1"], "invalid choice: 'seed=1'"),
    ],
)
def test_wrong_options_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_command_line(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fseed-run fs=a -m se", "fseed-run -m fs=a se"),
        ("fseed-run fs=a --multirun ", "fseed-run --multirun fs=a "),
        ("fseed-run ", "fseed-run "),
        ("fseed-run", "fseed-run"),
    ],
)
def test_completion_keeps_the_last_word_last(line: str, expected: str) -> None:
    assert completion_line(line) == expected
