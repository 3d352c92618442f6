from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.sweep import environment
from fseed.sweep.environment import check_accelerator, check_writable, missing_gpu_reason
from tests.configs import build_config
from tests.sweep.fake_training import files_below


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a CUDA build of torch and no device; returns its /dev."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(environment, "version", lambda name: "2.9.0+cu126")
    monkeypatch.setattr(environment, "DEVICE_FOLDER", tmp_path)
    monkeypatch.setattr(environment, "CUDA_LIBRARIES", ("libno-such-library.so.1",))
    return tmp_path


def test_a_gpu_that_is_not_there_is_refused(bare_machine: Path) -> None:
    with pytest.raises(UserError, match=r"no NVIDIA device and no CUDA driver; use trainer=cpu"):
        check_accelerator(build_config(trainer__accelerator="gpu"))


def test_a_device_file_is_enough(bare_machine: Path) -> None:
    (bare_machine / "nvidiactl").touch()
    assert missing_gpu_reason() is not None
    (bare_machine / "nvidia0").touch()
    assert missing_gpu_reason() is None


def test_hidden_devices_are_none(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare_machine / "nvidia0").touch()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "hides them all" in str(missing_gpu_reason())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert missing_gpu_reason() is None


def test_a_torch_for_the_cpu_is_named(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare_machine / "nvidia0").touch()
    monkeypatch.setattr(environment, "version", lambda name: "2.9.0+cpu")
    assert "2.9.0+cpu is built for the CPU" in str(missing_gpu_reason())


def test_a_run_on_the_cpu_asks_nothing(bare_machine: Path) -> None:
    config = build_config()
    check_accelerator(config)
    assert config.trainer.accelerator.value == "cpu"


def test_a_folder_to_be_created_is_tried_without_a_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    check_writable(tmp_path)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("below", [".", "x/y"])
def test_a_file_in_the_way_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"it is a file; give another output\.root"):
        check_writable(tmp_path / "file" / below)


def test_a_file_system_that_takes_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot write to /proc/fseed"):
        check_writable(Path("/proc/fseed/run"))
