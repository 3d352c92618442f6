"""What the memory probe predicts is what the run records, each in a process of its own."""

from pathlib import Path

import pytest

from tests.bench_memory import TOLERANCE, compare, shape_words


@pytest.mark.slow
@pytest.mark.parametrize(("task", "shape"), [("longfill", "4x256"), ("hotpot", "4x1024")])
def test_the_peak_of_a_run_is_predicted(tmp_path: Path, task: str, shape: str) -> None:
    # the longest texts of hotpot's generated rows are far below its limit
    words = shape_words(shape, accelerator="cpu", model="nano", task=task, steps=2)
    found = compare([*words, "fs=scalar_l10"], name=task, folder=tmp_path)
    assert found.real > 0.3
    assert abs(found.ratio - 1) < TOLERANCE
    assert found.predicted_reserved is None
