"""How the ranks of a run end together, whatever ends one of them."""

import os
import signal
import sys
import time
import traceback
from pathlib import Path

import pytest

from fseed.errors import DataError, RunInterrupted, UserError
from fseed.heartbeat import listening
from fseed.records import read_run
from fseed.training import distributed_launch
from fseed.training.checkpoint_file import Start
from fseed.training.distributed_launch import RankedAttempt, RankError, RankJob
from fseed.training.interrupt import InterruptFlag
from fseed.training.rank import describe_failure
from fseed.training.runner import classify_failure
from tests.training.build import plan, tiny_config
from tests.training.ranks import train_forked
from tests.training.test_distributed import EVERY_TWO, assert_equal
from tests.training.test_runner import train

FAKE = Path(__file__).with_name("fake_rank.py")


def attempt(monkeypatch, run_dir: Path, script: str) -> RankedAttempt:
    """Return an attempt whose ranks follow ``script`` instead of training."""
    command = (sys.executable, "-S", str(FAKE), script)
    monkeypatch.setattr(distributed_launch, "RANK_COMMAND", command)
    monkeypatch.setattr(distributed_launch, "REASON_SECONDS", 1.0)
    job = RankJob(plan(tiny_config(), run_dir), "1/1", Start(None, -1), ())
    return RankedAttempt(job, InterruptFlag(), num_ranks=len(script.split(",")))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ranks_that_are_done_end_the_attempt_and_rank_0_speaks(tmp_path, monkeypatch):
    heard = []
    with listening(heard.append):
        attempt(monkeypatch, tmp_path, "done,done,done").run_to_end()
    assert heard == [{"state": "training", "step": 0}]


@pytest.mark.parametrize(
    ("script", "family", "kind", "message"),
    [
        ("wait,die", RankError, "error", "rank 1 ended by signal 9"),
        ("exit,wait", RankError, "error", "rank 0 ended with exit code 3"),
        ("echo,die", RankError, "error", "rank 1 ended by signal 9"),
        ("echo,late_nan", FloatingPointError, "nan", r"the loss is nan \(rank 1\)"),
        ("wait,oom", MemoryError, "oom", r"a oom \(rank 1\)"),
        ("network,wait", ConnectionError, "network", "a network"),
        ("echo,error,die", RankError, "error", "rank 2 ended by signal 9"),
        ("echo,error", RankError, "error", r"a error \(rank 1\)"),
        ("data,wait", DataError, "data", "^a data$"),
        ("wait,config", UserError, "config", "^a config$"),
    ],
)
def test_the_failure_of_any_rank_is_that_of_the_run(
    tmp_path, monkeypatch, script, family, kind, message
):
    ranked = attempt(monkeypatch, tmp_path, script)
    started = time.monotonic()
    with pytest.raises(family, match=message) as caught:
        ranked.run_to_end()
    assert time.monotonic() - started < 10
    assert classify_failure(caught.value) == kind
    assert not any(is_running(rank.process.pid) for rank in ranked._ranks)


def test_the_traceback_of_the_rank_is_kept(tmp_path, monkeypatch):
    ranked = attempt(monkeypatch, tmp_path, "late_nan,wait")
    with pytest.raises(FloatingPointError) as caught:
        ranked.run_to_end()
    assert "where the loss is nan" in "".join(traceback.format_exception(caught.value))
    assert ranked.step == 7


def test_rank_0_is_asked_to_stop(tmp_path, monkeypatch):
    ranked = attempt(monkeypatch, tmp_path, "obey,wait")
    ranked.flag.requested = True
    with pytest.raises(RunInterrupted, match="stopped after step 7"):
        ranked.run_to_end()


def test_a_signal_to_the_group_ends_no_rank_that_is_still_starting(tmp_path, monkeypatch):
    attempt(monkeypatch, tmp_path, "signalled,signalled").run_to_end()


def test_a_failure_tells_its_class_and_whether_it_is_an_echo():
    assert describe_failure(FloatingPointError("x"), step=2)["class"] == "nan"
    assert describe_failure(RunInterrupted("x"), step=2)["class"] == "interrupted"
    echo = RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    assert describe_failure(echo, step=2)["is_echo"]
    assert not describe_failure(RuntimeError("shapes differ"), step=2)["is_echo"]


TWO = EVERY_TWO | {"trainer__devices": 2}


@pytest.mark.slow
def test_real_ranks_killed_and_stopped_continue_bit_equal(tmp_path, monkeypatch):
    """One of two processes is killed behind step 1, then the run is stopped, then it ends."""
    facts = TWO | {"trainer__strategy": "fsdp2", "budget__checkpoint_every_steps": 1}
    original = RankedAttempt._take

    def kill(self, rank, message):
        if message.get("beat", {}).get("step", 0) >= 1:
            os.kill(self._ranks[1].process.pid, signal.SIGKILL)
        original(self, rank, message)

    monkeypatch.setattr(RankedAttempt, "_take", kill)
    outcome = train(tmp_path / "moved", **facts)
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    failure = read_run(tmp_path / "moved").failure
    assert failure is not None
    assert (failure["class"], failure["message"]) == ("error", "rank 1 ended by signal 9")

    def stop(self, rank, message):
        if message.get("beat", {}).get("step", 0) >= 2:
            self.flag.requested = True
        original(self, rank, message)

    monkeypatch.setattr(RankedAttempt, "_take", stop)
    assert train(tmp_path / "moved", **facts).status == "interrupted"
    monkeypatch.undo()
    assert train(tmp_path / "moved", **facts).status == "finished"
    train_forked(tmp_path / "whole", **facts)
    assert_equal(tmp_path / "moved", tmp_path / "whole")


@pytest.mark.slow
def test_a_nan_on_real_ranks_has_its_class(tmp_path):
    explosive = {"optim__lr": 1e30, "optim__grad_clip": 0.0, "trainer__strategy": "ddp"}
    outcome = train(tmp_path, **(TWO | explosive))
    failure = read_run(tmp_path).failure
    assert failure is not None
    assert (outcome.status, failure["class"]) == ("failed", "nan")
    assert "FloatingPointError" in failure["traceback"]
