import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from fseed.errors import UserError
from fseed.results.collection import collect_runs, comparisons_frame, runs_frame
from fseed.results.tables import render_markdown
from tests.results.builders import RunSpec, fail_run, finish_run, start_run, write_sweep

FILES = ("config.yaml", "choices.json", "provenance.json", "result.json", "predictions.parquet")


def test_every_kind_of_damage_is_named_with_its_path(tmp_path: Path) -> None:
    specs = [RunSpec(arm="scalar_l10", seed=seed, loss=1.0 + seed) for seed in range(9)]
    damaged = [finish_run(tmp_path, spec) for spec in specs[:5]]
    for path, name in zip(damaged, FILES, strict=True):
        whole = (path / name).read_bytes()
        (path / name).write_bytes(whole[: len(whole) // 2] + b"\x00[")
    damaged.append(start_run(tmp_path, specs[5]))
    damaged.append(fail_run(tmp_path, specs[6]))
    damaged.append(tmp_path / "default" / "hotpot" / "plain" / "scalar_l10" / "s7-0123456789")
    damaged[-1].mkdir()
    finish_run(tmp_path, specs[8])
    found = collect_runs([tmp_path])
    assert found.counts["finished"] == 1
    assert {run.record.path for run in found.not_usable} == set(damaged)
    text = render_markdown(found)
    assert all(str(path) in text for path in damaged)
    assert all(run.reason for run in found.not_usable)


def junk(generator: random.Random) -> Any:
    return generator.choice([None, 3, -1.5, "x", "", [], [1, "a"], {}, {"a": [None]}, True])


def spoil(node: Any, generator: random.Random) -> None:
    """Replace or drop one entry somewhere below ``node``."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    if not keys:
        return
    key = generator.choice(keys)
    child = node[key]
    if isinstance(child, dict | list) and generator.random() < 0.6:
        spoil(child, generator)
    elif isinstance(node, dict) and generator.random() < 0.3:
        del node[key]
    else:
        node[key] = junk(generator)


@pytest.mark.parametrize("name", ["choices.json", "provenance.json", "result.json"])
@pytest.mark.parametrize("arm", ["no_fs", "scalar_l10"])
def test_no_content_of_a_record_raises(tmp_path: Path, name: str, arm: str) -> None:
    generator = random.Random(name)
    finish_run(tmp_path, RunSpec())
    path = finish_run(tmp_path, RunSpec(arm="scalar_l10", loss=0.5))
    spoilt = next((tmp_path / "default" / "hotpot" / "plain" / arm).iterdir())
    original = (spoilt / name).read_text()
    for _ in range(25):
        data = json.loads(original)
        spoil(data, generator)
        (spoilt / name).write_text(json.dumps(data))
        found = collect_runs([tmp_path])
        assert len(found.runs) == 2
        assert str(path) in render_markdown(found) or found.counts.get("finished", 0) >= 1
        assert all(run.reason for run in found.not_usable)


def test_no_config_raises(tmp_path: Path) -> None:
    generator = random.Random(0)
    finish_run(tmp_path, RunSpec())
    path = finish_run(tmp_path, RunSpec(arm="scalar_l10", loss=0.5)) / "config.yaml"
    original = json.dumps(yaml.safe_load(path.read_text()))
    for _ in range(25):
        data = json.loads(original)
        spoil(data, generator)
        path.write_text(json.dumps(data))
        found = collect_runs([tmp_path])
        assert len(found.runs) == 2
        assert render_markdown(found)


def test_frames_are_tidy(tmp_path: Path) -> None:
    write_sweep(tmp_path, arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    fail_run(tmp_path, RunSpec(arm="raw_l10"))
    found = collect_runs([tmp_path])
    runs, pairs = runs_frame(found), comparisons_frame(found)
    assert len(runs) == 7
    assert runs["last.token_accuracy"].notna().sum() == 6
    assert set(runs["budget.steps"]) == {40}
    assert list(pairs["arm"]) == ["raw_l10", "scalar_l10"]


def test_a_path_that_is_no_folder_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        collect_runs([tmp_path / "nowhere"])
