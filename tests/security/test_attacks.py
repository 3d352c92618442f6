"""Every malicious input of the catalogue at the real command, and proof that the payloads work."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from tests.security import payloads
from tests.security.attack import Attack, execute, without_guard
from tests.security.catalogue import ATTACKS

WANTED = 60
LIVE = [attack for attack in ATTACKS if attack.is_live]


def name_of(attack: Attack) -> str:
    return attack.name


def test_the_catalogue_is_large_and_without_repetition() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= WANTED
    ways = {attack.way for attack in ATTACKS}
    assert ways == {"configuration", "command line", "weights", "data", "records", "text"}


@pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
def test_nothing_is_executed_and_the_user_is_told(attack: Attack, tmp_path: Path) -> None:
    verdict = execute(attack, tmp_path)
    assert not verdict.executed
    assert verdict.is_safe, f"exit {verdict.code}\n{verdict.output}"
    if attack.says is not None:
        error = [line for line in verdict.output.splitlines() if line.startswith("error:")]
        assert len(error) <= 1


# without its guard each of these does what it says: the tests above can fail
@pytest.mark.filterwarnings("ignore:Callback")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files left open
@pytest.mark.parametrize("attack", LIVE, ids=name_of)
def test_the_payloads_fire_without_the_guard(attack: Attack, tmp_path: Path) -> None:
    with without_guard():
        assert execute(attack, tmp_path).executed


def test_enough_payloads_are_live() -> None:
    assert len(LIVE) >= 12


def test_instantiate_alone_would_build_what_a_file_names(tmp_path: Path) -> None:
    instantiate({"_target_": "os.mkdir", "path": str(tmp_path / "canary")})
    assert (tmp_path / "canary").is_dir()


@pytest.mark.parametrize("protocol", [2, 5])
def test_the_pickles_fire_where_they_are_unpickled(protocol: int, tmp_path: Path) -> None:
    pickle.loads(payloads.touching_pickle(tmp_path / "canary", protocol=protocol))
    pickle.loads(pickle.dumps(payloads.Run(tmp_path / "second"), 2))
    assert sorted(os.listdir(tmp_path)) == ["canary", "second"]


def test_the_archives_fire_where_torch_unpickles_them(tmp_path: Path) -> None:
    content = payloads.touching_pickle(tmp_path / "canary")
    path = tmp_path / "weights.pth"
    torch.save({"emb.weight": payloads.Touch(tmp_path / "canary")}, path)
    torch.load(path, weights_only=False)
    assert (tmp_path / "canary").is_dir()
    assert b"mkdir" in payloads.torch_zip(("archive/data.pkl", content))
