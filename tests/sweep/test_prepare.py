from dataclasses import replace
from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.identity import identify
from fseed.records import default_output_root
from fseed.sweep import prepare
from fseed.sweep.prepare import Preparer, fill_sizes, resolve_paths
from tests.configs import build_config, compose

SIZES = {
    **{"num_layers": 6, "width": 128, "head_size": 32, "ffn_width": 512, "vocab_size": 256},
    **{"decay_rank": 8, "in_context_rank": 8, "value_rank": 8, "gate_rank": 8},
}


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for the checkpoint reader; returns the paths it was asked for."""
    asked: list[str] = []
    monkeypatch.setattr(prepare, "read_shape", lambda path: asked.append(path) or dict(SIZES))
    monkeypatch.setattr(prepare, "weights_fingerprint", lambda path: asked.append(path) or "abc")
    return asked


def test_sizes_come_from_the_checkpoint(checkpoint: list[str]) -> None:
    point = compose("model=custom", "model.tokenizer=byte", "weights=/w.pth", "lstart=5")
    prepared = Preparer().prepare(point.config)
    assert prepared.config.model.num_layers == 6
    assert prepared.hashes.weights == "abc"


def test_the_layers_of_the_checkpoint_bound_lstart(checkpoint: list[str]) -> None:
    point = compose("model=custom", "model.tokenizer=byte", "weights=/w.pth", "lstart=6")
    with pytest.raises(UserError, match=r"allowed 1 \.\. 5"):
        Preparer().prepare(point.config)


def test_a_checkpoint_of_another_size_is_refused() -> None:
    model = replace(build_config().model, weights="/w.pth")
    with pytest.raises(UserError, match=r"model=nano: num_layers is 6, not 12"):
        fill_sizes(model, SIZES)


def test_files_are_read_once_for_a_whole_sweep(checkpoint: list[str]) -> None:
    preparer = Preparer()
    for seed in range(4):
        words = ["model=custom", "model.tokenizer=byte", "weights=/w.pth", f"seed={seed}"]
        preparer.prepare(compose(*words, "lstart=2").config)
    assert checkpoint == ["/w.pth", "/w.pth"]


def test_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    config = resolve_paths(
        build_config(
            weights="a.pth",
            model__weights="a.pth",
            model__vocab_file="~/v.txt",
            data__root="data",
            output__root="out",
        )
    )
    assert config.weights == config.model.weights == str(tmp_path / "a.pth")
    assert config.model.vocab_file == "/home/someone/v.txt"
    assert config.data.root == str(tmp_path / "data")
    assert config.output.root == str(tmp_path / "out")


def test_results_go_to_the_default_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FSEED_OUTPUTS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert resolve_paths(build_config()).output.root == str(default_output_root())
    monkeypatch.setenv("FSEED_OUTPUTS", str(tmp_path / "results"))
    assert resolve_paths(build_config()).output.root == str(tmp_path / "results")


def test_an_alias_of_an_order_is_the_same_run() -> None:
    preparer = Preparer()
    alias = preparer.prepare(compose("task.order=q_after").config)
    plain = preparer.prepare(compose().config)
    assert alias == plain
    assert alias.config.task.order == "question_last"


def test_the_cheapest_check_comes_first(checkpoint: list[str]) -> None:
    with pytest.raises(UserError, match=r"budget\.steps=0"):
        Preparer().prepare(build_config("weights=/w.pth", budget__steps=0))
    assert checkpoint == []


@pytest.mark.parametrize("name", ["no-such-file", "a-folder", "text.pth"])
def test_weights_that_are_no_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "text.pth").write_text("hello\n")
    config = build_config(f"weights={tmp_path / name}")
    with pytest.raises(UserError, match=name):
        Preparer().prepare(config)


def test_the_world_vocabulary_is_hashed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        Preparer().prepare(compose("model=rwkv7_0b1", f"model.vocab_file={tmp_path}/v").config)
    (tmp_path / "bad").write_text("no vocabulary\n")
    with pytest.raises(UserError, match="bad"):
        Preparer().prepare(compose("model=rwkv7_0b1", f"model.vocab_file={tmp_path}/bad").config)


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=str(tmp_path / "nowhere")):
        Preparer().prepare(compose("data=local", f"data.root={tmp_path}/nowhere").config)


def test_micro_batches_that_are_the_whole_batch_leave_the_run_what_it_is() -> None:
    plain = Preparer().prepare(build_config(budget__batch_size=4)).config
    whole = build_config(budget__batch_size=4, trainer__micro_batch_size=4)
    assert Preparer().prepare(whole).config == plain
    split = build_config(budget__batch_size=4, trainer__micro_batch_size=2)
    assert Preparer().prepare(split).config.trainer.micro_batch_size == 2


def test_several_devices_share_a_run_by_ddp_unless_told_otherwise() -> None:
    found = [
        Preparer().prepare(build_config(trainer__devices=devices, trainer__strategy=strategy))
        for devices, strategy in ((1, "auto"), (2, "auto"), (2, "ddp"), (2, "fsdp2"))
    ]
    told = [each.config.trainer.strategy.value for each in found]
    assert told == ["auto", "ddp", "ddp", "fsdp2"]
    ids = [identify(each.config, each.hashes).run_id for each in found]
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3


def test_a_batch_of_contrasts_stays_on_one_device() -> None:
    with pytest.raises(UserError, match=r"devices=2: hotpot_retrieval contrasts each"):
        Preparer().prepare(compose("task=hotpot_retrieval", "trainer.devices=2").config)


def test_a_batch_of_contrasts_is_not_split() -> None:
    words = ("task=hotpot_retrieval", "budget.batch_size=4")
    with pytest.raises(UserError, match=r"micro_batch_size=2: hotpot_retrieval contrasts each"):
        Preparer().prepare(compose(*words, "trainer.micro_batch_size=2").config)
    assert Preparer().prepare(compose(*words, "trainer.micro_batch_size=4").config)


def test_the_rows_of_the_test_split_are_checked_where_they_are_read(monkeypatch) -> None:
    checked: list[tuple[str, ...]] = []

    def check(task, data, *, splits):
        checked.append(tuple(splits))

    monkeypatch.setattr(prepare, "check_data", check)
    preparer = Preparer()
    for test in (False, True):
        preparer.prepare(build_config(budget__test=test))
    assert checked == [("train", "validation"), ("train", "validation", "test")]
