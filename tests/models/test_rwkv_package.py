import os
import sys
from pathlib import Path

import pytest
import torch

from fseed.errors import UserError
from fseed.models import rwkv_package
from fseed.models.parity import RANDOM_SHAPES, loop_trace
from fseed.models.rwkv_package import RwkvPackage
from fseed.models.shape import RWKV7Shape
from fseed.models.trace import Trace, trace_errors
from tests.models.checkpoint_samples import sample_weights

TOKENS = [5, 0, 17, 17, 3, 99, 42]


def worst(found: Trace, expected: Trace) -> float:
    return max(trace_errors(found, expected).values())


def test_loop_equals_the_package() -> None:
    weights = sample_weights(RANDOM_SHAPES[1])
    package, loop = RwkvPackage(weights), loop_trace(weights, TOKENS)
    assert worst(package.read_prompt(TOKENS), loop) < 1e-5
    assert worst(package.read_steps(TOKENS), loop) < 1e-5


def test_the_package_differs_at_other_head_sizes_by_the_group_norm_epsilon_only() -> None:
    shape = RWKV7Shape(**(vars(RANDOM_SHAPES[1]) | {"head_size": 32}))
    weights = sample_weights(shape)
    package = RwkvPackage(weights).read_prompt(TOKENS)
    assert worst(package, loop_trace(weights, TOKENS, group_norm_eps=64e-5)) < 1e-5
    # this is why other head sizes are compared with the loop
    assert worst(package, loop_trace(weights, TOKENS)) > 1e-5


def test_side_effects_are_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("RWKV_JIT_ON", "7")
    monkeypatch.delenv("RWKV_V7_ON", raising=False)

    def settings() -> list[bool]:
        cudnn = torch.backends.cudnn
        return [cudnn.benchmark, cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]

    before = settings()
    # as in a process that never imported it
    rwkv_package._model_class.cache_clear()
    monkeypatch.delitem(sys.modules, "rwkv.model", raising=False)
    RwkvPackage(sample_weights(RANDOM_SHAPES[0])).read_prompt(TOKENS)
    assert settings() == before
    assert os.environ["RWKV_JIT_ON"] == "7"
    assert "RWKV_V7_ON" not in os.environ
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    rwkv_package._model_class.cache_clear()
    monkeypatch.setattr(rwkv_package, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'fseed\[world\]'"):
        RwkvPackage(sample_weights(RANDOM_SHAPES[0]))


def test_package_imported_for_an_older_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    rwkv_package._model_class.cache_clear()
    stale = type("module", (), {"RWKV": type("RWKV", (), {})})
    monkeypatch.setattr(rwkv_package, "import_module", lambda name: stale)
    with pytest.raises(UserError, match="fresh process"):
        RwkvPackage(sample_weights(RANDOM_SHAPES[0]))
