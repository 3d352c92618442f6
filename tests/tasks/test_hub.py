"""The hub source, always without a network."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from task_helpers import make_rows, write_data

from fseed.errors import UserError
from fseed.tasks import hub
from fseed.tasks.hotpot import DISTRACTOR

CARD = """---
configs:
- config_name: distractor
  data_files:
  - split: train
    path: distractor/train-*
  - split: validation
    path: distractor/validation-*
---
"""


@pytest.fixture
def repository(tmp_path):
    """Return a folder laid out as the data set's repository on the hub."""
    source = write_data(tmp_path / "data") / "hotpotqa"
    folder = tmp_path / "hotpot_qa"
    (folder / "distractor").mkdir(parents=True)
    for split in ("train", "validation"):
        target = folder / "distractor" / f"{split}-00000-of-00001.parquet"
        shutil.copy(source / f"{split}.parquet", target)
    (folder / "README.md").write_text(CARD)
    return folder


def run_python(code: str, home: Path) -> str:
    """Run ``code`` in a fresh process with its own, initially empty hub cache."""
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


READ = """
import dataclasses, shutil, sys
from pathlib import Path
from fseed.tasks.hotpot import DISTRACTOR, read_key
from fseed.tasks.hub import fingerprint_hub, open_hub

def show(dataset):
    rows = open_hub(dataset)
    assert rows["train"].take([3])[0]["id"] == "row3"
    keys = [read_key(row).row_id for row in rows["validation"].read_keys()]
    print(len(keys), keys[0], fingerprint_hub(dataset))
"""


def test_repository_layout_and_its_cached_copy_are_read(repository, tmp_path):
    """A copy prepared under the hub's name is found again without a network."""
    home = tmp_path / "home"
    code = f"""{READ}
show(dataclasses.replace(DISTRACTOR, hub_id={str(repository)!r}))
(prepared,) = Path({str(home)!r}, "datasets", "hotpot_qa").glob("*/*/*/")
cached = Path({str(home)!r}, "datasets", "hotpotqa___hotpot_qa", "distractor", "0.0.0")
shutil.copytree(prepared, cached / prepared.name)
show(DISTRACTOR)
assert "torch" not in sys.modules
"""
    local, cached = (line.split() for line in run_python(code, home).splitlines())
    assert local[:2] == cached[:2] == ["40", "row1000"]
    assert len(cached[2]) == 64
    assert local[2] != cached[2]


def test_offline_without_a_copy_is_one_error_that_says_what_to_do(tmp_path):
    code = """
import time
from fseed.errors import UserError
from fseed.tasks.hotpot import DISTRACTOR
from fseed.tasks.hub import fingerprint_hub, open_hub
for function in (fingerprint_hub, open_hub):
    begin = time.monotonic()
    try:
        function(DISTRACTOR)
    except UserError as error:
        print(error)
        print(time.monotonic() - begin < 8)
"""
    lines = run_python(code, tmp_path / "home").splitlines()
    # one line each time, then how long it took
    assert lines[:2] == lines[2:]
    assert "cannot be reached and hotpotqa/hotpot_qa (distractor) is not in the cache" in lines[0]
    assert "data=local data.root=" in lines[0]
    assert "HF_HOME" in lines[0]
    assert lines[1] == "True"


def test_unreachable_hub_is_noticed_without_the_retries_of_its_client(monkeypatch):
    calls = []

    def load(*names):
        calls.append(names)
        raise ConnectionError("not cached")

    config = SimpleNamespace(HF_HUB_OFFLINE=False, HF_ENDPOINT="https://hub.invalid")
    fake = SimpleNamespace(config=config, load_dataset_builder=load)
    monkeypatch.setattr(hub, "_import_datasets", lambda: fake)
    monkeypatch.setattr(hub, "getproxies", dict)
    with pytest.raises(UserError, match=r"https://hub\.invalid cannot be reached"):
        hub.fingerprint_hub(DISTRACTOR)
    assert calls == [(DISTRACTOR.hub_id, DISTRACTOR.hub_config)]
    assert config.HF_HUB_OFFLINE is False


def test_name_look_up_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.05)
    monkeypatch.setattr(hub, "_accepts", lambda host, port: time.sleep(1.0) or True)
    monkeypatch.setattr(hub, "getproxies", dict)
    config = SimpleNamespace(HF_HUB_OFFLINE=False, HF_ENDPOINT="https://hub.invalid")
    begin = time.monotonic()
    assert not hub._is_reachable(SimpleNamespace(config=config))
    assert time.monotonic() - begin < 0.9


