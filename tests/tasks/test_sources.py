import dataclasses
import itertools

import pytest
from task_helpers import data_config, make_rows, write_data, write_parquet

from fseed.config.schema import SourceKind
from fseed.tasks import sources
from fseed.tasks.base import NoOptions, Setting
from fseed.tasks.hotpot import DISTRACTOR, HOTPOT
from fseed.tasks.sources import fingerprint_source, open_source


def open_hotpot(data, *, splits):
    return open_source(HOTPOT, data, order="question_last", options=NoOptions(), splits=splits)


def test_mini_generates_the_splits_asked_for_in_their_size():
    source = open_hotpot(data_config(), splits=("train", "test"))
    assert source.is_generated
    assert {name: len(list(rows.read_keys())) for name, rows in source.rows.items()} == {
        "train": 20,
        "test": 5,
    }


def test_mini_fingerprint_follows_version_and_seed_and_not_the_sizes():
    before = fingerprint_source(HOTPOT, DISTRACTOR, data_config())
    assert fingerprint_source(HOTPOT, DISTRACTOR, data_config(num_train=21)) == before
    assert fingerprint_source(HOTPOT, DISTRACTOR, data_config(seed=1)) != before
    newer = dataclasses.replace(HOTPOT, mini_version=HOTPOT.mini_version + 1)
    assert fingerprint_source(newer, DISTRACTOR, data_config()) != before


def test_local_has_the_two_stored_splits_whatever_is_asked_for(tmp_path):
    data = data_config(SourceKind.local, root=str(write_data(tmp_path)))
    source = open_hotpot(data, splits=("test",))
    assert not source.is_generated
    assert set(source.rows) == {"train", "validation"}


@pytest.mark.parametrize(("kind", "name"), [("hub", "open_hub"), ("local", "open_local")])
def test_sources_are_dispatched_by_name(monkeypatch, kind, name):
    monkeypatch.setattr(sources, name, lambda dataset, *root: {"train": dataset.folder + kind})
    source = open_hotpot(data_config(SourceKind(kind)), splits=("train",))
    assert source.rows == {"train": "hotpotqa" + kind}


def test_hub_fingerprint_is_asked_of_the_hub(monkeypatch):
    monkeypatch.setattr(sources, "fingerprint_hub", lambda dataset: dataset.hub_id)
    assert (
        fingerprint_source(HOTPOT, DISTRACTOR, data_config(SourceKind.hub)) == "hotpotqa/hotpot_qa"
    )


@dataclasses.dataclass(frozen=True)
class Options:
    dataset: str = "plain"


def test_generated_rows_may_depend_on_split_order_options_and_seed():
    settings = []

    def generate(setting):
        settings.append(setting)
        return itertools.repeat({"id": setting.split})

    datasets = {"other": dataclasses.replace(DISTRACTOR, columns={"id": "string"})}
    task = dataclasses.replace(
        HOTPOT, generate_mini=generate, datasets={"first": DISTRACTOR} | datasets
    )
    options = Options("other")
    source = open_source(
        task, data_config(seed=3), order="evidence_last", options=options, splits=("test",)
    )
    assert settings == [Setting(split="test", order="evidence_last", options=options, seed=3)]
    # checked against the columns of the first data set, so this row is malformed
    assert list(source.rows["test"].read_keys()) == [None] * 5


def test_the_option_dataset_chooses_the_folder(tmp_path):
    write_data(tmp_path)
    other = dataclasses.replace(DISTRACTOR, folder="other", required=("train",))
    write_parquet(tmp_path / "other", "train", make_rows(0, 3))
    task = dataclasses.replace(HOTPOT, datasets={"plain": DISTRACTOR, "other": other})
    data = data_config(SourceKind.local, root=str(tmp_path))
    splits = {
        name: set(open_source(task, data, order="", options=Options(name), splits=("train",)).rows)
        for name in ("plain", "other")
    }
    assert splits == {"plain": {"train", "validation"}, "other": {"train"}}
    assert fingerprint_source(task, DISTRACTOR, data) != fingerprint_source(task, other, data)
