"""Every file of a run cut, overwritten, emptied or removed: bit-equal in the end, or a clear line.

A digit of a record that became another digit cannot be seen; a checkpoint and the predictions
carry checksums.
"""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fseed.planned_run import RunOutcome
from fseed.records import RecordError, read_run
from fseed.sweep.execute import execute_run
from fseed.training.callbacks import SaveCheckpoint
from fseed.training.runner import train_run
from tests.faults.sweeps import digits_of
from tests.training.build import plan, tiny_config

KILLED_FILES = (
    *("config.yaml", "choices.json", "provenance.json", "metrics.jsonl", "predictions.parquet"),
    *("checkpoint.ckpt", "checkpoint.previous.ckpt"),
)
# not metrics.jsonl: the tables of a finished run stand on its result and predictions
FINISHED_FILES = (*KILLED_FILES[:3], "predictions.parquet", "result.json")


def cut(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return damage


def cut_last_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def overwrite(content: bytes) -> Callable[[Path], None]:
    """Put ``content`` over a stretch in the middle, as a lost block of the disk does."""

    def damage(path: Path) -> None:
        data = path.read_bytes()
        place = random.Random(path.name).randrange(len(data) // 4, len(data) * 3 // 4)
        piece = (content * len(data))[: max(len(data) // 8, 64)]
        path.write_bytes(data[:place] + piece + data[place + len(piece) :])

    return damage


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "emptied": cut(0.0),
    "cut in the middle": cut(0.5),
    "cut near the end": cut(0.9),
    "without its last byte": cut_last_byte,
    "zeros in the middle": overwrite(b"\0"),
    "rubbish in the middle": overwrite(b"\xff\xfe{[\n"),
    "zeros only": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "removed": Path.unlink,
    "a folder in its place": make_folder,
}


class Killed(BaseException):
    """Stands for SIGKILL in this process."""


@dataclass
class Runs:
    killed: Path
    finished: Path
    digits: dict[str, Any]


def train(folder: Path) -> RunOutcome:
    values = {"budget__checkpoint_every_steps": 2, "budget__eval_every_steps": 2}
    run = plan(tiny_config(**values), folder)
    return execute_run(run, position="1/1", train=lambda run, position: train_run(run))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """A run that was killed behind its second checkpoint, and one that was not."""
    folder = tmp_path_factory.mktemp("runs")
    original = SaveCheckpoint.on_train_batch_end

    def save_and_die(self: SaveCheckpoint, trainer: Any, *args: Any) -> None:
        original(self, trainer, *args)
        if trainer.global_step == 4:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SaveCheckpoint, "on_train_batch_end", save_and_die)
        with pytest.raises(Killed):
            train(folder / "killed")
    assert train(folder / "finished").status == "finished"
    return Runs(folder / "killed", folder / "finished", digits_of(folder / "finished"))


def check(copy: Path, runs: Runs, capsys: pytest.CaptureFixture[str]) -> str:
    """Continue a damaged run; say how it ended."""
    outcome = train(copy)
    if outcome.status in ("finished", "skipped"):
        # a note may tell of the damage
        ignored = frozenset({"notes"})
        expected = {**runs.digits, "result": dict(runs.digits["result"])}
        del expected["result"]["notes"]
        assert digits_of(copy, ignored=ignored) == expected
        return outcome.status
    assert str(copy) in outcome.message, outcome.message
    assert "Traceback" not in capsys.readouterr().err
    shutil.rmtree(copy)
    assert train(copy).status == "finished"
    assert digits_of(copy) == runs.digits
    return "refused"


QUICK = {("metrics.jsonl", "cut near the end"), ("predictions.parquet", "zeros in the middle")}


def cases(files: tuple[str, ...], *, quick: set[tuple[str, str]]) -> list[Any]:
    return [
        pytest.param(name, damage, marks=() if (name, damage) in quick else pytest.mark.slow)
        for name in files
        for damage in DAMAGES
    ]


@pytest.mark.parametrize(("name", "damage"), cases(KILLED_FILES, quick=QUICK))
def test_an_unfinished_run(
    tmp_path: Path,
    runs: Runs,
    name: str,
    damage: str,
    capsys: pytest.CaptureFixture[str],
    told: Any,
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(runs.killed, copy)
    DAMAGES[damage](copy / name)
    told(check(copy, runs, capsys))


@pytest.mark.parametrize(("name", "damage"), cases(FINISHED_FILES, quick=set()))
def test_a_finished_run(
    tmp_path: Path,
    runs: Runs,
    name: str,
    damage: str,
    capsys: pytest.CaptureFixture[str],
    told: Any,
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(runs.finished, copy)
    DAMAGES[damage](copy / name)
    told(check(copy, runs, capsys))


def test_a_changed_byte_of_the_predictions_is_never_another_number(
    tmp_path: Path, runs: Runs
) -> None:
    """Page checksums: what can be read is what was written, or the file is named as damaged."""
    path = tmp_path / "predictions.parquet"
    data = (runs.finished / path.name).read_bytes()
    whole = read_run(runs.finished).predictions()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    found = 0
    for place in range(0, len(data) - footer, 5):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            table = read_run(tmp_path).predictions()
        except RecordError:
            found += 1
        else:
            assert table.to_pylist() == whole.to_pylist(), place
    assert found > 0
