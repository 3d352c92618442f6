"""Shared fixtures."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from fseed.sweep.environment import missing_gpu_reason

# tiny tensors: a second thread costs more than it computes; read when torch is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
if missing_gpu_reason() is not None:
    # kernels run in triton's interpreter (float32); read when one is defined, so before any import
    os.environ["TRITON_INTERPRET"] = "1"
else:
    # read once, at the first product on a GPU; runs are deterministic and refuse products without
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# a shell's background job ignores Ctrl-C, nohup a closed terminal, and every process inherits that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
# a fixed width, whatever the test runner sets
os.environ.pop("COLUMNS", None)
# tests build their examples and leave the user's cache alone
os.environ["FSEED_CACHE"] = "off"
# how long an example takes says what else the machine does
settings.register_profile("fseed", deadline=None)
settings.load_profile("fseed")
# importing all test modules makes no garbage worth looking for
gc.disable()


def pytest_collection_finish() -> None:
    """Leave what was imported out of later garbage collections.

    Every run that is trained asks for a whole collection, and one through all of torch and all
    collected tests takes half a second.
    """
    gc.enable()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Give it back to them: triton's bindings report at exit what was never collected."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data snapshots: $FSEED_DATA, else ../shared/data beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FSEED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set FSEED_DATA")
    return folder
