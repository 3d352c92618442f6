"""``fseed.run`` as tests call it: in this process, with a stand-in for the trainer."""

from pathlib import Path

from fseed.compose import commands, job
from fseed.run import main
from tests.sweep.fake_training import FakeTraining, files_below


class Command:
    """``fseed.run`` in this process, in an empty folder, with results below ``root``."""

    def __init__(self, root: Path, cwd: Path, capsys, monkeypatch) -> None:
        self.root, self.cwd = root, cwd
        self.capsys, self.monkeypatch = capsys, monkeypatch
        self.train = self.use(FakeTraining())

    def use(self, train: FakeTraining) -> FakeTraining:
        self.train = train
        for module in (job, commands):
            self.monkeypatch.setattr(module, "train", train)
        return train

    def __call__(self, *words: str) -> int:
        self.capsys.readouterr()
        self.code = main(words)
        self.out, self.err = self.capsys.readouterr()
        return self.code


def planned(run: Command) -> list[str]:
    """Return arm and seed of every line of a printed plan."""
    rows = [line.replace(" (added)", "").split() for line in run.out.splitlines()]
    return [f"{row[1]} s{row[2]}" for row in rows if "/" in row[0] and row[0][0].isdigit()]


def results(run: Command) -> list[str]:
    return [path for path in files_below(run.root) if path.endswith("result.json")]
