from fseed.launch.endings import (
    FAILURE_RULES,
    RULES,
    Ending,
    classify_exit,
    decide_retry,
)
from fseed.records import FAILURE_CLASSES

RETRIED = {Ending.killed, Ending.stalled, Ending.not_started, Ending.node_lost}


def test_only_runs_that_were_lost_are_tried_again() -> None:
    assert RULES.keys() == set(Ending) - {Ending.answered}
    for ending in RULES:
        assert decide_retry(ending, failure=None, num_left=1).is_retried == (ending in RETRIED)


def test_of_runs_that_told_their_failure_only_the_network_is_tried_again() -> None:
    assert FAILURE_RULES.keys() == set(FAILURE_CLASSES)
    retried = {
        name for name in FAILURE_CLASSES
        if decide_retry(Ending.answered, failure=name, num_left=1).is_retried
    }  # fmt: skip
    assert retried == {"network", "interrupted"}
    assert not decide_retry(Ending.answered, failure=None, num_left=1).is_retried


def test_the_number_of_attempts_is_bounded() -> None:
    rule = decide_retry(Ending.killed, failure=None, num_left=0)
    assert (rule.is_retried, rule.reason) == (False, "no attempts are left (launcher.retries)")


def test_every_rule_has_a_reason() -> None:
    assert all(rule.reason for rule in (*RULES.values(), *FAILURE_RULES.values()))


def test_exit_codes_and_signals() -> None:
    def classify(code: int, *, kills: bool = False) -> Ending:
        return classify_exit(code, is_out_of_memory=kills)[0]

    assert classify(0) is classify(3) is Ending.exited
    assert classify(-9) is classify(-15) is Ending.killed
    assert classify(-9, kills=True) is Ending.out_of_memory
    # another process ran out of memory at that time
    assert classify(-11, kills=True) is classify(-6) is classify(-7) is Ending.crashed
    assert classify_exit(-63, is_out_of_memory=False)[1] == "was ended by signal 63 (unknown)"
