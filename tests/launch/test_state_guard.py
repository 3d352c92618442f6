"""Everything a run may leave behind is seen, and put back where that can be done."""

import gc
import locale
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fseed.launch.state_guard import find_differences, read_state, restore_state
from fseed.training import data_module


def set_environment() -> None:
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"


RESTORED: dict[str, Callable[[], Any]] = {
    "environment": set_environment,
    "all environment": lambda: os.environ.update(SOMETHING="else"),
    "folder": lambda: os.chdir("/"),
    "mask": lambda: os.umask(0o077),
    "warnings": lambda: warnings.filterwarnings("once", module="a_library"),
    "levels": lambda: logging.getLogger("lightning.pytorch").setLevel(logging.CRITICAL),
    "sys.path": lambda: sys.path.insert(0, "/somewhere"),
    "random": random.random,
    "recursion": lambda: sys.setrecursionlimit(2000),
    "numpy errors": lambda: np.seterr(over="ignore"),
    "signals": lambda: signal.signal(signal.SIGUSR1, print),
    "torch threads": lambda: torch.set_num_threads(2),
    "torch dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch device": lambda: torch.set_default_device("meta"),
    "random of torch": lambda: torch.manual_seed(1),
    "deterministic": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "gradients": lambda: torch._C._set_grad_enabled(False),
    "flush": lambda: torch.set_flush_denormal(True),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "backends.cudnn.benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "backends.cuda.matmul.allow_tf32": lambda: setattr(
        torch.backends.cuda.matmul, "allow_tf32", True
    ),
    "utils.deterministic.fill_uninitialized_memory": lambda: setattr(
        torch.utils.deterministic,
        "fill_uninitialized_memory",
        # a run before this test may have turned it off
        not torch.utils.deterministic.fill_uninitialized_memory,  # pyright: ignore
    ),
}


@pytest.fixture(autouse=True)
def as_found() -> Iterator[None]:
    """Leave the process of the tests as it was, whatever the guard can do."""
    before = read_state()
    yield
    restore_state(before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("field", RESTORED)
def test_a_setting_is_seen_and_put_back(field: str) -> None:
    before = read_state()
    RESTORED[field]()
    changed = find_differences(before, read_state())
    assert any(line.startswith(f"{field}: ") for line in changed), changed
    restore_state(before)
    assert find_differences(before, read_state()) == []
    assert read_state().digest == before.digest


def test_numpy_continues_where_it_was() -> None:
    before, expected = read_state(), np.random.rand(3).tolist()
    assert find_differences(before, read_state())[0].startswith("random: ")
    restore_state(before)
    assert np.random.rand(3).tolist() == expected


def test_an_open_file_is_named(tmp_path: Path) -> None:
    before = read_state()
    with (tmp_path / "weights").open("wb"):
        assert find_differences(before, read_state()) == [f"open files: +{tmp_path}/weights"]
    assert find_differences(before, read_state()) == []


def test_a_thread_and_a_child_are_named() -> None:
    before, stop = read_state(), threading.Event()
    thread = threading.Thread(target=stop.wait, name="reader")
    thread.start()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    differences = find_differences(before, read_state())
    assert "threads: +reader" in differences
    assert f"child processes: +{child.pid}" in differences
    stop.set()
    thread.join()
    child.communicate()
    assert find_differences(before, read_state()) == []


def test_a_collector_that_was_stopped_is_seen() -> None:
    before = read_state()
    gc.disable()
    try:
        assert find_differences(before, read_state()) == ["collector: +False, -True"]
    finally:
        gc.enable()


def test_other_signs_for_numbers_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_state()
    monkeypatch.setattr(locale, "setlocale", lambda category, name=None: "de_DE.UTF-8")
    assert find_differences(before, read_state())[0].startswith("locale: ")


def test_examples_that_a_run_has_changed_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "are_examples_unchanged", lambda: False)
    before = read_state()
    monkeypatch.undo()
    assert find_differences(before, read_state()) == ["examples: False -> True"]


def test_values_of_the_environment_are_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_state()
    monkeypatch.setenv("ANY_TOKEN", "hunter22")
    assert "hunter22" not in str(find_differences(before, read_state()))


def test_what_was_not_loaded_before_has_no_state() -> None:
    code = (
        "from fseed.launch.state_guard import *\n"
        "import sys\n"
        "before = read_state()\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "restore_state(before)\n"
        "print(find_differences(before, read_state()), before.digest == read_state().digest)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[] True\n"


def test_reading_the_state_is_cheap() -> None:
    read_state()
    started = time.process_time()
    for _ in range(5):
        read_state()
    assert time.process_time() - started < 5 * 0.05
