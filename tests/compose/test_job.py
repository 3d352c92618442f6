import pickle
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from fseed.compose import job
from fseed.compose.job import PlannedJob
from fseed.planned_run import PlannedRun
from fseed.sweep.plan import plan_run
from tests.configs import composer
from tests.sweep.fake_training import FakeTraining


@pytest.fixture
def runs(tmp_path: Path) -> list[PlannedRun]:
    words = [["fs=no_fs"], ["fs=head_l8", "seed=2"]]
    points = [composer().compose([*point, f"output.root={tmp_path}"]) for point in words]
    return [plan_run(point).run for point in points]


def test_the_number_of_the_job_chooses_the_run(
    runs: list[PlannedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = FakeTraining()
    monkeypatch.setattr(job, "train", train)
    hydra = OmegaConf.create({"hydra": {"job": {"num": 1}}})
    monkeypatch.setattr(HydraConfig.instance(), "cfg", hydra)
    outcome = PlannedJob(runs, ["1/2", "2/2"])(OmegaConf.create())
    assert (outcome.status, outcome.message) == ("finished", str(runs[1].run_dir))
    assert (train.started, train.positions) == (["head_l8 s2"], ["2/2"])


def test_a_job_travels_to_another_process(runs: list[PlannedRun]) -> None:
    planned = PlannedJob(runs, ["1/2", "2/2"])
    assert pickle.loads(pickle.dumps(planned)) == planned
