from dataclasses import replace
from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.sweep.staged.probe_file import Probe, find_probe_run, read_probes, write_probes
from fseed.sweep.staged.runner import describe_probe
from tests.launch.jobs import plan_runs
from tests.sweep.staged.sweeps import Bench

PROBE = Probe("raw_l10", 4, 1.5, 0.25, 4096.0)


def test_probes_read_back(tmp_path: Path) -> None:
    assert read_probes(tmp_path) == {}
    write_probes(tmp_path, {"hotpot": PROBE})
    assert read_probes(tmp_path) == {"hotpot": PROBE}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema_version": 2}', '{"schema_version": 1, "tasks": {"a": {"b": 1}}}']
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "probe.json").write_text(text)
    with pytest.raises(UserError, match=r"probe\.json(.|\n)*another sweep\.name"):
        read_probes(tmp_path)


def test_a_batch_is_split_only_where_it_must_be() -> None:
    assert PROBE.words(batch_size=4) == ()
    assert PROBE.words(batch_size=16) == ("trainer.micro_batch_size=4",)


@pytest.mark.parametrize(
    ("arms", "controls", "dearest"),
    [
        (("scalar_l10", "inputgate_l10", "scalar_l8"), False, "inputgate_l10"),
        (("scalar_l10", "scalar_l8"), False, "scalar_l8"),
        (("scalar_l10", "scalar_l10_norm_node", "inputgate_l8"), False, "scalar_l10_norm_node"),
        (("scalar_l10", "raw_l10"), True, "no_fs,control=repeat_prompt"),
        # without detach both passes of same_layer are kept, and its gates beside them
        (("scalar_l10_norm_node",), True, "scalar_l10_norm_node,control=same_layer"),
    ],
)
def test_the_most_expensive_arm_is_probed(
    tmp_path: Path, arms: tuple[str, ...], controls: bool, dearest: str
) -> None:
    bench = Bench(tmp_path, controls=controls)
    bench.arms = arms
    sweep = bench.build()
    run = find_probe_run(sweep.book, "hotpot", sweep.stages, has_controls=controls)
    assert run.arm == dearest


def test_a_probe_says_that_it_measures_one_device(tmp_path: Path) -> None:
    (run,) = plan_runs(tmp_path, "raw_l10")
    config = run.config
    half = config.budget.batch_size // 2
    probe = replace(PROBE, micro_batch_size=half)
    told = describe_probe(probe, run)
    assert (f"micro batches of {half}" in told, "one device" in told) == (True, False)
    shared = replace(run, config=replace(config, trainer=replace(config.trainer, devices=2)))
    told = describe_probe(probe, shared)
    assert "the whole batch fits" in told
    assert "measured on one device" in told
    assert "trainer.devices=2" in told


def test_a_smaller_scored_batch_goes_to_every_run_as_well() -> None:
    probe = replace(PROBE, eval_batch_size=8)
    assert probe.words(batch_size=4) == ("budget.eval_batch_size=8",)
    assert probe.words(batch_size=16) == (
        "trainer.micro_batch_size=4",
        "budget.eval_batch_size=8",
    )
