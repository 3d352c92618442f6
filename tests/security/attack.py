"""One malicious input: how it is planted, what it would do, and how it ends at the real command."""

import contextlib
import io
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from fseed import check, clean, collect, data, diff, run
from fseed.compose import commands, job
from tests.sweep.fake_training import FakeTraining

MAINS = {
    "run": run.main,
    "collect": collect.main,
    "diff": diff.main,
    "clean": clean.main,
    "check": check.main,
    "data": data.main,
}
CANARY_VARIABLE = "FSEED_WAS_HERE"
VICTIM_TEXT = "what the user had before\n"
# what a stranger must not find in any record
SECRETS = {
    "HF_TOKEN": "hf_CanaryCanaryCanary0123456789",
    "AWS_SECRET_ACCESS_KEY": "canaryAwsSecretAccessKey0123456789",
    "WANDB_API_KEY": "0123456789canarycanarycanary0123456789ab",
    "DB_PASSWORD": "correct-horse-battery",
}


@dataclass(frozen=True)
class Place:
    """Folders of one attack: what the stranger gave, the user's results, and all the rest."""

    folder: Path

    @property
    def gift(self) -> Path:
        """What the stranger gave: options, weights, records."""
        return self.folder / "gift"

    @property
    def outputs(self) -> Path:
        """The output root."""
        return self.folder / "outputs"

    @property
    def home(self) -> Path:
        """Everything else of the user: nothing here may change."""
        return self.folder / "home"

    @property
    def canary(self) -> Path:
        """The file that a payload leaves."""
        return self.home / "canary"

    @property
    def victim(self) -> Path:
        """A file of the user's."""
        return self.home / "victim"

    def write(self, name: str, text: str | bytes) -> Path:
        """Write a file of the gift."""
        path = self.gift / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path


Command = Sequence[str] | Callable[[], object]


@dataclass(frozen=True)
class Attack:
    """``plant`` writes the gift and returns the command that a user would give then.

    ``says``: pattern of the refusal, None where the input is treated as plain data and the command
    succeeds or merely reports it. ``leaks``: what counts as executed beside the canaries.
    ``is_live``: with the guard off the canary fires, which the mutation test shows.
    """

    name: str
    way: str  # configuration | command line | weights | data | records | text
    would: str
    plant: Callable[[Place], Command]
    says: str | None = None
    codes: tuple[int, ...] = (2,)
    leaks: Callable[[Place, str], bool] = lambda place, output: False
    is_live: bool = False
    is_slow: bool = False
    in_process: bool = True


@dataclass(frozen=True)
class Verdict:
    """How an attack ended; ``line`` is the first line that the user saw of it."""

    attack: Attack
    executed: bool
    code: int
    output: str

    @property
    def line(self) -> str:
        """Return the line that refuses, or the last one."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        if self.attack.says is not None:
            lines = [line for line in lines if re.search(self.attack.says, line)] or ["?", *lines]
            return lines[0]
        return f"harmless, exit {self.code}"

    @property
    def is_safe(self) -> bool:
        """Tell whether nothing was executed and the user was told what the attack says."""
        says = self.attack.says
        is_told = says is None or re.search(says, self.output) is not None
        is_clear = says is None or "Traceback (most recent call last)" not in self.output
        return not self.executed and is_told and is_clear and self.code in self.attack.codes


def execute(attack: Attack, folder: Path) -> Verdict:
    """Plant an attack in an empty folder and give the command."""
    place = Place(folder)
    for path in (place.gift, place.outputs, place.home):
        path.mkdir(parents=True)
    place.victim.write_text(VICTIM_TEXT)
    environment = {
        **{"FSEED_OUTPUTS": str(place.outputs), "FSEED_CACHE": str(folder / "cache")},
        **{"HOME": str(place.home), "OMP_NUM_THREADS": "1", **SECRETS},
    }
    with mock.patch.dict(os.environ, environment), contextlib.chdir(place.gift):
        for name in (CANARY_VARIABLE, "PYTHONPATH"):
            os.environ.pop(name, None)
        command = attack.plant(place)
        before = set(place.home.rglob("*"))
        give = _in_process if attack.in_process else _in_a_process
        code, output = give(command)
        fired = CANARY_VARIABLE in os.environ or Path.cwd() != place.gift.resolve()
    changed = [path.name for path in place.home.rglob("*") if path not in before]
    executed = fired or bool(changed) or place.victim.read_text() != VICTIM_TEXT
    return Verdict(attack, executed or attack.leaks(place, output), code, output)


def _in_process(command: Command) -> tuple[int, str]:
    output = io.StringIO()
    train = FakeTraining()
    with (
        mock.patch.object(job, "train", train),
        mock.patch.object(commands, "train", train),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        code = _call(command)
    return code, output.getvalue()


def _call(command: Command) -> int:
    try:
        if callable(command):
            command()
            return 0
        return MAINS[command[0]](list(command[1:]))
    except SystemExit as error:
        return int(error.code or 0)
    # what reaches the user as a traceback
    except Exception:
        traceback.print_exc()
        return 1


def _in_a_process(command: Command) -> tuple[int, str]:
    assert not callable(command)
    words = [sys.executable, "-m", f"fseed.{command[0]}", *command[1:]]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@contextlib.contextmanager
def without_guard() -> Iterator[None]:
    """Turn every check of the composed configuration off."""
    guard = "fseed.compose.guarded_loader"
    with (
        mock.patch(f"{guard}.check_names"),
        mock.patch(f"{guard}.check_words"),
        mock.patch(f"{guard}.check_search_path"),
        mock.patch("fseed.compose.loader.guarded_resolvers", contextlib.nullcontext),
    ):
        yield
