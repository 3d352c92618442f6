from collections import Counter

from task_helpers import encoded, make_row

from fseed.tasks.hotpot import read_key
from fseed.tasks.preflight import Preflight, render, report_split
from fseed.tasks.rows import ListRows
from fseed.tasks.splits import Pool


def example(number, *, prompt, cut=False, lost=False):
    return encoded(
        "ab", "bridge", example_id=f"e{number}", prompt_ids=[1] * prompt, is_cut=cut, lost_gold=lost
    )


def make_report(examples):
    entries = [(n, read_key(make_row(n))) for n in range(6)]
    pool = Pool(ListRows([], {}), entries, Counter({"repeated id": 2}), Counter({"shared id": 1}))
    return report_split(pool, examples, Counter({"answer longer than 3 tokens": 1}))


def test_report_counts_rows_reasons_and_lengths():
    examples = [example(n, prompt=10 * n, cut=n > 3, lost=n > 4) for n in range(1, 6)]
    report = make_report(examples)
    assert report.num_rows == 9
    assert report.num_examples == 5
    assert report.dropped == {"answer longer than 3 tokens": 1, "repeated id": 2}
    assert report.overlap == {"shared id": 1}
    assert (report.num_cut, report.num_lost_gold) == (2, 1)
    assert report.kinds == {"bridge": 5}
    assert report.prompt_tokens == {"min": 10, "p05": 12, "p50": 30, "p95": 48, "max": 50}
    assert report.answer_tokens["max"] == 2


def test_rendered_report_is_golden():
    examples = [example(n, prompt=10 * n, cut=n > 3, lost=n > 4) for n in range(1, 6)]
    preflight = Preflight("hotpot", "local", "question_last", {"train": make_report(examples)})
    assert (
        render(preflight)
        == """\
hotpot, local data, question_last
  train: 5 examples (5 bridge) of 9 rows
    dropped: 1 answer longer than 3 tokens, 2 repeated id; \
overlap with a held-out split: 1 shared id
    prompt tokens: min 10, p05 12, p50 30, p95 48, max 50
    answer tokens: min 2, p05 2, p50 2, p95 2, max 2
    evidence cut in 2 examples; 1 of them lost a supporting sentence"""
    )


def test_report_without_examples_has_no_lengths():
    report = make_report([])
    assert report.prompt_tokens == {}
    assert "prompt tokens: none" in render(Preflight("hotpot", "local", "x", {"train": report}))
