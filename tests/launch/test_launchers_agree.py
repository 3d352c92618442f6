"""The recipes of ``launch/``, tried: the same sweep on every launcher, digit for digit the same."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fseed.config.options import conf_dir
from fseed.records import TABLES_DIR, find_runs
from tests.launch.real_runs import digits
from tests.launch.test_submitit_slurm import FAKE

LAUNCH = conf_dir().parent / "launch"
WORDS = (
    *("seed=0", "fs=scalar_l10", "budget.steps=2", "budget.batch_size=2", "trainer.num_threads=1"),
    *("data.num_train=16", "data.num_validation=8", "trainer.progress=false"),
)

pytestmark = [
    pytest.mark.slow,
    # Ray keeps the files and processes of its nodes open until the interpreter ends
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Sweep:
    """What one command left behind."""

    def __init__(self, root: Path, *command: str, environment: dict[str, str]) -> None:
        words = [*command, *WORDS, f"output.root={root}"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            words, env=environment | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.out = done.stdout
        runs = sorted(find_runs([root]), key=lambda record: record.path)
        self.folders = [record.path for record in runs]
        self.ids = [record.run_id for record in runs]
        self.statuses = [record.status for record in runs]
        (self.tables,) = root.glob(f"*/{TABLES_DIR}/paired.csv")


@pytest.fixture(scope="module")
def in_this_process(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The reference: one run after the other, no launcher."""
    root = tmp_path_factory.mktemp("sequential")
    command = (sys.executable, "-m", "fseed.run", "experiment=hotpot_quick", "-m")
    return Sweep(root, *command, environment=dict(os.environ))


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with the stand-in for Slurm."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "srun", "sacct", "scancel", "scontrol"):
        (programs / name).symlink_to(FAKE)
    (tmp_path / "slurm").mkdir()
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "FAKE_SLURM": str(tmp_path / "slurm")}


@pytest.fixture
def ray_cluster() -> Iterator[dict[str, str]]:
    """The environment of a machine that knows a Ray cluster."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield {"RAY_ADDRESS": cluster.address}
    cluster.shutdown()


@pytest.mark.parametrize(
    ("recipe", "machine"),
    [
        ("on_slots", None),
        ("on_submitit_local", None),
        ("on_slurm", "slurm"),
        ("on_ray", None),
        ("on_ray_cluster", "ray_cluster"),
    ],
)
def test_a_recipe_gives_the_digits_of_the_plain_command(
    recipe: str,
    machine: str | None,
    tmp_path: Path,
    in_this_process: Sweep,
    request: pytest.FixtureRequest,
) -> None:
    extra: dict[str, str] = {} if machine is None else request.getfixturevalue(machine)
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **extra}
    script = str(LAUNCH / f"{recipe}.sh")
    sweep = Sweep(tmp_path / "runs", "bash", script, environment=environment)
    assert sweep.statuses == ["finished"] * len(in_this_process.folders)
    assert sweep.ids == in_this_process.ids
    for folder, reference in zip(sweep.folders, in_this_process.folders, strict=True):
        assert digits(folder) == digits(reference)
    assert sweep.tables.read_text() == in_this_process.tables.read_text()
    # the same sweep moves on to another launcher: nothing is left to do
    again = (sys.executable, "-m", "fseed.run", "experiment=hotpot_quick", "-m")
    assert "none to start" in Sweep(tmp_path / "runs", *again, environment=environment).out