@pytest.mark.parametrize(
    ("proxies", "asked"),
    [
        ({}, ("hub.invalid", 443)),
        ({"https": "http://proxy.invalid:3128"}, ("proxy.invalid", 3128)),
        ({"http": "http://proxy.invalid:3128"}, ("hub.invalid", 443)),
        ({"https": "http://proxy.invalid"}, ("proxy.invalid", 80)),
    ],
)
def test_proxy_is_asked_where_there_is_one(monkeypatch, proxies, asked):
    seen = []
    monkeypatch.setattr(hub, "_accepts", lambda *target: seen.append(target) or True)
    monkeypatch.setattr(hub, "getproxies", lambda: proxies)
    config = SimpleNamespace(HF_HUB_OFFLINE=False, HF_ENDPOINT="https://hub.invalid")
    assert hub._is_reachable(SimpleNamespace(config=config))
    assert seen == [asked]


def test_reachable_hub_that_fails_is_one_error(monkeypatch):
    def load(*names):
        raise RuntimeError("gated\nlong story")

    config = SimpleNamespace(HF_HUB_OFFLINE=False, HF_ENDPOINT="https://hub.invalid")
    fake = SimpleNamespace(config=config, load_dataset_builder=load)
    monkeypatch.setattr(hub, "_import_datasets", lambda: fake)
    monkeypatch.setattr(hub, "_is_reachable", lambda datasets: True)
    with pytest.raises(UserError) as caught:
        hub.open_hub(dataclasses.replace(DISTRACTOR, hub_id="some/where"))
    assert str(caught.value).startswith("some/where (distractor) cannot be loaded: gated; offline,")


def test_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'fseed\[hub\]'"):
        hub.fingerprint_hub(DISTRACTOR)


def fake_hub(monkeypatch, tables):
    """Make the hub answer with ``tables``, split name -> Arrow table."""
    found = {
        name: SimpleNamespace(data=SimpleNamespace(table=each)) for name, each in tables.items()
    }
    builder = SimpleNamespace(
        download_and_prepare=lambda: None, as_dataset=lambda: found, hash="revision"
    )
    config = SimpleNamespace(HF_HUB_OFFLINE=False, HF_ENDPOINT="https://hub.invalid")
    fake = SimpleNamespace(config=config, load_dataset_builder=lambda *names: builder)
    monkeypatch.setattr(hub, "_import_datasets", lambda: fake)


def test_splits_have_their_own_names_on_the_hub_and_only_required_ones_must_exist(monkeypatch):
    fake_hub(monkeypatch, {"train": pa.Table.from_pylist(make_rows(0, 3)), "dev": None})
    names = {"train": "train", "validation": "validation"}
    dataset = dataclasses.replace(DISTRACTOR, hub_splits=names, required=("train",))
    assert set(hub.open_hub(dataset)) == {"train"}
    with pytest.raises(UserError) as caught:
        hub.open_hub(DISTRACTOR)
    assert str(caught.value) == (
        "hotpotqa/hotpot_qa (distractor, validation): no such split; found: train, dev"
    )


def test_columns_on_the_hub_are_checked(monkeypatch):
    fake_hub(monkeypatch, {"train": pa.table({"id": ["a"]})})
    with pytest.raises(UserError, match=r"\(distractor, train\) lacks the columns question,"):
        hub.open_hub(DISTRACTOR)


def test_the_fingerprint_follows_id_config_and_revision(monkeypatch):
    fake_hub(monkeypatch, {})
    changes = [{}, {"hub_id": "some/where"}, {"hub_config": None}]
    prints = {hub.fingerprint_hub(dataclasses.replace(DISTRACTOR, **change)) for change in changes}
    assert len(prints) == 3


def test_generated_data_is_not_on_the_hub():
    generated = dataclasses.replace(DISTRACTOR, folder="sudoku", hub_id=None)
    for function in (hub.open_hub, hub.fingerprint_hub):
        with pytest.raises(UserError, match=r"sudoku.* not on the hub; use data=mini"):
            function(generated)


def test_advice_names_the_files_of_the_data_set():
    files = {"train": ("training", "all"), "test": ("casp",)}
    dataset = dataclasses.replace(DISTRACTOR, folder="chains", files=files, required=("train",))
    assert "data.root=FOLDER with chains/training.parquet, or load it" in hub._advice(dataset)
    assert "hotpotqa/train.parquet and validation.parquet, or" in hub._advice(DISTRACTOR)
