import json
from pathlib import Path

import pytest

from fseed.results.collection import collect_runs
from tests.results.builders import RunSpec, finish_run


def set_sizes(path: Path, **sizes: object) -> None:
    result = json.loads((path / "result.json").read_text())
    (path / "result.json").write_text(json.dumps(result | sizes))


@pytest.mark.parametrize(
    ("own", "base", "told"),
    [
        ({"micro_batch_size": 4}, {"micro_batch_size": 4}, None),
        ({"micro_batch_size": 2}, {"micro_batch_size": 4}, "2 samples in a backward pass, 4 in"),
        ({"micro_batch_size": 4}, {"micro_batch_size": 1}, "4 samples in a backward pass, 1 in"),
        ({"eval_batch_size": 8}, {"eval_batch_size": 32}, "8 samples in a scored batch, 32 in"),
        # records from before, and of a stranger
        ({}, {"micro_batch_size": 4}, None),
        ({"micro_batch_size": "2"}, {"micro_batch_size": True}, None),
    ],
)
def test_pairs_with_other_parts_are_told(tmp_path: Path, own, base, told) -> None:
    arm = finish_run(tmp_path, RunSpec(arm="scalar_l10"))
    set_sizes(arm, **own)
    set_sizes(finish_run(tmp_path, RunSpec()), **base)
    found = [one for one in collect_runs([tmp_path]).alarms if "memory ran out" in one]
    assert len(found) == (told is not None)
    if told is not None:
        assert told in found[0]
        assert found[0].endswith(str(arm))
