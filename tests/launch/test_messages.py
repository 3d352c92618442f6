import os
import pickle
from pathlib import Path

import pytest

from fseed.launch.messages import (
    LENGTH,
    MAX_JOB_BYTES,
    MAX_LINE_BYTES,
    AnswerReader,
    pack_job,
    pack_outcome,
    pack_sign,
    read_job,
)
from fseed.planned_run import RunOutcome
from tests.launch.jobs import make_jobs


def test_jobs_travel_one_after_the_other(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path, "fine", "slow")
    down, up = os.pipe()
    for job in jobs:
        os.write(up, pack_job(job))
    os.close(up)
    assert [read_job(down), read_job(down), read_job(down)] == [*jobs, None]
    os.close(down)


def test_half_a_job_is_none(tmp_path: Path) -> None:
    down, up = os.pipe()
    os.write(up, pack_job(make_jobs(tmp_path, "fine")[0])[:-1])
    os.close(up)
    assert read_job(down) is None
    os.close(down)


def test_a_length_that_no_job_has_is_refused() -> None:
    down, up = os.pipe()
    os.write(up, LENGTH.pack(MAX_JOB_BYTES + 1))
    with pytest.raises(ValueError, match="at most"):
        read_job(down)
    os.close(up)
    os.close(down)


def test_answers_come_in_any_pieces() -> None:
    outcome = RunOutcome("failed", "it broke\nin two lines", 1)
    data = pack_sign({"state": "training", "step": 3}) + pack_outcome(outcome)
    reader, answers = AnswerReader(), []
    for index in range(len(data)):
        answers += reader.feed(data[index : index + 1])
    assert [answer.outcome for answer in answers] == [None, outcome]
    assert answers[0].facts == {"state": "training", "step": 3}


def test_an_answer_is_never_unpickled_and_rubbish_is_a_sign_of_life() -> None:
    class Harmful:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    rubbish = (pickle.dumps(Harmful()), b"[1]", b'{"kind": "outcome", "status": 1}', b"\xff" * 9)
    answers = AnswerReader().feed(b"\n".join(rubbish) + b"\n")
    assert all(answer.outcome is None for answer in answers)


def test_a_flood_without_a_line_is_not_kept() -> None:
    reader = AnswerReader()
    reader.feed(b"x" * 10**6)
    assert len(reader._rest) == MAX_LINE_BYTES


@pytest.mark.parametrize("letter", ["a", "\n", "é", "\udc80", "\x00", '"'])
def test_a_long_message_fits_a_line(letter: str) -> None:
    line = pack_outcome(RunOutcome("failed", letter * 10_000, 1))
    assert len(line) <= MAX_LINE_BYTES
    answer = AnswerReader().feed(line)[0]
    assert answer.outcome is not None
    assert answer.outcome.exit_code == 1
