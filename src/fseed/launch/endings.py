"""How an attempt at a run ended, which endings are tried again, and why."""

import signal
from dataclasses import dataclass
from enum import Enum


class Ending(Enum):
    """The ways in which one attempt ends, as the launcher sees it."""

    answered = "answered"  # the run itself told how it ended, failed or not
    killed = "killed"  # by a signal that somebody sent
    crashed = "crashed"  # by a signal of its own doing
    exited = "exited"  # left without an answer
    out_of_memory = "out_of_memory"  # the kernel took it for its memory
    stalled = "stalled"  # no sign of life for too long
    timed_out = "timed_out"  # took longer than allowed
    not_started = "not_started"  # the system could not start a process
    node_lost = "node_lost"  # the machine of the worker is gone


@dataclass(frozen=True)
class Rule:
    """What follows from an ending: another try or not, after how long, and the reason."""

    is_retried: bool
    reason: str
    wait_seconds: float = 0.0


RULES = {
    Ending.killed: Rule(True, "whoever ended the process need not do it again"),
    Ending.stalled: Rule(True, "a step may hang for a cause outside the run: a driver, a disk"),
    Ending.not_started: Rule(True, "a full process table or memory may be free again", 5.0),
    Ending.node_lost: Rule(True, "the run is not at fault, and continues elsewhere"),
    Ending.crashed: Rule(False, "the same code on the same data crashes again"),
    Ending.exited: Rule(False, "the same code on the same data leaves again"),
    Ending.out_of_memory: Rule(False, "it needs the same memory again"),
    Ending.timed_out: Rule(False, "it takes as long again"),
}

# of runs that told how they failed, by the class in failure.json
FAILURE_RULES = {
    "network": Rule(True, "the other side may answer later", 10.0),
    "interrupted": Rule(True, "asked to stop by somebody else than this launcher"),
    "oom": Rule(False, "it needs the same memory again"),
    "nan": Rule(False, "the same numbers come again"),
    "data": Rule(False, "the data stay as they are"),
    "config": Rule(False, "the configuration stays as it is"),
    "timeout": Rule(False, "it takes as long again"),
    "error": Rule(False, "the same code on the same data fails again"),
}

# failure class of a run whose worker could not write one
FAILURE_CLASSES = {
    **{Ending.out_of_memory: "oom"},
    **{Ending.stalled: "timeout", Ending.timed_out: "timeout"},
}

# sent from outside; any other signal is the doing of the process itself
_SENT = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}


def decide_retry(ending: Ending, *, failure: str | None, num_left: int) -> Rule:
    """Return whether an attempt is followed by another, and why.

    ``failure`` is the class in failure.json of a run that answered; ``num_left`` how many further
    attempts the launcher allows.
    """
    rule = RULES[ending] if ending is not Ending.answered else _failure_rule(failure)
    if rule.is_retried and num_left <= 0:
        return Rule(False, "no attempts are left (launcher.retries)")
    return rule


def _failure_rule(failure: str | None) -> Rule:
    if failure is None:
        return Rule(False, "it ended by itself")
    return FAILURE_RULES.get(failure, FAILURE_RULES["error"])


def classify_exit(code: int, *, is_out_of_memory: bool) -> tuple[Ending, str]:
    """Return the ending of a process that gave no answer, and its exit in words.

    ``code`` as in ``subprocess``: negative for a signal. ``is_out_of_memory``: the kernel has
    ended a process for its memory in the meantime.
    """
    if code >= 0:
        return Ending.exited, f"left with exit code {code} and no answer"
    name = _signal_name(-code)
    if -code == signal.SIGKILL and is_out_of_memory:
        return Ending.out_of_memory, f"was ended by the kernel because memory ran out ({name})"
    if -code in _SENT:
        return Ending.killed, f"was ended by signal {-code} ({name}) from outside"
    return Ending.crashed, f"was ended by signal {-code} ({name})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
