"""``python -m fseed.data`` as a user meets it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fseed.config.options import read_groups
from fseed.data import HELP, main

SMALL = ["data.num_train=40", "data.num_validation=20", "data.num_test=10"]
WITHOUT_TORCH = """
import sys
from fseed.data import main
code = main(sys.argv[1:])
heavy = {'torch', 'scipy', 'pandas', 'lightning', 'rwkv', 'datasets'} & set(sys.modules)
sys.exit(repr(heavy) if heavy else code)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FSEED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_card_of_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SMALL) == 0
    found = capsys.readouterr()
    assert found.out.startswith("hotpot, question_last, mini data, byte tokenizer, data ")
    for title in ("Rows", "Dropped rows", "Lengths in tokens", "Baselines", "Padding", "Example"):
        assert f"\n{title}" in found.out
    assert found.err == ""


def test_choices_are_those_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["task=arc", "task.order=q_first", "model.tokenizer=world", "data.seed=3", *SMALL]
    assert main([*words, "--test"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("arc, evidence_last, mini data, world tokenizer, data ")
    assert [line.split()[0] for line in lines if line.strip().startswith("test ")]


def test_files_are_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    markdown, page = tmp_path / "new" / "card.md", tmp_path / "card.html"
    assert main([*SMALL, "--markdown", str(markdown), "--html", str(page)]) == 0
    found = capsys.readouterr()
    assert [str(markdown) in found.err, str(page) in found.err] == [True, True]
    heading = found.out.splitlines()[0].replace("_", "\\_")
    assert markdown.read_text("utf-8").startswith(f"# {heading}\n")
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_second_card_comes_from_the_cache(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    assert main(SMALL) == 0
    first = capsys.readouterr().out
    assert main(SMALL) == 0
    second = capsys.readouterr().out
    assert "built in" in first
    assert "hit, loaded in" in second
    drop = ("cache",)
    kept = [
        [line for line in text.splitlines() if not line.strip().startswith(drop)]
        for text in (first, second)
    ]
    assert kept[0] == kept[1]
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=hotpott"], "task=hotpott: no such option; did you mean hotpot"),
        (["task.order=question_lst"], "did you mean question_last"),
        (["seed=1,2"], "seed=1,2: a card shows one task; give one value"),
        (["--htm", "x"], "--htm: no such option; did you mean --html"),
        (["data=local", "data.root=/nowhere"], "data.root=/nowhere: no such folder"),
        (["data.num_train=0"], "data.num_train=0: must be above 0"),
        (["+x=1"], "every key exists already"),
        (["--html", "."], "--html .: is a folder"),
        (["--config-dir", "/nowhere"], "--config-dir /nowhere: no such folder"),
        (["model.vocab_file=x.txt"], "no use with the byte tokenizer"),
    ],
)
def test_mistakes_are_one_clear_error(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    started = time.perf_counter()
    assert main(words) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("error: ")
    assert message in found.err
    assert len(found.err.splitlines()) <= 3
    assert time.perf_counter() - started < 5


def test_file_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main([*SMALL, "--html", str(tmp_path / "file" / "card.html")]) == 2
    assert "error: --html" in capsys.readouterr().err


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == f"{HELP}\n"
    for option in ("--markdown", "--html", "--test", "--config-dir", "--help", "FSEED_CACHE"):
        assert option in HELP
    named = {word.split("=")[1] for word in HELP.split() if word.startswith("task=")} - {"..."}
    assert named <= set(read_groups()["task"])


def test_torch_is_never_imported() -> None:
    script = [sys.executable, "-c", WITHOUT_TORCH]
    for words in (SMALL, ["--help"]):
        done = subprocess.run([*script, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_closed_pipe_is_no_error() -> None:
    card = [sys.executable, "-m", "fseed.data", *SMALL]
    with subprocess.Popen(card, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.close()
        assert writer.stderr.read() == b""
        assert writer.wait(timeout=60) == 0


def test_letters_that_the_terminal_cannot_show_are_numbers(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fseed.data", *SMALL],
        capture_output=True,
        check=True,
        env={"PATH": "/usr/bin", "PYTHONIOENCODING": "ascii", "FSEED_CACHE": "off"},
    )
    assert b"\\u27e6" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(read_groups()["task"]))
def test_every_task_has_a_card_with_few_pads(capsys: pytest.CaptureFixture[str], task: str) -> None:
    assert main([f"task={task}"]) == 0
    out = capsys.readouterr().out
    assert "Above 6.0 %" not in out
    assert out.count("\nExample ") == 3
