"""Every data set of every task on real rows: from a folder, and laid out as on the hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from task_helpers import Bytes, data_config

from fseed.config.options import conf_dir
from fseed.config.schema import SourceKind, TaskConfig
from fseed.tasks.base import DataSet
from fseed.tasks.local import find_files
from fseed.tasks.registry import TASKS, load_task_data

# option files whose lengths suit real rows; the slow ones have real rows in tests of their own
LOCAL = [
    *("hotpot_2048", "hotpot_retrieval", "arc", "squad", "longfill_2048"),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            *("punc_restore_1536", "punc_restore_wikitext", "mbpp_3072"),
            *("protein_ss_2048", "protein_contact_1536"),
        )
    ),
]


def read_option(name: str) -> TaskConfig:
    return TaskConfig(**yaml.safe_load((conf_dir() / "task" / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("option", LOCAL)
def test_local_rows_become_examples_within_the_limits(shared_data, option):
    config = read_option(option)
    data = data_config(
        SourceKind.local, root=str(shared_data), num_train=40, num_validation=20, num_test=10
    )
    loaded = load_task_data(config, data, Bytes() if option == "arc" else World())
    for split, wanted in (("train", 40), ("validation", 20)):
        examples = loaded.splits[split]
        assert len({example.example_id for example in examples}) == wanted
        for example in examples:
            length = len(example.prompt_ids) + len(example.answer_ids)
            assert length <= config.max_length_tokens + config.max_answer_tokens
            assert example.num_answer_tokens <= config.max_answer_tokens
            assert example.units or config.name == "hotpot_retrieval"
    assert TASKS[config.name].primary_metric in loaded.constant_baseline


class World:
    """About four bytes a token, so that real rows have about their World length; no vocabulary."""

    end_of_text = 0
    fingerprint = "four bytes"

    def encode(self, text: str) -> list[int]:
        data = text.encode()
        # a single character stays a token of its own, as labels and cells need it
        step = 4 if len(data) > 2 else 1
        return [1 + int.from_bytes(data[i : i + step]) for i in range(0, len(data), step)]

    def decode(self, ids: list[int]) -> str:
        return b"".join(
            (i - 1).to_bytes(max(1, ((i - 1).bit_length() + 7) // 8)) for i in ids
        ).decode(errors="replace")


READ = """
import json, sys
from dataclasses import replace
from fseed.tasks.hub import open_hub
from fseed.tasks.registry import TASKS
task, name, folder = sys.argv[1:]
dataset = replace(TASKS[task].datasets[name], hub_id=folder)
rows = open_hub(dataset)
read = {}
for split, found in rows.items():
    keys = []
    for row in found.read_keys():
        try:
            keys.append(TASKS[task].read_key(row).row_id)
        except ValueError:
            pass
    read[split] = len(keys)
print(json.dumps(read))
"""

ON_HUB = [
    ("hotpot", "distractor"),
    ("arc", "challenge"),
    ("squad", "plain_text"),
    ("mbpp", "full"),
    ("punc_restore", "ag_news"),
    ("punc_restore", "wikitext"),
    ("protein_ss", "lamm"),
    ("protein_contact", "protein_contact_map"),
]


def test_every_hub_data_set_is_tried():
    published = {
        dataset.hub_id
        for task in TASKS.values()
        for dataset in task.datasets.values()
        if dataset.hub_id is not None
    }
    assert published == {TASKS[task].datasets[name].hub_id for task, name in ON_HUB}


@pytest.mark.slow
@pytest.mark.parametrize(("task", "name"), ON_HUB)
def test_a_folder_laid_out_as_on_the_hub_is_read(shared_data, tmp_path, task, name):
    dataset = TASKS[task].datasets[name]
    files = lay_out(dataset, shared_data, tmp_path / "repository")
    done = subprocess.run(
        [sys.executable, "-c", READ, task, name, str(tmp_path / "repository")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert set(counts) == set(files)
    assert all(counts.values())


def lay_out(dataset: DataSet, root: Path, folder: Path) -> dict[str, Path]:
    """Link the local files under the names and the card that the hub's repository has."""
    files = find_files(dataset, str(root))
    config = dataset.hub_config or "default"
    parts = []
    for split, path in files.items():
        name = dataset.hub_splits[split]
        target = folder / config / f"{name}-00000-of-00001.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.resolve())
        parts.append({"split": name, "path": f"{config}/{name}-*"})
    card = yaml.safe_dump({"configs": [{"config_name": config, "data_files": parts}]})
    (folder / "README.md").write_text(f"---\n{card}---\n")
    return files
