"""Checks side by side: the first finding counts, exceptions reach the caller."""

from collections.abc import Callable

import pytest
import torch

from fseed_kernels.concurrent_checks import first_finding

devices = pytest.mark.parametrize("kind", ["cpu", "cuda"])


@pytest.fixture(autouse=True)
def no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads as on a GPU, without one."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", int)
    monkeypatch.setattr(torch.cuda, "synchronize", int)


def said(text: str) -> Callable[[], str]:
    return lambda: text


@devices
def test_the_first_in_order_counts(kind: str) -> None:
    device = torch.device(kind)
    assert first_finding([said(""), said("k"), said("v")], device) == "k"
    assert first_finding([said("")] * 9, device) == ""


@devices
def test_an_exception_reaches_the_caller(kind: str) -> None:
    def fails() -> str:
        raise RuntimeError("out of registers")

    with pytest.raises(RuntimeError, match="out of registers"):
        first_finding([said(""), fails], torch.device(kind))
