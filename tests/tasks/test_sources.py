import dataclasses

import pytest
from task_helpers import data_config, write_data

from fseed.config.schema import SourceKind
from fseed.tasks import sources
from fseed.tasks.hotpot import HOTPOT
from fseed.tasks.sources import fingerprint_source, open_source


def test_mini_generates_the_splits_asked_for_in_their_size():
    source = open_source(HOTPOT, data_config(), splits=("train", "test"))
    assert source.is_generated
    assert {name: len(list(rows.read_keys())) for name, rows in source.rows.items()} == {
        "train": 20,
        "test": 5,
    }


def test_mini_fingerprint_follows_version_and_seed_and_not_the_sizes():
    before = fingerprint_source(HOTPOT, data_config())
    assert fingerprint_source(HOTPOT, data_config(num_train=21)) == before
    assert fingerprint_source(HOTPOT, data_config(seed=1)) != before
    newer = dataclasses.replace(HOTPOT, mini_version=HOTPOT.mini_version + 1)
    assert fingerprint_source(newer, data_config()) != before


def test_local_has_the_two_stored_splits_whatever_is_asked_for(tmp_path):
    data = data_config(SourceKind.local, root=str(write_data(tmp_path)))
    source = open_source(HOTPOT, data, splits=("test",))
    assert not source.is_generated
    assert set(source.rows) == {"train", "validation"}


@pytest.mark.parametrize(("kind", "name"), [("hub", "open_hub"), ("local", "open_local")])
def test_sources_are_dispatched_by_name(monkeypatch, kind, name):
    monkeypatch.setattr(sources, name, lambda task, *root: {"train": kind})
    source = open_source(HOTPOT, data_config(SourceKind(kind)), splits=("train",))
    assert source.rows == {"train": kind}


def test_hub_fingerprint_is_asked_of_the_hub(monkeypatch):
    monkeypatch.setattr(sources, "fingerprint_hub", lambda task: task.hub_id)
    assert fingerprint_source(HOTPOT, data_config(SourceKind.hub)) == "hotpotqa/hotpot_qa"
